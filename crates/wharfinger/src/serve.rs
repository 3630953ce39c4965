//! `wharfinger serve`: from the configuration to a registry that answers, and to its end.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use wharfinger_config::{Config, Loaded, Problem};
use wharfinger_registry::Registry;
use wharfinger_server::{Address, DebugServer, Server};
use wharfinger_storage::Claim;
use wharfinger_telemetry::{Telemetry, TraceError};

use crate::wiring::{self, Measured, Store, Unusable, unusable};
use crate::{background, systemd};

/// Why the registry did not start.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Config(#[from] Unusable),
    #[error(transparent)]
    Environment(#[from] TraceError),
    #[error("the runtime cannot be started: {0}")]
    Runtime(std::io::Error),
}

/// How long what is still to be sent at the end may take at least, mails and traces.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A folder that this process may not write to now.
const COLLECTED: &str = "garbage-collect works on this folder; start when it has ended, or \
                         read-only (storage.maintenance.readonly.enabled)";

/// Runs the registry until a signal ends it.
pub(crate) fn run(loaded: Result<Loaded, wharfinger_config::Error>) -> ExitCode {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return refuse(&[error]),
    };
    if !loaded.problems.is_empty() {
        return refuse(&loaded.problems);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(start(&loaded)),
        Err(error) => Err(StartError::Runtime(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Config(Unusable { key, reason })) => {
            refuse(&[loaded.problem(&key, reason)])
        }
        Err(error) => refuse(&[error]),
    }
}

/// Logs what is odd about the configuration.
pub(crate) fn warn_of(warnings: &[Problem]) {
    for warning in warnings {
        warn!(
            origin = %warning.origin,
            key = warning.key,
            "in the configuration: {}",
            warning.message
        );
    }
}

/// Tells what stands in the way.
pub(crate) fn refuse<E: Display>(errors: &[E]) -> ExitCode {
    for error in errors {
        for line in error.to_string().lines() {
            eprintln!("wharfinger: {line}");
        }
    }
    ExitCode::FAILURE
}

/// Begins to log, and serves until a signal comes.
async fn start(loaded: &Loaded) -> Result<(), StartError> {
    let config = &loaded.config;
    let telemetry = wiring::telemetry(config)?;
    warn_of(&loaded.warnings);
    // Signals from here on end the registry in order, however early they come.
    let stopping = OnceLock::new();
    let signal = stop_signal();
    let stop = async {
        signal.await;
        let _ = stopping.set(Instant::now());
    };
    let left = || {
        let drained = stopping.get().map_or(Duration::ZERO, Instant::elapsed);
        config.http.draintimeout.get().saturating_sub(drained)
    };
    let outcome = serve(config, &telemetry, stop, left).await;
    telemetry.flush(left().max(LAST_WORDS)).await;
    Ok(outcome?)
}

