//! What is wrong with a file of TLS.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A file that cannot be used.
#[derive(Clone, Debug, Error)]
#[error("{}: {reason}", file.display())]
pub struct TlsError {
    /// What the file was to be used for.
    pub part: TlsPart,
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What a file is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPart {
    /// `http.tls.certificate`.
    Certificate,
    /// `http.tls.key`.
    Key,
    /// An entry of `http.tls.clientcas`, counted from 0.
    ClientAuthority(usize),
    /// `http.tls.letsencrypt.cachefile`.
    Cache,
}

impl TlsPart {
    /// An error about `file`, which was to be used for this.
    pub(super) fn unusable(self, file: &Path, reason: impl Display) -> TlsError {
        TlsError {
            part: self,
            file: file.to_owned(),
            reason: reason.to_string(),
        }
    }
}
