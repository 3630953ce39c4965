//! Which writer of a path is the latest, and so the only one, in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Error, Result, StoragePath};

/// The latest writer of each path that is being written.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    latest: HashMap<StoragePath, u64>,
    last: u64,
}

/// A writer's place; it is given up when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    path: StoragePath,
    number: u64,
}

impl Turns {
    /// Makes a new writer of the path the latest.
    pub(super) fn take(&self, path: &StoragePath) -> Turn {
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        state.latest.insert(path.clone(), number);
        Turn {
            turns: self.clone(),
            path: path.clone(),
            number,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// # Errors
    /// When another writer has taken the path over.
    pub(super) fn check(&self) -> Result<()> {
        match self.turns.lock().latest.get(&self.path) {
            Some(number) if *number == self.number => Ok(()),
            _ => Err(Error::superseded(&self.path)),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        if state.latest.get(&self.path) == Some(&self.number) {
            state.latest.remove(&self.path);
        }
    }
}
