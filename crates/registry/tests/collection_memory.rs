//! What a collection takes of memory, on a store that is large and not there: the listings and the
//! manifests of its driver are worked out when they are asked for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::fs::File;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use wharfinger_oci::{Algorithm, Digest};
use wharfinger_registry::layout::{self, Located};
use wharfinger_registry::{CollectOptions, CollectReport, Options, Registry};
use wharfinger_storage::{
    Claim, ClaimError, Claimed, Driver, Durability, Entry, Error, Fetch, MemoryDriver, Reader,
    Result, Stat, StoragePath, WriteMode, Writer,
};

/// Counts what is in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: it passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let in_use = IN_USE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(in_use, Relaxed);
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One blob in this many is garbage.
const GARBAGE: u64 = 20;

/// A store with so many blobs, in so many repositories, each of which has one manifest that
/// mentions what is not garbage of it.
#[derive(Debug)]
struct Simulated {
    blobs: u64,
    repositories: u64,
    manifests: HashMap<Digest, u64>,
    by_repository: Vec<Digest>,
    /// What collections tell others.
    rest: MemoryDriver,
}

impl Simulated {
    fn new(blobs: u64, repositories: u64) -> Self {
        let mut this = Self {
            blobs,
            repositories,
            manifests: HashMap::new(),
            by_repository: Vec::new(),
            rest: MemoryDriver::new(),
        };
        for repository in 0..repositories {
            let digest = Digest::canonical(this.manifest(repository).as_bytes());
            this.manifests.insert(digest, repository);
            this.by_repository.push(digest);
        }
        this
    }

    /// How far apart the first 64 bits of neighbours are.
    fn gap(&self) -> u64 {
        u64::MAX / self.blobs
    }

    /// The blobs' digests rise with their numbers, and are spread as real ones are.
    fn digest(&self, blob: u64) -> Digest {
        let mixed = blob.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (blob >> 7);
        let first = blob * self.gap() + mixed % self.gap();
        let mut raw = [0; 32];
        raw[..8].copy_from_slice(&first.to_be_bytes());
        raw[8..16].copy_from_slice(&blob.to_be_bytes());
        Digest::from_raw(Algorithm::Sha256, &raw).unwrap()
    }

    fn of(&self, repository: u64) -> impl Iterator<Item = u64> {
        (repository..self.blobs).step_by(self.repositories as usize)
    }

    fn manifest(&self, repository: u64) -> String {
        let needed = self.of(repository).filter(|blob| blob % GARBAGE != 0);
        let layers = needed.map(|blob| format!(r#"{{"digest":"{}"}}"#, self.digest(blob)));
        let layers: Vec<_> = layers.collect();
        format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, layers.join(","))
    }

    fn repository(&self, name: &str) -> Option<u64> {
        name.parse()
            .ok()
            .filter(|number| *number < self.repositories)
    }

    /// The blobs whose digests begin with this byte, behind one of them.
    fn shard(&self, first: u8, after: Option<&str>, limit: usize) -> Vec<Entry> {
        let start = match after {
            Some(hex) => u64::from_str_radix(&hex[16..32], 16).unwrap() + 1,
            None => (u64::from(first) << 56) / self.gap(),
        };
        let digests = (start..self.blobs).map(|blob| self.digest(blob));
        let digests = digests.skip_while(|digest| digest.raw()[0] < first);
        let digests = digests.take_while(|digest| digest.raw()[0] == first);
        digests
            .take(limit)
            .map(|digest| folder(digest.hex()))
            .collect()
    }

    fn content(&self, path: &StoragePath) -> Option<Bytes> {
        match layout::locate(path)? {
            Located::RevisionLink(name, digest) => {
                let repository = self.repository(name.as_str())?;
                let own = self.by_repository[repository as usize];
                (own == digest).then(|| digest.to_string().into())
            }
            Located::BlobData(digest) => {
                let repository = self.manifests.get(&digest)?;
                Some(self.manifest(*repository).into())
            }
            _ => None,
        }
    }

    /// Of blobs, all are large and old.
    fn size(&self, path: &StoragePath) -> Option<u64> {
        match layout::locate(path)? {
            Located::BlobData(digest) if !self.manifests.contains_key(&digest) => Some(10_000_000),
            _ => self.content(path).map(|content| content.len() as u64),
        }
    }
}

fn folder(name: impl Into<String>) -> Entry {
    Entry {
        name: name.into(),
        is_dir: true,
    }
}

fn is_own(path: &StoragePath) -> bool {
    path.is_within(&layout::gc())
}

#[async_trait]
impl Driver for Simulated {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn get<'a>(&'a self, path: &'a StoragePath) -> Fetch<'a> {
        match self.content(path) {
            Some(content) => Fetch::Left(ready(Ok(content))),
            None => self.rest.get(path),
        }
    }

    async fn put(&self, path: &StoragePath, content: Bytes, how: Durability) -> Result<()> {
        assert!(is_own(path), "{path}");
        self.rest.put(path, content, how).await
    }

