//! The life of connections: until they end, until nothing happens on them any more, or until the
//! server stops. Then they finish what they are at, and are cut off when that takes too long.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::server::graceful::GracefulConnection;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::debug;

use crate::Options;
use crate::activity::Activity;

/// How long a connection on which nothing happens may take to end in order.
const FAREWELL: Duration = Duration::from_secs(1);

/// How far the stopping of the server has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// No more requests; those under way finish.
    Finishing,
    /// Connections end on the spot.
    Cut,
}

/// All connections of a server.
#[derive(Debug)]
pub(crate) struct Connections(watch::Sender<Phase>);

impl Connections {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Phase::Open))
    }

    /// Sees a connection through to its end.
    ///
    /// # Errors
    /// Why it ended badly.
    pub(crate) fn attend<C: GracefulConnection>(
        &self,
        connection: C,
        activity: Arc<Activity>,
        options: &Options,
    ) -> impl Future<Output = Result<(), C::Error>> + use<C> {
        let mut phase = self.0.subscribe();
        let idle = options.idle_timeout;
        let first = options.header_timeout.min(idle);
        async move {
            let mut connection = pin!(connection);
            let mut idle = pin!(activity.idle(first, idle));
            loop {
                tokio::select! {
                    biased;
                    ended = &mut connection => return ended,
                    changed = phase.changed() => match *phase.borrow_and_update() {
                        Phase::Finishing => connection.as_mut().graceful_shutdown(),
                        Phase::Open if changed.is_ok() => {}
                        // Or the server is gone.
                        Phase::Open | Phase::Cut => return Ok(()),
                    },
                    () = &mut idle => {
                        debug!("nothing happens on a connection: it is closed");
                        connection.as_mut().graceful_shutdown();
                        return timeout(FAREWELL, connection).await.unwrap_or(Ok(()));
                    }
                }
            }
        }
    }

    /// Lets all connections finish for as long as `patience`, then cuts off those that are left;
    /// whether there were any.
    pub(crate) async fn end(self, patience: Duration) -> bool {
        self.0.send_replace(Phase::Finishing);
        let finished = timeout(patience, self.0.closed()).await.is_ok();
        if !finished {
            self.0.send_replace(Phase::Cut);
            self.0.closed().await;
        }
        finished
    }
}
