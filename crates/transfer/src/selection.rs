//! Which images are copied: of what was chosen, what lies within limits.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use wharfinger_oci::manifest::Manifest;
use wharfinger_oci::{Choice, Digest, Pattern, RepositoryName, Tag};

mod platforms;
mod versions;

pub use platforms::{Platform, PlatformError};
use versions::TagVersion;
pub use versions::{RangeError, Versions};

/// What is to be copied.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    choice: Choice,
    limits: Option<Limits>,
}

/// What of that is left away. Only what tags lead to is copied then.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// What is not copied.
    pub exclude: Vec<Pattern>,
    /// Of which versions tags must be that are not named in full.
    pub versions: Option<Versions>,
    /// How many versions of them at most, the highest ones.
    pub newest: Option<NonZeroUsize>,
    /// The platforms of which an index's images are wanted; all where there are none.
    pub platforms: Vec<Platform>,
    /// Whether what refers to an image comes along: signatures and the like.
    pub referrers: bool,
}

impl From<Choice> for Selection {
    fn from(choice: Choice) -> Self {
        Self {
            choice,
            limits: None,
        }
    }
}

impl Selection {
    /// What one of these means, within limits.
    pub fn within(patterns: Vec<Pattern>, limits: Limits) -> Self {
        Self {
            choice: Choice::of(patterns),
            limits: Some(limits),
        }
    }

    /// What was chosen, whatever the limits are.
    pub(crate) fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Whether what refers to an image that has a tag comes along.
    pub(crate) fn has_referrers(&self) -> bool {
        self.limits.as_ref().is_none_or(|limits| limits.referrers)
    }

    /// Whether anything of a repository may be wanted.
    pub(crate) fn has(&self, name: &RepositoryName) -> bool {
        let is_excluded = self.excluding(name).any(|pattern| pattern.tag().is_none());
        !is_excluded && self.choice.has(name)
    }

    /// Those of a repository's tags that are wanted, in their order.
    pub(crate) fn select(&self, name: &RepositoryName, mut tags: Vec<Tag>) -> Vec<Tag> {
        let newest = self.limits.as_ref().and_then(|limits| limits.newest);
        let mut least = None;
        if let Some(newest) = newest {
            let mut versions: Vec<[u64; 3]> = tags
                .iter()
                .filter(|tag| self.has_tag(name, tag) && self.has_by_pattern(name, tag))
                .filter_map(|tag| TagVersion::of(tag).map(|version| version.numbers))
                .collect();
            versions.sort_unstable_by(|a, b| b.cmp(a));
            versions.dedup();
            versions.truncate(newest.get());
            least = versions.pop();
        }
        let is_new = |tag: &Tag| {
            newest.is_none()
                || TagVersion::of(tag)
                    .zip(least)
                    .is_some_and(|(version, least)| version.numbers >= least)
        };
        tags.retain(|tag| {
            self.has_tag(name, tag)
                && (self.has_by_name(name, tag) || (self.has_by_pattern(name, tag) && is_new(tag)))
        });
        tags
    }

    /// Whether a tag would be wanted, whatever others there are.
    pub(crate) fn has_tag(&self, name: &RepositoryName, tag: &Tag) -> bool {
        let is_excluded = self.excluding(name).any(|pattern| pattern.has_tag(tag));
        !is_excluded && (self.has_by_name(name, tag) || self.has_by_pattern(name, tag))
    }

    /// Whether a tag is named in full.
    fn has_by_name(&self, name: &RepositoryName, tag: &Tag) -> bool {
        self.choice
            .of_repository(name)
            .any(|pattern| pattern.tag() == Some(tag.as_str()))
    }

    fn has_by_pattern(&self, name: &RepositoryName, tag: &Tag) -> bool {
        let limits = self.limits.as_ref();
        let versions = limits.and_then(|limits| limits.versions.as_ref());
        let any = versions.is_none() && limits.is_none_or(|limits| limits.newest.is_none());
        let in_range = |with_variants| match (versions, TagVersion::of(tag)) {
            _ if any => true,
            (Some(versions), Some(version)) => versions.have(&version, with_variants),
            (None, Some(version)) => with_variants || version.suffix.is_none(),
            (_, None) => false,
        };
        if self.choice.is_everything() {
            return in_range(false);
        }
        self.choice
            .of_repository(name)
            .filter(|pattern| pattern.has_tag(tag))
            .any(|pattern| in_range(asks_for_variants(pattern)))
    }

