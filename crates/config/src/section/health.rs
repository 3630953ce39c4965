//! `health`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SecretHeaders;
use crate::duration::GoDuration;

/// Checks. While one of them fails, requests are answered with 503.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Whether the store can be reached.
    pub storagedriver: StorageCheck,
    /// Files that must not be there.
    pub file: Vec<FileCheck>,
    /// URLs that must answer.
    pub http: Vec<HttpCheck>,
    /// Addresses that must accept connections.
    pub tcp: Vec<TcpCheck>,
}

impl Health {
    /// Replaces what counts as "not set" by what is then used.
    pub(crate) fn settle(&mut self) {
        let default = GoDuration::from_secs(10);
        let settle = |interval: &mut GoDuration, threshold: &mut u32| {
            *threshold = (*threshold).max(1);
            if interval.is_zero() {
                *interval = default;
            }
        };
        settle(
            &mut self.storagedriver.interval,
            &mut self.storagedriver.threshold,
        );
        for check in &mut self.file {
            settle(&mut check.interval, &mut check.threshold);
        }
        for check in &mut self.http {
            settle(&mut check.interval, &mut check.threshold);
            if check.timeout.is_zero() {
                check.timeout = check.interval.max(default);
            }
            if check.statuscode == 0 {
                check.statuscode = 200;
            }
        }
        for check in &mut self.tcp {
            settle(&mut check.interval, &mut check.threshold);
            if check.timeout.is_zero() {
                check.timeout = check.interval.max(default);
            }
        }
    }
}

/// `health.storagedriver`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageCheck {
    /// Whether the store is checked.
    pub enabled: bool,
    /// How often.
    pub interval: GoDuration,
    /// How many times in a row it must fail to count.
    pub threshold: u32,
}

impl Default for StorageCheck {
    fn default() -> Self {
        Self {
            enabled: false,
            interval: GoDuration::from_secs(10),
            threshold: 0,
        }
    }
}

/// One of `health.file`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FileCheck {
    /// The file.
    pub file: String,
    /// How often.
    pub interval: GoDuration,
    /// How many times in a row it must fail to count.
    pub threshold: u32,
}

/// One of `health.http`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpCheck {
    /// The URL.
    pub uri: String,
    /// Headers of the request.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: SecretHeaders,
    /// The status that is wanted; 0 is 200.
    pub statuscode: u32,
    /// How long an answer may take.
    pub timeout: GoDuration,
    /// How often.
    pub interval: GoDuration,
    /// How many times in a row it must fail to count.
    pub threshold: u32,
}

/// One of `health.tcp`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TcpCheck {
    /// Host and port.
    pub addr: String,
    /// How long connecting may take.
    pub timeout: GoDuration,
    /// How often.
    pub interval: GoDuration,
    /// How many times in a row it must fail to count.
    pub threshold: u32,
}
