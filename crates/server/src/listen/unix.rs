//! Unix sockets and their files.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::net::UnixListener;

/// Who may connect: the owner and the group, so that a proxy under a user of its own can be let in.
const MODE: u32 = 0o660;

/// The file of a socket that this process listens on. Dropping it removes the file, unless another
/// process has replaced it by its own.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Device, inode, and when the file was made, where the filesystem tells: inodes are used again.
type Identity = (u64, u64, Option<SystemTime>);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // What cannot be removed is replaced by the next one that listens there.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino(), file.created().ok()))
}

pub(super) fn listen(path: &str) -> io::Result<(UnixListener, Option<SocketFile>)> {
    if let Some(name) = path.strip_prefix('@') {
        let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
        listener.set_nonblocking(true)?;
        return Ok((UnixListener::from_std(listener)?, None));
    }
    let path = PathBuf::from(path);
    remove_stale(&path)?;
    let listener = UnixListener::bind(&path)?;
    // Until here the process's umask counts, which lets in fewer.
    fs::set_permissions(&path, fs::Permissions::from_mode(MODE))?;
    let identity = identity(&path)?;
    Ok((listener, Some(SocketFile { path, identity })))
}

/// Removes the file of a listener that is gone.
fn remove_stale(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    if !file.file_type().is_socket() {
        let message = "there is a file which is no socket; it is left alone";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // A full queue, or a socket that may not be connected to: somebody is there.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// What an address is called: its path, an abstract name after `@`, or nothing.
pub(super) fn name(address: &SocketAddr) -> String {
    match (address.as_pathname(), address.as_abstract_name()) {
        (Some(path), _) => path.display().to_string(),
        (None, Some(name)) => format!("@{}", String::from_utf8_lossy(name)),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_file_is_for_owner_and_group_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let text = path.to_str().unwrap();
        let listening = listen(text).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        assert_eq!(
            listen(text).unwrap_err().kind(),
            io::ErrorKind::AddrInUse,
            "another one listens there"
        );
        drop(listening);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let text = path.to_str().unwrap();
        // A std listener leaves its file behind, as a killed process does.
        drop(StdListener::bind(&path).unwrap());
        let (first, file) = listen(text).unwrap();
        drop(first);
        let second = listen(text).unwrap();
        drop(file);
        assert!(path.exists(), "it is the second one's by now");
        drop(second);

        fs::write(&path, "data").unwrap();
        let error = listen(text).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"data");
    }

    #[tokio::test]
    async fn an_abstract_name_has_no_file() {
        let name = format!("@wharfinger-test-{}", std::process::id());
        let (listener, file) = listen(&name).unwrap();
        assert!(file.is_none());
        assert_eq!(super::name(&listener.local_addr().unwrap().into()), name);
        assert!(!Path::new(&name).exists());
    }
}
