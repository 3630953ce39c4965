//! What all requests share.

use arc_swap::ArcSwap;
use wharfinger_health::Health;
use wharfinger_proxy::Upstreams;
use wharfinger_registry::Registry;

use crate::Options;
use crate::limits::Limiter;
use crate::upload_state::Secret;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) registry: Registry,
    /// The other registries of which it keeps what is pulled.
    pub(crate) upstreams: Upstreams,
    /// What an operator decides, which may change while the server runs.
    pub(crate) options: ArcSwap<Options>,
    pub(crate) secret: Secret,
    pub(crate) health: Health,
    pub(crate) limiter: Limiter,
}
