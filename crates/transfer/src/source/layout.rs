//! An image layout: which images its index names, and under which names.

use wharfinger_oci::manifest::ContentDescriptor;
use wharfinger_oci::{Digest, RepositoryName, Tag};

use super::contents::{Contents, Files};
use super::{ImageSource, Names};
use crate::layout::{IMAGE_NAME, INDEX, Index, MARKER, REF_NAME, REPOSITORY, REVISION};
use crate::naming::{Naming, repository_and_tag};
use crate::{Error, Result};

/// How large an index may be, in bytes: that of a registry names all its images.
const MAX_INDEX: u64 = 1 << 30;

/// Reads a layout. Blocks.
///
/// # Errors
/// When it is none, or an image has no name.
pub(super) fn read(files: Files, naming: &Naming) -> Result<ImageSource> {
    check_version(&files)?;
    let bytes = files
        .read(INDEX, MAX_INDEX)?
        .ok_or_else(|| Error::source(INDEX, "it is missing: the image layout is not complete"))?;
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|error| Error::source(INDEX, format!("not an index of images: {error}")))?;
    let mut names = Names::default();
    for descriptor in &index.manifests {
        let (name, tag) = name_of(descriptor, naming)?;
        let digest = revision(descriptor)?;
        names
            .media_types
            .insert(digest, descriptor.media_type.clone());
        if digest != descriptor.digest {
            names.signed.insert(digest, descriptor.digest);
        }
        names.add(INDEX, name, tag, digest)?;
    }
    Ok(ImageSource::new(names, Contents::Layout(files)))
}

fn check_version(files: &Files) -> Result<()> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let bytes = files.read(MARKER, 4096)?.unwrap_or_default();
    let marker: Marker = serde_json::from_slice(&bytes)
        .map_err(|error| Error::source(MARKER, format!("not that of an image layout: {error}")))?;
    match marker.image_layout_version.starts_with("1.") {
        true => Ok(()),
        false => {
            let version = marker.image_layout_version;
            Err(Error::source(
                MARKER,
                format!("version {version} is not known, only 1"),
            ))
        }
    }
}

/// The digest by which a registry has the manifest.
fn revision(descriptor: &ContentDescriptor) -> Result<Digest> {
    match annotation(descriptor, REVISION) {
        None => Ok(descriptor.digest),
        Some(text) => text
            .parse()
            .map_err(|error| Error::source(INDEX, format!("{REVISION}: {text:?}: {error}"))),
    }
}

/// The repository, and the tag if it has one: as an export, containerd and the Docker Engine, or
/// others wrote them.
fn name_of(
    descriptor: &ContentDescriptor,
    naming: &Naming,
) -> Result<(RepositoryName, Option<Tag>)> {
    let wrong = |key: &str, text: &str, reason: &dyn std::fmt::Display| {
        Error::source(
            INDEX,
            format!("{}: {key} {text:?}: {reason}", descriptor.digest),
        )
    };
    let ref_name = annotation(descriptor, REF_NAME);
    if let Some(text) = annotation(descriptor, REPOSITORY) {
        let name: RepositoryName = text
            .parse()
            .map_err(|error| wrong(REPOSITORY, text, &error))?;
        let Some(reference) = ref_name else {
            return Ok((name, None));
        };
        let tag = reference
            .strip_prefix(text)
            .and_then(|rest| rest.strip_prefix(':'));
        let tag = tag.and_then(|tag| tag.parse().ok());
        let tag = tag.ok_or_else(|| wrong(REF_NAME, reference, &"it is not REPOSITORY:TAG"))?;
        return Ok((name, Some(tag)));
    }
    if let Some(image) = annotation(descriptor, IMAGE_NAME) {
        let read = repository_and_tag(image);
        return read.ok_or_else(|| wrong(IMAGE_NAME, image, &"it is no name of an image"));
    }
    let tag = match ref_name {
        None => None,
        Some(image) if image.contains([':', '/']) => {
            let read = repository_and_tag(image);
            return read.ok_or_else(|| wrong(REF_NAME, image, &"it is no name of an image"));
        }
        Some(tag) => Some(
            tag.parse::<Tag>()
                .map_err(|error| wrong(REF_NAME, tag, &error))?,
        ),
    };
    let name = naming.nameless().cloned().ok_or_else(|| {
        let what = match &tag {
            Some(tag) => format!("the image with the tag {tag} ({})", descriptor.digest),
            None => format!("the image {}", descriptor.digest),
        };
        Error::source(
            INDEX,
            format!("{what} has no repository; --into NAME gives it one"),
        )
    })?;
    Ok((name, tag))
}

fn annotation<'a>(descriptor: &'a ContentDescriptor, key: &str) -> Option<&'a str> {
    descriptor
        .annotations
        .as_ref()?
        .get(key)
        .map(String::as_str)
}
