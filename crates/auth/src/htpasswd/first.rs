//! A file of users that was missing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use uuid::Uuid;
use wharfinger_oci::key::base64url;

use super::{FIRST_USER, HtpasswdError};

/// Makes the file if it is missing, readable by its owner only, and gives the password of the one
/// user in it, which is also written to `password_file`, where there is to be one.
pub(super) fn make_if_missing(
    path: &Path,
    password_file: Option<&Path>,
) -> Result<Option<String>, HtpasswdError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| HtpasswdError::File { path, source }
    };
    match fs::metadata(path) {
        Ok(_) => return Ok(None),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(path)(error)),
        Err(_) => {}
    }
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder).map_err(at(path))?;
    }
    // 244 random bits.
    let random = [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes);
    let password = base64url::encode(&random.concat());
    let hash = bcrypt::hash(&password, bcrypt::DEFAULT_COST)
        .map_err(|error| at(path)(io::Error::other(error)))?;
    // Of several processes that find it missing one makes it, and the password is that one's.
    let mut file = match create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
        created => created.map_err(at(path))?,
    };
    let filled = password_file
        .map_or(Ok(()), |kept| keep(kept, &password).map_err(at(kept)))
        .and_then(|()| {
            let line = format!("{FIRST_USER}:{hash}\n");
            fill(&mut file, &line).map_err(at(path))
        });
    if let Err(error) = filled {
        // Nobody knows its password, so the next start makes another one.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(Some(password))
}

/// Writes the password to a file. One that is there is of a file of users that is gone.
fn keep(path: &Path, password: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fill(&mut create(path)?, &format!("{password}\n"))
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

fn fill(file: &mut File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
