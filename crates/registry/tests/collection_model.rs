//! Collection beside a model of it, on random registries.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use support::{name, parse, push, put, registry, tag};
use wharfinger_oci::{Digest, media_type};
use wharfinger_registry::layout::{self, Located};
use wharfinger_registry::{CollectOptions, Options, Registry, Repository};
use wharfinger_storage::{Driver, Walk};

/// Something done to one of two repositories. What it is about is picked, modulo their number,
/// from what has been pushed there.
#[derive(Clone, Debug)]
enum Act {
    Image { config: u8, layer: u8 },
    Index { of: [usize; 2] },
    Referrer { subject: usize, config: u8 },
    Blob { layer: u8 },
    Tag { tag: u8, manifest: usize },
    DeleteManifest { manifest: usize },
    DeleteTag { tag: u8 },
}

fn act() -> impl Strategy<Value = (bool, Act)> {
    let act = prop_oneof![
        4 => (0..4_u8, 0..4_u8).prop_map(|(config, layer)| Act::Image { config, layer }),
        2 => any::<[usize; 2]>().prop_map(|of| Act::Index { of }),
        2 => (any::<usize>(), 0..4_u8).prop_map(|(subject, config)| Act::Referrer { subject, config }),
        1 => (0..8_u8).prop_map(|layer| Act::Blob { layer }),
        3 => (0..3_u8, any::<usize>()).prop_map(|(tag, manifest)| Act::Tag { tag, manifest }),
        2 => any::<usize>().prop_map(|manifest| Act::DeleteManifest { manifest }),
        1 => (0..3_u8).prop_map(|tag| Act::DeleteTag { tag }),
    ];
    (any::<bool>(), act)
}

/// A manifest as the model knows it.
#[derive(Clone, Debug, Default)]
struct Known {
    media_type: &'static str,
    size: usize,
    blobs: Vec<Digest>,
    manifests: Vec<Digest>,
    subject: Option<Digest>,
}

/// What a repository holds.
#[derive(Debug, Default)]
struct Model {
    manifests: BTreeMap<Digest, Known>,
    tags: BTreeMap<u8, Digest>,
    layers: BTreeSet<Digest>,
}

impl Model {
    fn pick(&self, index: usize) -> Option<Digest> {
        let count = self.manifests.len();
        (count > 0).then(|| *self.manifests.keys().nth(index % count).unwrap())
    }

    /// The descriptor of a manifest.
    fn describe(&self, manifest: &Digest) -> String {
        let Known {
            media_type, size, ..
        } = self.manifests[manifest];
        format!(r#"{{"mediaType":"{media_type}","digest":"{manifest}","size":{size}}}"#)
    }

    /// The manifests that stay: the smallest set that has the roots, and with each of its own all
    /// that this leads to and all that have it as their subject.
    fn kept(&self, delete_untagged: bool) -> BTreeSet<Digest> {
        let there = |digest: &Digest| self.manifests.contains_key(digest);
        if !delete_untagged {
            return self.manifests.keys().copied().collect();
        }
        let mut kept: BTreeSet<Digest> = self.tags.values().copied().filter(there).collect();
        loop {
            let before = kept.len();
            for (digest, known) in &self.manifests {
                if known.subject.is_some_and(|subject| kept.contains(&subject)) {
                    kept.insert(*digest);
                }
                if kept.contains(digest) {
                    let led_to = known.manifests.iter().chain(&known.subject);
                    kept.extend(led_to.copied().filter(there));
                }
            }
            if kept.len() == before {
                return kept;
            }
        }
    }
}

async fn do_act(repository: &Repository, model: &mut Model, act: &Act) {
    match *act {
        Act::Image { config, layer } => push_image(repository, model, config, layer, None).await,
        Act::Referrer { subject, config } => {
            let Some(subject) = model.pick(subject) else {
                return;
            };
            push_image(repository, model, config, 0, Some(subject)).await;
        }
        Act::Index { of } => {
            let of: Vec<Digest> = of.iter().filter_map(|index| model.pick(*index)).collect();
            let entries: Vec<String> = of.iter().map(|digest| model.describe(digest)).collect();
            let text = format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
                media_type::OCI_IMAGE_INDEX,
                entries.join(",")
            );
            let index = parse(media_type::OCI_IMAGE_INDEX, text);
            let digest = put(repository, &index, &[]).await;
            let known = Known {
                media_type: media_type::OCI_IMAGE_INDEX,
                size: index.bytes().len(),
                manifests: of,
                ..Known::default()
            };
            model.manifests.insert(digest, known);
        }
        Act::Blob { layer } => {
            model
                .layers
                .insert(push(repository, &layer_of(layer)).await.digest);
        }
        Act::Tag {
            tag: text,
            manifest,
        } => {
            let Some(digest) = model.pick(manifest) else {
                return;
            };
            let served = repository.manifests().get(&digest).await.unwrap();
            let manifest = parse(
                &served.descriptor.media_type,
                String::from_utf8(served.bytes.to_vec()).unwrap(),
            );
            // What it refers to may have been deleted since.
            let tagged = repository
                .manifests()
                .put(&manifest, &digest, &[tag(&format!("t{text}"))])
                .await;
            if tagged.is_ok() {
                model.tags.insert(text, digest);
            }
        }
        Act::DeleteManifest { manifest } => {
            let Some(digest) = model.pick(manifest) else {
                return;
            };
            repository.manifests().delete(&digest).await.unwrap();
            model.manifests.remove(&digest);
            model.tags.retain(|_, current| *current != digest);
        }
        Act::DeleteTag { tag: text } => {
            let deleted = repository.tags().delete(&tag(&format!("t{text}"))).await;
            assert_eq!(deleted.is_ok(), model.tags.remove(&text).is_some());
        }
    }
}

