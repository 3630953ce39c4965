//! `wharfinger serve`: from the configuration to a registry that answers, and to its end.

use std::fmt::Display;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use wharfinger_config::{Config, Loaded, Problem};
use wharfinger_registry::Registry;
use wharfinger_server::{DebugServer, Server};
use wharfinger_storage::Claim;
use wharfinger_telemetry::{Telemetry, TraceError};

use crate::background;
use crate::wiring::{self, Measured, Store, Unusable, unusable};

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

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "; another program listens there, choose another port",
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges",
        std::io::ErrorKind::InvalidInput => "; write host and port, like 127.0.0.1:5000 or :5000",
        _ => "",
    }
}

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
    let (listener, local) = listen("http.addr", &config.http.addr).await?;
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
        let (listener, local) = listen("http.debug.addr", &debug.addr).await?;
        info!(address = %local, "metrics and health can be looked at");
        let debug = DebugServer {
            health: server.health(),
            metrics: measured.served(&registry, &notifier, config),
        };
        // It answers until the process ends, so that the end can be watched.
        tokio::spawn(debug.serve(listener));
    }
    announce(config, local, &store.place());
    info!(address = %local, storage = store.place(), "listening on {local}");
    server.serve(listener, stop).await;
    notifier.shut_down(left()).await;
    info!("stopped");
    Ok(())
}

/// Listens on the address that `key` says, and gives what was taken of it.
async fn listen(key: &'static str, addr: &str) -> Result<(TcpListener, SocketAddr), Unusable> {
    let failed = |error: std::io::Error| {
        let hint = hint(&error);
        unusable(key)(&format_args!("cannot listen on {addr:?}: {error}{hint}"))
    };
    let listener = bind(addr).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

/// Listens on `host:port`; no host is every address of the machine, of both IP versions.
async fn bind(addr: &str) -> std::io::Result<TcpListener> {
    use std::io::ErrorKind::{AddrInUse, PermissionDenied};

    let Some(port) = addr.strip_prefix(':') else {
        return TcpListener::bind(addr).await;
    };
    match TcpListener::bind(format!("[::]:{port}")).await {
        // A machine without IPv6 says so in more than one way.
        Err(error) if !matches!(error.kind(), AddrInUse | PermissionDenied) => {
            TcpListener::bind(format!("0.0.0.0:{port}")).await
        }
        result => result,
    }
}

/// Tells the person at the terminal where things are and what to try.
fn announce(config: &Config, local: SocketAddr, place: &str) {
    // Docker takes plain HTTP on loopback addresses only.
    let host = if local.ip().is_unspecified() {
        format!("localhost:{}", local.port())
    } else {
        local.to_string()
    };
    let prefix = config.http.prefix.trim_start_matches('/');
    let mut out = std::io::stdout().lock();
    // Standard output that is closed is no reason not to start.
    let _ = writeln!(
        out,
        "wharfinger {} listening on http://{local}\nstoring in {place}\ntry: docker push \
         {host}/{prefix}hello:latest",
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
