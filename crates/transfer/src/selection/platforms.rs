//! Which of an index's images are wanted.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;
use wharfinger_oci::Digest;
use wharfinger_oci::manifest::Manifest;

/// The annotation by which BuildKit says of which image something is an attestation.
const ATTESTED: &str = "vnd.docker.reference.digest";

/// A platform is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no platform; write it like linux/amd64 or linux/arm64/v8")]
pub struct PlatformError(String);

/// For what an image is made (OCI image specification, "Image Index", `platform`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(s: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = s.split('/').collect();
        let is_word = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        match parts[..] {
            [os, architecture, ref rest @ ..] if rest.len() < 2 && parts.iter().all(is_word) => {
                Ok(Self {
                    os: os.to_owned(),
                    architecture: architecture.to_owned(),
                    variant: rest.first().map(|&variant| variant.to_owned()),
                })
            }
            _ => Err(PlatformError(s.to_owned())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Child>,
}

#[derive(Deserialize)]
struct Child {
    digest: Digest,
    platform: Option<ChildPlatform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct ChildPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl Platform {
    fn has(&self, other: &ChildPlatform) -> bool {
        let variant = match (self.architecture.as_str(), other.variant.as_str()) {
            // It has no other, and is often written without it.
            ("arm64", "") => "v8",
            (_, variant) => variant,
        };
        self.os == other.os
            && self.architecture == other.architecture
            && self.variant.as_deref().is_none_or(|it| it == variant)
    }
}

impl Child {
    /// What is for no platform: other things than images.
    fn is_for_none(&self) -> bool {
        self.platform
            .as_ref()
            .is_none_or(|it| it.os == "unknown" || it.os.is_empty())
    }
}

/// The manifests in an index that are for one of these platforms or for none, attestations of the
/// former among them; `None` where all are, or where it is no index. Where it is one that has
/// images, but none for these platforms, nothing is left.
pub(super) fn chosen(platforms: &[Platform], manifest: &Manifest) -> Option<HashSet<Digest>> {
    if platforms.is_empty() {
        return None;
    }
    let index: Index = serde_json::from_slice(manifest.bytes()).ok()?;
    let is_wanted = |child: &&Child| {
        let of = child.platform.as_ref();
        of.is_some_and(|of| platforms.iter().any(|one| one.has(of)))
    };
    let mut wanted: HashSet<Digest> = index
        .manifests
        .iter()
        .filter(is_wanted)
        .map(|child| child.digest)
        .collect();
    if wanted.is_empty() && !index.manifests.iter().all(Child::is_for_none) {
        return Some(wanted);
    }
    let others = index.manifests.iter().filter(|child| {
        let of = child.annotations.get(ATTESTED);
        child.is_for_none()
            && of.is_none_or(|of| of.parse().is_ok_and(|digest| wanted.contains(&digest)))
    });
    let others: Vec<Digest> = others.map(|child| child.digest).collect();
    wanted.extend(others);
    Some(wanted)
}

#[cfg(test)]
mod tests {
    use wharfinger_oci::media_type;

    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::canonical(text.as_bytes())
    }

    fn index(children: &[(&str, &str)]) -> Manifest {
        let children: Vec<String> = children
            .iter()
            .map(|(name, more)| {
                let (media_type, digest) = (media_type::OCI_IMAGE_MANIFEST, digest(name));
                format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":1{more}}}"#)
            })
            .collect();
        let media_type = media_type::OCI_IMAGE_INDEX;
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{}]}}"#,
            children.join(",")
        );
        Manifest::parse(Some(media_type), text.into()).unwrap()
    }

    #[test]
    fn what_is_for_the_platforms_is_chosen_with_its_attestations() {
        let attests = |name: &str| {
            format!(
                r#","platform":{{"os":"unknown","architecture":"unknown"}},
                "annotations":{{"{ATTESTED}":"{}"}}"#,
                digest(name)
            )
        };
        let of = |os: &str, architecture: &str, variant: &str| {
            format!(
                r#","platform":{{"os":"{os}","architecture":"{architecture}"{}}}"#,
                match variant {
                    "" => String::new(),
                    variant => format!(r#","variant":"{variant}""#),
                }
            )
        };
        let all = index(&[
            ("amd", &of("linux", "amd64", "")),
            ("arm", &of("linux", "arm64", "")),
            ("v6", &of("linux", "arm", "v6")),
            ("v7", &of("linux", "arm", "v7")),
            ("of amd", &attests("amd")),
            ("of v6", &attests("v6")),
            ("artifact", ""),
        ]);
        for (platforms, wanted) in [
            ("linux/amd64", vec!["amd", "of amd", "artifact"]),
            ("linux/arm64/v8", vec!["arm", "artifact"]),
            ("linux/arm", vec!["v6", "v7", "of v6", "artifact"]),
            ("linux/arm/v7", vec!["v7", "artifact"]),
            (
                "linux/amd64 linux/arm64",
                vec!["amd", "arm", "of amd", "artifact"],
            ),
            ("windows/amd64", vec![]),
        ] {
            let parsed: Vec<Platform> = platforms.split(' ').map(|p| p.parse().unwrap()).collect();
            let wanted: HashSet<Digest> = wanted.into_iter().map(digest).collect();
            assert_eq!(chosen(&parsed, &all), Some(wanted), "{platforms}");
        }
        assert_eq!(chosen(&[], &all), None);
        let artifacts = index(&[("artifact", "")]);
        let amd64 = ["linux/amd64".parse().unwrap()];
        let wanted = HashSet::from([digest("artifact")]);
        assert_eq!(chosen(&amd64, &artifacts), Some(wanted));
        for wrong in ["linux", "linux/", "a/b/c/d", "/amd64", "linux/amd 64"] {
            assert!(wrong.parse::<Platform>().is_err(), "{wrong}");
        }
    }
}
