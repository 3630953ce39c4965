//! `wharfinger garbage-collect`, with the flags and the lines of Distribution's. Beside registries
//! that write it works, too, and takes its time.

use std::convert::Infallible;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::time::sleep;
use wharfinger_config::{Config, Loaded};
use wharfinger_registry::{
    Activity, CollectOptions, CollectProgress, CollectReport, CollectStep, Registry,
};

use crate::bar::{Bar, Unit};
use crate::size::size;
use crate::tool::{self, OpenError, Taken};
use crate::wiring::{self, Unusable};

/// How often it is shown how far it has got.
const TICK: Duration = Duration::from_millis(200);

/// How many bytes of lines are printed together.
const ROOM: usize = 64 * 1024;

/// How long a line is at the most: a repository's name, a tag or a digest, and some words.
const LONGEST: usize = 1024;

/// Why nothing, or not everything, was collected.
#[derive(Debug, Error)]
enum CollectError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Config(#[from] Unusable),
    #[error(
        "others write to the store, and did not end in time; stop the registry or make it \
         read-only (storage.maintenance.readonly.enabled), or leave --wait away: then they may go \
         on, and what is not needed goes after a while"
    )]
    Claimed,
    #[error(transparent)]
    Taken(#[from] Taken),
    #[error("{0}")]
    Registry(#[from] wharfinger_registry::Error),
}

/// How it is done, besides what is removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub(crate) dry_run: bool,
    pub(crate) delete_untagged: bool,
    /// Whether nothing is printed.
    pub(crate) quiet: bool,
    /// How long to wait until nobody writes to the store; nothing where others may.
    pub(crate) wait: Duration,
    /// How long what is not needed stays where others write.
    pub(crate) grace: Option<Duration>,
    /// Whether it is promised that nobody writes where that cannot be seen.
    pub(crate) stopped: bool,
}

/// Collects once.
pub(crate) fn run(loaded: Result<Loaded, wharfinger_config::Error>, how: How) -> ExitCode {
    tool::run(loaded, "garbage collect", async |config| {
        collect(config, how).await.map(|()| ExitCode::SUCCESS)
    })
}

async fn collect(config: &Config, how: How) -> Result<(), CollectError> {
    let store = tool::open(config).await?;
    let driver = store.driver();
    let hold = match how.dry_run {
        true => None,
        false => {
            let hold = tool::claim(&*driver, how.wait, how.stopped).await?;
            Some(hold.ok_or(CollectError::Claimed)?)
        }
    };
    let is_alone = hold.as_ref().is_none_or(|hold| hold.is_alone);
    let collection = &config.storage.maintenance.gc;
    let options = CollectOptions {
        dry_run: how.dry_run,
        delete_untagged: how.delete_untagged,
        serving: match is_alone {
            true => None,
            false => Some(how.grace.unwrap_or(collection.grace.get())),
        },
        rate: (collection.rate > 0).then_some(collection.rate),
    };
    let mut registry_options = wiring::registry_options(config)?;
    registry_options.read_only = false;
    if !how.dry_run {
        registry_options.shared_descriptors = tool::shared_cache(config).await?;
    }
    let registry = Registry::new(driver, registry_options)?;
    let purging = &config.storage.maintenance.uploadpurging;
    let uploads = match purging.enabled {
        true => {
            let dry_run = how.dry_run || purging.dryrun;
            let purged = registry.purge_uploads(purging.age.get(), dry_run).await?;
            (!purging.dryrun).then_some(purged.purged.len())
        }
        false => None,
    };
    if how.quiet {
        registry.collect(options, |_| {}).await?;
        return Ok(());
    }
    let shown = Shown::new();
    let told = |step: CollectStep<'_>| shown.tell(step);
    let collecting = async {
        match io::stderr().is_terminal() {
            true => registry.collect(options, told).await,
            false => registry.collect_and_log(options, told).await,
        }
    };
    let report = tokio::select! {
        report = collecting => report?,
        never = shown.follow(&registry) => match never {},
    };
    let mut out = shown.end();
    // Whether anybody reads what is printed makes no difference to the work.
    let _ = summarize(&mut out, &report, uploads, how.dry_run);
    let _ = out.flush();
    Ok(())
}

