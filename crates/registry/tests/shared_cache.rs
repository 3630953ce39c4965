//! Two registries over one store and one Redis, as two nodes have them.

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use support::{content, image, name, push, put};
use tokio::time::sleep;
use wharfinger_oci::Digest;
use wharfinger_redis::SharedCache;
use wharfinger_redis::testing::RedisServer;
use wharfinger_registry::{CollectOptions, Options, Registry};
use wharfinger_storage::{Driver, MemoryDriver};

const PATIENCE: Duration = Duration::from_secs(60);

/// How long memory keeps what it knows.
const MEMORY: Duration = Duration::from_millis(300);
/// How long Redis does.
const LIFE: Duration = Duration::from_secs(2);

/// A node over `driver`, with its connection to Redis.
async fn node(driver: &Arc<dyn Driver>, server: &RedisServer, options: Options) -> Node {
    node_for(LIFE, driver, server, options).await
}

/// One whose keys in Redis live for as long.
async fn node_for(
    life: Duration,
    driver: &Arc<dyn Driver>,
    server: &RedisServer,
    options: Options,
) -> Node {
    let cache = SharedCache::new(wharfinger_redis::Options {
        life,
        ..server.options()
    })
    .unwrap();
    assert!(cache.connected(PATIENCE).await);
    let options = Options {
        delete: true,
        descriptor_life: MEMORY,
        shared_descriptors: Some(cache.clone()),
        ..options
    };
    let registry = Registry::new(Arc::clone(driver), options).unwrap();
    Node { registry, cache }
}

struct Node {
    registry: Registry,
    cache: SharedCache,
}

impl Node {
    /// Whether it grants access.
    async fn grants(&self, digest: &Digest) -> bool {
        let blobs = self.registry.repository(&name("a")).blobs();
        blobs.stat(digest).await.is_ok()
    }

    async fn push(&self, seed: u8) -> Digest {
        let repository = self.registry.repository(&name("a"));
        push(&repository, &content(seed, 100)).await.digest
    }

    async fn delete(&self, digest: &Digest) -> bool {
        let blobs = self.registry.repository(&name("a")).blobs();
        blobs.delete(digest).await.is_ok()
    }

