//! How many may do something at once, in all and of each client.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::client::ClientId;
use super::rate::may_tell;

/// Who is at it. The limits come with each request, so that they can change.
#[derive(Debug)]
pub(crate) struct Turns {
    taken: Mutex<Taken>,
    freed: Notify,
    began: Instant,
    tell_at: AtomicU64,
}

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    by_client: HashMap<ClientId, usize>,
}

/// The right to be at it, until this is dropped.
#[derive(Debug)]
#[must_use = "the turn ends when this is dropped"]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    client: ClientId,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            taken: Mutex::default(),
            freed: Notify::new(),
            began: Instant::now(),
            tell_at: AtomicU64::new(0),
        }
    }
}

impl Turns {
    /// A turn, if there are fewer than `most` in all and `each` of the client.
    pub(crate) fn try_take(
        self: &Arc<Self>,
        client: ClientId,
        most: Option<usize>,
        each: Option<usize>,
    ) -> Option<Turn> {
        let mut taken = self.lock();
        let of_client = taken.by_client.get(&client).copied().unwrap_or(0);
        let free =
            most.is_none_or(|most| taken.in_all < most) && each.is_none_or(|each| of_client < each);
        if !free {
            return None;
        }
        taken.in_all += 1;
        taken.by_client.insert(client, of_client + 1);
        Some(Turn {
            turns: Arc::clone(self),
            client,
        })
    }

    /// The same, waiting until it is so.
    ///
    /// # Cancel safety
    /// Dropping this while it waits loses nothing.
    pub(crate) async fn take(
        self: &Arc<Self>,
        client: ClientId,
        most: Option<usize>,
        each: Option<usize>,
    ) -> Turn {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(turn) = self.try_take(client, most, each) {
                return turn;
            }
            freed.await;
        }
    }

    /// Ready when there are fewer than `most` says, which is asked again after each
    /// [`reconsider`](Self::reconsider).
    ///
    /// # Cancel safety
    /// Dropping this while it waits loses nothing.
    pub(crate) async fn room(&self, most: impl Fn() -> Option<usize>) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if most().is_none_or(|most| self.lock().in_all < most) {
                return;
            }
            freed.await;
        }
    }

    /// Lets those who wait for room see whether there is some by now.
    pub(crate) fn reconsider(&self) {
        self.freed.notify_waiters();
    }

    /// Whether the log should tell that somebody got no turn: not every time.
    pub(crate) fn may_tell(&self) -> bool {
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        may_tell(&self.tell_at, now)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.turns.lock();
        taken.in_all -= 1;
        if let Some(of_client) = taken.by_client.get_mut(&self.client) {
            *of_client -= 1;
            if *of_client == 0 {
                taken.by_client.remove(&self.client);
            }
        }
        drop(taken);
        self.turns.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::Client;
    use super::*;

    fn client(last: u8) -> ClientId {
        Client::Address(IpAddr::from([192, 0, 2, last])).id()
    }

    #[test]
    fn turns_are_counted_in_all_and_by_client() {
        let turns = Arc::new(Turns::default());
        let take = |who| turns.try_take(client(who), Some(3), Some(2));
        let first = take(1).unwrap();
        let _second = take(1).unwrap();
        assert!(take(1).is_none(), "two are all for one client");
        let _third = take(2).unwrap();
        assert!(take(2).is_none(), "three are all");
        drop(first);
        let _again = take(1).unwrap();
        assert_eq!(turns.lock().by_client.len(), 2);
    }

    #[tokio::test]
    async fn who_waits_gets_the_turn_that_becomes_free() {
        let turns = Arc::new(Turns::default());
        let first = turns.try_take(client(1), Some(1), None).unwrap();
        let (waiting, other) = (Arc::clone(&turns), client(2));
        let waiting = tokio::spawn(async move { waiting.take(other, Some(1), None).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        drop(waiting.await.unwrap());
        assert_eq!(turns.lock().by_client.len(), 0, "nobody is remembered");
    }
}
