//! `notifications`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SecretHeaders;
use crate::duration::GoDuration;
use crate::secret::SecretUrl;
use crate::size::ByteSize;

/// Whom events are sent to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Notifications {
    /// What events tell.
    pub events: Events,
    /// The receivers.
    pub endpoints: Vec<Endpoint>,
}

/// `notifications.events`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Events {
    /// Whether events of manifests list what those refer to.
    pub includereferences: bool,
}

/// One of `notifications.endpoints`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// Its name, in logs and metrics.
    pub name: String,
    /// Whether it is left out.
    pub disabled: bool,
    /// Where events are sent.
    pub url: SecretUrl,
    /// Headers of the requests.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: SecretHeaders,
    /// How long an answer may take.
    pub timeout: GoDuration,
    /// How many failures in a row make it wait.
    pub threshold: u32,
    /// How long it then waits.
    pub backoff: GoDuration,
    /// The old place of `ignore.mediatypes`.
    pub ignoredmediatypes: Vec<String>,
    /// The events that are not sent.
    pub ignore: Ignore,
    /// The form of the events. Distribution has no such key.
    pub format: EventFormat,
    /// Where events wait. Distribution has no such key.
    pub queue: EventQueue,
}

impl Endpoint {
    /// Replaces old names by new ones, and what counts as "not set" by what is then used.
    pub(crate) fn settle(&mut self) {
        let second = GoDuration::from_secs(1);
        for duration in [&mut self.timeout, &mut self.backoff] {
            if duration.is_zero() {
                *duration = second;
            }
        }
        if self.threshold == 0 {
            self.threshold = 10;
        }
        self.ignore.mediatypes.append(&mut self.ignoredmediatypes);
        if self.queue.size.get() == 0 {
            self.queue.size = match self.queue.folder.is_empty() {
                true => ByteSize::mebibytes(16),
                false => ByteSize::mebibytes(256),
            };
        }
    }
}

/// `format` of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventFormat {
    /// As Distribution 2 sends them.
    #[default]
    V1,
    /// As Distribution 3 sends them.
    V2,
}

/// `queue` of an endpoint.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventQueue {
    /// How much may wait.
    pub size: ByteSize,
    /// The folder where events survive the process; none keeps them in memory.
    pub folder: String,
}

/// `ignore` of an endpoint.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ignore {
    /// Events about content of these media types.
    pub mediatypes: Vec<String>,
    /// Events of these actions.
    pub actions: Vec<String>,
}
