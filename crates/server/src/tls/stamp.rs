//! Whether files have changed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// What tells one state of some files from another, without reading them. Links are followed, so
/// that a link which is turned to another file counts as a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<File>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds of the last change to content or attributes, which nobody can set.
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(files: &[PathBuf]) -> Self {
        let stamp = |path| {
            let file = fs::metadata(path).ok()?;
            Some(File {
                device: file.dev(),
                inode: file.ino(),
                size: file.size(),
                changed: (file.ctime(), file.ctime_nsec()),
            })
        };
        Self(files.iter().map(stamp).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn content_existence_and_the_target_of_a_link_count() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, link] = ["a", "b", "link"].map(|name| folder.path().join(name));
        let files = [a.clone(), link.clone()];
        let mut stamps = vec![Stamp::of(&files)];
        let mut changed = || {
            let now = Stamp::of(&files);
            assert!(!stamps.contains(&now), "{stamps:?}");
            assert_eq!(Stamp::of(&files), now);
            stamps.push(now);
        };
        fs::write(&a, "1").unwrap();
        changed();
        fs::write(&b, "2").unwrap();
        symlink(&a, &link).unwrap();
        changed();
        fs::remove_file(&link).unwrap();
        symlink(&b, &link).unwrap();
        changed();
        fs::remove_file(&a).unwrap();
        changed();
    }
}
