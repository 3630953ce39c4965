//! What a manifest must fulfil before it is stored: what it refers to is there, and the
//! operator's rules let it through.

use std::collections::HashSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use wharfinger_oci::manifest::{Manifest, ManifestError, Referenced, Role};
use wharfinger_oci::schema1::SignatureError;
use wharfinger_oci::{Digest, Tag};

use crate::gc::Item;
use crate::link::{LinkSet, LinkedBlobs};
use crate::options::Validation;
use crate::{Error, Options, Repository, Result};

/// How many references are looked up at once.
const CONCURRENCY: usize = 16;

/// Gives what the manifest depends on from then on.
///
/// # Errors
/// [`Error::ManifestRefused`] for a url or a size that is not acceptable, and for a schema 1
/// manifest that is not accepted or was made for another place;
/// [`Error::ManifestReferencesUnknown`] names everything that is missing.
pub(super) async fn check(
    repository: &Repository,
    manifest: &Manifest,
    tags: &[Tag],
) -> Result<Vec<Item>> {
    let options = repository.shared.options.load_full();
    check_schema1(&options, repository, manifest, tags)?;
    let rules = &options.validation;
    let references = manifest.references();
    for reference in &references {
        check_urls(rules, reference)?;
    }
    let found = look_up_all(repository, rules, &references).await?;
    match found.missing.is_empty() {
        true => Ok(found.needed),
        false => Err(Error::ManifestReferencesUnknown(found.missing)),
    }
}

/// What a manifest depends on through the manifests that it mentions. Those were checked when they
/// were pushed; but their own push need not have been acknowledged.
///
/// # Errors
/// [`Error::ManifestReferencesUnknown`] names the mentioned manifests that something is missing of.
pub(super) async fn check_nested(
    repository: &Repository,
    manifest: &Manifest,
) -> Result<Vec<Item>> {
    let options = repository.shared.options.load_full();
    let manifests = repository.manifests();
    let mut needed = Vec::new();
    let mut seen = HashSet::new();
    let mut pending = mentioned_manifests(manifest);
    while let Some(digest) = pending.pop() {
        if !seen.insert(digest) {
            continue;
        }
        let served = match manifests.get(&digest).await {
            Err(Error::ManifestUnknown(_)) => continue,
            served => served?,
        };
        let media_type = &served.descriptor.media_type;
        let Ok(nested) = Manifest::parse(Some(media_type), served.bytes) else {
            continue;
        };
        let references = nested.references();
        let found = look_up_all(repository, &options.validation, &references).await?;
        if !found.missing.is_empty() {
            return Err(Error::ManifestReferencesUnknown(vec![digest]));
        }
        needed.extend(found.needed);
        pending.extend(mentioned_manifests(&nested));
    }
    Ok(needed)
}

fn mentioned_manifests(manifest: &Manifest) -> Vec<Digest> {
    let references = manifest.references().into_iter();
    references
        .filter(|reference| matches!(reference.role, Role::Manifest))
        .map(|reference| reference.digest)
        .collect()
}

/// What a manifest depends on.
#[derive(Debug, Default)]
struct Dependencies {
    needed: Vec<Item>,
    /// What must be there and is not.
    missing: Vec<Digest>,
}

async fn look_up_all(
    repository: &Repository,
    rules: &Validation,
    references: &[Referenced<'_>],
) -> Result<Dependencies> {
    let layers = repository.links(LinkSet::Layers);
    let manifests = repository.links(LinkSet::Manifests);
    let lookups: Vec<_> = references
        .iter()
        .map(|reference| {
            let links = match reference.role {
                Role::Config | Role::Layer | Role::ForeignLayer => &layers,
                Role::Manifest => &manifests,
            };
            let is_required = rules.requires(&repository.name, reference);
            look_up(reference, links, is_required)
        })
        .collect();
    let looked_up: Vec<_> = stream::iter(lookups)
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    let mut dependencies = Dependencies::default();
    let Dependencies { needed, missing } = &mut dependencies;
    for (reference, found) in references.iter().zip(looked_up) {
        match found {
            LookedUp::Found(canonical) => needed.push(Item::Blob(canonical)),
            // It may be there without a link, or come.
            LookedUp::NotRequired if reference.digest.is_canonical() => {
                needed.push(Item::Blob(reference.digest));
            }
            LookedUp::NotRequired => {}
            LookedUp::Missing => missing.push(reference.digest),
        }
        if matches!(reference.role, Role::Manifest) {
            let name = repository.name.clone();
            needed.push(Item::Manifest(name, reference.digest));
        }
    }
    Ok(dependencies)
}

/// A schema 1 manifest tells where it belongs: what one signed for one repository and tag must not
/// be had under another.
fn check_schema1(
    options: &Options,
    repository: &Repository,
    manifest: &Manifest,
    tags: &[Tag],
) -> Result<()> {
    let Some((name, tag)) = manifest.name_and_tag() else {
        return Ok(());
    };
    if !options.schema1_push {
        return Err(Error::ManifestRefused(
            "schema 1 manifests are not accepted; compatibility.schema1.enabled allows them"
                .to_owned(),
        ));
    }
    if manifest.signatures().is_empty() {
        return Err(ManifestError::from(SignatureError::Missing).into());
    }
    if *name != repository.name {
        let reason = format!("it was made for repository {name}");
        return Err(Error::ManifestRefused(reason));
    }
    if tags.iter().any(|asked| asked != tag) {
        let reason = format!("it was made for tag {tag}");
        return Err(Error::ManifestRefused(reason));
    }
    Ok(())
}

/// What became of looking for a reference.
enum LookedUp {
    /// It is there, under this canonical digest.
    Found(Digest),
    /// It need not be there, and was not looked for or not found.
    NotRequired,
    Missing,
}

async fn look_up(
    reference: &Referenced<'_>,
    links: &LinkedBlobs,
    is_required: bool,
) -> Result<LookedUp> {
    let digest = reference.digest;
    if !is_required {
        // Only a digest of another algorithm does not tell under which name the bytes are kept.
        let canonical = match digest.is_canonical() {
            true => None,
            false => links.resolve(&digest).await.ok().flatten(),
        };
        return Ok(canonical.map_or(LookedUp::NotRequired, LookedUp::Found));
    }
    match links.stat(&digest).await? {
        None => Ok(LookedUp::Missing),
        Some(found) => match reference.size {
            Some(size) if size != found.size => Err(Error::ManifestRefused(format!(
                "{digest} has {} bytes, not the {size} that the manifest tells",
                found.size
            ))),
            _ => Ok(LookedUp::Found(found.canonical)),
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
