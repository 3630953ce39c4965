//! Patterns of repository names.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::RepositoryName;

/// A pattern is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no name of a repository, nor a pattern of one in which * stands for any characters"
)]
pub struct NamePatternError(String);

/// A pattern of repository names, in which `*` stands for any characters, slashes too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(String);

impl NamePattern {
    /// Whether it means this repository.
    pub fn matches(&self, name: &RepositoryName) -> bool {
        matches(&self.0, name.as_str())
    }
}

impl FromStr for NamePattern {
    type Err = NamePatternError;

    fn from_str(s: &str) -> Result<Self, NamePatternError> {
        // What is left without stars could be a part of a name, so that a typing error is found.
        let may_be_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_part = |c: char| may_be_name(c) || "._-/*".contains(c);
        match !s.is_empty() && s.chars().all(is_part) {
            true => Ok(Self(s.to_owned())),
            false => Err(NamePatternError(s.to_owned())),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text is what a pattern with stars means.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    // Each part where it comes first leaves most for those behind it.
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, text, wanted) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "a/b", true),
            ("*a", "ba", true),
            ("a*a", "a", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            ("a*ab", "aab", true),
            ("*/x", "a/b/x", true),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn what_no_name_can_match_is_no_pattern() {
        for wrong in ["", "A", "a:1", "a@sha256:0", "a b", "^a$"] {
            assert!(wrong.parse::<NamePattern>().is_err(), "{wrong}");
        }
        let pattern: NamePattern = "library/*".parse().unwrap();
        assert!(pattern.matches(&"library/debian".parse().unwrap()));
        assert!(!pattern.matches(&"team/library/debian".parse().unwrap()));
    }
}
