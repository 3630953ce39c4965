//! The files of a small image, written by a program that does nothing else: what the layout and the
//! disk leave of a push when nothing is received, hashed or answered.
//!
//! As a registry must, it syncs all contents and the folders that were made for them before the first
//! name, the bytes' name before the link's, and a link's before a tag's.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::error::{Context, Result};
use crate::fixture::noise;
use crate::push::{SMALL_LAYER, SMALL_LAYERS, at_once};

/// How many images are written at a time, and how many new tags.
const COUNT: usize = 10;

/// How what has no order is synced.
#[derive(Clone, Copy, Debug)]
enum Syncing {
    InTurn,
    /// By as many threads, whose waits a disk may answer together.
    AtOnce,
}

/// Images per second, the way that is faster on this disk.
///
/// # Errors
/// When the disk fails.
pub fn images(folder: &Path, clients: usize) -> Result<f64> {
    faster(folder, |store, syncing| {
        let work = &|client: usize| {
            let repository = store.join(format!("repositories/{client}"));
            (0..COUNT).try_for_each(|n| {
                for layer in 0..=SMALL_LAYERS {
                    let name = format!("{client:02x}{n:02x}{layer:02x}");
                    let link = repository.join(format!("_layers/sha256/{name}/link"));
                    publish(&[&[blob(store, &name)], &[link]], syncing)?;
                }
                let name = format!("{client:02x}{n:02x}ff");
                let revisions = repository.join("_manifests/revisions/sha256");
                let revision = revisions.join(&name).join("link");
                let tag = tag(&repository, &n.to_string(), &name);
                publish(&[&[blob(store, &name)], &[revision], &tag], syncing)
            })
        };
        at_once((0..clients).map(|client| move || work(client)))?;
        Ok(clients * COUNT)
    })
}

/// New tags per second of a manifest that is there, the way that is faster on this disk.
///
/// # Errors
/// When the disk fails.
pub fn tags(folder: &Path) -> Result<f64> {
    faster(folder, |store, syncing| {
        for n in 0..10 * COUNT {
            publish(&[&tag(store, &n.to_string(), "manifest")], syncing)?;
        }
        Ok(10 * COUNT)
    })
}

fn blob(store: &Path, name: &str) -> PathBuf {
    let (_, first) = name.split_at(name.len() - 2);
    store.join(format!("blobs/sha256/{first}/{name}/data"))
}

fn tag(repository: &Path, tag: &str, manifest: &str) -> [PathBuf; 2] {
    let tag = repository.join("_manifests/tags").join(tag);
    let index = tag.join("index/sha256").join(manifest).join("link");
    [tag.join("current/link"), index]
}

/// How many of what `work` counts are done per second.
fn faster(folder: &Path, work: impl Fn(&Path, Syncing) -> Result<usize>) -> Result<f64> {
    let mut best = 0.0_f64;
    for syncing in [Syncing::InTurn, Syncing::AtOnce] {
        let store = folder.join("by-hand");
        fs::create_dir(&store).context("make a folder")?;
        rustix::fs::sync();
        let begun = Instant::now();
        let count = work(&store, syncing)?;
        best = best.max(count as f64 / begun.elapsed().as_secs_f64());
        fs::remove_dir_all(&store).context("remove a folder")?;
    }
    Ok(best)
}

/// Writes files that get their names step by step.
fn publish(steps: &[&[PathBuf]], syncing: Syncing) -> Result<()> {
    let bytes = noise(9, SMALL_LAYER);
    let mut written = BTreeSet::new();
    for path in steps.iter().copied().flatten() {
        let made = path.ancestors().skip(1).take_while(|above| !above.exists());
        written.extend(made.filter_map(|above| above.parent().map(Path::to_owned)));
        if let Some(above) = path.parent() {
            fs::create_dir_all(above).context("make a folder")?;
        }
        let is_link = path.ends_with("link");
        let bytes = if is_link { &bytes[..71] } else { &bytes[..] };
        let unnamed = path.with_extension("new");
        fs::write(&unnamed, bytes).context("write a file")?;
        written.insert(unnamed);
    }
    sync(&written, syncing)?;
    for step in steps {
        let mut named = BTreeSet::new();
        for path in *step {
            fs::rename(path.with_extension("new"), path).context("name a file")?;
            named.extend(path.parent().map(Path::to_owned));
        }
        sync(&named, syncing)?;
    }
    Ok(())
}

fn sync(paths: &BTreeSet<PathBuf>, syncing: Syncing) -> Result<()> {
    let sync = &|path: &Path| {
        let file = File::open(path).context("open a file")?;
        file.sync_all().context("sync a file")
    };
    match syncing {
        Syncing::InTurn => paths.iter().try_for_each(|path| sync(path)),
        Syncing::AtOnce => at_once(paths.iter().map(|path| move || sync(path))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_have_their_names_in_the_end() {
        let folder = tempfile::TempDir::new().unwrap();
        let store = folder.path();
        let name = "0a0b0c";
        let tag = tag(store, "latest", name);
        for syncing in [Syncing::InTurn, Syncing::AtOnce] {
            publish(&[&[blob(store, name)], &tag], syncing).unwrap();
            assert_eq!(fs::read(blob(store, name)).unwrap().len(), SMALL_LAYER);
            for link in &tag {
                assert_eq!(fs::read(link).unwrap().len(), 71);
                let beside = fs::read_dir(link.parent().unwrap()).unwrap();
                assert_eq!(beside.count(), 1);
            }
        }
        assert!(blob(store, name).ends_with("sha256/0c/0a0b0c/data"));
    }
}
