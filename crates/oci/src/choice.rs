//! Which repositories and tags are meant.

use std::fmt;
use std::str::FromStr;

use crate::pattern::matches;
use crate::{NamePattern, RepositoryName, Tag};
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
    repository: NamePattern,
    tag: Option<String>,
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
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
        let is_tag = |c: char| c.is_ascii_alphanumeric() || "._-*".contains(c);
        let is_valid = tag.is_none_or(|tag| !tag.is_empty() && tag.chars().all(is_tag));
        match repository.parse() {
            Ok(repository) if is_valid => Ok(Self {
                repository,
                tag: tag.map(str::to_owned),
            }),
            _ => Err(PatternError(s.to_owned())),
        }
    }
}

impl Pattern {
    /// The tag, or the pattern of tags, where it means no whole repositories.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Whether it means this repository, or something in it.
    pub fn has(&self, name: &RepositoryName) -> bool {
        self.repository.matches(name)
    }

    /// Whether it means this tag of a repository that it means something in.
    pub fn has_tag(&self, tag: &Tag) -> bool {
        let wanted = self.tag.as_deref();
        wanted.is_none_or(|wanted| matches(wanted, tag.as_str()))
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
        self.is_everything() || self.of_repository(name).any(|pattern| pattern.has_tag(tag))
    }

    /// The patterns that mean none of these repositories and tags.
    pub fn unmatched<'a>(
        &'a self,
        met: &'a [(RepositoryName, Vec<Tag>)],
    ) -> impl Iterator<Item = &'a Pattern> {
        self.0.iter().filter(|pattern| {
            !met.iter().any(|(name, tags)| {
                pattern.has(name)
                    && (pattern.tag.is_none() || tags.iter().any(|tag| pattern.has_tag(tag)))
            })
        })
    }

    /// The patterns that mean a repository, or something in it.
    pub fn of_repository(&self, name: &RepositoryName) -> impl Iterator<Item = &Pattern> {
        self.0.iter().filter(|pattern| pattern.has(name))
    }

    /// The repositories that are named in full, and whether others may be meant.
    pub fn names(&self) -> (Vec<RepositoryName>, bool) {
        let names = self.0.iter().map(|one| one.repository.to_string().parse());
        let names: Vec<Option<RepositoryName>> = names.map(Result::ok).collect();
        let others = self.is_everything() || names.contains(&None);
        (names.into_iter().flatten().collect(), others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
