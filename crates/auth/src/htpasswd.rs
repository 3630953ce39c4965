//! Users and their passwords, from a file as Apache's `htpasswd -B` writes it.

mod file;
mod verified;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use tokio::sync::Semaphore;
use tracing::{error, info};

use crate::access::{Access, AccessController, Asked, Grant, Refusal, quoted};
use file::{Stamp, Users};
use verified::Verified;

/// How many passwords are verified at once: each takes a processor for a tenth of a second.
const CONCURRENCY: usize = 4;

/// The user of a file that was missing, as Distribution calls it.
pub const FIRST_USER: &str = "docker";

/// Why a file of users cannot be used.
#[derive(Debug, Error)]
pub enum HtpasswdError {
    /// It cannot be read or made.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A line has not the form of one.
    #[error("{}:{line}: a line is a user, a colon and a bcrypt hash", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
    },
}

/// Lets in the users of a file, and everyone of them everywhere. Only hashes by bcrypt count.
#[derive(Debug)]
pub struct Htpasswd {
    realm: String,
    path: PathBuf,
    users: Mutex<(Option<Stamp>, Arc<Users>)>,
    verified: Verified,
    permits: Arc<Semaphore>,
}

impl Htpasswd {
    /// Makes a missing file for one user, [`FIRST_USER`], and gives the password, which nobody can
    /// find out later. `None` where there is a file.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_if_missing(path: &Path) -> Result<Option<String>, HtpasswdError> {
        file::make_if_missing(path)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn new(realm: impl Into<String>, path: impl Into<PathBuf>) -> Result<Self, HtpasswdError> {
        let path = path.into();
        let users = file::read(&path)?;
        users.warn_of_others(&path);
        Ok(Self {
            realm: realm.into(),
            users: Mutex::new((Stamp::of(&path), Arc::new(users))),
            path,
            verified: Verified::new(),
            permits: Arc::new(Semaphore::new(CONCURRENCY)),
        })
    }

    /// The users as the file has them now. A file that has become unreadable changes nothing.
    fn users(&self) -> Arc<Users> {
        let stamp = Stamp::of(&self.path);
        let mut known = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != stamp {
            match file::read(&self.path) {
                Ok(users) => {
                    info!(file = %self.path.display(), "the users were read again");
                    users.warn_of_others(&self.path);
                    known.1 = Arc::new(users);
                }
                Err(error) => error!(%error, "the users stay as they were"),
            }
            known.0 = stamp;
        }
        Arc::clone(&known.1)
    }

    /// Whether the password is the user's. An unknown user takes as long as a known one.
    async fn verify(&self, user: &str, password: &[u8]) -> bool {
        let users = self.users();
        let (hash, known) = users.hash(user);
        if known && self.verified.contains(user, password, hash) {
            return true;
        }
        let Ok(_permit) = Arc::clone(&self.permits).acquire_owned().await else {
            return false;
        };
        // Somebody may have verified the same while this one waited.
        if known && self.verified.contains(user, password, hash) {
            return true;
        }
        let (owned_password, owned_hash) = (password.to_vec(), hash.to_owned());
        let matches = tokio::task::spawn_blocking(move || {
            bcrypt::verify(owned_password, &owned_hash).unwrap_or(false)
        });
        let matches = matches.await.unwrap_or(false) && known;
        if matches {
            self.verified.insert(user, password, hash);
        }
        matches
    }
}

#[async_trait]
impl AccessController for Htpasswd {
    async fn authorize(&self, asked: Asked<'_>, _: &[Access]) -> Result<Grant, Refusal> {
        let refused = |reason: String, suspicious| Refusal::Challenge {
            challenge: format!("Basic realm={}", quoted(&self.realm)),
            reason,
            suspicious,
        };
        let Some((user, password)) = asked.authorization.and_then(basic) else {
            let shown = asked.authorization.is_some();
            let reason = "the request has no user and password";
            return Err(refused(reason.to_owned(), shown));
        };
        if self.verify(&user, &password).await {
            return Ok(Grant::everything(user));
        }
        Err(refused(
            format!("user {user:?} does not exist or has another password"),
            true,
        ))
    }
}

/// User and password of an `Authorization` header (RFC 7617).
pub fn basic(authorization: &str) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests;
