//! Names: which repository and tag an image's name means, and what a repository is called where it
//! is copied to.

use std::collections::HashMap;
use std::str::FromStr;

use wharfinger_oci::{RepositoryName, Tag};

use crate::{Error, Result};

/// One rule about names, as `--into` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamingRule {
    /// `PREFIX/`: what is put before every name, with its slash.
    Prefix(String),
    /// `NAME`: what the one repository is called, and that of images without a repository.
    Name(RepositoryName),
    /// `OLD=NEW`.
    Rename(RepositoryName, RepositoryName),
}

impl FromStr for NamingRule {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        if let Some((old, new)) = s.split_once('=') {
            return Ok(Self::Rename(parse(old)?, parse(new)?));
        }
        match s.strip_suffix('/') {
            Some(prefix) => parse(prefix).map(|_| Self::Prefix(s.to_owned())),
            None => Ok(Self::Name(parse(s)?)),
        }
    }
}

fn parse(name: &str) -> Result<RepositoryName> {
    name.parse()
        .map_err(|error: wharfinger_oci::NameError| Error::Name {
            name: name.to_owned(),
            reason: error.to_string(),
        })
}

/// What repositories are called where they are copied to.
#[derive(Clone, Debug, Default)]
pub struct Naming {
    prefix: String,
    name: Option<RepositoryName>,
    renamed: HashMap<RepositoryName, RepositoryName>,
}

impl Naming {
    /// By these rules. A repository that is renamed gets no prefix; of prefixes, and of names for
    /// the one repository, the last counts.
    pub fn of(rules: impl IntoIterator<Item = NamingRule>) -> Self {
        let mut naming = Self::default();
        for rule in rules {
            match rule {
                NamingRule::Prefix(prefix) => naming.prefix = prefix,
                NamingRule::Name(name) => naming.name = Some(name),
                NamingRule::Rename(old, new) => {
                    naming.renamed.insert(old, new);
                }
            }
        }
        naming
    }

    /// What images without a repository belong to.
    pub(crate) fn nameless(&self) -> Option<&RepositoryName> {
        self.name.as_ref()
    }

    /// What a repository is called.
    ///
    /// # Errors
    /// [`Error::Name`] when that is too long.
    pub(crate) fn apply(&self, name: &RepositoryName) -> Result<RepositoryName> {
        if let Some(new) = self.renamed.get(name) {
            return Ok(new.clone());
        }
        if let Some(new) = &self.name {
            return Ok(new.clone());
        }
        match self.prefix.as_str() {
            "" => Ok(name.clone()),
            prefix => parse(&format!("{prefix}{name}")),
        }
    }
}

/// The repository and the tag that a name of an image means, as clients write it:
/// `[host/]repository[:tag]`. The host is left away, and of Docker Hub's own images `library/` too,
/// for their users do not write it. `None` when it names no repository.
pub(crate) fn repository_and_tag(image: &str) -> Option<(RepositoryName, Option<Tag>)> {
    let image = match image.split_once('/') {
        Some((host, rest)) if host == "docker.io" || host == "index.docker.io" => {
            rest.strip_prefix("library/").unwrap_or(rest)
        }
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => image,
    };
    let image = image.split_once('@').map_or(image, |(image, _)| image);
    match image.rsplit_once(':') {
        Some((name, tag)) => Some((name.parse().ok()?, Some(tag.parse().ok()?))),
        None => Some((image.parse().ok()?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_read_as_clients_write_them() {
        for (image, wanted) in [
            (
                "docker.io/library/debian:stable",
                Some(("debian", Some("stable"))),
            ),
            ("debian:stable", Some(("debian", Some("stable")))),
            ("docker.io/a/b:1", Some(("a/b", Some("1")))),
            ("127.0.0.1:5000/a/b:1", Some(("a/b", Some("1")))),
            ("localhost/x:y", Some(("x", Some("y")))),
            ("localhost:5000/x", Some(("x", None))),
            ("a/b", Some(("a/b", None))),
            ("UPPER:1", None),
            ("<none>:<none>", None),
        ] {
            let read = repository_and_tag(image);
            let read = read
                .as_ref()
                .map(|(name, tag)| (name.as_str(), tag.as_ref().map(Tag::as_str)));
            assert_eq!(read, wanted, "{image}");
        }
    }

    #[test]
    fn repositories_are_renamed_by_rules() {
        let rules = ["backup/", "a=x/y"].map(|rule| rule.parse().unwrap());
        let naming = Naming::of(rules);
        let name = |text: &str| text.parse::<RepositoryName>().unwrap();
        assert_eq!(naming.apply(&name("a")).unwrap(), name("x/y"));
        assert_eq!(naming.apply(&name("b/c")).unwrap(), name("backup/b/c"));
        assert!(naming.apply(&name(&"b".repeat(250))).is_err());
        for wrong in ["", "/", "A", "a=", "=b", "a//"] {
            assert!(wrong.parse::<NamingRule>().is_err(), "{wrong}");
        }
    }
}