    /// Waits until Redis is in use.
    async fn is_connected(&self) {
        let begun = Instant::now();
        while !self.cache.connected(PATIENCE).await {
            assert!(begun.elapsed() < PATIENCE);
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn memory() -> Arc<dyn Driver> {
    Arc::new(MemoryDriver::new())
}

async fn two_nodes(driver: &Arc<dyn Driver>, server: &RedisServer) -> [Node; 2] {
    let one = node(driver, server, Options::default()).await;
    [one, node(driver, server, Options::default()).await]
}

/// How many scripts the server has run: lookups, and what they found.
fn scripts(server: &RedisServer) -> u64 {
    let told = server.ask("INFO commandstats");
    let line = told.lines().find(|line| line.starts_with("cmdstat_eval:"));
    let calls = line.and_then(|line| line.split("calls=").nth(1)?.split(',').next()?.parse().ok());
    calls.unwrap_or(0)
}

#[tokio::test]
async fn memory_is_asked_first_then_redis_and_last_the_store() {
    let server = RedisServer::start(&[]);
    let driver = memory();
    let [one, two] = two_nodes(&driver, &server).await;
    let digest = one.push(1).await;
    sleep(MEMORY).await;
    assert!(one.grants(&digest).await);
    let before = scripts(&server);
    for _ in 0..100 {
        assert!(one.grants(&digest).await);
    }
    let asked = scripts(&server) - before;
    assert!(asked < 20, "{asked} round trips for what memory knows");

    // What the store has no longer, without anybody knowing, is still found where it was kept.
    let links = wharfinger_registry::layout::layer_link(&name("a"), &digest);
    driver.delete(&links).await.unwrap();
    assert!(two.grants(&digest).await);
    let keys = server.ask("KEYS *");
    let key = format!("wharfinger:descriptor:layer:a:{digest}");
    assert!(
        keys.contains(&key) && !keys.contains("repository::"),
        "{keys}"
    );
    sleep(LIFE + MEMORY).await;
    assert!(!one.grants(&digest).await && !two.grants(&digest).await);
}

#[tokio::test]
async fn a_manifest_that_one_deletes_is_gone_from_the_other_when_memory_has_forgotten() {
    let server = RedisServer::start(&[]);
    let [one, two] = two_nodes(&memory(), &server).await;
    let repository = one.registry.repository(&name("a"));
    let manifest = put(&repository, &image(&repository, 1, "").await, &["t"]).await;
    let theirs = two.registry.repository(&name("a")).manifests();
    sleep(MEMORY).await;
    assert!(theirs.contains(&manifest).await.unwrap());
    repository.manifests().delete(&manifest).await.unwrap();
    assert!(!repository.manifests().contains(&manifest).await.unwrap());
    sleep(MEMORY).await;
    assert!(!theirs.contains(&manifest).await.unwrap());
}

#[tokio::test]
async fn a_push_of_what_another_has_deleted_is_a_push() {
    let server = RedisServer::start(&[]);
    let [one, two] = two_nodes(&memory(), &server).await;
    let digest = one.push(1).await;
    assert!(two.grants(&digest).await);
    assert!(two.delete(&digest).await);
    // Memory of this one still grants it; the link must be written all the same.
    assert_eq!(one.push(1).await, digest);
    assert!(two.grants(&digest).await);
    sleep(MEMORY + LIFE).await;
    assert!(one.grants(&digest).await && two.grants(&digest).await);
}

#[tokio::test]
async fn what_redis_was_not_told_is_gone_at_once_here_and_in_time_elsewhere() {
    let server = RedisServer::start(&[]);
    let driver = memory();
    let life = Duration::from_secs(5);
    let one = node_for(life, &driver, &server, Options::default()).await;
    let two = node_for(life, &driver, &server, Options::default()).await;
    let digest = one.push(1).await;
    sleep(MEMORY).await;
    assert!(one.grants(&digest).await && two.grants(&digest).await);
    // It keeps what it has and takes nothing more.
    server.ask("CONFIG SET maxmemory 1");
    assert!(one.delete(&digest).await);
    let at = Instant::now();
    server.ask("CONFIG SET maxmemory 0");
    one.is_connected().await;
    let key = format!("GET wharfinger:descriptor:layer:a:{digest}");
    let mut held = 0;
    while at.elapsed() < life {
        held += u32::from(server.ask(&key).contains("kept"));
        assert!(!one.grants(&digest).await);
        sleep(Duration::from_millis(20)).await;
    }
    assert!(held > 0, "Redis did not hold it, so nothing was tried");
    assert!(!two.grants(&digest).await);
}

#[tokio::test]
async fn what_was_known_before_a_collection_is_not_known_after_it() {
    let server = RedisServer::start(&[]);
    let driver = memory();
    let read_only = Options {
        read_only: true,
        ..Options::default()
    };
    let writer = node(&driver, &server, Options::default()).await;
    let served = node(&driver, &server, read_only).await;
    let digest = writer.push(1).await;
    sleep(MEMORY).await;
    // A blob that no manifest mentions, known to Redis and to memory.
    assert!(writer.grants(&digest).await && served.grants(&digest).await);
    // A collector that cannot tell Redis.
    let collector = Registry::new(Arc::clone(&driver), Options::default()).unwrap();
    collector
        .collect(CollectOptions::default(), |_| ())
        .await
        .unwrap();
    served.registry.make_writable().await.unwrap();
    assert!(!served.grants(&digest).await);
    // One that begins now does not know it either.
    let fresh = node(&driver, &server, Options::default()).await;
    assert!(!fresh.grants(&digest).await);
}

#[tokio::test]
async fn a_collection_tells_registries_what_it_removes() {
    let server = RedisServer::start(&[]);
    let driver = memory();
    let [one, two] = two_nodes(&driver, &server).await;
    let digest = one.push(1).await;
    sleep(MEMORY).await;
    assert!(one.grants(&digest).await);
    two.registry
        .collect(CollectOptions::default(), |_| ())
        .await
        .unwrap();
    sleep(MEMORY).await;
    assert!(!one.grants(&digest).await);
}

/// What happens to one of two nodes.
#[derive(Clone, Debug)]
enum Act {
    Push(u8),
    Delete(u8),
    Look(u8),
    Wait(u64),
    /// Redis forgets everything.
    Flush,
    /// Redis takes nothing more, or takes it again.
    Full(bool),
    /// Redis hangs, or goes on.
    Freeze(bool),
    /// Redis crashes and is started again, with nothing in it.
    Restart,
}

fn act(faults: u32) -> impl Strategy<Value = (usize, Act)> {
    let blob = 0..3_u8;
    let act = prop_oneof![
        6 => blob.clone().prop_map(Act::Push),
        6 => blob.clone().prop_map(Act::Delete),
        20 => blob.prop_map(Act::Look),
        6 => (1..200_u64).prop_map(Act::Wait),
        faults => Just(Act::Flush),
        faults => any::<bool>().prop_map(Act::Full),
        faults => any::<bool>().prop_map(Act::Freeze),
        faults => Just(Act::Restart),
    ];
    (0..2_usize, act)
}

/// What is true of a blob.
#[derive(Clone, Copy, Debug)]
enum State {
    There,
    /// Deleted by a node, which had done so at this moment.
    Deleted(usize, Instant),
}

/// Does all of it to two nodes, beside a model: what is there is granted by both, what was deleted
/// by none that deleted it, and by no other for longer than `bound` after that.
async fn run(acts: &[(usize, Act)], bound: Duration) -> Result<usize, TestCaseError> {
    let server = RedisServer::start(&[]);
    let driver = memory();
    let nodes = two_nodes(&driver, &server).await;
    let server = Mutex::new(server);
    let mut model: BTreeMap<u8, State> = BTreeMap::new();
    let mut late = 0;
    for (at, act) in acts {
        let node = &nodes[*at];
        match act {
            Act::Push(blob) => {
                node.push(*blob).await;
                model.insert(*blob, State::There);
            }
            Act::Delete(blob) => {
                let deleted = node.delete(&Digest::canonical(&content(*blob, 100))).await;
                if let Some(State::There) = model.get(blob) {
                    prop_assert!(deleted);
                    model.insert(*blob, State::Deleted(*at, Instant::now()));
                }
            }
            Act::Look(blob) => {
                let began = Instant::now();
                let granted = node.grants(&Digest::canonical(&content(*blob, 100))).await;
                match model.get(blob) {
                    None => prop_assert!(!granted),
                    Some(State::There) => prop_assert!(granted),
                    Some(State::Deleted(by, when)) if granted => {
                        prop_assert_ne!(by, at);
                        let after = began - *when;
                        prop_assert!(after <= bound, "granted {after:?} after it was deleted");
                        late += 1;
                    }
                    Some(State::Deleted(..)) => {}
                }
            }
            Act::Wait(milliseconds) => sleep(Duration::from_millis(*milliseconds)).await,
            Act::Flush => {
                let server = server.lock().unwrap();
                server.freeze(false);
                server.ask("FLUSHALL");
            }
            Act::Full(full) => {
                let server = server.lock().unwrap();
                server.freeze(false);
                server.ask(&format!("CONFIG SET maxmemory {}", u8::from(*full)));
            }
            Act::Freeze(frozen) => server.lock().unwrap().freeze(*frozen),
            Act::Restart => {
                let mut server = server.lock().unwrap();
                server.kill();
                server.start_again();
            }
        }
    }
    Ok(late)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_one_node_deletes_the_other_grants_only_within_the_bound_of_memory(
        acts in prop::collection::vec(act(0), 30..80),
    ) {
        block_on(run(&acts, MEMORY))?;
    }

    #[test]
    fn whatever_happens_to_redis_it_is_granted_only_within_the_life_of_a_key(
        acts in prop::collection::vec(act(1), 30..80),
    ) {
        block_on(run(&acts, LIFE))?;
    }
}
