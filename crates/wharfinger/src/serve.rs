//! `wharfinger serve`: from the configuration to a registry that answers, and to its end.

use std::fmt::Display;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinError;
use tracing::{error, info, warn};
use wharfinger_config::{Config, Loaded, Problem};
use wharfinger_registry::Registry;

use crate::logging;
use crate::running::Running;
use crate::signals::{Signals, Told};
use crate::wiring::{Unusable, unusable};

/// Why the registry did not start.
#[derive(Debug, Error)]
enum StartError {
    #[error(transparent)]
    Config(#[from] Unusable),
    #[error("the runtime cannot be started: {0}")]
    Runtime(std::io::Error),
}

/// How long threads that are at work in the store may keep the process from ending.
const LAST_THREADS: Duration = Duration::from_secs(1);

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "; another program listens there, choose another port",
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges",
        std::io::ErrorKind::InvalidInput => "; write host and port, like 127.0.0.1:5000 or :5000",
        _ => "",
    }
}

/// Runs the registry with the configuration that `load` gives until a signal ends it. Another one
/// has `load` called again.
pub(crate) fn run(load: impl Fn() -> Result<Loaded, wharfinger_config::Error>) -> ExitCode {
    let loaded = match load() {
        Ok(loaded) => loaded,
        Err(error) => return refuse(&[error]),
    };
    if !loaded.problems.is_empty() {
        return refuse(&loaded.problems);
    }
    logging::start(&loaded.config.log);
    warn_of(&loaded.warnings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => {
            let served = runtime.block_on(serve(&loaded.config, load));
            runtime.shutdown_timeout(LAST_THREADS);
            served.map_err(StartError::from)
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

/// Serves until a signal ends it, and gives the registry, which is at rest then.
async fn serve(
    config: &Config,
    load: impl Fn() -> Result<Loaded, wharfinger_config::Error>,
) -> Result<Registry, Unusable> {
    // Signals from here on are obeyed in order, however early they come.
    let mut signals = Signals::new();
    let mut running = Running::start(config).await?;
    let at_address = |error| cannot_listen(&config.http.addr, &error);
    let listener = listen(&config.http.addr).await.map_err(at_address)?;
    let local = listener.local_addr().map_err(at_address)?;
    if config.http.secret.is_empty() {
        info!(
            "http.secret is not set: one was made up, so uploads under way cannot go on after a \
             restart or on another node"
        );
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let mut serving = tokio::spawn(running.server().serve(listener, async {
        let _ = stopped.await;
    }));
    announce(config, local, &running.place());
    info!(address = %local, storage = running.place(), "listening on {local}");
    let signal = loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::Stop(signal, _) => break signal,
                Told::Reload => running.reload(load()),
                Told::ReadOnly(hold) => running.hold_read_only(hold),
            },
            ended = &mut serving => end_badly(ended),
        }
    };
    info!(signal, "stopping");
    tokio::spawn(end_at_once(signals));
    drop(stop);
    if let ended @ Err(_) = serving.await {
        end_badly(ended);
    }
    let registry = running.stop().await;
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

fn cannot_listen(addr: &str, error: &std::io::Error) -> Unusable {
    let hint = hint(error);
    unusable("http.addr")(&format_args!("cannot listen on {addr:?}: {error}{hint}"))
}

/// Listens on `host:port`; no host is every address of the machine, of both IP versions.
async fn listen(addr: &str) -> std::io::Result<TcpListener> {
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
