//! What the commands that work on a store and end have in common.

use std::fmt::Display;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tracing::warn;
use wharfinger_config::{Config, Loaded};
use wharfinger_redis::SharedCache;
use wharfinger_registry::{NotWritable, Options, Registry};
use wharfinger_storage::{Claim, ClaimError, Claimed, Driver};
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
    #[error("storage.maintenance.readonly.enabled: the registry is not to be written to")]
    ReadOnly,
    #[error(transparent)]
    NotWritable(#[from] NotWritable),
    #[error(transparent)]
    Registry(#[from] wharfinger_registry::Error),
}

/// Another process has the store for itself.
#[derive(Debug, Error)]
#[error(
    "another process has the store for itself, and collects or mends what is in it; try again when it \
     has ended"
)]
pub(crate) struct Taken;

/// The status of a process that SIGINT has ended, as shells tell it.
const INTERRUPTED: u8 = 130;

/// How long work that is broken off may take to notice.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked whether the store is free.
const RETRY: Duration = Duration::from_millis(100);

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
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&[no_runtime(what, &error)]),
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = work(&loaded.config) => Some(outcome),
            Ok(()) = interruption() => None,
        }
    });
    match outcome {
        Some(Ok(code)) => code,
        Some(Err(error)) => refuse(&[format!("failed to {what}: {error}")]),
        None => {
            // What threads are waiting for may take long.
            runtime.shutdown_background();
            ExitCode::from(INTERRUPTED)
        }
    }
}

/// Tells when somebody at a terminal breaks the work off: it is dropped then, so that no bar stays
/// there. Elsewhere the signal ends the process by itself.
fn interruption() -> oneshot::Receiver<()> {
    let (tell, told) = oneshot::channel();
    if io::stderr().is_terminal() {
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                let _ = tell.send(());
                sleep(PATIENCE).await;
                std::process::exit(INTERRUPTED.into());
            }
        });
    }
    told
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

/// A store that may be written to, for as long as this is kept.
#[derive(Debug)]
pub(crate) struct Hold {
    _claimed: Option<Claimed>,
    /// Whether nobody else writes to it meanwhile.
    pub(crate) is_alone: bool,
}

/// Claims the store for this command alone, or else beside others. Where they are promised to have
/// `stopped`, or it was waited for that, it is not claimed beside them: `None`.
///
/// # Errors
/// When nobody may write to it at the moment.
pub(crate) async fn claim(
    driver: &dyn Driver,
    wait: Duration,
    stopped: bool,
) -> Result<Option<Hold>, Taken> {
    let hold = |claimed, is_alone| {
        Ok(Some(Hold {
            _claimed: claimed,
            is_alone,
        }))
    };
    let deadline = Instant::now() + wait;
    loop {
        return match driver.claim(Claim::Alone) {
            // Nobody can be kept from writing to it, nor be seen.
            Ok(None) => hold(None, stopped),
            Ok(claimed) => hold(claimed, true),
            Err(error @ ClaimError::Unlockable(_)) => {
                warn!(%error, "it cannot be seen whether others write to the store");
                hold(None, stopped)
            }
            Err(ClaimError::Taken) if Instant::now() < deadline => {
                sleep(RETRY).await;
                continue;
            }
            Err(ClaimError::Taken) if !wait.is_zero() || stopped => Ok(None),
            Err(ClaimError::Taken) => match driver.claim(Claim::Write) {
                Ok(claimed) => hold(claimed, false),
                Err(_) => Err(Taken),
            },
        };
    }
}

/// The options of a registry that images are copied from or to.
pub(crate) fn copying_options(config: &Config) -> Result<Options, Unusable> {
    let mut options = wiring::registry_options(config)?;
    // One that is written to is made writable when the store is claimed.
    options.read_only = true;
    // What others delete meanwhile is to be seen at once.
    options.descriptor_cache = 0;
    Ok(options)
}

/// A registry that images are copied from.
pub(crate) async fn registry_to_read(config: &Config) -> Result<Registry, OpenError> {
    let store = open(config).await?;
    Ok(Registry::new(store.driver(), copying_options(config)?)?)
}

/// A registry that images are copied to, with its claim on the store.
pub(crate) async fn registry_to_write(config: &Config) -> Result<Registry, OpenError> {
    let store = open_or_make(config).await?;
    if config.storage.maintenance.readonly.enabled {
        return Err(OpenError::ReadOnly);
    }
    let registry = Registry::new(store.driver(), copying_options(config)?)?;
    registry.make_writable().await?;
    Ok(registry)
}
