//! What clients push: a bounded number of blobs and manifests, known by their numbers.

use std::sync::OnceLock;

use serde_json::json;

use crate::image::{INDEX, MANIFEST, descriptor, manifest};
use crate::{digest, noise};

/// How many blobs there are.
pub const BLOBS: usize = 40;

/// How many manifests there are.
pub const MANIFESTS: usize = 45;

/// A blob.
#[derive(Debug)]
pub struct Blob {
    /// Its content.
    pub bytes: Vec<u8>,
    /// The digest of that.
    pub digest: String,
}

/// A manifest.
#[derive(Debug)]
pub struct Manifest {
    /// Its media type.
    pub media_type: &'static str,
    /// Its content.
    pub bytes: Vec<u8>,
    /// The digest of that.
    pub digest: String,
    /// The blobs that it mentions.
    pub blobs: Vec<usize>,
    /// The manifests that it mentions, which must be there before it.
    pub children: Vec<usize>,
    /// The manifest that it is about.
    pub subject: Option<usize>,
}

/// A blob by its number. Every fourth is long enough to be written to a file and moved.
pub fn blob(number: usize) -> &'static Blob {
    static ALL: OnceLock<Vec<Blob>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let make = |number: usize| {
            let length = match number % 4 {
                0 => 70_000 + 5_000 * number,
                _ => 20 + 150 * number,
            };
            let bytes = noise(7_000 + number as u64, length);
            let digest = digest(&bytes);
            Blob { bytes, digest }
        };
        (0..BLOBS).map(make).collect()
    });
    &all[number]
}

/// A manifest by its number: of three, one is an image, one an index of two images, one an image
/// that is about another.
pub fn manifest_of(number: usize) -> &'static Manifest {
    static ALL: OnceLock<Vec<Manifest>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let mut all: Vec<Manifest> = Vec::new();
        for number in 0..MANIFESTS {
            let made = make(number, &all);
            all.push(made);
        }
        all
    });
    &all[number]
}

fn make(number: usize, before: &[Manifest]) -> Manifest {
    let blobs = [(number * 7) % BLOBS, (number * 11 + 3) % BLOBS];
    let bytes = manifest(&blob(blobs[0]).bytes, &[&blob(blobs[1]).bytes]);
    let made = |media_type, bytes: Vec<u8>| Manifest {
        media_type,
        digest: digest(&bytes),
        bytes,
        blobs: Vec::new(),
        children: Vec::new(),
        subject: None,
    };
    let blobs = blobs.to_vec();
    match number % 3 {
        1 if number > 3 => {
            let children = vec![number - 1, number - 4];
            let of = children.iter().map(|child| {
                let child = &before[*child];
                descriptor(child.media_type, &child.bytes)
            });
            let index = json!({
                "schemaVersion": 2, "mediaType": INDEX, "manifests": of.collect::<Vec<_>>(),
            });
            Manifest {
                children,
                ..made(INDEX, index.to_string().into_bytes())
            }
        }
        2 => {
            let subject = number - 2;
            let about = &before[subject];
            let mut image: serde_json::Value =
                serde_json::from_slice(&bytes).expect("it was just written");
            image["artifactType"] = json!("application/x.signature");
            image["subject"] = descriptor(about.media_type, &about.bytes);
            Manifest {
                blobs,
                subject: Some(subject),
                ..made(MANIFEST, image.to_string().into_bytes())
            }
        }
        _ => Manifest {
            blobs,
            ..made(MANIFEST, bytes)
        },
    }
}
