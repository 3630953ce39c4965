//! `wharfinger serve`: from the configuration to a registry that answers, and to its end.

use std::fmt::Display;
use std::future::pending;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tracing::{error, info, warn};
use wharfinger_config::{Config, Loaded, Problem};
use wharfinger_registry::Registry;
use wharfinger_server::Address;
use wharfinger_telemetry::{Telemetry, TraceError};

use crate::running::Running;
use crate::signals::{Signals, Told};
use crate::systemd;
use crate::wiring::{self, Unusable};

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

/// How long threads that are at work in the store may keep the process from ending.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// Gives the configuration, again and again.
type Load = Arc<dyn Fn() -> Result<Loaded, wharfinger_config::Error> + Send + Sync>;

/// Runs the registry with the configuration that `load` gives until a signal ends it. Another one
/// has `load` called again.
pub(crate) fn run(
    load: impl Fn() -> Result<Loaded, wharfinger_config::Error> + Send + Sync + 'static,
) -> ExitCode {
    let loaded = match load() {
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
        Ok(runtime) => {
            let served = runtime.block_on(start(&loaded, Arc::new(load)));
            runtime.shutdown_timeout(LAST_THREADS);
            served
        }
        Err(error) => Err(StartError::Runtime(error)),
    };
    match outcome {
        Ok(registry) => {
            // Should a thread still write, the claim on the store must not end before it does: it
            // ends with the process.
            std::mem::forget(registry);
            ExitCode::SUCCESS
        }
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

/// Logs what is wrong with a configuration.
pub(crate) fn log_problems(problems: &[Problem]) {
    for problem in problems {
        error!(
            origin = %problem.origin,
            key = problem.key,
            "in the configuration: {}",
            problem.message
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

/// Begins to log, serves until a signal ends it, and gives the registry, which is at rest then.
async fn start(loaded: &Loaded, load: Load) -> Result<Registry, StartError> {
    let telemetry = wiring::telemetry(&loaded.config)?;
    warn_of(&loaded.warnings);
    let mut end = End::default();
    let outcome = serve(&loaded.config, load, &telemetry, &mut end).await;
    telemetry.flush(end.left().max(LAST_WORDS)).await;
    Ok(outcome?)
}

/// How much time there is for the end.
#[derive(Debug, Default)]
struct End(Option<Instant>);

impl End {
    fn begins(&mut self, draintimeout: Duration) {
        self.0 = Some(Instant::now() + draintimeout);
    }

    fn left(&self) -> Duration {
        let end = self
            .0
            .map(|end| end.saturating_duration_since(Instant::now()));
        end.unwrap_or_default()
    }
}

async fn serve(
    config: &Config,
    load: Load,
    telemetry: &Telemetry,
    end: &mut End,
) -> Result<Registry, Unusable> {
    // Signals from here on are obeyed in order, however early they come.
    let mut signals = Signals::new();
    let mut running = Running::start(config, telemetry).await?;
    let listener = running.listener().await?;
    let address = listener.address().clone();
    if let Some((debug, listener)) = running.debug().await? {
        info!(address = %listener.address(), "metrics and health can be looked at");
        // It answers until the process ends, so that the end can be watched.
        tokio::spawn(debug.serve(listener));
    }
    let upstreams = running.upstreams();
    for kept in &upstreams.named {
        let upstream = kept.name.as_str();
        info!(upstream, "this registry is a cache of another one, too");
    }
    if let Some(cache) = &upstreams.rest {
        let upstream = cache.upstream();
        info!(upstream, "this registry is a cache of another one");
    } else if config.http.secret.is_empty() {
        info!(
            "http.secret is not set: one was made up, so uploads under way cannot go on after a \
             restart or on another node"
        );
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let mut serving = tokio::spawn(running.server().serve(listener, async {
        let _ = stopped.await;
    }));
    announce(config, &address, &running.place());
    info!(%address, storage = running.place(), "listening on {address}");
    systemd::ready();
    tokio::spawn(systemd::watchdog());
    // Files may be slow, or on a server that is gone: signals are obeyed meanwhile.
    let read = |running: &Running| {
        systemd::reloading();
        let (reader, load) = (running.reader(), Arc::clone(&load));
        tokio::task::spawn_blocking(move || reader.read(load()))
    };
    let mut reading: Option<JoinHandle<_>> = None;
    let mut once_more = false;
    let signal = loop {
        let is_read = async {
            match &mut reading {
                Some(reading) => reading.await,
                None => pending().await,
            }
        };
        tokio::select! {
            told = signals.next() => match told {
                Told::Stop(signal, _) => break signal,
                Told::Reload if reading.is_some() => once_more = true,
                Told::Reload => reading = Some(read(&running)),
                Told::ReadOnly(hold) => running.hold_read_only(hold),
            },
            fresh = is_read => {
                reading = None;
                match fresh {
                    Ok(fresh) => running.reload(fresh, telemetry).await,
                    Err(error) => error!(%error, "the configuration could not be read again"),
                }
                systemd::ready();
                if std::mem::take(&mut once_more) {
                    reading = Some(read(&running));
                }
            }
            ended = &mut serving => end_badly(ended),
        }
    };
    info!(signal, "stopping");
    let draintimeout = running.draintimeout();
    end.begins(draintimeout);
    systemd::stopping(draintimeout);
    tokio::spawn(end_at_once(signals));
    drop(stop);
    if let ended @ Err(_) = serving.await {
        end_badly(ended);
    }
    let registry = running.stop(end.left()).await;
    info!("stopped");
    Ok(registry)
}

/// What answers requests ends by itself only when it panics, which must end the process.
fn end_badly(ended: Result<(), JoinError>) -> ! {
    match ended {
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        _ => panic!("the answering of requests has ended"),
    }
}

/// Ends the process when it is told to stop once more: what was acknowledged is safe anyway.
async fn end_at_once(mut signals: Signals) {
    loop {
        if let Told::Stop(signal, number) = signals.next().await {
            warn!(signal, "ending at once");
            std::process::exit(128 + i32::from(number));
        }
    }
}

/// Tells the person at the terminal where things are and what to try.
fn announce(config: &Config, address: &Address, place: &str) {
    let http = &config.http;
    let action = if config.proxy.is_used() {
        "pull"
    } else {
        "push"
    };
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
                format!("docker {action} {host}/{prefix}hello:latest"),
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
