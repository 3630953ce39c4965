//! What all requests share.

use arc_swap::ArcSwap;
use wharfinger_health::Health;
use wharfinger_proxy::Cache;
use wharfinger_registry::Registry;

use crate::Options;
use crate::limits::Limiter;
use crate::upload_state::Secret;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) registry: Registry,
    /// Where the registry is a cache of another one.
    pub(crate) cache: Option<Cache>,
    /// What an operator decides, which may change while the server runs.
    pub(crate) options: ArcSwap<Options>,
    pub(crate) secret: Secret,
    pub(crate) health: Health,
    pub(crate) limiter: Limiter,
}
