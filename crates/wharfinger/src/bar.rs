//! How far a command has got: a bar on a terminal, and nothing where standard error is something
//! else.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often it moves while nothing happens.
const TICK: Duration = Duration::from_millis(200);

/// What it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Bytes.
    Bytes,
    /// Things with this name, in the plural.
    Things(&'static str),
}

/// A line on the terminal, which is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    unit: Unit,
}

impl Bar {
    /// Begins to tell that `what` is being done. How much there is to do is not known yet.
    pub(crate) fn new(what: &'static str, unit: Unit) -> Self {
        let this = Self {
            bar: ProgressBar::new_spinner(),
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
        self.bar.suspend(print)
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
    }
}
