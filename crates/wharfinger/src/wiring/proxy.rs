//! The pull-through cache.

use std::path::PathBuf;
use std::time::Duration;

use wharfinger_config::Config;
use wharfinger_proxy::{Cache, CacheOptions, Metrics};
use wharfinger_registry::Registry;

use super::{Unusable, upstream};

/// How long storing may go on unless the configuration says something else, as in Distribution.
const STORING: Duration = Duration::from_secs(5 * 60);

/// How long a client of a slow upstream waits for more than what is kept.
const PATIENCE: Duration = Duration::from_secs(5);

/// The cache, where the registry is one of another registry.
pub(crate) fn cache(config: &Config, registry: &Registry) -> Result<Option<Cache>, Unusable> {
    let proxy = &config.proxy;
    if !proxy.is_used() {
        return Ok(None);
    }
    let metrics = Metrics::default();
    let upstream = upstream("proxy", proxy.remote(), metrics.upstreams())?;
    let store_timeout = proxy.cachewritetimeout.map(|timeout| timeout.get());
    let options = CacheOptions {
        tag_ttl: proxy.tagttl.get(),
        patience: PATIENCE,
        store_timeout: store_timeout.filter(|it| !it.is_zero()).unwrap_or(STORING),
        // Where the store is a folder there is room for what will be in it.
        spool: match &config.storage.filesystem {
            Some(filesystem) => PathBuf::from(&filesystem.rootdirectory),
            None => std::env::temp_dir(),
        },
    };
    Ok(Some(Cache::new(
        registry.clone(),
        upstream,
        metrics,
        options,
    )))
}
