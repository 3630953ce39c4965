//! From the configuration to the options of the crates that do the work, a file for each of them.

mod access;
mod eviction;
mod health;
mod listener;
mod metrics;
mod middleware;
mod notifications;
mod proxy;
mod redis;
mod registry;
mod remote;
mod server;
mod store;
mod sync;
mod telemetry;
mod tls;

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use thiserror::Error;

pub(crate) use access::access_controller;
pub(crate) use eviction::eviction;
pub(crate) use health::health_checks;
pub(crate) use listener::{debug_listener, listener};
pub(crate) use metrics::Measured;
pub(crate) use middleware::middlewares;
pub(crate) use notifications::{notifier, server_notifications, use_endpoints};
pub(crate) use proxy::upstreams;
pub(crate) use redis::shared_cache;
pub(crate) use registry::{collect_options, registry_options};
pub(crate) use remote::{upstream, upstream_to_push};
pub(crate) use server::server_options;
pub(crate) use store::Store;
pub(crate) use sync::{sync_jobs, sync_schedules};
pub(crate) use telemetry::{log_options, telemetry};
pub(crate) use tls::{fresh_tls, tls};

/// A value that passed the configuration's own checks, but not those of its user.
#[derive(Debug, Error)]
#[error("{key}: {reason}")]
pub(crate) struct Unusable {
    /// The key of the configuration.
    pub(crate) key: Cow<'static, str>,
    /// What is wrong with its value.
    pub(crate) reason: String,
}

/// What becomes of an error about the value of `key`.
pub(crate) fn unusable(key: impl Into<Cow<'static, str>>) -> impl Fn(&dyn Display) -> Unusable {
    let key = key.into();
    move |reason| Unusable {
        key: key.clone(),
        reason: reason.to_string(),
    }
}

/// The value of a key, in a form of its own.
fn parse<T: FromStr<Err: Display>>(key: &str, text: &str) -> Result<T, Unusable> {
    text.parse()
        .map_err(|error: T::Err| unusable(key.to_owned())(&error))
}

/// The values of a list.
fn parse_all<T: FromStr<Err: Display>>(key: &str, texts: &[String]) -> Result<Vec<T>, Unusable> {
    let texts = texts.iter().enumerate();
    texts
        .map(|(index, text)| parse(&format!("{key}[{index}]"), text))
        .collect()
}

/// A number of things: what is more than the machine can count is as many as it can.
fn count(number: impl TryInto<usize>) -> usize {
    number.try_into().unwrap_or(usize::MAX)
}
