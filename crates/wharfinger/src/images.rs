//! The images that are being copied, on a terminal: a line for each, as far as there is room.

use std::sync::{Mutex, MutexGuard, PoisonError};

use wharfinger_transfer::Progress;

use crate::bar::{Bar, Line};

/// How many images have a line at once.
const LINES: usize = 10;

/// The images below a bar.
#[derive(Debug)]
pub(crate) struct Images<'a> {
    bar: &'a Bar,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which they began; those at the beginning have a line.
    images: Vec<Image>,
    /// How many have none.
    more: Option<Line>,
}

#[derive(Debug)]
struct Image {
    name: String,
    progress: Progress,
    line: Option<Line>,
}

impl<'a> Images<'a> {
    pub(crate) fn new(bar: &'a Bar) -> Self {
        Self {
            bar,
            state: Mutex::default(),
        }
    }

    /// Tells how far an image has got.
    pub(crate) fn set(&self, name: &str, progress: Progress) {
        let mut state = self.state();
        if let Some(image) = state.images.iter_mut().find(|image| image.name == name) {
            image.progress = progress;
            if let Some(line) = &image.line {
                line.set(progress.done, progress.total);
            }
            return;
        }
        state.images.push(Image {
            name: name.to_owned(),
            progress,
            line: None,
        });
        self.arrange(&mut state);
    }

    /// Tells no more of an image.
    pub(crate) fn remove(&self, name: &str) {
        let mut state = self.state();
        state.images.retain(|image| image.name != name);
        self.arrange(&mut state);
    }

    /// Whether an image is being copied.
    pub(crate) fn has(&self, name: &str) -> bool {
        let state = self.state();
        state.images.iter().any(|image| image.name == name)
    }

    /// Gives lines to those images that come first.
    fn arrange(&self, state: &mut State) {
        // Lines are added at the end, where this one stands.
        state.more = None;
        for image in state.images.iter_mut().take(LINES) {
            let Progress { done, total } = image.progress;
            let new = || {
                let line = self.bar.line(image.name.clone());
                line.set(done, total);
                line
            };
            image.line.get_or_insert_with(new);
        }
        if let Some(more) = state.images.len().checked_sub(LINES + 1) {
            state.more = Some(self.bar.note(format!("       and {} more", more + 1)));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bar::Unit;

    #[test]
    fn an_image_gets_the_line_of_one_that_has_ended() {
        let bar = Bar::new("copying", Unit::Bytes);
        let images = Images::new(&bar);
        let lines = || {
            let state = images.state();
            let with = state.images.iter().filter(|image| image.line.is_some());
            (
                with.map(|image| image.name.clone()).collect(),
                state.more.is_some(),
            )
        };
        let names: Vec<String> = (0..LINES + 2).map(|number| format!("a:{number}")).collect();
        for name in &names {
            images.set(name, Progress { done: 1, total: 2 });
        }
        assert_eq!(lines(), (names[..LINES].to_vec(), true));
        images.remove(&names[3]);
        images.set(&names[LINES], Progress { done: 2, total: 2 });
        let mut expected = names[..=LINES].to_vec();
        expected.remove(3);
        assert_eq!(lines(), (expected, true));
        images.remove(&names[0]);
        assert!(!lines().1 && lines().0.contains(&names[LINES + 1]));
        assert!(images.has(&names[1]) && !images.has(&names[0]));
    }
}
