//! What can go wrong: with all of it, or with one image.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use wharfinger_oci::{Digest, RepositoryName};

/// The result of what is done with all images.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why nothing, or not everything, was copied.
#[derive(Debug, Error)]
pub enum Error {
    /// A file or folder of this machine cannot be used.
    #[error("{}: {operation}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, as a verb.
        operation: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A source is not what it must be.
    #[error("{place}: {reason}")]
    Source {
        /// The source, and where in it.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// A folder must not be written to.
    #[error("{}: {reason}", .path.display())]
    Destination {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// Two repositories would become one.
    #[error("{0} and {1} would both become {2}; --into OLD=NEW gives one of them another name")]
    Collision(RepositoryName, RepositoryName, RepositoryName),
    /// A name is not one of a repository.
    #[error("{name:?} is not the name of a repository: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another registry does not tell what it has, or takes nothing.
    #[error(transparent)]
    Upstream(#[from] wharfinger_remote::UpstreamError),
    /// The registry that is written to, or of which all is listed, failed.
    #[error(transparent)]
    Registry(#[from] wharfinger_registry::Error),
}

impl Error {
    pub(crate) fn io(
        path: impl Into<PathBuf>,
        operation: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            path,
            operation,
            source,
        }
    }

    pub(crate) fn source(place: impl ToString, reason: impl ToString) -> Self {
        Self::Source {
            place: place.to_string(),
            reason: reason.to_string(),
        }
    }
}

/// Why one image could not be copied.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// A manifest, or a blob, is missing.
    #[error("{0} is not there")]
    Missing(Digest),
    /// Content has another length than what refers to it says.
    #[error("{place}: it has {actual} bytes, not {expected}")]
    Length {
        /// Where it lies.
        place: String,
        /// What it should have, in bytes.
        expected: u64,
        /// What it has, in bytes.
        actual: u64,
    },
    /// Content has other bytes than those of its digest.
    #[error("{place}: its bytes have the digest {actual}, not {expected}")]
    Digest {
        /// Where it lies.
        place: String,
        /// The digest it should have.
        expected: Digest,
        /// The digest it has.
        actual: Digest,
    },
    /// Content cannot be read.
    #[error("{place}: {reason}")]
    Unreadable {
        /// Where it lies.
        place: String,
        /// Why.
        reason: String,
    },
    /// A manifest is none, or not of the kind that was said.
    #[error("{digest}: {reason}")]
    Invalid {
        /// The manifest.
        digest: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry does not take it.
    #[error("{0}")]
    Refused(String),
    /// What was asked for by this name is not there.
    #[error("there is nothing of this name")]
    Unmatched,
    /// It is an index of images, none of which is for a platform that is wanted.
    #[error("it has no image for any of the chosen platforms")]
    NoPlatform,
    /// No tag is left of a repository that had some: nothing is removed for that.
    #[error("no tag is listed any more; none is removed, as this may be a mistake")]
    Emptied,
    /// A tag is not listed, but it is there.
    #[error("the tag is not listed, but it is there; it is not removed")]
    Unlisted,
    /// The tag was moved again and again while its image was copied.
    #[error("the tag moves faster than its image can be copied")]
    Moving,
}

/// Why an image was not copied, and whether others can be.
#[derive(Debug)]
pub(crate) enum Problem {
    /// It is the image's.
    Fault(Fault),
    /// It may be another one when it is tried again: a collection is at work.
    Passing(Fault),
    /// Nothing can be written any more.
    Fatal(Error),
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}
