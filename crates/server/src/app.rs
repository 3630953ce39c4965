//! What all requests share.

use std::sync::Arc;

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

/// What all requests share, as those of one connection take hold of it. If each took hold of the app
/// itself, all processors would count their requests in one and the same place of the memory, which
/// takes them longer the more of them there are.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) app: Arc<App>,
    pub(crate) registry: Registry,
    /// The options that hold for a request, whatever is changed while it is answered.
    pub(crate) options: Arc<Options>,
}

impl Shared {
    pub(crate) fn new(app: &Arc<App>, options: Arc<Options>) -> Self {
        Self {
            registry: app.registry.apart(),
            app: Arc::clone(app),
            options,
        }
    }
}
