//! Jobs that copy from and to other registries.

use std::num::NonZeroUsize;
use std::sync::Arc;

use wharfinger_config::{Config, SyncDeletion};
use wharfinger_oci::RepositoryName;
use wharfinger_transfer::{
    Deletion, Direction, Limits, Naming, NamingRule, Selection, SyncJob, SyncMetrics, SyncSchedule,
};

use super::{Unusable, parse, parse_all, unusable, upstream, upstream_to_push};

/// The jobs that are done again and again.
pub(crate) fn sync_schedules(
    config: &Config,
    metrics: &SyncMetrics,
) -> Result<Vec<SyncSchedule>, Unusable> {
    let intervals = config.sync.jobs.iter().map(|job| job.interval.get());
    let jobs = sync_jobs(config, metrics)?.into_iter().zip(intervals);
    let schedules = jobs.map(|(job, interval)| SyncSchedule { job, interval });
    Ok(schedules
        .filter(|schedule| !schedule.interval.is_zero())
        .collect())
}

/// All jobs.
pub(crate) fn sync_jobs(config: &Config, metrics: &SyncMetrics) -> Result<Vec<SyncJob>, Unusable> {
    let jobs = config.sync.jobs.iter().enumerate();
    jobs.map(|(index, job)| sync_job(&format!("sync.jobs[{index}]"), job, metrics))
        .collect()
}

fn sync_job(
    key: &str,
    job: &wharfinger_config::SyncJob,
    metrics: &SyncMetrics,
) -> Result<SyncJob, Unusable> {
    let patterns = parse_all(&format!("{key}.images"), &job.images)?;
    let versions = Some(&job.versions).filter(|text| !text.is_empty());
    let limits = Limits {
        exclude: parse_all(&format!("{key}.exclude"), &job.exclude)?,
        versions: versions
            .map(|text| parse(&format!("{key}.versions"), text))
            .transpose()?,
        newest: NonZeroUsize::new(job.newest),
        platforms: parse_all(&format!("{key}.platforms"), &job.platforms)?,
        referrers: job.referrers,
    };
    let prefix = prefix(&job.prefix);
    let rule = prefix.map(|prefix| parse::<NamingRule>(&format!("{key}.prefix"), &prefix));
    let asked = metrics.upstreams();
    let direction = match (&job.from, &job.to) {
        (Some(from), _) => {
            let from = upstream(&format!("{key}.from"), None, from.remote(), asked)?;
            Direction::From(Arc::new(from))
        }
        (None, Some(to)) => {
            let to = upstream_to_push(&format!("{key}.to"), to.remote(), asked)?;
            Direction::To(Arc::new(to))
        }
        (None, None) => return Err(unusable(key.to_owned())(&"it needs from or to")),
    };
    Ok(SyncJob {
        name: job.name.clone(),
        direction,
        selection: Selection::within(patterns, limits),
        naming: Naming::of(rule.transpose()?),
        deletion: match job.delete {
            SyncDeletion::None => Deletion::None,
            SyncDeletion::Tags => Deletion::Tags,
        },
        at_once: job.parallelism,
    })
}

/// A prefix with its slash at the end, whether it is written with one or not.
fn prefix(text: &str) -> Option<String> {
    let name = text.trim_end_matches('/');
    (!name.is_empty()).then(|| format!("{name}/"))
}

/// Below which names indexes lack the platforms that were not chosen.
pub(super) fn without_platforms(config: &Config) -> impl Iterator<Item = RepositoryName> {
    let jobs = config.sync.jobs.iter();
    let sparse = jobs.filter(|job| job.from.is_some() && !job.platforms.is_empty());
    sparse.filter_map(|job| job.prefix.trim_end_matches('/').parse().ok())
}
