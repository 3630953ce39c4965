//! The pull-through cache.

use std::path::PathBuf;
use std::time::Duration;

use wharfinger_config::Config;
use wharfinger_proxy::{Cache, CacheOptions, Metrics};
use wharfinger_registry::Registry;
use wharfinger_remote::{Credentials, Exec, Upstream};

use super::{Unusable, unusable};

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
    let credentials = match &proxy.exec {
        Some(exec) => {
            let lifetime = exec.lifetime.map(|lifetime| lifetime.get());
            Credentials::Exec(Exec::new(exec.command.clone(), lifetime))
        }
        None if proxy.username.is_empty() => Credentials::Anonymous,
        None => Credentials::Static {
            username: proxy.username.clone(),
            password: proxy.password.expose().to_owned(),
        },
    };
    let metrics = Metrics::default();
    let upstream = Upstream::new(&proxy.remoteurl, credentials, metrics.upstreams())
        .map_err(|reason| unusable("proxy.remoteurl")(&reason))?;
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