    async fn reader(&self, path: &StoragePath, _offset: u64) -> Result<Reader> {
        panic!("{path} is read")
    }

    async fn open(&self, _path: &StoragePath) -> Result<Option<File>> {
        Ok(None)
    }

    async fn writer(&self, path: &StoragePath, _mode: WriteMode) -> Result<Box<dyn Writer>> {
        panic!("{path} is written")
    }

    async fn stat(&self, path: &StoragePath) -> Result<Stat> {
        match self.size(path) {
            Some(size) => Ok(Stat {
                size,
                modified: Some(SystemTime::UNIX_EPOCH),
                is_dir: false,
            }),
            None => self.rest.stat(path).await,
        }
    }

    async fn list(
        &self,
        path: &StoragePath,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Vec<Entry>> {
        if is_own(path) {
            return self.rest.list(path, after, limit).await;
        }
        let parts: Vec<_> = path.parts().skip(3).collect();
        let number = |name: &str| self.repository(name).unwrap();
        let limit = limit.unwrap_or(usize::MAX);
        let entries: Vec<Entry> = match parts[..] {
            ["blobs"] => vec![folder("sha256")],
            ["blobs", "sha256"] => (0..=255).map(|n| folder(format!("{n:02x}"))).collect(),
            ["blobs", "sha256", first] => {
                let first = u8::from_str_radix(first, 16).unwrap();
                return Ok(self.shard(first, after, limit));
            }
            ["repositories"] => {
                let all = (0..self.repositories).map(|n| folder(format!("{n:06}")));
                all.collect()
            }
            ["repositories", _] => vec![folder("_layers"), folder("_manifests")],
            ["repositories", _, "_layers"] => vec![folder("sha256")],
            ["repositories", name, "_layers", "sha256"] => {
                let all = self.of(number(name));
                all.map(|blob| folder(self.digest(blob).hex())).collect()
            }
            ["repositories", _, "_manifests"] => vec![folder("revisions")],
            ["repositories", _, "_manifests", "revisions"] => vec![folder("sha256")],
            ["repositories", name, "_manifests", "revisions", "sha256"] => {
                vec![folder(self.by_repository[number(name) as usize].hex())]
            }
            ["repositories", _, "_manifests", "revisions", "sha256", _] => {
                let name = "link".to_owned();
                vec![Entry {
                    name,
                    is_dir: false,
                }]
            }
            _ => {
                let path = path.clone();
                return Err(Error::NotFound { path });
            }
        };
        let entries = entries.into_iter();
        let wanted = entries.filter(|entry| after.is_none_or(|after| *entry.name > *after));
        Ok(wanted.take(limit).collect())
    }

    async fn rename(&self, from: &StoragePath, _to: &StoragePath) -> Result<()> {
        panic!("{from} is moved")
    }

    async fn delete(&self, path: &StoragePath) -> Result<()> {
        match is_own(path) {
            true => self.rest.delete(path).await,
            false => Ok(()),
        }
    }

    fn claim(&self, claim: Claim<'_>) -> Result<Option<Claimed>, ClaimError> {
        self.rest.claim(claim)
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn settled(&self) {}

    async fn remove_leftovers(&self, _older_than: Duration) -> Result<u64> {
        Ok(0)
    }
}

/// Collects while serving; gives what it took of memory in bytes for each blob.
fn collect(blobs: u64, repositories: u64) -> (CollectReport, f64) {
    let driver = Arc::new(Simulated::new(blobs, repositories));
    let options = Options {
        collection_lease: Duration::from_millis(10),
        content_cache: 0,
        descriptor_cache: 0,
        ..Options::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let registry = Registry::new(driver, options).unwrap();
    let serving = CollectOptions {
        serving: Some(Duration::ZERO),
        ..CollectOptions::default()
    };
    let before = IN_USE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let report = runtime.block_on(registry.collect(serving, |_| {}));
    let each = (PEAK.load(Relaxed) - before) as f64 / blobs as f64;
    (report.unwrap(), each)
}

/// The most that this process has had in memory, in MB.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes / 1024)
}

#[test]
fn a_blob_takes_few_bytes() {
    let (report, each) = collect(100_000, 49);
    println!("{each:.1} bytes a blob, {report:?}");
    let needed = 95_000 + 49;
    assert_eq!((report.marked, report.blobs), (needed, 5_000));
    assert_eq!((report.layer_links, report.later), (5_000, 0));
    assert!(each < 60.0, "{each} bytes a blob");
}

/// What stands in `docs/collection.md`; `BLOBS` is another number of them.
#[test]
#[ignore = "takes minutes; run it with --release"]
fn ten_million_blobs_take_little() {
    let blobs = std::env::var("BLOBS").ok();
    let blobs = blobs.map_or(10_000_000, |number| number.parse().unwrap());
    let (report, each) = collect(blobs, (blobs / 5_000) | 1);
    println!("{each:.1} bytes a blob at the most, {report:?}");
    println!("resident at the most: {:?} MB", resident());
    assert!(each < 20.0, "{each} bytes a blob");
}
