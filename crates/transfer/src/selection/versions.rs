//! Tags that are versions, and ranges of them.

use std::fmt;
use std::str::FromStr;

use semver::{Prerelease, Version, VersionReq};
use thiserror::Error;
use wharfinger_oci::Tag;

/// A range is none.
#[derive(Debug, Error)]
#[error("{text:?} is no range of versions, like ^1.21 or >=1.2, <2: {reason}")]
pub struct RangeError {
    text: String,
    reason: semver::Error,
}

/// A range of semantic versions, as Cargo writes them: `^1.21`, `~1.2`, `>=1.2, <2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions(VersionReq);

impl FromStr for Versions {
    type Err = RangeError;

    fn from_str(s: &str) -> Result<Self, RangeError> {
        let range = VersionReq::parse(s).map_err(|reason| RangeError {
            text: s.to_owned(),
            reason,
        })?;
        Ok(Self(range))
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Versions {
    /// Whether a version is in the range. What follows a hyphen is no part of the comparison where
    /// it was asked for, as a variant is: `1.25.3-alpine`. Else, and where the range has such
    /// versions itself, it is that of a version before the final one, as in Cargo: these are in no
    /// range that does not mention one.
    pub(super) fn have(&self, version: &TagVersion, with_variants: bool) -> bool {
        let bare = || self.0.matches(&version.bare());
        let mentions_none = || self.0.comparators.iter().all(|one| one.pre.is_empty());
        match &version.suffix {
            None => bare(),
            Some(_) if with_variants && mentions_none() && bare() => true,
            Some(suffix) => Prerelease::new(suffix).is_ok_and(|pre| {
                let version = Version {
                    pre,
                    ..version.bare()
                };
                self.0.matches(&version)
            }),
        }
    }
}

/// The version that a tag tells: up to three numbers, with a `v` before them or not, and behind a
/// hyphen something else. Numbers that are not told count as 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TagVersion {
    pub(super) numbers: [u64; 3],
    pub(super) suffix: Option<String>,
}

impl TagVersion {
    /// `None` for a tag that is no version.
    pub(super) fn of(tag: &Tag) -> Option<Self> {
        let text = tag.as_str();
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let (numbers, suffix) = match text.split_once('-') {
            Some((numbers, suffix)) => (numbers, Some(suffix.to_owned())),
            None => (text, None),
        };
        let mut version = [0; 3];
        let mut places = version.iter_mut();
        for part in numbers.split('.') {
            // Not what else Rust takes for a number.
            if !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            *places.next()? = part.parse().ok()?;
        }
        Some(Self {
            numbers: version,
            suffix,
        })
    }

    fn bare(&self) -> Version {
        let [major, minor, patch] = self.numbers;
        Version::new(major, minor, patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(tag: &str) -> Option<TagVersion> {
        TagVersion::of(&tag.parse().unwrap())
    }

    #[test]
    fn tags_tell_versions_or_none() {
        for (tag, numbers, suffix) in [
            ("1", [1, 0, 0], None),
            ("v1.2", [1, 2, 0], None),
            ("1.2.3", [1, 2, 3], None),
            ("2024.01.05", [2024, 1, 5], None),
            ("1.2.3-alpine3.18", [1, 2, 3], Some("alpine3.18")),
            ("v2.0.0-rc.1", [2, 0, 0], Some("rc.1")),
        ] {
            let told = version(tag).unwrap();
            assert_eq!(told.numbers, numbers, "{tag}");
            assert_eq!(told.suffix.as_deref(), suffix, "{tag}");
        }
        for tag in [
            "latest",
            "v",
            "1.2.3.4",
            "1.x",
            "alpine3.18",
            "1.",
            "99999999999999999999",
        ] {
            assert_eq!(version(tag), None, "{tag}");
        }
    }

    #[test]
    fn a_range_has_versions_and_variants_where_they_are_asked_for() {
        for (range, tag, plain, with_variants) in [
            ("^1.21", "1.21", true, true),
            ("^1.21", "v1.25.3", true, true),
            ("^1.21", "1.20.9", false, false),
            ("^1.21", "2.0.0", false, false),
            ("^1.21", "1", false, false),
            ("^1.21", "1.25.3-alpine", false, true),
            ("^1.21", "1.25.3-al_pine", false, true),
            (">=1.2, <2", "1.99", true, true),
            (">=1.2, <2", "2", false, false),
            ("~1.2", "1.2.9", true, true),
            ("~1.2", "1.3", false, false),
            ("1.*", "1.7", true, true),
            ("*", "0.1", true, true),
            (">=2.0.0-rc.1", "2.0.0-rc.2", true, true),
            (">=2.0.0-rc.2", "2.0.0-rc.1", false, false),
        ] {
            let versions: Versions = range.parse().unwrap();
            let told = version(tag).unwrap();
            assert_eq!(versions.have(&told, false), plain, "{range} {tag}");
            assert_eq!(versions.have(&told, true), with_variants, "{range} {tag}");
        }
        for wrong in ["", "abc", ">>1", "1.2.3.4"] {
            assert!(wrong.parse::<Versions>().is_err(), "{wrong}");
        }
    }
}
