//! What the commands that work on a store and end have in common.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use thiserror::Error;
use tracing::warn;
use wharfinger_config::{Config, Loaded};
use wharfinger_redis::SharedCache;
use wharfinger_telemetry::Telemetry;

use crate::serve::{refuse, warn_of};
use crate::wiring::{self, Store, Unusable, log_options};

/// Why a store cannot be worked on.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Config(#[from] Unusable),
    #[error("the store is in memory: there is nothing in it that another process could reach")]
    Memory,
    #[error("storage.filesystem.rootdirectory: there is no folder {0}")]
    NoFolder(String),
}

/// Begins to log, and does the work with the configuration. When it fails, that is told as a failure
/// to do `what`.
pub(crate) fn run<E>(
    loaded: Result<Loaded, wharfinger_config::Error>,
    what: &str,
    work: impl AsyncFnOnce(&Config) -> Result<ExitCode, E>,
) -> ExitCode
where
    E: Display,
{
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return refuse(&[error]),
    };
    if !loaded.problems.is_empty() {
        return refuse(&loaded.problems);
    }
    Telemetry::start(log_options(&loaded.config.log), Vec::new(), None);
    warn_of(&loaded.warnings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(work(&loaded.config)),
        Err(error) => return refuse(&[no_runtime(what, &error)]),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => refuse(&[format!("failed to {what}: {error}")]),
    }
}

fn no_runtime(what: &str, error: &io::Error) -> String {
    format!("failed to {what}: the runtime cannot be started: {error}")
}

/// Reads a configuration file that must be named.
pub(crate) fn load(config: &Path) -> Result<Loaded, wharfinger_config::Error> {
    let source = crate::Source {
        config: Some(config.to_owned()),
    };
    source.load()
}

/// Opens the store, which must be there.
pub(crate) async fn open(config: &Config) -> Result<Store, OpenError> {
    // Opening the store would make it.
    if let Some(filesystem) = &config.storage.filesystem
        && !Path::new(&filesystem.rootdirectory).is_dir()
    {
        return Err(OpenError::NoFolder(filesystem.rootdirectory.clone()));
    }
    open_or_make(config).await
}

/// Opens the store; a folder is made when it is not there.
pub(crate) async fn open_or_make(config: &Config) -> Result<Store, OpenError> {
    if config.storage.inmemory.is_some() {
        return Err(OpenError::Memory);
    }
    let store = Store::open(config)?;
    store.ask().await?;
    Ok(store)
}

/// Where registries keep what they know together, which must not outlive what is removed here.
pub(crate) async fn shared_cache(config: &Config) -> Result<Option<SharedCache>, Unusable> {
    let cache = wiring::shared_cache(config)?;
    if let Some(cache) = &cache
        && !cache.connected(config.redis.dialtimeout.get()).await
    {
        warn!("registries may find in Redis what is removed here, for a minute more");
    }
    Ok(cache)
}
