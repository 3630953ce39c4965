//! What of a pull-through cache goes when it is not used.

use std::sync::Arc;
use std::time::Duration;

use wharfinger_config::Config;
use wharfinger_oci::{Choice, RepositoryName};
use wharfinger_proxy::{Eviction, EvictionOptions, Retention};
use wharfinger_registry::Registry;

use super::{Unusable, parse, parse_all};

/// How long content is kept unless the configuration says something else, as in Distribution.
const TTL: Duration = Duration::from_secs(168 * 3600);

/// What evicts, where something can be due.
pub(crate) fn eviction(config: &Config, registry: &Registry) -> Result<Option<Eviction>, Unusable> {
    let proxy = &config.proxy;
    let patterns = parse_all("proxy.pinned", &proxy.pinned)?;
    let pinned = (!patterns.is_empty()).then(|| Choice::of(patterns));
    let all = proxy.ttl.map_or(TTL, |ttl| ttl.get());
    let retention = |ttl: Duration| {
        let ttl = (!ttl.is_zero()).then_some(ttl);
        let pinned = pinned.clone();
        Arc::new(Retention { ttl, pinned })
    };
    let mut named = Vec::new();
    for (index, upstream) in proxy.upstreams.iter().enumerate() {
        let key = format!("proxy.upstreams[{index}].name");
        let name: RepositoryName = parse(&key, &upstream.name)?;
        named.push((name, retention(upstream.ttl.map_or(all, |ttl| ttl.get()))));
    }
    let rest = proxy.is_used().then(|| retention(all));
    let size = (!proxy.size.is_zero()).then(|| proxy.size.get());
    let mut retentions = named.iter().map(|(_, retention)| retention).chain(&rest);
    let is_due = match size {
        Some(_) => retentions.next().is_some(),
        None => retentions.any(|retention| retention.ttl.is_some()),
    };
    if !is_due {
        return Ok(None);
    }
    let options = EvictionOptions {
        retentions: Arc::new(move |name| {
            let mut named = named.iter();
            let named = named.find(|(above, _)| name.below(above).is_some());
            named
                .map(|(_, retention)| retention)
                .or(rest.as_ref())
                .cloned()
        }),
        size,
        grace: config.storage.maintenance.gc.grace.get(),
    };
    Ok(Some(Eviction::new(registry.clone(), options)))
}
