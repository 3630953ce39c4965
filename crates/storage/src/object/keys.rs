//! Which keys the files of a store have.

use crate::StoragePath;

/// Begins, behind a file's key, the keys of what is kept of the file while it is unfinished. No
/// path has it, so listings leave these keys out; it sorts before all that paths are made of, so
/// they come directly behind the file's own key.
pub(super) const UNFINISHED: char = '!';

/// The keys below a root folder.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// Empty, or ending in `/`.
    root: String,
}

impl Keys {
    /// The keys below `root`, a folder's name with or without slashes around it.
    pub(super) fn below(root: &str) -> Self {
        let root = root.trim_matches('/');
        Self {
            root: match root {
                "" => String::new(),
                root => format!("{root}/"),
            },
        }
    }

    /// What all keys start with.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// A file's key.
    pub(super) fn of(&self, path: &StoragePath) -> String {
        format!("{}{}", self.root, path.as_str().trim_start_matches('/'))
    }

    /// What the keys of everything in a folder start with.
    pub(super) fn folder(&self, path: &StoragePath) -> String {
        match path.is_root() {
            true => self.root.clone(),
            false => format!("{}/", self.of(path)),
        }
    }
}

/// The key of what is kept of an unfinished file with so many bytes.
pub(super) fn unfinished(key: &str, size: u64) -> String {
    format!("{key}{UNFINISHED}{size}")
}

/// The file's key and its size in bytes, where `key` is of what is kept of an unfinished file.
pub(super) fn parse_unfinished(key: &str) -> Option<(&str, u64)> {
    let (file, size) = key.rsplit_once(UNFINISHED)?;
    Some((file, size.parse().ok()?))
}

/// The folder that a key lies in, with the slash at its end.
pub(super) fn parent(key: &str) -> &str {
    &key[..key.rfind('/').map_or(0, |slash| slash + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_distribution() {
        let path: StoragePath = "/docker/registry/v2/x".parse().unwrap();
        for root in ["", "/"] {
            assert_eq!(Keys::below(root).of(&path), "docker/registry/v2/x");
            assert_eq!(Keys::below(root).folder(&StoragePath::root()), "");
        }
        for root in ["a/b", "/a/b", "/a/b/"] {
            assert_eq!(Keys::below(root).of(&path), "a/b/docker/registry/v2/x");
            assert_eq!(Keys::below(root).folder(&StoragePath::root()), "a/b/");
        }
        assert_eq!(Keys::below("").folder(&path), "docker/registry/v2/x/");
    }

    #[test]
    fn what_is_kept_of_unfinished_files_comes_directly_behind_them() {
        let key = unfinished("u/data", 17);
        assert_eq!(parse_unfinished(&key), Some(("u/data", 17)));
        assert_eq!(parse_unfinished("u/data"), None);
        assert!("u/data" < key.as_str());
        for path in ["u/data-", "u/data.", "u/data/", "u/data0", "u/dataa"] {
            assert!(key.as_str() < path);
        }
    }
}
