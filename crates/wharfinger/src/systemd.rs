//! What systemd is told about this process (sd_notify(3)), when it has asked for it.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

/// Where notes go.
const SOCKET: &str = "NOTIFY_SOCKET";

/// How much longer than the requests under way a stop may take: for the last writes, mails and traces.
const MARGIN: Duration = Duration::from_secs(20);

/// The registry answers.
pub(crate) fn ready() {
    notify("READY=1");
}

/// The configuration is read again, until [`ready`] is said.
pub(crate) fn reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
}

/// The registry stops, which takes as long as its requests, and `draintimeout` at most.
pub(crate) fn stopping(draintimeout: Duration) {
    let limit = draintimeout.saturating_add(MARGIN).as_micros();
    notify(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={limit}"));
}

/// Tells again and again that this task still gets its turns, as long as systemd wants to know;
/// when it stops, systemd starts the registry anew.
pub(crate) async fn watchdog() {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let Some(limit) = number("WATCHDOG_USEC").filter(|limit| *limit > 0 && for_us) else {
        return;
    };
    let mut ticks = tokio::time::interval(Duration::from_micros(limit) / 2);
    loop {
        ticks.tick().await;
        notify("WATCHDOG=1");
    }
}

fn notify(note: &str) {
    let Some(socket) = env::var_os(SOCKET).and_then(|socket| socket.into_string().ok()) else {
        return;
    };
    if let Err(error) = send(&socket, note) {
        warn!(%error, socket, "systemd cannot be told what the registry does");
    }
}

fn send(socket: &str, note: &str) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    // A full queue must not hold up the registry.
    sender.set_nonblocking(true)?;
    sender.send_to_addr(note.as_bytes(), &address)?;
    Ok(())
}
