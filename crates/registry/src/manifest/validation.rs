//! What a manifest must fulfil before it is stored: what it refers to is there, and the
//! operator's rules let it through.

use futures_util::{StreamExt, TryStreamExt, stream};
use wharfinger_oci::Digest;
use wharfinger_oci::manifest::{Manifest, Referenced, Role};

use crate::link::{LinkSet, LinkedBlobs};
use crate::options::Validation;
use crate::{Error, Repository, Result};

/// How many references are looked up at once.
const CONCURRENCY: usize = 16;

/// # Errors
/// [`Error::ManifestRefused`] for a url or a size that is not acceptable;
/// [`Error::ManifestReferencesUnknown`] names everything that is missing.
pub(super) async fn check(repository: &Repository, manifest: &Manifest) -> Result<()> {
    let rules = &repository.shared.options.validation;
    let references = manifest.references();
    for reference in &references {
        check_urls(rules, reference)?;
    }
    if rules.sparse {
        return Ok(());
    }
    let layers = repository.links(LinkSet::Layers);
    let manifests = repository.links(LinkSet::Manifests);
    let lookups: Vec<_> = references
        .iter()
        .map(|reference| {
            let required = match reference.role {
                Role::Config | Role::Layer => Some(&layers),
                Role::ForeignLayer => None,
                Role::Manifest => rules
                    .index_platforms
                    .must_exist(reference.platform)
                    .then_some(&manifests),
            };
            look_up(reference, required)
        })
        .collect();
    let looked_up: Vec<_> = stream::iter(lookups)
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    let missing: Vec<Digest> = looked_up.into_iter().flatten().collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Error::ManifestReferencesUnknown(missing))
    }
}

/// The reference's digest when it must be there and is not.
async fn look_up(
    reference: &Referenced<'_>,
    required: Option<&LinkedBlobs>,
) -> Result<Option<Digest>> {
    let Some(links) = required else {
        return Ok(None);
    };
    let digest = reference.digest;
    match links.stat(&digest).await? {
        None => Ok(Some(digest)),
        Some(found) => match reference.size {
            Some(size) if size != found.size => Err(Error::ManifestRefused(format!(
                "{digest} has {} bytes, not the {size} that the manifest tells",
                found.size
            ))),
            _ => Ok(None),
        },
    }
}

fn check_urls(rules: &Validation, reference: &Referenced<'_>) -> Result<()> {
    for url in reference.urls {
        let scheme_and_rest = url.split_once("://");
        let is_http = scheme_and_rest.is_some_and(|(scheme, rest)| {
            matches!(scheme, "http" | "https") && !rest.is_empty() && !rest.contains('#')
        });
        let allowed = rules.urls.as_ref().is_none_or(|rules| rules.accepts(url));
        if !is_http || !allowed {
            let digest = reference.digest;
            return Err(Error::ManifestRefused(format!(
                "{digest} has the url {url:?}"
            )));
        }
    }
    Ok(())
}
