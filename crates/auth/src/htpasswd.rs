//! Users and their passwords, from a file as Apache's `htpasswd -B` writes it.

mod current;
mod file;
mod first;
mod passwords;
mod queue;
mod verified;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::access::{Access, AccessController, Asked, Grant, Refusal, Shown, quoted};
use current::{Current, in_time};
use passwords::{Busy, Passwords};

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
    users: Current,
    passwords: Passwords,
}

impl Htpasswd {
    /// Makes a missing file for one user, [`FIRST_USER`], and gives the password, which nobody can
    /// find out later but from `password_file`: there it is kept too, readable by its owner only.
    /// `None` where there is a file.
    ///
    /// # Errors
    /// When one of the files cannot be made, or not within ten seconds.
    pub fn make_if_missing(
        path: &Path,
        password_file: Option<&Path>,
    ) -> Result<Option<String>, HtpasswdError> {
        let (users, kept) = (path.to_owned(), password_file.map(Path::to_owned));
        in_time(path, move || {
            first::make_if_missing(&users, kept.as_deref())
        })
    }

    /// Reads the file, and follows it from then on.
    ///
    /// # Errors
    /// When it cannot be read or understood, or not within ten seconds.
    pub fn new(realm: impl Into<String>, path: impl Into<PathBuf>) -> Result<Self, HtpasswdError> {
        Ok(Self {
            realm: realm.into(),
            users: Current::new(path.into())?,
            passwords: Passwords::of_process(),
        })
    }
}

#[async_trait]
impl AccessController for Htpasswd {
    /// A refused login takes the same work whoever the user is, and whether there is one, but for
    /// users of a higher cost than 14. What else the time may tell, of the queue or the network, is
    /// left to chance. Who is let in shows that anyway.
    async fn authorize(&self, asked: Asked<'_>, _: &[Access]) -> Result<Grant, Refusal> {
        let refused = |reason: String, shown| Refusal::Challenge {
            challenge: format!("Basic realm={}", quoted(&self.realm)),
            reason,
            shown,
        };
        let Some((user, password)) = asked.authorization.and_then(basic) else {
            let shown = match asked.authorization {
                Some(_) => Shown::Unfit,
                None => Shown::Nothing,
            };
            let reason = "the request has no user and password";
            return Err(refused(reason.to_owned(), shown));
        };
        let comparison = self.users.users().await.comparison(&user);
        let verified = self
            .passwords
            .verify(asked.client, &user, &password, comparison);
        match verified.await {
            Ok(true) => Ok(Grant::everything(user)),
            Ok(false) => Err(refused(
                format!("user {user:?} does not exist or has another password"),
                Shown::Guess,
            )),
            Err(Busy) => Err(Refusal::Busy),
        }
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
