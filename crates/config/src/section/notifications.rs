//! `notifications`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Headers;
use crate::duration::GoDuration;

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
    pub url: String,
    /// Headers of the requests.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: Headers,
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