/// What a collection prints, and the bar that tells how far it has got.
struct Shown {
    bar: Bar,
    out: Mutex<BufWriter<Stdout>>,
    /// Whether the lines go to a terminal, where the bar must make way for them.
    is_terminal: bool,
}

impl Shown {
    fn new() -> Self {
        Self {
            bar: Bar::new("beginning", Unit::Things("")),
            out: Mutex::new(BufWriter::with_capacity(ROOM, io::stdout())),
            is_terminal: io::stdout().is_terminal(),
        }
    }

    fn out(&self) -> MutexGuard<'_, BufWriter<Stdout>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints a line. It may appear a little later, many together: else drawing the bar anew after
    /// each would take longer than the work.
    fn tell(&self, step: CollectStep<'_>) {
        let mut out = self.out();
        let is_full = out.capacity() - out.buffer().len() < LONGEST;
        if is_full || matches!(step, CollectStep::Waiting { .. }) {
            self.flush(&mut out);
        }
        let _ = print(&mut *out, step);
        if let CollectStep::Waiting { .. } = step {
            self.flush(&mut out);
        }
    }

    fn flush(&self, out: &mut BufWriter<Stdout>) {
        let _ = match self.is_terminal && !out.buffer().is_empty() {
            true => self.bar.beside(|| out.flush()),
            false => out.flush(),
        };
    }

    /// Shows again and again how far the collection has got.
    async fn follow(&self, registry: &Registry) -> Infallible {
        let mut last = Activity::Idle;
        loop {
            sleep(TICK).await;
            self.flush(&mut self.out());
            let progress = registry.collect_progress();
            let words = describe(&progress);
            if progress.activity != last {
                self.bar.begin_saying(words);
                last = progress.activity;
            } else {
                let total = (progress.expected > 0).then_some(progress.expected);
                self.bar.say(words, progress.done, total);
            }
        }
    }

