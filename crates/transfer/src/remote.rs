//! Another registry, as where images come from and as where they go.

mod patience;
mod source;
mod target;

pub(crate) use patience::Patience;
pub(crate) use source::RemoteSource;
pub(crate) use target::RemoteTarget;

use wharfinger_remote::UpstreamError;

use crate::Fault;

/// What an upstream's error means for an image.
fn fault(error: &UpstreamError, place: impl ToString) -> Fault {
    Fault::Unreadable {
        place: place.to_string(),
        reason: error.to_string(),
    }
}
