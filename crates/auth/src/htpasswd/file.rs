//! The file.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use tracing::warn;
use uuid::Uuid;
use wharfinger_oci::key::base64url;

use super::{FIRST_USER, HtpasswdError};

/// The content of a file of users.
#[derive(Debug)]
pub(super) struct Users {
    hashes: HashMap<String, String>,
    /// A hash of no password, by the highest cost of any user's: what unknown users are compared
    /// with, so that the time it takes does not tell them.
    nobody: String,
    /// The numbers of lines whose hash is not bcrypt's.
    others: Vec<usize>,
}

impl Users {
    /// # Errors
    /// The number of the line that has not the form of one.
    pub(super) fn parse(text: &str) -> Result<Self, usize> {
        let mut hashes = HashMap::new();
        let mut others = Vec::new();
        let mut cost = 0;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, hash) = line.split_once(':').ok_or(number)?;
            if user.is_empty() {
                return Err(number);
            }
            if let Ok(parts) = hash.parse::<bcrypt::HashParts>() {
                cost = cost.max(parts.get_cost());
                hashes.insert(user.to_owned(), hash.to_owned());
            } else {
                others.push(number);
            }
        }
        if cost == 0 {
            cost = bcrypt::DEFAULT_COST;
        }
        Ok(Self {
            hashes,
            nobody: format!("$2b${cost:02}$abcdefghijklmnopqrstuuvNG3OZE4tHQVCDBZ1g7yCoB/2dOqdLe"),
            others,
        })
    }

    /// The hash to compare a user's password with, and whether there is such a user.
    pub(super) fn hash(&self, user: &str) -> (&str, bool) {
        match self.hashes.get(user) {
            Some(hash) => (hash, true),
            None => (&self.nobody, false),
        }
    }

    /// Says which users cannot come in.
    pub(super) fn warn_of_others(&self, path: &Path) {
        for line in &self.others {
            warn!(
                "{}:{line}: the hash is not by bcrypt, so this user is not let in; make it with \
                 `htpasswd -B`",
                path.display()
            );
        }
    }
}

pub(super) fn read(path: &Path) -> Result<Users, HtpasswdError> {
    let path = path.to_owned();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(HtpasswdError::File { path, source }),
    };
    Users::parse(&text).map_err(|line| HtpasswdError::Line { path, line })
}

/// What tells that a file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// `None` when there is no file.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// Makes a missing file, readable by its owner only, and gives the password of the one user in it.
pub(super) fn make_if_missing(path: &Path) -> Result<Option<String>, HtpasswdError> {
    let failed = |source| HtpasswdError::File {
        path: path.to_owned(),
        source,
    };
    match fs::metadata(path) {
        Ok(_) => return Ok(None),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        Err(_) => {}
    }
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder).map_err(failed)?;
    }
    // 244 random bits.
    let random = [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes);
    let password = base64url::encode(&random.concat());
    let hash = bcrypt::hash(&password, bcrypt::DEFAULT_COST)
        .map_err(|error| failed(std::io::Error::other(error)))?;
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    writeln!(file, "{FIRST_USER}:{hash}").map_err(failed)?;
    Ok(Some(password))
}
