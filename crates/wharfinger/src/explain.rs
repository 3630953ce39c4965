//! `wharfinger garbage-collect --explain`: why a blob or a manifest stays.

use std::process::ExitCode;
use std::time::Duration;

use thiserror::Error;
use wharfinger_config::{Config, Loaded};
use wharfinger_oci::{Digest, RepositoryName};
use wharfinger_registry::{Explanation, Need, Registry, Standing};

use crate::size::size;
use crate::tool::{self, OpenError};
use crate::wiring::{self, Unusable};

/// Why it cannot be told.
#[derive(Debug, Error)]
enum ExplainError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Config(#[from] Unusable),
    #[error("{0}")]
    Registry(#[from] wharfinger_registry::Error),
}

/// Tells why content stays, or that it goes.
pub(crate) fn run(
    loaded: Result<Loaded, wharfinger_config::Error>,
    digest: Digest,
    delete_untagged: bool,
    grace: Option<Duration>,
) -> ExitCode {
    tool::run(loaded, "explain", async |config| {
        let explanation = explain(config, digest, delete_untagged, grace).await;
        explanation.map(|()| ExitCode::SUCCESS)
    })
}

async fn explain(
    config: &Config,
    digest: Digest,
    delete_untagged: bool,
    grace: Option<Duration>,
) -> Result<(), ExplainError> {
    let store = tool::open(config).await?;
    let registry = Registry::new(store.driver(), wiring::registry_options(config)?)?;
    let grace = grace.unwrap_or(config.storage.maintenance.gc.grace.get());
    let explanation = registry.explain(&digest, delete_untagged, grace).await?;
    for line in lines(&explanation) {
        println!("{line}");
    }
    Ok(())
}

fn lines(explanation: &Explanation) -> Vec<String> {
    let canonical = &explanation.canonical;
    let mut lines = vec![match explanation.size {
        Some(bytes) => format!("{canonical}: {}", size(bytes)),
        None => format!("{canonical}: the store does not have it"),
    }];
    lines.extend(explanation.needs.iter().map(|need| way(need, canonical)));
    let needing = |name: &RepositoryName| {
        explanation
            .needs
            .iter()
            .any(|need| need.repository == *name)
    };
    for name in explanation.linked.iter().filter(|name| !needing(name)) {
        lines.push(format!(
            "{name}: has a link to it, and nothing that needs it"
        ));
    }
    lines.push(
        match explanation.standing {
            Standing::Needed => "it stays: it is needed",
            Standing::Pardoned => {
                "it stays: it was condemned, and somebody has come to need it; the next run looks \
                 again"
            }
            Standing::Condemned {
                is_executing: false,
            } => "it is condemned, and goes unless somebody comes to need it",
            Standing::Condemned { is_executing: true } => "it is being removed",
            Standing::Young => {
                "nothing needs it; where others write it stays as it was written too short a time \
                 ago (--grace)"
            }
            Standing::Garbage => "nothing needs it: the next collection removes it",
            Standing::Absent => "nothing needs it",
        }
        .to_owned(),
    );
    lines
}

/// The way from a tag to what it leads to.
fn way(need: &Need, canonical: &Digest) -> String {
    let mut steps = Vec::new();
    match &need.tag {
        Some(tag) => steps.push(format!("tag {tag}")),
        None => steps.push("untagged".to_owned()),
    }
    let manifests = need.manifests.iter();
    steps.extend(manifests.map(|digest| format!("manifest {digest}")));
    if need.manifests.last() != Some(canonical) {
        steps.push("this".to_owned());
    }
    format!("{}: {}", need.repository, steps.join(" -> "))
}