async fn push_image(
    repository: &Repository,
    model: &mut Model,
    config: u8,
    layer: u8,
    subject: Option<Digest>,
) {
    let config = push(repository, &Bytes::from(format!("{{\"config\":{config}}}"))).await;
    let layer = push(repository, &layer_of(layer)).await;
    let blobs = vec![config.digest, layer.digest];
    model.layers.extend(&blobs);
    let subject_field = subject.map_or_else(String::new, |subject| {
        format!(r#","subject":{}"#, model.describe(&subject))
    });
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}",
        "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},
        "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}]
        {subject_field}}}"#,
        media_type::OCI_IMAGE_MANIFEST,
        config.digest,
        config.size,
        layer.digest,
        layer.size,
    );
    let manifest = parse(media_type::OCI_IMAGE_MANIFEST, text);
    let digest = put(repository, &manifest, &[]).await;
    let known = Known {
        media_type: media_type::OCI_IMAGE_MANIFEST,
        size: manifest.bytes().len(),
        blobs,
        subject,
        ..Known::default()
    };
    model.manifests.insert(digest, known);
}

fn layer_of(number: u8) -> Bytes {
    support::content(number, 200)
}

async fn located(driver: &Arc<dyn Driver>) -> Vec<Located> {
    let mut found = Vec::new();
    let mut walk = Walk::new(&**driver, layout::repositories().parent().unwrap());
    while let Ok(Some(entry)) = walk.next().await {
        found.extend(layout::locate(&entry.path));
    }
    found
}

async fn check(acts: Vec<(bool, Act)>, delete_untagged: bool) {
    let (registry, driver) = registry();
    let names = [name("a"), name("a/b")];
    let mut models = [Model::default(), Model::default()];
    for (which, act) in &acts {
        let which = usize::from(*which);
        let repository = registry.repository(&names[which]);
        do_act(&repository, &mut models[which], act).await;
    }
    let mut needed = BTreeSet::new();
    let mut wanted = BTreeSet::new();
    for (model, name) in models.iter().zip(&names) {
        for digest in model.kept(delete_untagged) {
            let known = &model.manifests[&digest];
            needed.insert(digest);
            needed.extend(
                known
                    .blobs
                    .iter()
                    .chain(&known.manifests)
                    .chain(&known.subject),
            );
            wanted.insert((name.clone(), digest));
        }
    }
    let stored: BTreeSet<Digest> = located(&driver)
        .await
        .into_iter()
        .filter_map(|located| match located {
            Located::BlobData(digest) => Some(digest),
            _ => None,
        })
        .collect();
    // A process of its own collects, as the command does.
    let collector = Registry::new(Arc::clone(&driver), Options::default()).unwrap();
    let options = CollectOptions {
        delete_untagged,
        ..CollectOptions::default()
    };
    collector.collect(options, |_| {}).await.unwrap();

    let mut blobs = BTreeSet::new();
    let mut manifests = BTreeSet::new();
    let mut layers = BTreeSet::new();
    for located in located(&driver).await {
        match located {
            Located::BlobData(digest) => drop(blobs.insert(digest)),
            Located::RevisionLink(name, digest) => drop(manifests.insert((name, digest))),
            Located::LayerLink(name, digest) => drop(layers.insert((name, digest))),
            _ => {}
        }
    }
    assert_eq!(manifests, wanted);
    assert_eq!(blobs, &stored & &needed);
    let linked = models.iter().zip(&names).flat_map(|(model, name)| {
        let layers = model.layers.iter().filter(|layer| needed.contains(layer));
        layers.map(|layer| (name.clone(), *layer))
    });
    assert_eq!(layers, linked.collect());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn just_what_is_needed_stays(
        acts in prop::collection::vec(act(), 0..40),
        delete_untagged: bool,
    ) {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(check(acts, delete_untagged));
    }
}
