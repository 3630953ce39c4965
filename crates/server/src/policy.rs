//! `policy.repository.classes`: which kinds of content may be pushed to the registry, and to the
//! repositories that a token names a class for.

use wharfinger_oci::RepositoryName;
use wharfinger_oci::manifest::{Manifest, Role};

use crate::call::Call;
use crate::error::{ApiError, Code, Result};

/// The class of what has no other: a repository whose token names none holds images.
const IMAGE: &str = "image";

/// # Errors
/// `DENIED` for a manifest of a class that the registry, or this client's token, does not allow.
pub(crate) fn check(call: &Call, name: &RepositoryName, manifest: &Manifest) -> Result<()> {
    let allowed = &call.options().classes;
    if allowed.is_empty() {
        return Ok(());
    }
    let class = match class(manifest) {
        Ok(Some(class)) => class,
        Ok(None) => return Ok(()),
        Err(config) => {
            let detail = format!("a config of media type {config:?} belongs to no known class");
            return Err(ApiError::with(Code::DENIED, detail));
        }
    };
    if !allowed.iter().any(|one| one == class) {
        let detail = format!("the registry takes {}, not {class}", allowed.join(" and "));
        return Err(ApiError::with(Code::DENIED, detail));
    }
    let granted = call.grant.classes(name.as_str()).unwrap_or_default();
    let matches = |granted: &&str| *granted == class || granted.is_empty() && class == IMAGE;
    if granted.is_empty() || granted.iter().any(matches) {
        return Ok(());
    }
    let detail = format!("the client may not push {class} to this repository");
    Err(ApiError::with(Code::DENIED, detail))
}

/// The class of an image manifest, by its config; `None` for an index, whose parts have been
/// checked when they were pushed. The error is a config that no class is known for.
fn class(manifest: &Manifest) -> std::result::Result<Option<&'static str>, String> {
    if manifest.name_and_tag().is_some() {
        return Ok(Some(IMAGE));
    }
    let references = manifest.references();
    let config = references.iter().find(|one| one.role == Role::Config);
    match config.and_then(|config| config.media_type) {
        None => Ok(None),
        Some(
            "application/vnd.oci.image.config.v1+json"
            | "application/vnd.docker.container.image.v1+json",
        ) => Ok(Some(IMAGE)),
        Some("application/vnd.docker.plugin.v1+json") => Ok(Some("plugin")),
        Some(other) => Err(other.to_owned()),
    }
}
