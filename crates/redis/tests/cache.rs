//! The cache over real servers: what is kept, what cannot come back, and what happens without Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use wharfinger_redis::testing::RedisServer;
use wharfinger_redis::{Absence, Address, Answer, Options, Servers, SharedCache};

const PATIENCE: Duration = Duration::from_secs(60);

/// Long enough for an answer on a busy machine.
const SLOW: Duration = Duration::from_secs(10);

async fn connected(options: Options) -> SharedCache {
    let cache = SharedCache::new(options).unwrap();
    assert!(cache.connected(PATIENCE).await);
    cache
}

fn patient(server: &RedisServer) -> Options {
    Options {
        answer_timeout: SLOW,
        ..server.options()
    }
}

async fn kept(cache: &SharedCache, key: &str) -> Option<String> {
    match cache.find(key).await {
        Answer::Kept { text, .. } => Some(text),
        Answer::Absent(_) => None,
        Answer::Unavailable => panic!("Redis should be in use"),
    }
}

async fn absence(cache: &SharedCache, key: &str) -> Absence {
    match cache.find(key).await {
        Answer::Absent(absence) => absence,
        other => panic!("{other:?}"),
    }
}

/// Waits until Redis is in use, or until it is not.
async fn until(cache: &SharedCache, used: bool) {
    let reached = async {
        while matches!(cache.find("other").await, Answer::Unavailable) == used {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, reached).await.unwrap();
}

#[tokio::test]
async fn what_one_keeps_another_finds_until_it_is_removed() {
    let server = RedisServer::start(&[]);
    let one = connected(patient(&server)).await;
    let two = connected(patient(&server)).await;
    let absent = absence(&one, "key").await;
    one.keep("key", absent, "a text").await;
    assert_eq!(kept(&two, "key").await.as_deref(), Some("a text"));
    assert!(two.remove("key").await);
    assert_eq!(kept(&one, "key").await, None);
    // What is put back after it was removed can be kept.
    let absent = absence(&one, "key").await;
    one.keep("key", absent, "new").await;
    assert_eq!(kept(&two, "key").await.as_deref(), Some("new"));
    assert_eq!((one.errors(), two.errors()), (0, 0));
}

#[tokio::test]
async fn a_lookup_that_began_before_a_removal_cannot_put_its_text_back() {
    let server = RedisServer::start(&[]);
    let one = connected(patient(&server)).await;
    let two = connected(patient(&server)).await;
    let absent = absence(&one, "key").await;
    assert!(two.remove("key").await);
    one.keep("key", absent, "stale").await;
    assert_eq!(kept(&two, "key").await, None);

    // Nor can one that has seen an earlier removal.
    let absent = absence(&one, "key").await;
    assert!(two.remove("key").await);
    one.keep("key", absent, "stale").await;
    assert_eq!(kept(&two, "key").await, None);

    // Nor one that comes after another, and a removal of what that one kept.
    let (first, second) = (absence(&one, "key").await, absence(&two, "key").await);
    one.keep("key", first, "first").await;
    assert!(one.remove("key").await);
    two.keep("key", second, "stale").await;
    assert_eq!(kept(&one, "key").await, None);
}

#[tokio::test]
async fn every_key_ends_and_no_text_outlives_its_lookup() {
    let server = RedisServer::start(&[]);
    let life = Duration::from_secs(2);
    let cache = connected(Options {
        life,
        ..patient(&server)
    })
    .await;
    let begun = Instant::now();
    let (early, late) = (
        absence(&cache, "early").await,
        absence(&cache, "late").await,
    );
    cache.keep("early", early, "text").await;
    cache.remove("gone").await;
    let keys = server.ask("KEYS *");
    for key in ["early", "gone", "probe"] {
        assert!(keys.contains(&format!("wharfinger:{key}\r\n")), "{keys}");
        let left = server.ask(&format!("PTTL wharfinger:{key}"));
        let left: i64 = left.trim_start_matches(':').trim().parse().unwrap();
        assert!((-2..=2000).contains(&left) && left != -1, "{key}: {left}");
    }
    if let Answer::Kept { age, .. } = cache.find("early").await {
        assert!(age <= begun.elapsed() + Duration::from_millis(2), "{age:?}");
    }
    sleep(life).await;
    assert_eq!(kept(&cache, "early").await, None);
    cache.keep("late", late, "text").await;
    assert_eq!(kept(&cache, "late").await, None);
    assert!(!server.ask("KEYS *").contains("late"));
}

#[tokio::test]
async fn what_was_held_up_on_its_way_is_not_kept_too_late() {
    let server = RedisServer::start(&[]);
    let life = Duration::from_secs(1);
    let held_up = connected(Options {
        life,
        answer_timeout: Duration::from_millis(200),
        ..server.options()
    })
    .await;
    let absent = absence(&held_up, "key").await;
    server.freeze(true);
    // It lies in the server's socket, and is read when nothing else knows of a removal any more.
    held_up.keep("key", absent, "stale").await;
    sleep(life).await;
    server.freeze(false);
    let other = connected(patient(&server)).await;
    for _ in 0..20 {
        assert_eq!(kept(&other, "key").await, None);
        sleep(Duration::from_millis(10)).await;
    }
    assert!(held_up.errors() > 0);
}

#[tokio::test]
async fn without_redis_nobody_waits_and_it_is_used_again_when_it_is_back() {
    let mut server = RedisServer::start(&[]);
    let cache = connected(patient(&server)).await;
    let absent = absence(&cache, "key").await;
    cache.keep("key", absent, "text").await;
    server.kill();
    let begun = Instant::now();
    until(&cache, false).await;
    for _ in 0..1000 {
        assert!(matches!(cache.find("key").await, Answer::Unavailable));
        assert!(!cache.remove("key").await);
    }
    assert!(begun.elapsed() < SLOW);
    server.start_again();
    until(&cache, true).await;
    assert_eq!(kept(&cache, "key").await, None);
    let absent = absence(&cache, "key").await;
    cache.keep("key", absent, "text").await;
    assert_eq!(kept(&cache, "key").await.as_deref(), Some("text"));
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let server = RedisServer::start(&[]);
    let cache = connected(Options {
        answer_timeout: Duration::from_millis(100),
        connect_timeout: Duration::from_secs(1),
        ..server.options()
    })
    .await;
    server.freeze(true);
    let begun = Instant::now();
    assert!(!cache.remove("key").await);
    until(&cache, false).await;
    for _ in 0..1000 {
        assert!(matches!(cache.find("key").await, Answer::Unavailable));
    }
    assert!(begun.elapsed() < SLOW, "{:?}", begun.elapsed());
    server.freeze(false);
    until(&cache, true).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_no_error() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let cache = SharedCache::new(patient(&server)).unwrap();
    assert!(!cache.connected(PATIENCE).await);
    assert!(matches!(cache.find("key").await, Answer::Unavailable));
    server.start_again();
    until(&cache, true).await;
}

#[tokio::test]
async fn a_server_that_takes_nothing_is_not_used_until_it_does() {
    let server = RedisServer::start(&[]);
    let cache = connected(patient(&server)).await;
    assert!(server.ask("CONFIG SET maxmemory 1").starts_with("+OK"));
    assert!(!cache.remove("key").await);
    assert!(matches!(cache.find("key").await, Answer::Unavailable));
    assert!(server.ask("CONFIG SET maxmemory 0").starts_with("+OK"));
    until(&cache, true).await;
}

#[tokio::test]
async fn users_databases_names_and_prefixes_are_used() {
    let server = RedisServer::start(&["--requirepass", "s-e-cret"]);
    let login = |command: &str| server.ask(&format!("AUTH s-e-cret\r\n{command}"));
    // All that is needed, and nothing else.
    let user = "ACL SETUSER user on >s-e-cret ~one:* +get +set +eval +time +select +client +ping";
    assert!(login(user).ends_with("+OK\r\n"));
    let options = Options {
        username: "user".to_owned(),
        password: "s-e-cret".to_owned(),
        database: 3,
        client_name: "a-name".to_owned(),
        prefix: "one".to_owned(),
        protocol3: true,
        ..patient(&server)
    };
    assert!(!format!("{options:?}").contains("s-e-cret"));
    let cache = connected(options.clone()).await;
    let absent = absence(&cache, "key").await;
    cache.keep("key", absent, "text").await;
    assert_eq!(kept(&cache, "key").await.as_deref(), Some("text"));
    assert!(login("SELECT 3\r\nKEYS *").contains("one:key\r\n"));
    assert!(login("CLIENT LIST").contains("name=a-name"));
    assert!(!format!("{cache:?}").contains("s-e-cret"));

    let wrong = SharedCache::new(Options {
        password: "other".to_owned(),
        ..options
    })
    .unwrap();
    assert!(!wrong.connected(PATIENCE).await);
    assert!(login("ACL SETUSER user >other").ends_with("+OK\r\n"));
    until(&wrong, true).await;
}

#[tokio::test]
async fn it_works_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("redis.sock");
    let server = RedisServer::start(&["--unixsocket", path.to_str().unwrap()]);
    let cache = connected(Options {
        servers: Servers::One(Address::Unix(path)),
        ..patient(&server)
    })
    .await;
    assert!(cache.remove("key").await);
}

