//! Whether requests are answered at all: not while a check fails.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

/// The checks that fail now. While there is one, every request but those to `/` is answered with
/// `UNAVAILABLE` (503), as in Distribution. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Health {
    failing: Arc<RwLock<BTreeSet<String>>>,
}

impl Health {
    /// Notes whether a check fails.
    pub fn set(&self, check: &str, fails: bool) {
        let mut failing = self.failing.write().unwrap_or_else(PoisonError::into_inner);
        if fails {
            failing.insert(check.to_owned());
        } else {
            failing.remove(check);
        }
    }

    /// The names of the checks that fail, for a client; `None` when none does.
    pub(crate) fn failure(&self) -> Option<String> {
        let failing = self.failing.read().unwrap_or_else(PoisonError::into_inner);
        if failing.is_empty() {
            return None;
        }
        let names: Vec<_> = failing.iter().map(String::as_str).collect();
        Some(format!("failing health checks: {}", names.join(", ")))
    }
}