async fn serve(
    config: &Config,
    telemetry: &Telemetry,
    stop: impl Future<Output = ()>,
    left: impl Fn() -> Duration,
) -> Result<(), Unusable> {
    let mut measured = Measured::new(config);
    let registry_options = wiring::registry_options(config)?;
    let mut server_options = wiring::server_options(config)?;
    let tls = wiring::tls(config)?;
    server_options.metrics = measured.requests();
    server_options.continue_trace = telemetry.continue_trace();
    let traced = server_options.continue_trace.is_some();
    let read_only = registry_options.read_only;
    let in_folder = unusable("storage.filesystem.rootdirectory");
    let store = Store::open(config).map_err(|error| in_folder(&error))?;
    let _claimed = match read_only {
        true => None,
        false => store
            .claim(Claim::Write)
            .map_err(|_| in_folder(&COLLECTED))?,
    };
    let folder = match &store {
        Store::Filesystem(driver) => Some(driver.clone()),
        Store::Memory(_) => None,
    };
    if let (Some(driver), false) = (&folder, read_only) {
        match driver.check().await {
            // What is there can still be served, and room can come back.
            Err(error) if error.is_no_space() => warn!(%error, "the store is full"),
            checked => checked.map_err(|error| in_folder(&error))?,
        }
    }
    let driver = measured.driver(store.driver(), traced);
    let registry = Registry::new(driver, registry_options)
        .map_err(|error| unusable("compatibility.schema1.signingkeyfile")(&error))?;
    let mut listener = wiring::listener(config).await?;
    let address = listener.address().clone();
    if let Some(tls) = &tls {
        tokio::spawn(tls.clone().maintain());
        listener = listener.with_tls(tls.clone());
    }
    let notifier = wiring::notifier(config).await?;
    server_options.notifications = Some(wiring::server_notifications(config, &notifier));
    if config.http.secret.is_empty() {
        info!(
            "http.secret is not set: one was made up, so uploads under way cannot go on after a \
             restart or on another node"
        );
    }
    let server = Server::new(registry.clone(), server_options);
    let purging = &config.storage.maintenance.uploadpurging;
    if purging.enabled && !read_only {
        let purging = purging.clone();
        tokio::spawn(background::purge_uploads(registry.clone(), folder, purging));
    }
    for check in wiring::health_checks(config, &registry, store.driver().name())? {
        tokio::spawn(check.watch(server.health()));
    }
    let debug = &config.http.debug;
    if !debug.addr.is_empty() {
        let listener = wiring::debug_listener(config).await?;
        info!(address = %listener.address(), "metrics and health can be looked at");
        let debug = DebugServer {
            health: server.health(),
            metrics: measured.served(&registry, &notifier, config),
        };
        // It answers until the process ends, so that the end can be watched.
        tokio::spawn(debug.serve(listener));
    }
    if config.http.tls.letsencrypt.is_used()
        && !matches!(address, Address::Tcp(local) if local.port() == 443)
    {
        info!(%address, "the authority connects to port 443 of each name, which must lead here");
    }
    announce(config, &address, &store.place());
    info!(%address, storage = store.place(), "listening on {address}");
    systemd::ready();
    tokio::spawn(systemd::watchdog());
    let drain_timeout = config.http.draintimeout.get();
    let stop = async {
        stop.await;
        systemd::stopping(drain_timeout);
    };
    server.serve(listener, stop).await;
    notifier.shut_down(left()).await;
    info!("stopped");
    Ok(())
}

/// Tells the person at the terminal where things are and what to try.
fn announce(config: &Config, address: &Address, place: &str) {
    let http = &config.http;
    let scheme = if http.is_secure() { "https" } else { "http" };
    let prefix = http.prefix.trim_start_matches('/');
    let (url, attempt) = match address {
        Address::Tcp(local) => {
            let name = http.tls.letsencrypt.hosts.first().map(String::as_str);
            let host = match (name, local.port()) {
                (Some(name), 443) => name.to_owned(),
                (Some(name), port) => format!("{name}:{port}"),
                // Docker takes plain HTTP on loopback addresses only.
                (None, port) if local.ip().is_unspecified() => format!("localhost:{port}"),
                (None, _) => local.to_string(),
            };
            (
                format!("{scheme}://{local}"),
                format!("docker push {host}/{prefix}hello:latest"),
            )
        }
        Address::Unix(path) => {
            let socket = match path.strip_prefix('@') {
                Some(name) => format!("--abstract-unix-socket {name}"),
                None => format!("--unix-socket {path}"),
            };
            (
                address.to_string(),
                format!("curl {socket} {scheme}://localhost/{prefix}v2/"),
            )
        }
    };
    let mut out = std::io::stdout().lock();
    // Standard output that is closed is no reason not to start.
    let _ = writeln!(
        out,
        "wharfinger {} listening on {url}\nstoring in {place}\ntry: {attempt}",
        env!("CARGO_PKG_VERSION"),
    );
    let _ = out.flush();
}

/// Ready when the process is told to stop, by SIGTERM or SIGINT.
fn stop_signal() -> impl Future<Output = ()> {
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    async move {
        let [Ok(mut terminate), Ok(mut interrupt)] = signals else {
            warn!("signals cannot be received; the process ends without finishing requests");
            return std::future::pending().await;
        };
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        info!(signal = name, "stopping");
    }
}
