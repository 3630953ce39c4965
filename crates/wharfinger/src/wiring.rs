//! From the configuration to the options of the crates that do the work.

use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use regex::RegexSet;
use thiserror::Error;
use wharfinger_config::{Config, Http, Platforms, Validation};
use wharfinger_registry::{IndexPlatforms, UrlRules};
use wharfinger_storage::{Driver, FilesystemDriver, FilesystemOptions, MemoryDriver};

/// How many descriptors are kept where the configuration asks for a cache without limit: about a
/// gigabyte of them.
const UNLIMITED: usize = 10_000_000;

/// A value that passed the configuration's own checks, but not those of its user.
#[derive(Debug, Error)]
#[error("{key}: {reason}")]
pub(crate) struct Unusable {
    key: &'static str,
    reason: String,
}

fn unusable(key: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Unusable {
    move |reason| Unusable {
        key,
        reason: reason.to_string(),
    }
}

/// The store.
pub(crate) enum Store {
    /// In a folder.
    Filesystem(FilesystemDriver),
    /// In memory.
    Memory(MemoryDriver),
}

impl Store {
    pub(crate) fn open(config: &Config) -> Result<Self, wharfinger_storage::Error> {
        match &config.storage.filesystem {
            Some(filesystem) => {
                let mut options = FilesystemOptions::new(PathBuf::from(&filesystem.rootdirectory));
                options.max_threads = count(filesystem.maxthreads);
                FilesystemDriver::new(options).map(Self::Filesystem)
            }
            None => Ok(Self::Memory(MemoryDriver::new())),
        }
    }

    pub(crate) fn driver(&self) -> Arc<dyn Driver> {
        match self {
            Self::Filesystem(driver) => Arc::new(driver.clone()),
            Self::Memory(driver) => Arc::new(driver.clone()),
        }
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Filesystem(driver) => driver.root().display().to_string(),
            Self::Memory(_) => "memory (everything is gone when it stops)".to_owned(),
        }
    }
}

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
        tag_concurrency: count(storage.tag.concurrencylimit),
        schema1_push: schema1.enabled,
        schema1_key: Some(&schema1.signingkeyfile)
            .filter(|file| !file.is_empty())
            .map(PathBuf::from),
        validation: validation(&config.validation)?,
        ..wharfinger_registry::Options::default()
    })
}

/// A number of things: what is more than the machine can count is as many as it can.
fn count(number: impl TryInto<usize>) -> usize {
    number.try_into().unwrap_or(usize::MAX)
}

fn validation(validation: &Validation) -> Result<wharfinger_registry::Validation, Unusable> {
    let rules = &validation.manifests;
    let sparse = rules.sparse;
    if validation.disabled {
        return Ok(wharfinger_registry::Validation {
            sparse,
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
        urls,
        index_platforms,
    })
}

pub(crate) fn server_options(config: &Config) -> Result<wharfinger_server::Options, Unusable> {
    let http = &config.http;
    let mut options = wharfinger_server::Options {
        relative_urls: http.relativeurls,
        headers: headers(http)?,
        http2_cleartext: http.h2c.enabled,
        drain_timeout: http.draintimeout.get(),
        catalog_max: count(config.catalog.maxentries),
        tags_max: count(config.tags.maxtags),
        access_log: !config.log.accesslog.disabled,
        ..wharfinger_server::Options::default()
    };
    if !http.secret.is_empty() {
        options.secret = Some(http.secret.expose().to_owned());
    }
    if !http.prefix.is_empty() {
        options.prefix.clone_from(&http.prefix);
    }
    if !http.host.is_empty() {
        let host = http.host.parse();
        options.host =
            Some(host.map_err(|error: http::uri::InvalidUri| unusable("http.host")(&error))?);
    }
    Ok(options)
}

fn headers(http: &Http) -> Result<Vec<(HeaderName, HeaderValue)>, Unusable> {
    let wrong = unusable("http.headers");
    let mut headers = Vec::new();
    for (name, values) in &http.headers {
        let name: HeaderName = name
            .parse()
            .map_err(|error: http::header::InvalidHeaderName| wrong(&error))?;
        for value in values {
            let value = HeaderValue::from_str(value).map_err(|error| wrong(&error))?;
            headers.push((name.clone(), value));
        }
    }
    Ok(headers)
}
