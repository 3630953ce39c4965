//! From the configuration to the options of the crates that do the work, a file for each of them.

mod registry;
mod server;
mod store;

use thiserror::Error;

pub(crate) use registry::registry_options;
pub(crate) use server::server_options;
pub(crate) use store::Store;

/// A value that passed the configuration's own checks, but not those of its user.
#[derive(Debug, Error)]
#[error("{key}: {reason}")]
pub(crate) struct Unusable {
    key: &'static str,
    reason: String,
}

fn unusable(key: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Unusable {
    move |reason| Unusable {
        key,
        reason: reason.to_string(),
    }
}

/// A number of things: what is more than the machine can count is as many as it can.
fn count(number: impl TryInto<usize>) -> usize {
    number.try_into().unwrap_or(usize::MAX)
}
