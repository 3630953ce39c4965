//! Which digests a stored manifest mentions, read so leniently that none can be missed: what
//! collection must not remove.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::ManifestError;
use crate::Digest;

/// The digests that a manifest mentions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mentions {
    /// All of them, at any depth, under any key that holds digests; the subject's too.
    pub digests: Vec<Digest>,
    /// Those of its subject.
    pub subjects: Vec<Digest>,
}

/// Reads a manifest of any kind, also one that is too odd to be pushed today.
///
/// # Errors
/// [`ManifestError::Invalid`] when it is no JSON, or mentions a digest of an algorithm that is not
/// known here: then there may be content that it needs and that cannot be found.
pub fn mentions(bytes: &[u8]) -> Result<Mentions, ManifestError> {
    let mut found = Mentions::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    Inside {
        found: &mut found,
        of_subject: false,
        depth: 0,
    }
    .deserialize(&mut deserializer)
    .map_err(super::invalid)?;
    deserializer.end().map_err(super::invalid)?;
    Ok(found)
}

/// Where in the manifest the reading is.
struct Inside<'a> {
    found: &'a mut Mentions,
    of_subject: bool,
    depth: usize,
}

impl Inside<'_> {
    /// One level deeper, in the subject or where this is.
    fn below(&mut self, is_subject: bool) -> Inside<'_> {
        Inside {
            found: self.found,
            of_subject: self.of_subject || is_subject,
            depth: self.depth + 1,
        }
    }

    fn note<E: Error>(&mut self, text: &str) -> Result<(), E> {
        match text.parse() {
            Ok(digest) => {
                self.found.digests.push(digest);
                if self.of_subject {
                    self.found.subjects.push(digest);
                }
                Ok(())
            }
            Err(_) if looks_like_a_digest(text) => Err(E::custom(format_args!(
                "the digest {text} is of an algorithm that is not known"
            ))),
            Err(_) => Ok(()),
        }
    }
}

/// Whether a text has a digest's form (OCI image specification, "Digests"), of whatever algorithm.
fn looks_like_a_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, encoded)| {
        let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"+._-".contains(&c);
        !algorithm.is_empty()
            && algorithm.bytes().all(word)
            && !matches!(algorithm, "sha256" | "sha512")
            && encoded.len() >= 32
            && encoded
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || b"=_-".contains(&c))
    })
}

impl<'de> DeserializeSeed<'de> for Inside<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Inside<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut values: A) -> Result<(), A::Error> {
        while values.next_element_seed(self.below(false))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        while let Some(key) = entries.next_key::<String>()? {
            match key.as_str() {
                "digest" | "blobSum" => {
                    let value: serde_json::Value = entries.next_value()?;
                    match value.as_str() {
                        Some(text) => self.note(text)?,
                        None => self
                            .below(false)
                            .deserialize(value)
                            .map_err(A::Error::custom)?,
                    }
                }
                // What a container ran with names no content.
                "v1Compatibility" => {
                    entries.next_value::<IgnoredAny>()?;
                }
                _ => {
                    let is_subject = self.depth == 0 && key == "subject";
                    entries.next_value_seed(self.below(is_subject))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_generation_tells_all_it_needs() {
        let digest = |text: &str| Digest::canonical(text.as_bytes());
        let [a, b, c] = ["a", "b", "c"].map(digest);
        let image = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{a}","size":1}},"layers":[{{"digest":"{b}"}}],
               "subject":{{"digest":"{c}"}},"annotations":{{"digest":"none","x":"{c}"}}}}"#
        );
        let found = mentions(image.as_bytes()).unwrap();
        assert_eq!(found.digests, [a, b, c]);
        assert_eq!(found.subjects, [c]);
        let index = format!(r#"{{"manifests":[{{"digest":"{a}"}},{{"digest":"{b}"}}]}}"#);
        assert_eq!(mentions(index.as_bytes()).unwrap().digests, [a, b]);
        let schema1 = format!(
            r#"{{"fsLayers":[{{"blobSum":"{c}"}}],"history":[{{"v1Compatibility":"{{}}"}}]}}"#
        );
        assert_eq!(mentions(schema1.as_bytes()).unwrap().digests, [c]);
        let artifact = format!(r#"{{"blobs":[{{"digest":"{b}"}}]}}"#);
        assert_eq!(mentions(artifact.as_bytes()).unwrap().digests, [b]);
        // Two clients could read this differently: whatever either of them needs stays.
        let twice = format!(r#"{{"config":{{"digest":"{a}"}},"config":{{"digest":"{b}"}}}}"#);
        assert_eq!(mentions(twice.as_bytes()).unwrap().digests, [a, b]);
    }

    #[test]
    fn what_cannot_be_understood_is_an_error() {
        assert!(mentions(b"not json").is_err());
        assert!(mentions(b"{} {}").is_err());
        let sha384 = format!(r#"{{"config":{{"digest":"sha384:{}"}}}}"#, "0".repeat(96));
        let error = mentions(sha384.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("sha384"), "{error}");
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(mentions(deep.as_bytes()).is_err());
    }
}
