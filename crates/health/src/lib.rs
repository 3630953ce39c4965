//! Health checks: what is looked at again and again, and what was found.
//!
//! A [`Check`] runs a [`Probe`] and notes in a [`Health`] whether it fails. Who answers requests
//! asks the `Health`, which costs next to nothing.

mod check;
mod probe;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;

pub use check::Check;
pub use probe::{Probe, ProbeError};

/// Whether the process is fit for requests. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// The checks that fail, each with the reason.
    failing: ArcSwap<BTreeMap<String, String>>,
    draining: AtomicBool,
}

impl Health {
    /// The checks that fail now, each with the reason, for the operator.
    pub fn failing(&self) -> Arc<BTreeMap<String, String>> {
        self.0.failing.load_full()
    }

    /// Whether no check fails.
    pub fn is_good(&self) -> bool {
        self.0.failing.load().is_empty()
    }

    /// Notes that a check fails.
    pub fn fails(&self, check: &str, reason: &str) {
        self.change(|failing| failing.insert(check.to_owned(), reason.to_owned()));
    }

    /// Notes that a check passes.
    pub fn passes(&self, check: &str) {
        if self.0.failing.load().contains_key(check) {
            self.change(|failing| failing.remove(check));
        }
    }

    fn change(&self, change: impl Fn(&mut BTreeMap<String, String>) -> Option<String>) {
        self.0.failing.rcu(|failing| {
            let mut failing = BTreeMap::clone(failing);
            change(&mut failing);
            failing
        });
    }

    /// Notes that the process is about to end: it is not ready for new requests from now on.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Whether new requests should be sent here: no check fails, and the process is not about to
    /// end.
    pub fn is_ready(&self) -> bool {
        self.is_good() && !self.0.draining.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_good_while_no_check_fails_and_ready_until_it_drains() {
        let health = Health::default();
        assert!(health.is_good() && health.is_ready());
        health.fails("a", "first");
        health.fails("b", "other");
        health.fails("a", "second");
        assert!(!health.is_good() && !health.is_ready());
        assert_eq!(health.failing()["a"], "second");
        health.clone().passes("a");
        assert!(!health.is_good());
        health.passes("b");
        health.passes("never failed");
        assert!(health.is_good() && health.is_ready());
        health.drain();
        assert!(health.is_good() && !health.is_ready());
    }
}
