//! What is kept of other registries.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use wharfinger_config::{Config, GoDuration};
use wharfinger_oci::RepositoryName;
use wharfinger_proxy::{Cache, CacheOptions, Eviction, Kept, Metrics, Upstreams};
use wharfinger_registry::Registry;

use super::{Unusable, parse, parse_all, upstream};

/// How long storing may go on unless the configuration says something else, as in Distribution.
const STORING: Duration = Duration::from_secs(5 * 60);

/// How long a client of a slow upstream waits for more than what is kept.
const PATIENCE: Duration = Duration::from_secs(5);

/// The registries of which this one keeps what is pulled.
pub(crate) fn upstreams(
    config: &Config,
    registry: &Registry,
    eviction: Option<&Eviction>,
) -> Result<Upstreams, Unusable> {
    let proxy = &config.proxy;
    // They are counted together, too.
    let metrics = Metrics::default();
    let cache = |upstream, below, tag_ttl| {
        let options = CacheOptions {
            uses: eviction.map(Eviction::uses),
            ..options(config, below, tag_ttl)
        };
        Cache::new(registry.clone(), upstream, metrics.clone(), options)
    };
    let rest = match proxy.is_used() {
        false => None,
        true => {
            let upstream = upstream("proxy", None, proxy.remote(), metrics.upstreams())?;
            Some(cache(upstream, None, proxy.tagttl))
        }
    };
    let mut named = Vec::new();
    for (index, of) in proxy.upstreams.iter().enumerate() {
        let key = format!("proxy.upstreams[{index}]");
        let name: RepositoryName = parse(&format!("{key}.name"), &of.name)?;
        let metrics = metrics.upstreams();
        let upstream = upstream(&key, Some(&of.name), of.remote(), metrics)?;
        named.push(Kept {
            cache: cache(upstream, Some(name.clone()), of.tagttl),
            name,
            ns: of.ns.clone(),
            hosts: of.hosts.clone(),
            library: of.library.unwrap_or_default(),
            allow: parse_all(&format!("{key}.allow"), &of.allow)?,
            deny: parse_all(&format!("{key}.deny"), &of.deny)?,
        });
    }
    Ok(Upstreams {
        named,
        rest,
        ns: own_names(config),
    })
}

fn options(config: &Config, below: Option<RepositoryName>, tag_ttl: GoDuration) -> CacheOptions {
    let store_timeout = config.proxy.cachewritetimeout.map(|timeout| timeout.get());
    CacheOptions {
        below,
        tag_ttl: tag_ttl.get(),
        patience: PATIENCE,
        store_timeout: store_timeout.filter(|it| !it.is_zero()).unwrap_or(STORING),
        downloads: config.proxy.downloads,
        // Where the store is a folder there is room for what will be in it.
        spool: match &config.storage.filesystem {
            Some(filesystem) => PathBuf::from(&filesystem.rootdirectory),
            None => std::env::temp_dir(),
        },
        uses: None,
    }
}

/// What clients may call this registry itself, and the one that has all the rest.
fn own_names(config: &Config) -> Vec<String> {
    let (proxy, http) = (&config.proxy, &config.http);
    let urls = [&proxy.remoteurl, &http.host].into_iter();
    let hosts = urls.filter_map(|url| url.parse::<Uri>().ok()?.into_parts().authority);
    let hosts = hosts.map(|authority| authority.to_string());
    let named = proxy.ns.iter().chain(&http.tls.letsencrypt.hosts).cloned();
    hosts.chain(named).collect()
}
