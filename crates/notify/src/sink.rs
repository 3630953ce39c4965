//! Where events go.

use std::fmt::Debug;

use tokio::sync::oneshot;

use crate::{Action, Event};

/// Takes events.
pub trait EventSink: Debug + Send + Sync {
    /// Whether an event of this action about content of this media type would go anywhere. Asked
    /// before an event is made.
    fn wants(&self, action: Action, media_type: &str) -> bool;

    /// Takes an event, without waiting for anything.
    fn emit(&self, event: Event) -> Kept;
}

/// Tells when an event is where it survives the process, as far as receivers are to get it that
/// safely. To drop it is not to wait.
#[derive(Debug, Default)]
#[must_use = "wait for it, or say that nobody waits"]
pub struct Kept(Vec<oneshot::Receiver<()>>);

impl Kept {
    /// Done when `also` is done too.
    pub(crate) fn and(&mut self, also: oneshot::Receiver<()>) {
        self.0.push(also);
    }

    /// Waits until the event is kept, or until it is clear that it will not be.
    pub async fn wait(self) {
        for kept in self.0 {
            let _ = kept.await;
        }
    }
}
