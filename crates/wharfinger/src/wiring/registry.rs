//! The registry's options.

use std::path::PathBuf;

use regex::RegexSet;
use wharfinger_config::{Config, GarbageCollection, Platforms};
use wharfinger_registry::{CollectOptions, IndexPlatforms, UrlRules};

use super::sync::without_platforms;
use super::{Unusable, count, unusable};

/// How many descriptors are kept where the configuration asks for a cache without limit: about a
/// gigabyte of them.
const UNLIMITED: usize = 10_000_000;

pub(crate) fn registry_options(config: &Config) -> Result<wharfinger_registry::Options, Unusable> {
    let storage = &config.storage;
    let cache = &storage.cache;
    let schema1 = &config.compatibility.schema1;
    Ok(wharfinger_registry::Options {
        delete: storage.delete.enabled,
        read_only: storage.maintenance.readonly.enabled,
        redirect: !storage.redirect.disable,
        descriptor_cache: match (cache.blobdescriptor.is_empty(), cache.blobdescriptorsize) {
            (true, _) => 0,
            (false, 0) => UNLIMITED,
            (false, size) => count(size).min(UNLIMITED),
        },
        descriptor_life: match cache.blobdescriptor.as_str() {
            "redis" => wharfinger_registry::Options::SHARED_DESCRIPTOR_LIFE,
            _ => wharfinger_registry::Options::DESCRIPTOR_LIFE,
        },
        tag_concurrency: count(storage.tag.concurrencylimit),
        schema1_push: schema1.enabled,
        schema1_key: Some(&schema1.signingkeyfile)
            .filter(|file| !file.is_empty())
            .map(PathBuf::from),
        validation: validation(config)?,
        ..wharfinger_registry::Options::default()
    })
}

/// What a collection beside others that write removes.
pub(crate) fn collect_options(collection: &GarbageCollection) -> CollectOptions {
    CollectOptions {
        dry_run: collection.dryrun,
        delete_untagged: collection.deleteuntagged,
        serving: Some(collection.grace.get()),
        rate: (collection.rate > 0).then_some(collection.rate),
    }
}

fn validation(config: &Config) -> Result<wharfinger_registry::Validation, Unusable> {
    let validation = &config.validation;
    let rules = &validation.manifests;
    // Of another registry a manifest is kept before what it refers to.
    let sparse = rules.sparse || config.proxy.is_used();
    let names = config.proxy.upstreams.iter();
    let mut sparse_below: Vec<_> = names.filter_map(|of| of.name.parse().ok()).collect();
    sparse_below.extend(without_platforms(config));
    if validation.disabled {
        return Ok(wharfinger_registry::Validation {
            sparse,
            sparse_below,
            ..wharfinger_registry::Validation::default()
        });
    }
    let set = |patterns: &[String]| {
        RegexSet::new(patterns).map_err(|error| unusable("validation.manifests.urls")(&error))
    };
    let urls = &rules.urls;
    let any = !urls.allow.is_empty() || !urls.deny.is_empty();
    let urls = match (any, validation.enabled) {
        (true, _) => Some(UrlRules {
            allow: set(&urls.allow)?,
            deny: set(&urls.deny)?,
        }),
        // As in Distribution: switched on without a rule lets no URL through.
        (false, true) => Some(UrlRules {
            allow: set(&["^$".to_owned()])?,
            deny: RegexSet::empty(),
        }),
        (false, false) => None,
    };
    let index_platforms = match rules.indexes.platforms {
        Platforms::All => IndexPlatforms::All,
        Platforms::None => IndexPlatforms::None,
        Platforms::List => {
            let platforms = rules.indexes.platformlist.iter();
            let pairs = platforms.map(|p| (p.os.clone(), p.architecture.clone()));
            IndexPlatforms::List(pairs.collect())
        }
    };
    Ok(wharfinger_registry::Validation {
        sparse,
        sparse_below,
        urls,
        index_platforms,
    })
}
