//! Log lines that would come again and again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one line through in a while, which tells how much there was since the last.
#[derive(Debug)]
pub(crate) struct Throttle {
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    untold: u64,
}

impl Throttle {
    pub(crate) fn new(pause: Duration) -> Self {
        Self {
            pause,
            state: Mutex::default(),
        }
    }

    /// Adds `number`. When it is time for a line, gives how much came since the last one.
    pub(crate) fn add(&self, number: u64) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.untold += number;
        let now = Instant::now();
        if state.last.is_some_and(|last| now - last < self.pause) {
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_came_since_the_last() {
        let throttle = Throttle::new(Duration::from_secs(3600));
        assert_eq!(throttle.add(2), Some(2));
        assert_eq!(throttle.add(1), None);
        assert_eq!(throttle.add(4), None);
        throttle.state.lock().unwrap().last = None;
        assert_eq!(throttle.add(1), Some(6));
    }
}
