//! What an operator tells the process by signals.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// SIGTERM, SIGINT: stop. With the signal's name and number.
    Stop(&'static str, u8),
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1, SIGUSR2: be read-only, or as the configuration says.
    ReadOnly(bool),
}

/// The signals that have come since this was made. However early they come, none of them ends the
/// process on the spot.
#[derive(Debug)]
pub(crate) struct Signals(Option<[Signal; 5]>);

impl Signals {
    pub(crate) fn new() -> Self {
        let kinds = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ];
        let [
            Ok(terminate),
            Ok(interrupt),
            Ok(hangup),
            Ok(user1),
            Ok(user2),
        ] = kinds.map(signal)
        else {
            warn!("signals cannot be received; the process ends without finishing requests");
            return Self(None);
        };
        Self(Some([terminate, interrupt, hangup, user1, user2]))
    }

    /// The next one.
    ///
    /// # Cancel safety
    /// Dropping this while it waits loses nothing.
    pub(crate) async fn next(&mut self) -> Told {
        let Some([terminate, interrupt, hangup, user1, user2]) = &mut self.0 else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => Told::Stop("SIGTERM", 15),
            _ = interrupt.recv() => Told::Stop("SIGINT", 2),
            _ = hangup.recv() => Told::Reload,
            _ = user1.recv() => Told::ReadOnly(true),
            _ = user2.recv() => Told::ReadOnly(false),
        }
    }
}
