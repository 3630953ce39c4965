//! Which uploads have ended here: of one that was opened and got no byte the store knows nothing,
//! and must not be asked whether it is over.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::UploadId;

/// How many are remembered. Clients that ask for an upload that has ended do so right afterwards.
const REMEMBERED: usize = 1024;

/// The uploads that ended last in this process.
#[derive(Debug, Default)]
pub(crate) struct EndedUploads(Mutex<VecDeque<UploadId>>);

impl EndedUploads {
    pub(super) fn add(&self, id: UploadId) {
        let mut ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() == REMEMBERED {
            ended.pop_back();
        }
        ended.push_front(id);
    }

    pub(super) fn has(&self, id: &UploadId) -> bool {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ended.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_remembered() {
        let ended = EndedUploads::default();
        let ids: Vec<_> = (0..REMEMBERED + 2).map(|_| UploadId::generate()).collect();
        for id in &ids {
            assert!(!ended.has(id));
            ended.add(id.clone());
            assert!(ended.has(id));
        }
        assert_eq!(ids.iter().filter(|id| ended.has(id)).count(), REMEMBERED);
        assert!(!ended.has(&ids[1]) && ended.has(&ids[2]));
    }
}
