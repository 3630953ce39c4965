//! How much of an image is there.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::report::{Progress, Step};

/// Counts the bytes of an image's blobs, during one attempt to copy it.
pub(super) struct Meter<'a> {
    /// The image's name where it is copied to.
    image: String,
    told: &'a (dyn Fn(Step<'_>) + Sync),
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    progress: Progress,
    /// Whether something has to be copied: what is there already is gone through in no time.
    is_copying: bool,
}

impl<'a> Meter<'a> {
    pub(super) fn new(image: String, told: &'a (dyn Fn(Step<'_>) + Sync)) -> Self {
        Self {
            image,
            told,
            state: Mutex::default(),
        }
    }

    /// Blobs with so many bytes are mentioned.
    pub(super) fn expect(&self, bytes: u64) {
        self.change(|state| state.progress.total += bytes);
    }

    /// So many bytes more are there.
    pub(super) fn advance(&self, bytes: u64) {
        self.change(|state| state.progress.done += bytes);
    }

    /// A blob begins to be copied.
    pub(super) fn copy(&self) {
        self.change(|state| state.is_copying = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        // Held while it is told, so that the last that is told is the latest.
        let mut state = self.state();
        change(&mut state);
        if state.is_copying {
            (self.told)(Step::Image(&self.image, state.progress));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        if self.state().is_copying {
            (self.told)(Step::ImageEnded(&self.image));
        }
    }
}