/// Lookups and removals at the same time, by two caches. What stands for the store counts up: an
/// even number is there, an odd one is gone. Who looks after a removal was done must not find
/// anything of before.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_that_was_removed_is_found_by_whoever_looks_afterwards() {
    let server = RedisServer::start(&[]);
    let caches = [
        connected(patient(&server)).await,
        connected(patient(&server)).await,
    ];
    let store = Arc::new(AtomicU64::new(0));
    // The last number of which it is known that it was removed, there and in Redis.
    let removed = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(5);
    let mut tasks = Vec::new();
    for seed in 0..16_u64 {
        let (cache, store) = (caches[seed as usize % 2].clone(), Arc::clone(&store));
        let removed = Arc::clone(&removed);
        tasks.push(tokio::spawn(async move {
            let (mut state, mut hits) = (seed, 0_u64);
            while Instant::now() < end {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let before = removed.load(SeqCst);
                match cache.find("key").await {
                    Answer::Kept { text, .. } => {
                        let number: u64 = text.parse().unwrap();
                        assert!(number >= before, "{number} was removed, up to {before}");
                        hits += 1;
                    }
                    Answer::Absent(absent) => {
                        let number = store.load(SeqCst);
                        sleep(Duration::from_micros((state >> 40) % 3000)).await;
                        if number.is_multiple_of(2) {
                            cache.keep("key", absent, &number.to_string()).await;
                        }
                    }
                    Answer::Unavailable => panic!("Redis is there"),
                }
            }
            hits
        }));
    }
    let mut removals = 0;
    while Instant::now() < end {
        store.fetch_add(1, SeqCst);
        assert!(caches[removals % 2].remove("key").await);
        removed.store(store.load(SeqCst), SeqCst);
        store.fetch_add(1, SeqCst);
        removals += 1;
        sleep(Duration::from_millis(2)).await;
    }
    let mut hits = 0;
    for task in tasks {
        hits += task.await.unwrap();
    }
    assert!(
        hits > 100 && removals > 100,
        "{hits} hits, {removals} removals"
    );
}
