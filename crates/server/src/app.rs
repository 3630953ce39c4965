//! What all requests share.

use wharfinger_registry::Registry;

use crate::Options;
use crate::health::Health;
use crate::upload_state::Secret;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) registry: Registry,
    pub(crate) options: Options,
    pub(crate) secret: Secret,
    pub(crate) health: Health,
}
