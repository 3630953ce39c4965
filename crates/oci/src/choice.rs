//! Which repositories and tags are meant.

use std::fmt;
use std::str::FromStr;

use crate::{RepositoryName, Tag};
use thiserror::Error;

/// A pattern is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no repository: NAME, NAME:TAG, or a pattern of these in which * stands for any \
     characters"
)]
pub struct PatternError(String);

/// Repositories, or tags in them: `NAME` or `NAME:TAG`, in which `*` stands for any characters,
/// slashes too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    repository: String,
    tag: Option<String>,
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        match &self.tag {
            Some(tag) => write!(f, ":{tag}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(s: &str) -> Result<Self, PatternError> {
        let (repository, tag) = match s.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (s, None),
        };
        // What is left without stars could be a part of a name, so that a typing error is found.
        let may_be_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_name = |c: char| may_be_name(c) || "._-/*".contains(c);
        let is_tag = |c: char| c.is_ascii_alphanumeric() || "._-*".contains(c);
        let is_valid = !repository.is_empty()
            && repository.chars().all(is_name)
            && tag.is_none_or(|tag| !tag.is_empty() && tag.chars().all(is_tag));
        match is_valid {
            true => Ok(Self {
                repository: repository.to_owned(),
                tag: tag.map(str::to_owned),
            }),
            false => Err(PatternError(s.to_owned())),
        }
    }
}

/// What is meant: everything, or what one of some patterns means.
#[derive(Clone, Debug, Default)]
pub struct Choice(Vec<Pattern>);

impl Choice {
    /// What one of these means; everything where there are none.
    pub fn of(patterns: Vec<Pattern>) -> Self {
        Self(patterns)
    }

    /// Whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether anything of a repository may be wanted.
    pub fn has(&self, name: &RepositoryName) -> bool {
        self.is_everything() || self.of_repository(name).next().is_some()
    }

    /// Whether all of a repository is wanted, its untagged manifests too.
    pub fn has_all_of(&self, name: &RepositoryName) -> bool {
        self.is_everything()
            || self
                .of_repository(name)
                .any(|pattern| pattern.tag.is_none())
    }

    /// Whether a tag of a repository is wanted.
    pub fn has_tag(&self, name: &RepositoryName, tag: &Tag) -> bool {
        self.has_all_of(name)
            || self
                .of_repository(name)
                .filter_map(|pattern| pattern.tag.as_deref())
                .any(|wanted| matches(wanted, tag.as_str()))
    }

    /// The patterns that mean none of these repositories and tags.
    pub fn unmatched<'a>(
        &'a self,
        met: &'a [(RepositoryName, Vec<Tag>)],
    ) -> impl Iterator<Item = &'a Pattern> {
        self.0.iter().filter(|pattern| {
            !met.iter().any(|(name, tags)| {
                matches(&pattern.repository, name.as_str())
                    && pattern
                        .tag
                        .as_deref()
                        .is_none_or(|wanted| tags.iter().any(|tag| matches(wanted, tag.as_str())))
            })
        })
    }

    fn of_repository(&self, name: &RepositoryName) -> impl Iterator<Item = &Pattern> {
        self.0
            .iter()
            .filter(|pattern| matches(&pattern.repository, name.as_str()))
    }
}

/// Whether a text is what a pattern with stars means.
fn matches(pattern: &str, text: &str) -> bool {
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
    fn a_choice_is_of_repositories_or_tags() {
        let patterns = ["a/*", "b:v1.*", "b:latest"].map(|text| text.parse().unwrap());
        let choice = Choice::of(patterns.to_vec());
        let name = |text: &str| text.parse().unwrap();
        assert!(choice.has_all_of(&name("a/x")) && !choice.has(&name("a")));
        assert!(choice.has(&name("b")) && !choice.has_all_of(&name("b")));
        for (tag, wanted) in [("v1.2", true), ("latest", true), ("v2", false)] {
            assert_eq!(choice.has_tag(&name("b"), &tag.parse().unwrap()), wanted);
        }
        let met = [(name("b"), vec!["v1.0".parse().unwrap()])];
        let unmatched = choice.unmatched(&met).map(Pattern::to_string);
        assert!(unmatched.eq(["a/*", "b:latest"]));
        for wrong in ["", ":x", "a:", "A", "a@sha256:0", "a b"] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
    }
}
