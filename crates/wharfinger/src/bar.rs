//! How far a command has got: a bar on a terminal, and nothing where standard error is something
//! else.

use std::fmt;
use std::io;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use rustix::termios::tcgetwinsize;

use crate::size::size;

/// How often it moves while nothing happens.
const TICK: Duration = Duration::from_millis(200);

/// How many columns a terminal is taken to have that does not tell.
const USUAL_WIDTH: usize = 80;

/// From how many columns on there is room for numbers of bytes.
const WIDE: usize = 50;

/// What it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Bytes.
    Bytes,
    /// Things with this name, in the plural.
    Things(&'static str),
}

/// A line on the terminal, and those below it, which are gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Bar {
    all: MultiProgress,
    bar: ProgressBar,
    unit: Unit,
}

impl Bar {
    /// Begins to tell that `what` is being done. How much there is to do is not known yet.
    pub(crate) fn new(what: &'static str, unit: Unit) -> Self {
        let all = MultiProgress::new();
        let this = Self {
            bar: all.add(ProgressBar::new_spinner()),
            all,
            unit,
        };
        this.begin(what, None);
        this.bar.enable_steady_tick(TICK);
        this
    }

    /// Begins to tell that something else is being done, of which there is so much, where that is
    /// known.
    pub(crate) fn begin(&self, what: &'static str, total: Option<u64>) {
        let (done, all, rate) = match self.unit {
            Unit::Bytes => (
                "{bytes}".to_owned(),
                "{total_bytes}".to_owned(),
                "{bytes_per_sec}",
            ),
            Unit::Things(name) => (
                format!("{{human_pos}} {name}"),
                format!("{{human_len}} {name}"),
                "{per_sec}",
            ),
        };
        let template = match total {
            Some(_) => format!("{{msg}} {{wide_bar}} {{percent}}% of {all}, {rate}, {{eta}} left"),
            None => format!("{{msg}}: {done}, {rate}, {{elapsed}}"),
        };
        self.bar.reset();
        self.bar.set_message(what);
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
        self.bar.set_style(Self::style(&template));
    }

    /// Tells in the words of `message` that something else is being done.
    pub(crate) fn begin_saying(&self, message: String) {
        self.bar.reset();
        self.bar.unset_length();
        self.bar.set_style(Self::style("{msg}"));
        self.bar.set_message(message);
    }

    /// Tells in other words how much of it is done: of so much, where that is known.
    pub(crate) fn say(&self, message: String, done: u64, total: Option<u64>) {
        if total.is_some() != self.bar.length().is_some() {
            let template = match total {
                Some(_) => "{msg} {wide_bar} {percent}%",
                None => "{msg}",
            };
            self.bar.set_style(Self::style(template));
        }
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
        self.bar.set_position(done);
        self.bar.set_message(message);
    }

    /// There is about so much to do, as far as that can be told.
    pub(crate) fn expect(&self, total: u64) {
        self.bar.set_length(total);
    }

    /// So much more was done.
    pub(crate) fn advance(&self, number: u64) {
        self.bar.inc(number);
    }

    /// Prints something else, which the bar does not stand in the way of.
    pub(crate) fn beside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.all.suspend(print)
    }

    /// A line below this and the others, of which [`Line::set`] tells how far it has got.
    pub(crate) fn line(&self, name: String) -> Line {
        let write = move |state: &ProgressState, out: &mut dyn fmt::Write| {
            let size = tcgetwinsize(io::stderr());
            let width = size.map_or(0, |size| usize::from(size.ws_col));
            let width = if width == 0 { USUAL_WIDTH } else { width };
            let total = state.len().unwrap_or_default();
            let _ = out.write_str(&fitted(&name, state.pos(), total, width));
        };
        self.below(Self::style("{line}").with_key("line", write))
    }

    /// A line below this and the others that says something.
    pub(crate) fn note(&self, text: String) -> Line {
        let line = self.below(Self::style("{msg}"));
        line.line.set_message(text);
        line
    }

    fn below(&self, style: ProgressStyle) -> Line {
        let line = ProgressBar::new(0).with_style(style);
        Line {
            line: self.all.add(line),
            all: self.all.clone(),
        }
    }

    fn style(template: &str) -> ProgressStyle {
        ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ")
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        let _ = self.all.clear();
    }
}

/// A line below a bar, which is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Line {
    all: MultiProgress,
    line: ProgressBar,
}

impl Line {
    /// So many bytes are done, of so many.
    pub(crate) fn set(&self, done: u64, total: u64) {
        if self.line.length() != Some(total) {
            self.line.set_length(total);
        }
        self.line.set_position(done);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.all.remove(&self.line);
    }
}

/// A line that takes no more than so many columns, as far as it can be shortened: the end of a name
/// tells more than its beginning.
fn fitted(name: &str, done: u64, total: u64, width: usize) -> String {
    let share = done
        .saturating_mul(100)
        .checked_div(total)
        .unwrap_or(0)
        .min(100);
    let numbers = match width {
        0..WIDE => format!(" {share:>3}%"),
        _ => format!(" {share:>3}% {:>10} of {:>10}", size(done), size(total)),
    };
    let room = width.saturating_sub(numbers.len() + 1);
    let name = match name.len().checked_sub(room) {
        None | Some(0) => name.to_owned(),
        Some(excess) => {
            let end = name.char_indices().find(|(at, _)| *at > excess);
            format!("…{}", end.map_or("", |(at, _)| &name[at..]))
        }
    };
    format!("{numbers} {name}")
}

#[cfg(test)]
mod tests {
    use super::fitted;

    #[test]
    fn a_line_fits_the_terminal_and_keeps_the_end_of_the_name() {
        let name = "mirror/library/postgres:17.2-bookworm";
        let mebi = 1 << 20;
        for (width, wanted) in [
            (
                80,
                "  50%    1.0 MiB of    2.0 MiB mirror/library/postgres:17.2-bookworm",
            ),
            (
                60,
                "  50%    1.0 MiB of    2.0 MiB …brary/postgres:17.2-bookworm",
            ),
            (40, "  50% …or/library/postgres:17.2-bookworm"),
            (20, "  50% …17.2-bookworm"),
            (0, "  50% …"),
        ] {
            let line = fitted(name, mebi, 2 * mebi, width);
            assert_eq!(line, wanted);
            assert!(width < 8 || line.chars().count() <= width, "{line}");
        }
        assert_eq!(fitted("a:b", 0, 0, 20), "   0% a:b");
        assert_eq!(fitted("a:b", u64::MAX, 1, 20), " 100% a:b");
    }
}
