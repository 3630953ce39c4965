//! What the process says of itself: lines of a log, mails when something goes wrong, and traces of
//! requests.
//!
//! [`Telemetry::start`] makes it the process's one subscriber to `tracing`. Two targets have a
//! meaning: events of `access` are lines of the access log, and spans of `trace` are there for
//! distributed traces alone.

mod log;
mod trace;

use std::time::Duration;

use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;

pub use log::{Formatter, LogOptions, MailError, MailOptions, Mails};
use trace::ContinueTrace;
pub use trace::{TraceError, Traces};

/// What the process says of itself.
#[derive(Debug)]
pub struct Telemetry {
    lines: log::Handle,
    mails: Vec<Mails>,
    traces: Option<Traces>,
}

impl Telemetry {
    /// Starts to write lines, send mails and collect traces. Only the first call in a process has
    /// an effect.
    pub fn start(options: LogOptions, mails: Vec<Mails>, traces: Option<Traces>) -> Self {
        let (lines, handle) = log::lines(options, &mails, traces.is_none());
        let layer = traces.as_ref().map(Traces::layer);
        // Boxed, so that what is switched off is not there at all.
        let layers = [Some(lines), layer]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>();
        let subscriber = tracing_subscriber::registry().with(layers.boxed());
        // Only a second start in one process can fail, and then the first one's settings hold.
        let _ = tracing::subscriber::set_global_default(subscriber);
        Self {
            lines: handle,
            mails,
            traces,
        }
    }

    /// Writes lines by other options from now on.
    pub fn reload(&self, options: LogOptions) {
        self.lines.reload(options);
    }

    /// How requests' spans go on with the traces of their clients; `None` where no traces are
    /// collected.
    pub fn continue_trace(&self) -> Option<ContinueTrace> {
        self.traces.as_ref().map(Traces::continue_trace)
    }

    /// Sends what is still to be sent, for at most `limit`.
    pub async fn flush(self, limit: Duration) {
        let mails = async {
            for mails in &self.mails {
                mails.flush().await;
            }
        };
        let traces = async {
            if let Some(traces) = self.traces {
                traces.flush(limit).await;
            }
        };
        // Whoever waits for the process to end has waited long enough.
        let _ = tokio::time::timeout(limit, async { tokio::join!(mails, traces) }).await;
    }
}