    /// The manifests in an index that are wanted; `None` where all are.
    pub(crate) fn chosen_of(&self, manifest: &Manifest) -> Option<HashSet<Digest>> {
        platforms::chosen(&self.limits.as_ref()?.platforms, manifest)
    }

    /// Whether all of a repository is wanted, its untagged manifests too.
    pub(crate) fn has_all_of(&self, name: &RepositoryName) -> bool {
        self.limits.is_none() && self.choice.has_all_of(name)
    }

    fn excluding(&self, name: &RepositoryName) -> impl Iterator<Item = &Pattern> {
        let limits = self.limits.iter();
        limits
            .flat_map(|limits| &limits.exclude)
            .filter(|pattern| pattern.has(name))
    }
}

/// Whether a pattern means tags that tell more than numbers behind a hyphen.
fn asks_for_variants(pattern: &Pattern) -> bool {
    pattern.tag().is_some_and(|tag| tag.contains('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tags of `a` that are chosen.
    fn selected(patterns: &[&str], limits: Limits, tags: &str) -> String {
        let patterns = patterns.iter().map(|text| text.parse().unwrap()).collect();
        let choice = Selection::within(patterns, limits);
        let tags = tags.split(' ').map(|text| text.parse().unwrap()).collect();
        let chosen = choice.select(&"a".parse().unwrap(), tags);
        let chosen: Vec<&str> = chosen.iter().map(Tag::as_str).collect();
        chosen.join(" ")
    }

    #[test]
    fn tags_are_chosen_by_version_number_and_name() {
        let tags = "1.20.0 1.21.0 1.21.1 1.22.0 1.22.0-alpine 2.0.0-rc.1 latest stable";
        let versions = |range: &str| Limits {
            versions: Some(range.parse().unwrap()),
            ..Limits::default()
        };
        let newest = |number| Limits {
            newest: NonZeroUsize::new(number),
            ..versions("^1.21")
        };
        let exclude = |text: &str| Limits {
            exclude: vec![text.parse().unwrap()],
            ..versions("^1.21")
        };
        for (patterns, limits, wanted) in [
            (&["a"][..], Limits::default(), tags),
            (&["a"], versions("^1.21"), "1.21.0 1.21.1 1.22.0"),
            (&["a:*"], versions("^1.21"), "1.21.0 1.21.1 1.22.0"),
            (&["a:*-alpine"], versions("^1.21"), "1.22.0-alpine"),
            (
                &["a", "a:latest"],
                versions("^1.21"),
                "1.21.0 1.21.1 1.22.0 latest",
            ),
            (&["a:1.20.0"], versions("^1.21"), "1.20.0"),
            (&["a"], newest(2), "1.21.1 1.22.0"),
            (
                &["a", "a:*-alpine", "a:1.20.0"],
                newest(1),
                "1.20.0 1.22.0 1.22.0-alpine",
            ),
            (&["a"], exclude("*:1.21.*"), "1.22.0"),
            (&["a", "a:latest"], exclude("a:l*"), "1.21.0 1.21.1 1.22.0"),
            (&["b"], Limits::default(), ""),
        ] {
            assert_eq!(selected(patterns, limits, tags), wanted, "{patterns:?}");
        }
        // Without a range the highest versions are chosen of all.
        let newest = Limits {
            newest: NonZeroUsize::new(1),
            ..Limits::default()
        };
        assert_eq!(selected(&["a"], newest, tags), "1.22.0");
    }

    #[test]
    fn what_is_excluded_as_a_whole_is_not_looked_at() {
        let limits = Limits {
            exclude: vec!["a/secret".parse().unwrap(), "a/b:old".parse().unwrap()],
            ..Limits::default()
        };
        let choice = Selection::within(vec!["a/*".parse().unwrap()], limits);
        let has = |name: &str| choice.has(&name.parse().unwrap());
        assert!(has("a/b") && !has("a/secret") && !has("b"));
        assert_eq!(choice.choice().names(), (vec![], true));
        let named = Choice::of(vec!["a/b:1".parse().unwrap()]);
        assert_eq!(named.names(), (vec!["a/b".parse().unwrap()], false));
    }
}
