//! Nodes over one folder that share what they know of descriptors in Redis.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use wharfinger_e2e::certificates::{Authority, path};
use wharfinger_e2e::distribution::{Distribution, free_address};
use wharfinger_e2e::redis::{Redis, Sentinels, Tls, cluster};
use wharfinger_e2e::wharfinger::binary;
use wharfinger_e2e::{Config, Http, Wharfinger, digest, eventually, folder, noise, output};

/// Within this a deletion on one node is seen on others (docs/semantics.md).
const BOUND: Duration = Duration::from_secs(5);

/// Within this where Redis could not be told.
const LONGEST: Duration = Duration::from_secs(60);

const IN_USE: &str = "Redis is in use";
const NOT_IN_USE: &str = "Redis is not in use";

/// What a user must be let do everywhere (docs/operations.md).
const NEEDED: [&str; 6] = ["+get", "+set", "+eval", "+time", "+client", "+ping"];

/// A node with its own home in `home`, and its data in a folder there that all nodes share.
fn config(home: &Path, name: &str, redis: &Value) -> Config {
    let own = home.join(name);
    std::fs::create_dir_all(&own).unwrap();
    let mut config = Config::new(&own)
        .data(&home.join("data"))
        .watched()
        .set("storage.cache.blobdescriptor", "redis");
    for (key, value) in redis.as_object().unwrap() {
        config = config.set(&format!("redis.{key}"), value.clone());
    }
    config
}

/// Two nodes that use Redis.
fn two_nodes(home: &Path, redis: &Value) -> [Wharfinger; 2] {
    ["one", "two"].map(|name| {
        let mut node = config(home, name, redis).start();
        node.wait_until(|node| node.log().contains(IN_USE).then_some(()));
        node
    })
}

fn blob(digest: &str) -> String {
    format!("/v2/a/blobs/{digest}")
}

/// The value of a metric.
fn metric(node: &Wharfinger, name: &str) -> u64 {
    let text = String::from_utf8(node.debug().get("/metrics").body).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} ")));
    let value = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    value.parse().unwrap()
}

fn hits(node: &Wharfinger) -> u64 {
    metric(node, "registry_redis_cache_hits_total")
}

/// Has each of two nodes find in Redis what the other has looked up in the store.
fn assert_shared(nodes: &[Wharfinger; 2], seeds: std::ops::Range<u64>) {
    let [one, two] = nodes.each_ref().map(Wharfinger::http);
    let push = |http: Http| -> Vec<String> {
        let blobs = seeds.clone().map(|seed| noise(seed, 1000));
        blobs.map(|bytes| http.push_blob("a", &bytes)).collect()
    };
    let before: u64 = nodes.iter().map(hits).sum();
    let pushed = push(one);
    // What was pushed here is in this node's memory; Redis learns of it from the first who asks.
    for digest in &pushed {
        assert_eq!(two.head(&blob(digest)).status, 200);
    }
    sleep(BOUND);
    for digest in &pushed {
        assert_eq!(one.head(&blob(digest)).status, 200);
    }
    let after: u64 = nodes.iter().map(hits).sum();
    assert!(
        after >= before + seeds.end - seeds.start,
        "{before} {after}"
    );
}

/// Deletes on the first node what the second has just granted.
fn assert_deleted_in_time([one, two]: &[Wharfinger; 2], seed: u64, bound: Duration) {
    let pushed = one.http().push_blob("a", &noise(seed, 1000));
    assert_eq!(two.http().head(&blob(&pushed)).status, 200);
    let answer = one.http().send("DELETE", &blob(&pushed), &[], b"");
    assert_eq!(answer.status, 202);
    assert_eq!(one.http().head(&blob(&pushed)).status, 404);
    sleep(bound);
    assert_eq!(two.http().head(&blob(&pushed)).status, 404);
    assert_eq!(one.http().head(&blob(&pushed)).status, 404);
}

