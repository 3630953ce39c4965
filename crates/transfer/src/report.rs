//! What is told of copying: while it goes on, and when it has ended.

use std::fmt;

use wharfinger_oci::{Digest, RepositoryName, Tag};

use crate::Fault;
use crate::copy::Copied;

/// An image that could not be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The image: `repository:tag` or `repository@digest`, by its name in the source; or the
    /// repository, when not even its images can be listed.
    pub image: String,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.image, self.fault)
    }
}

/// One step.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// So many bytes of blobs will be gone through. Comes first, where it is known.
    Total(u64),
    /// A repository is begun, by its name in the source.
    Repository(&'a RepositoryName),
    /// A blob of so many bytes is mentioned, of which [`Step::Bytes`] will tell.
    Blob(u64),
    /// So many bytes more were copied, or found to be there.
    Bytes(u64),
    /// So much is there of an image, by its name where it is copied to (`repository:tag` or
    /// `repository@digest`). Told from the first blob on that has to be copied, again and again.
    Image(&'a str, Progress),
    /// No more is told of an image: it is there, or this attempt to copy it has failed. Comes after
    /// [`Step::Tag`].
    ImageEnded(&'a str),
    /// A tag is there with all of its image, by its name where it was copied to.
    Tag(&'a RepositoryName, &'a Tag, &'a Digest),
    /// A manifest without a tag is there with all that it mentions.
    Untagged(&'a RepositoryName, &'a Digest),
    /// A tag would come to stand for this, for which so many blobs with so many bytes would be
    /// copied.
    WouldTag(&'a RepositoryName, &'a Tag, &'a Digest, u64, u64),
    /// A tag was removed, or would be.
    Removed(&'a RepositoryName, &'a Tag),
    /// An image cannot be copied.
    Failed(&'a Failure),
}

/// How many bytes of an image's blobs are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// So many were copied or found to be there.
    pub done: u64,
    /// Out of so many, as far as the image's manifests have been read.
    pub total: u64,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many tags are there now.
    pub tags: u64,
    /// How many manifests are there now that have no tag and that no other one mentions.
    pub untagged: u64,
    /// How many blobs were copied.
    pub blobs: u64,
    /// How many bytes these have.
    pub bytes: u64,
    /// How many blobs were found to be there, as often as an image mentions them.
    pub present: u64,
    /// How many tags were removed that the source does not have any more.
    pub removed: u64,
    /// How many blobs were removed that nothing needs any more.
    pub pruned: u64,
    /// What could not be copied.
    pub failures: Vec<Failure>,
}

impl Report {
    pub(crate) fn add(&mut self, copied: &Copied) {
        match copied {
            Copied::Nothing => {}
            Copied::WasThere => self.present += 1,
            Copied::Bytes(bytes) => {
                self.blobs += 1;
                self.bytes += bytes;
            }
        }
    }
}
