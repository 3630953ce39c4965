//! What of a pull-through cache goes when it is not used.

use std::sync::Arc;
use std::time::Duration;

use wharfinger_config::Config;
use wharfinger_oci::{Choice, Pattern};
use wharfinger_proxy::{Eviction, EvictionOptions, Retention};
use wharfinger_registry::Registry;

use super::{Unusable, unusable};

/// How long content is kept unless the configuration says something else, as in Distribution.
const TTL: Duration = Duration::from_secs(168 * 3600);

/// What evicts, where something can be due.
pub(crate) fn eviction(config: &Config, registry: &Registry) -> Result<Option<Eviction>, Unusable> {
    let proxy = &config.proxy;
    if !proxy.is_used() {
        return Ok(None);
    }
    let ttl = proxy.ttl.map_or(TTL, |ttl| ttl.get());
    let ttl = (!ttl.is_zero()).then_some(ttl);
    let size = (!proxy.size.is_zero()).then(|| proxy.size.get());
    let patterns = proxy.pinned.iter().enumerate().map(|(index, text)| {
        let key = format!("proxy.pinned[{index}]");
        text.parse::<Pattern>()
            .map_err(|error| unusable(key)(&error))
    });
    let patterns = patterns.collect::<Result<Vec<_>, _>>()?;
    if ttl.is_none() && size.is_none() {
        return Ok(None);
    }
    let pinned = (!patterns.is_empty()).then(|| Choice::of(patterns));
    let retention = Arc::new(Retention { ttl, pinned });
    let options = EvictionOptions {
        retentions: Arc::new(move |_| Some(Arc::clone(&retention))),
        size,
        grace: config.storage.maintenance.gc.grace.get(),
    };
    Ok(Some(Eviction::new(registry.clone(), options)))
}