#[test]
fn a_deletion_on_one_node_is_seen_on_the_other_within_the_bound() {
    let home = folder();
    let redis = Redis::start(home.path(), &[]);
    let nodes = two_nodes(home.path(), &json!({"addrs": [redis.addr.to_string()]}));
    assert_shared(&nodes, 1..2);
    assert_deleted_in_time(&nodes, 2, BOUND);
    // Pushed again, it is there at once, on both.
    let again = nodes[1].http().push_blob("a", &noise(2, 1000));
    for node in &nodes {
        assert_eq!(node.http().get(&blob(&again)).status, 200);
        assert_eq!(metric(node, "registry_storage_cache_errors_total"), 0);
        assert_eq!(metric(node, "registry_redis_cache_errors_total"), 0);
        assert_eq!(metric(node, "registry_redis_cache_up"), 1);
    }
    // Every key has an end.
    let keys = redis.ask(&["keys", "*"]);
    assert!(keys.lines().count() >= 2, "{keys}");
    for key in keys.lines() {
        assert!(key.starts_with("wharfinger:"), "{key}");
        let left: i64 = redis.ask(&["ttl", key]).trim().parse().unwrap();
        assert!(left != -1 && left <= 60, "{key}: {left}");
    }
}

#[test]
fn requests_go_on_while_redis_is_gone_and_use_it_when_it_is_back() {
    let home = folder();
    let mut redis = Redis::start(home.path(), &[]);
    let nodes = two_nodes(home.path(), &json!({"addrs": [redis.addr.to_string()]}));
    let contents: Vec<_> = (0..20).map(|seed| noise(100 + seed, 5000)).collect();
    let there: Vec<_> = contents
        .iter()
        .map(|content| nodes[0].http().push_blob("a", content))
        .collect();
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    scope(|scope| {
        // Whatever becomes of an assertion, the others must come to their end.
        let _stop = Stop(&stop);
        for (index, node) in nodes.iter().enumerate() {
            for worker in 0..2 {
                let (contents, there, stop, asked) = (&contents, &there, &stop, &asked);
                let http = node.http();
                scope.spawn(move || {
                    let mut turn = worker * 7;
                    while !stop.load(Relaxed) {
                        turn += 1;
                        let which = turn % there.len();
                        let answer = http.get(&blob(&there[which]));
                        assert_eq!(answer.status, 200);
                        assert!(answer.body == contents[which]);
                        asked.fetch_add(1, Relaxed);
                    }
                });
            }
            let (http, stop) = (node.http(), &stop);
            scope.spawn(move || {
                let mut seed = 1000 * (index as u64 + 1);
                while !stop.load(Relaxed) {
                    seed += 1;
                    let pushed = http.push_blob("a", &noise(seed, 500));
                    assert_eq!(http.get(&blob(&pushed)).status, 200);
                    let deleted = http.send("DELETE", &blob(&pushed), &[], b"");
                    assert_eq!(deleted.status, 202);
                    assert_eq!(http.head(&blob(&pushed)).status, 404);
                }
            });
        }
        let goes_on = || {
            let before = asked.load(Relaxed);
            eventually("requests are answered", || {
                asked.load(Relaxed) > before + 200
            });
        };
        goes_on();
        redis.service.kill();
        for node in &nodes {
            eventually("it is noticed", || node.log().contains(NOT_IN_USE));
            assert_eq!(metric(node, "registry_redis_cache_up"), 0);
        }
        goes_on();
        redis.start_again();
        for node in &nodes {
            eventually("it is used again", || {
                node.log().matches(IN_USE).count() == 2
                    && metric(node, "registry_redis_cache_up") == 1
            });
        }
        goes_on();
        let before = nodes.each_ref().map(hits);
        for (node, before) in nodes.iter().zip(before) {
            eventually("it knows what is asked", || hits(node) > before);
        }
        // It hangs: accepts connections, and answers nothing.
        redis.service.signal(Signal::STOP);
        for node in &nodes {
            eventually("it is noticed", || {
                node.log().matches(NOT_IN_USE).count() == 2
            });
        }
        goes_on();
        redis.service.signal(Signal::CONT);
        for node in &nodes {
            eventually("it is used again", || {
                node.log().matches(IN_USE).count() == 3
            });
        }
        goes_on();
    });
    for node in &nodes {
        let log = node.log();
        assert_eq!(log.matches(NOT_IN_USE).count(), 2, "{log}");
        assert_eq!(log.matches(IN_USE).count(), 3, "{log}");
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_master_is_replaced_by_sentinels() {
    let home = folder();
    let mut redis = Sentinels::start(home.path(), None, "s-e-cret", "w-a-tched");
    for server in [&redis.master, &redis.replica] {
        let user = [
            "--no-auth-warning",
            "-a",
            "s-e-cret",
            "acl",
            "setuser",
            "user",
        ];
        let may = ["on", ">own-s-e-cret", "~wharfinger:*", "+select", "+role"];
        assert!(
            server
                .ask(&[&user[..], &may, &NEEDED].concat())
                .starts_with("OK")
        );
    }
    let nodes = two_nodes(
        home.path(),
        &json!({
            "addrs": [free_address().to_string(), redis.addr.to_string()],
            "mastername": "main",
            "username": "user",
            "password": "own-s-e-cret",
            "sentinelpassword": "w-a-tched",
            "dialtimeout": "2s",
            "db": 2,
        }),
    );
    assert_shared(&nodes, 1..2);
    redis.master.service.kill();
    for node in &nodes {
        // Somebody must ask to notice.
        eventually("the new master is used", || {
            node.http().head(&blob(&digest(b"nothing")));
            node.log().matches(IN_USE).count() == 2
        });
    }
    let role = redis
        .replica
        .ask(&["--no-auth-warning", "-a", "s-e-cret", "role"]);
    assert!(role.starts_with("master"), "{role}");
    assert_shared(&nodes, 4..6);
    assert_deleted_in_time(&nodes, 3, BOUND);
    for node in &nodes {
        let log = node.log();
        assert!(
            !log.contains("s-e-cret") && !log.contains("w-a-tched"),
            "{log}"
        );
    }
}

#[test]
fn a_cluster_is_used_and_does_without_one_of_its_masters() {
    let home = folder();
    let mut masters = cluster(home.path(), None);
    for server in &masters {
        let user = [
            "acl",
            "setuser",
            "user",
            "on",
            ">own",
            "~wharfinger:*",
            "+cluster",
        ];
        assert!(server.ask(&[&user[..], &NEEDED].concat()).starts_with("OK"));
    }
    let addrs = masters.each_ref().map(|master| master.addr.to_string());
    let settings = json!({"addrs": addrs[..2], "username": "user", "password": "own"});
    let nodes = two_nodes(home.path(), &settings);
    assert_shared(&nodes, 0..20);
    for master in &masters {
        let keys = master.ask(&["keys", "*"]);
        assert!(keys.contains("wharfinger:descriptor:layer:a:"), "{keys}");
    }
    assert_deleted_in_time(&nodes, 50, BOUND);
    masters[0].service.kill();
    let http = [nodes[0].http(), nodes[1].http()];
    let begun = Instant::now();
    let mut seed = 200;
    while begun.elapsed() < BOUND {
        seed += 1;
        let pushed = http[0].push_blob("a", &noise(seed, 500));
        for node in http {
            assert_eq!(node.get(&blob(&pushed)).status, 200);
        }
        assert_eq!(http[0].send("DELETE", &blob(&pushed), &[], b"").status, 202);
        assert_eq!(http[0].head(&blob(&pushed)).status, 404);
    }
}

#[test]
fn certificates_of_both_sides_are_checked() {
    let home = folder();
    let authority = Authority::new(home.path(), "authority");
    let server = authority.server(home.path(), "server");
    let client = authority.client(home.path(), "client");
    let file = |file: &Path| file.to_str().unwrap().to_owned();
    let addr = free_address();
    let port = addr.port().to_string();
    let files = [&server.certificate, &server.key, &authority.certificate].map(|path| file(path));
    let arguments = [
        ["--tls-port", &port],
        ["--port", "0"],
        ["--tls-cert-file", &files[0]],
        ["--tls-key-file", &files[1]],
        ["--tls-ca-cert-file", &files[2]],
        ["--tls-auth-clients", "yes"],
    ];
    let _redis = Redis::start_at(home.path(), addr, arguments.as_flattened());
    let tls = json!({
        "certificate": path(&client.certificate),
        "key": path(&client.key),
        "rootcas": [path(&authority.certificate)],
    });
    let addrs = json!([format!("localhost:{port}")]);
    let nodes = two_nodes(home.path(), &json!({"addrs": addrs, "tls": tls}));
    assert_shared(&nodes, 1..2);
    assert_deleted_in_time(&nodes, 2, BOUND);

    // Without a certificate of its own, and not trusting the server's, it works without Redis.
    let other = Authority::new(home.path(), "other");
    for (name, tls) in [
        (
            "shows-none",
            json!({"rootcas": [path(&authority.certificate)]}),
        ),
        (
            "trusts-others",
            json!({"rootcas": [path(&other.certificate)]}),
        ),
    ] {
        let mut node = config(home.path(), name, &json!({"addrs": addrs, "tls": tls})).start();
        node.wait_until(|node| node.log().contains(NOT_IN_USE).then_some(()));
        let pushed = node.http().push_blob("a", &noise(3, 100));
        assert_eq!(node.http().get(&blob(&pushed)).status, 200);
        assert!(!node.log().contains(IN_USE));
    }
}

#[test]
fn sentinels_and_clusters_speak_tls_too() {
    let home = folder();
    let authority = Authority::new(home.path(), "authority");
    let tls = Tls {
        // Members of a cluster check each other.
        shown: authority.peer(home.path(), "peer"),
        authority: authority.certificate.clone(),
    };
    let [watched, clustered] = ["sentinels", "cluster"].map(|name| {
        let own = home.path().join(name);
        std::fs::create_dir(&own).unwrap();
        own
    });
    let sentinels = Sentinels::start(&watched, Some(&tls), "own", "w-a-tched");
    let masters = cluster(&clustered, Some(&tls));
    let other = Authority::new(home.path(), "other");
    let trusts = |authority: &Authority| json!({"rootcas": [path(&authority.certificate)]});
    let by_sentinels = json!({
        "addrs": [sentinels.addr.to_string()], "mastername": "main", "password": "own",
        "sentinelpassword": "w-a-tched",
    });
    let addrs: Vec<_> = masters.iter().map(|one| one.addr.to_string()).collect();
    let in_cluster = json!({"addrs": addrs});
    let masters: Vec<&Redis> = masters.iter().collect();
    let login = ["--no-auth-warning", "-a", "own", "dbsize"];
    for (home, mut redis, servers, count) in [
        (&watched, by_sentinels, vec![&sentinels.master], &login[..]),
        (&clustered, in_cluster, masters, &login[3..]),
    ] {
        redis["tls"] = trusts(&authority);
        let mut node = config(home, "trusts", &redis).start();
        node.wait_until(|node| node.log().contains(IN_USE).then_some(()));
        let pushed = node.http().push_blob("a", &noise(1, 1000));
        redis["tls"] = trusts(&other);
        let mut without = config(home, "trusts-others", &redis).start();
        without.wait_until(|node| node.log().contains(NOT_IN_USE).then_some(()));
        assert_eq!(without.http().head(&blob(&pushed)).status, 200);
        assert!(!without.log().contains(IN_USE));
        let known = || -> u64 {
            let counts = servers.iter().map(|server| server.ask(count));
            counts
                .map(|count| count.trim().parse::<u64>().unwrap())
                .sum()
        };
        let before = known();
        // Who has not pushed it asks Redis, and tells it.
        redis["tls"] = trusts(&authority);
        let mut another = config(home, "another", &redis).start();
        another.wait_until(|node| node.log().contains(IN_USE).then_some(()));
        assert_eq!(another.http().head(&blob(&pushed)).status, 200);
        eventually("Redis is told", || known() > before);
    }
}

#[test]
fn a_wrong_password_is_told_but_not_shown_and_no_obstacle() {
    let home = folder();
    let redis = Redis::start(home.path(), &["--requirepass", "right-s-e-cret"]);
    let addrs = json!([redis.addr.to_string()]);
    let wrong = config(
        home.path(),
        "one",
        &json!({"addrs": addrs, "password": "wrong-s-e-cret"}),
    )
    .set("log.level", "debug")
    .env("RUST_LOG", "trace");
    let mut node = wrong.start();
    node.wait_until(|node| node.log().contains(NOT_IN_USE).then_some(()));
    let pushed = node.http().push_blob("a", &noise(1, 100));
    assert_eq!(node.http().get(&blob(&pushed)).status, 200);
    let log = node.log();
    assert!(log.contains("password"), "{log}");
    assert!(!log.contains("s-e-cret"), "{log}");
    // It gets in as soon as it is let in.
    redis.ask(&[
        "--no-auth-warning",
        "-a",
        "right-s-e-cret",
        "config",
        "set",
        "requirepass",
        "wrong-s-e-cret",
    ]);
    node.wait_until(|node| node.log().contains(IN_USE).then_some(()));
    assert!(!node.log().contains("s-e-cret"));

    let mut check = Command::new(binary());
    let checked = output(check.args(["config", "check"]).arg(wrong.write()));
    let printed = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success());
    assert!(
        printed.contains("(hidden)") && !printed.contains("s-e-cret"),
        "{printed}"
    );
}

#[test]
fn a_start_without_redis_is_a_start_and_one_with_wrong_words_is_none() {
    let home = folder();
    let nobody = free_address().to_string();
    let mut node = config(home.path(), "one", &json!({"addrs": [nobody]})).start();
    node.wait_until(|node| node.log().contains(NOT_IN_USE).then_some(()));
    let pushed = node.http().push_blob("a", &noise(1, 100));
    assert_eq!(node.http().get(&blob(&pushed)).status, 200);
    node.stop();
    let refused = |redis: &Value| {
        let config = config(home.path(), "two", redis);
        let mut service = config.spawn();
        assert!(!service.wait().success());
        service.log()
    };
    let log = refused(&json!({"addrs": ["no port"]}));
    let expected = "redis.addrs[0]: \"no port\" is not host and port, like 10.0.0.1:6379";
    assert!(
        log.contains("wharfinger.yml:") && log.contains(expected),
        "{log}"
    );
    let log = refused(&json!({"addrs": [nobody], "tls": {"rootcas": ["/nowhere/ca.pem"]}}));
    let expected = "redis.tls.rootcas[0]: /nowhere/ca.pem: No such file";
    assert!(
        log.contains("wharfinger.yml:") && log.contains(expected),
        "{log}"
    );
}

/// While registries are read-only, a collection works on their folder; what it removes is not found
/// any more, neither then nor when they are writable again.
#[test]
fn what_a_collection_removes_is_not_found_in_redis() {
    let home = folder();
    let redis = Redis::start(home.path(), &[]);
    let settings = json!({"addrs": [redis.addr.to_string()]});
    let mut nodes = two_nodes(home.path(), &settings);
    let pushed = nodes[0].http().push_blob("a", &noise(1, 1000));
    for node in &mut nodes {
        node.signal(Signal::USR1);
        node.wait_until(|node| {
            node.log()
                .contains("nothing is written any more")
                .then_some(())
        });
    }
    // Memory knows it, and Redis.
    sleep(BOUND);
    for node in &nodes {
        assert_eq!(node.http().head(&blob(&pushed)).status, 200);
    }
    let mut collect = Command::new(binary());
    collect
        .arg("garbage-collect")
        .arg(home.path().join("one/wharfinger.yml"));
    let collected = output(&mut collect);
    assert!(collected.status.success(), "{collected:?}");
    let printed = String::from_utf8_lossy(&collected.stdout);
    assert!(
        printed.contains(&format!("blob eligible for deletion: {pushed}")),
        "{printed}"
    );
    nodes[0].signal(Signal::USR2);
    nodes[0].wait_until(|node| {
        node.log()
            .contains("pushes and deletions are taken")
            .then_some(())
    });
    // At once where something may be built on it again, in time elsewhere.
    assert_eq!(nodes[0].http().head(&blob(&pushed)).status, 404);
    sleep(BOUND);
    assert_eq!(nodes[1].http().head(&blob(&pushed)).status, 404);
    let again = nodes[0].http().push_blob("a", &noise(1, 1000));
    assert_eq!(nodes[1].http().get(&blob(&again)).status, 200);
}

#[test]
fn distribution_and_its_keys_are_left_alone_in_the_same_redis() {
    let home = folder();
    let redis = Redis::start(home.path(), &[]);
    let addr = redis.addr.to_string();
    let settings = json!({
        "storage": {"cache": {"blobdescriptor": "redis"}},
        // As its 2.x releases spell it; they have no deadline of their own otherwise.
        "redis": {"addr": addr, "dialtimeout": "1s", "readtimeout": "1s", "writetimeout": "1s"},
    });
    let data = home.path().join("data");
    let distribution = Distribution::start_with(home.path(), &data, &settings);
    let pushed = distribution.http().push_blob("a", &noise(1, 1000));
    assert_eq!(distribution.http().get(&blob(&pushed)).status, 200);
    let theirs = |redis: &Redis| {
        let mut keys: Vec<_> = redis
            .ask(&["keys", "*"])
            .lines()
            .filter(|key| !key.starts_with("wharfinger:"))
            .map(|key| {
                format!(
                    "{key}: {}{}",
                    redis.ask(&["type", key]),
                    redis.ask(&["--no-raw", "dump", key])
                )
            })
            .collect();
        keys.sort();
        keys
    };
    let before = theirs(&redis);
    assert!(
        before.iter().any(|key| key.contains("repository::a")),
        "{before:?}"
    );
    // The same section works here.
    let mut node = config(home.path(), "one", &settings["redis"]).start();
    node.wait_until(|node| node.log().contains(IN_USE).then_some(()));
    assert_eq!(node.http().get(&blob(&pushed)).status, 200);
    let own = node.http().push_blob("a", &noise(2, 1000));
    for digest in [&own, &pushed] {
        let answer = node.http().send("DELETE", &blob(digest), &[], b"");
        assert_eq!(answer.status, 202);
        assert_eq!(node.http().head(&blob(digest)).status, 404);
    }
    assert!(redis.ask(&["keys", "wharfinger:*"]).contains(&pushed));
    assert_eq!(theirs(&redis), before);
}

/// The bound that holds whatever becomes of Redis.
#[test]
fn what_redis_was_not_told_is_seen_elsewhere_within_a_minute() {
    let home = folder();
    let redis = Redis::start(home.path(), &[]);
    let nodes = two_nodes(home.path(), &json!({"addrs": [redis.addr.to_string()]}));
    let http: [Http; 2] = nodes.each_ref().map(Wharfinger::http);
    let pushed = http[0].push_blob("a", &noise(1, 1000));
    sleep(BOUND);
    // Now Redis knows it, and takes nothing more.
    assert_eq!(http[1].head(&blob(&pushed)).status, 200);
    redis.ask(&["config", "set", "maxmemory", "1"]);
    assert_eq!(http[0].send("DELETE", &blob(&pushed), &[], b"").status, 202);
    let deleted = Instant::now();
    redis.ask(&["config", "set", "maxmemory", "0"]);
    let mut granted = 0;
    while deleted.elapsed() < LONGEST {
        assert_eq!(http[0].head(&blob(&pushed)).status, 404);
        granted += u32::from(http[1].head(&blob(&pushed)).status == 200);
        sleep(Duration::from_millis(200));
    }
    assert_eq!(http[1].head(&blob(&pushed)).status, 404);
    assert!(granted > 0, "Redis did not hold it, so nothing was tried");
}