    /// Takes the bar away.
    fn end(self) -> BufWriter<Stdout> {
        self.out
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a collection has got, in words.
fn describe(progress: &CollectProgress) -> String {
    let what = match progress.activity {
        Activity::Idle => "beginning",
        Activity::Marking => "looking for what is needed",
        Activity::Searching => "looking for what is not",
        Activity::Condemned => "waiting for those who need it after all",
        Activity::MarkingAgain => "looking for what has come to be needed",
        Activity::Executing => "waiting for those who do not know of it yet",
        Activity::Removing => "removing",
        Activity::Tidying => "removing empty repositories and leftovers",
    };
    let mut words = what.to_owned();
    if !matches!(
        progress.activity,
        Activity::Idle | Activity::Condemned | Activity::Executing
    ) {
        words.push_str(&format!(": {}", progress.done));
        if progress.expected > 0 {
            words.push_str(&format!(" of {}", progress.expected));
        }
        words.push_str(&format!(" {}", progress.activity.unit()));
    }
    if let Some(left) = progress.seconds_left {
        let left = humantime(left);
        words.push_str(&format!(", {left} left"));
    }
    words
}

/// A time, to two places: `1h 20m`, `3m 5s`.
fn humantime(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match () {
        () if hours > 0 => format!("{hours}h {}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m {}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

fn print(out: &mut impl Write, step: CollectStep<'_>) -> io::Result<()> {
    match step {
        CollectStep::Repository(name) => writeln!(out, "{name}"),
        CollectStep::MarkedManifest(name, digest) => {
            writeln!(out, "{name}: marking manifest {digest} ")
        }
        CollectStep::MarkedBlob(name, digest) => writeln!(out, "{name}: marking blob {digest}"),
        CollectStep::Manifest(name, digest) => {
            writeln!(out, "{name}: manifest eligible for deletion: {digest}")
        }
        CollectStep::Marked(report) => writeln!(
            out,
            "\n{} blobs marked, {} blobs and {} manifests eligible for deletion",
            report.marked, report.blobs, report.manifests
        ),
        CollectStep::LayerLink(name, digest) => {
            writeln!(out, "{name}: layer link eligible for deletion: {digest}")
        }
        CollectStep::Blob(digest) => writeln!(out, "blob eligible for deletion: {digest}"),
        CollectStep::Waiting {
            time,
            is_pardonable,
            for_collectors,
        } => {
            let why = match for_collectors {
                true => "as long as it takes to see whether another collection began",
                false => "--grace",
            };
            let time = humantime(time.as_secs());
            match is_pardonable {
                true => writeln!(
                    out,
                    "others may write to the store: what comes to be needed in {time} stays ({why})"
                ),
                false => writeln!(out, "the rest goes in {time}"),
            }
        }
        CollectStep::StaleTag(name, tag) => {
            writeln!(
                out,
                "{name}: tag without a manifest eligible for deletion: {tag}"
            )
        }
        CollectStep::EmptyRepository(name) => {
            writeln!(out, "{name}: empty repository eligible for deletion")
        }
        CollectStep::Activity(_) => Ok(()),
    }
}

/// What went, what stayed, and why.
fn summarize(
    out: &mut impl Write,
    report: &CollectReport,
    uploads: Option<usize>,
    dry_run: bool,
) -> io::Result<()> {
    let (went, done) = match dry_run {
        true => ("would go", "would be freed"),
        false => ("went", "freed"),
    };
    let mut gone = vec![
        (report.manifests, "manifests"),
        (report.layer_links, "links"),
        (report.blobs, "blobs"),
        (report.stale_tags, "tags without a manifest"),
        (report.repositories, "empty repositories"),
        (report.leftovers, "leftovers of writes cut short"),
    ];
    gone.extend(uploads.map(|number| (number as u64, "old uploads")));
    let stayed = [
        (report.marked, "blobs are needed"),
        (report.young, "blobs are too new"),
        (report.spared, "things are needed again"),
        (report.later, "things are left for the next run"),
    ];
    for (what, numbers) in [(went, &gone[..]), ("stayed", &stayed)] {
        let numbers = numbers.iter().filter(|(number, _)| *number > 0);
        let parts: Vec<_> = numbers.map(|(n, name)| format!("{n} {name}")).collect();
        if !parts.is_empty() {
            writeln!(out, "{what}: {}", parts.join(", "))?;
        }
    }
    writeln!(out, "{} {done}", size(report.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_and_what_stayed_is_told() {
        let report = CollectReport {
            marked: 7,
            blobs: 3,
            bytes: 2_000_000,
            layer_links: 2,
            repositories: 1,
            young: 4,
            later: 5,
            ..CollectReport::default()
        };
        let mut out = Vec::new();
        summarize(&mut out, &report, Some(6), false).unwrap();
        let told = String::from_utf8(out).unwrap();
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(
            lines[..2],
            [
                "went: 2 links, 3 blobs, 1 empty repositories, 6 old uploads",
                "stayed: 7 blobs are needed, 4 blobs are too new, 5 things are left for the next \
                 run",
            ]
        );
        assert!(lines[2].ends_with(" freed"), "{told}");
        let mut out = Vec::new();
        summarize(&mut out, &CollectReport::default(), None, true).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "0 bytes would be freed\n");
    }

    #[test]
    fn how_far_it_has_got_is_put_in_words() {
        let at = |activity, done, expected, seconds_left| {
            describe(&CollectProgress {
                activity,
                done,
                expected,
                seconds_left,
                ..CollectProgress::default()
            })
        };
        assert_eq!(
            at(Activity::Marking, 12, 0, None),
            "looking for what is needed: 12 manifests"
        );
        assert_eq!(
            at(Activity::Removing, 10, 50, Some(4000)),
            "removing: 10 of 50 manifests and blobs, 1h 6m left"
        );
        assert_eq!(
            at(Activity::Condemned, 10, 100, Some(90)),
            "waiting for those who need it after all, 1m 30s left"
        );
    }
}
