//! What can go wrong in a driver.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::StoragePath;

/// The result of a driver's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a driver's operation failed. Every variant names the path and keeps its source.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no file or folder at the path.
    #[error("{path}: not found")]
    NotFound {
        /// The path that was asked for.
        path: StoragePath,
    },
    /// The offset lies beyond the end of the file.
    #[error("{path}: offset {offset} lies beyond the end")]
    InvalidOffset {
        /// The file.
        path: StoragePath,
        /// The offset in bytes that was asked for.
        offset: u64,
    },
    /// The operation needs a file and found a folder, or the reverse.
    #[error("{path}: {expected} expected")]
    WrongKind {
        /// The path.
        path: StoragePath,
        /// What was expected: "a file" or "a folder".
        expected: &'static str,
    },
    /// The driver cannot do this at all.
    #[error("the {driver} driver does not support {operation}")]
    Unsupported {
        /// The driver's name.
        driver: &'static str,
        /// The operation.
        operation: &'static str,
    },
    /// The folder that the driver was to keep its files in cannot be used.
    #[error("storage folder {}: {operation}: {source}", .root.display())]
    Root {
        /// The folder on this machine.
        root: PathBuf,
        /// What was being done, as a verb.
        operation: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The store failed: no space, no permission, an I/O error.
    #[error("{path}: {operation}: {source}")]
    Io {
        /// The path.
        path: StoragePath,
        /// What was being done, as a verb: "read", "write", "sync", "rename", ...
        operation: &'static str,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    /// A missing file or folder.
    pub(crate) fn not_found(path: &StoragePath) -> Self {
        Self::NotFound { path: path.clone() }
    }

    /// A folder where a file is needed.
    pub(crate) fn not_a_file(path: &StoragePath) -> Self {
        Self::WrongKind {
            path: path.clone(),
            expected: "a file",
        }
    }

    /// A file where a folder is needed.
    pub(crate) fn not_a_folder(path: &StoragePath) -> Self {
        Self::WrongKind {
            path: path.clone(),
            expected: "a folder",
        }
    }

    /// A failure of the store itself.
    pub(crate) fn io(
        path: &StoragePath,
        operation: &'static str,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Io {
            path: path.clone(),
            operation,
            source: source.into(),
        }
    }

    /// A writer that another one, opened later for the same path, has ended.
    pub(crate) fn superseded(path: &StoragePath) -> Self {
        Self::io(
            path,
            "write",
            io::Error::other("another writer took the file over"),
        )
    }

    /// A writer whose earlier operation failed or was abandoned halfway.
    pub(crate) fn broken_writer(path: &StoragePath) -> Self {
        Self::io(
            path,
            "write",
            io::Error::other("an earlier write did not finish"),
        )
    }

    /// Whether the error says that nothing is there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the store has no room left (or a quota is used up).
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Io { source, .. } | Self::Root { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// Whether the store refuses to be written to (read-only or without permission).
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Io { source, .. } | Self::Root { source, .. }
            if matches!(source.kind(),
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied))
    }
}
