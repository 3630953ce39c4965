//! `sync`.

use std::collections::HashMap;
use std::time::Duration;

use super::Checker;
use crate::section::{SyncDeletion, SyncJob};
use crate::{Config, GoDuration};

/// The shortest time between two runs; shorter ones are slips, as a number without a unit counts
/// nanoseconds.
const SHORTEST: Duration = Duration::from_secs(1);

/// The most images at once: each may take some mebibytes, and connections.
const MOST_AT_ONCE: usize = 64;

impl Checker<'_> {
    pub(super) fn sync(&mut self, config: &Config) {
        let mut names = HashMap::new();
        for (index, job) in config.sync.jobs.iter().enumerate() {
            let key = format!("sync.jobs[{index}]");
            if let Some(other) = names.insert(&job.name, index)
                && !job.name.is_empty()
            {
                let message = format!(
                    "sync.jobs[{other}] is called {:?} too; each needs a name of its own",
                    job.name
                );
                self.wrong(&format!("{key}.name"), message);
            }
            self.job(&key, job, config);
        }
    }

    fn job(&mut self, key: &str, job: &SyncJob, config: &Config) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if job.name.is_empty() {
            let message = "it is missing: what the job is called in logs and metrics";
            self.wrong(&format!("{key}.name"), message);
        } else if !job.name.chars().all(is_name) || job.name.starts_with('.') {
            let message = "a name is made of letters, digits, hyphens, underscores and dots, and \
                           begins with none of the last";
            self.wrong(&format!("{key}.name"), message);
        }
        match (&job.from, &job.to) {
            (Some(_), Some(_)) | (None, None) => {
                let message = "it needs either from, the registry that images are copied from, or \
                               to, the one they are copied to";
                self.wrong(key, message);
            }
            (Some(from), None) => self.remote(&format!("{key}.from"), from.remote()),
            (None, Some(to)) => self.remote(&format!("{key}.to"), to.remote()),
        }
        if job.images.is_empty() {
            let message = "it is missing: which repositories and tags, like [library/nginx, \
                           \"team/*\"]";
            self.wrong(&format!("{key}.images"), message);
        }
        if !job.interval.is_zero() && job.interval < GoDuration::from_secs(SHORTEST.as_secs()) {
            let message = "it is shorter than a second; write it like 6h";
            self.wrong(&format!("{key}.interval"), message);
        }
        if !(1..=MOST_AT_ONCE).contains(&job.parallelism) {
            let message = format!("it must be between 1 and {MOST_AT_ONCE}");
            self.wrong(&format!("{key}.parallelism"), message);
        }
        if job.from.is_some() {
            self.job_from(key, job, config);
        } else if config.storage.inmemory.is_some() && job.interval.is_zero() {
            let message = "the store is in memory, which a command cannot reach: without an \
                           interval nothing is ever copied";
            self.warn(key, message);
        }
    }

    /// What holds where images are copied to this registry.
    fn job_from(&mut self, key: &str, job: &SyncJob, config: &Config) {
        let may_miss = config.validation.manifests.sparse || config.proxy.is_used();
        if !job.platforms.is_empty() && job.prefix.is_empty() && !may_miss {
            let message = format!(
                "an index is kept without the platforms that are not chosen, which is allowed below \
                 {key}.prefix, or everywhere with validation.manifests.sparse; set one of them"
            );
            self.wrong(&format!("{key}.platforms"), message);
        }
        if job.delete == SyncDeletion::Tags && !config.storage.delete.enabled {
            let message = "nothing can be deleted without storage.delete.enabled";
            self.wrong(&format!("{key}.delete"), message);
        }
    }
}
