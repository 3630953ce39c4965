//! Clients and servers that are killed in the middle: what was acknowledged is there, and the rest
//! can be sent again.

use std::io::Write;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use wharfinger_e2e::clients::{all, copy};
use wharfinger_e2e::http::with_digest;
use wharfinger_e2e::image::Layout;
use wharfinger_e2e::killing::{Client, Prey, Random, Repository};
use wharfinger_e2e::process::Service;
use wharfinger_e2e::{Wharfinger, digest, eventually, folder, noise, run};

const MIB: u64 = 1 << 20;

/// How many bytes the uploads of a repository have put on disk.
fn uploaded(server: &Wharfinger, name: &str) -> u64 {
    let folder = server.repository(name).join("_uploads");
    let uploads = std::fs::read_dir(folder).into_iter().flatten();
    let data = uploads.filter_map(|upload| upload.ok()?.path().join("data").metadata().ok());
    data.map(|data| data.len()).sum()
}

#[test]
fn a_push_that_was_killed_can_be_made_again() {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let mut layout = Layout::create(&home.path().join("layout")).unwrap();
    let layers = [1, 2].map(|seed| layout.layer(&[(seed, 120 * MIB)]).unwrap());
    let image = layout.image("amd64", &layers).unwrap();
    let source = layout.tag(&image, "1").unwrap();
    let origin = server.image("origin:1");
    run(&mut copy(&source, &format!("docker://{origin}")));

    for client in all(home.path()) {
        client.pull(&origin);
        // A second server, for the first has all the layers.
        let home = folder();
        let server = Wharfinger::start(home.path());
        let target = server.image("killed:1");
        let log = home.path().join("client.log");
        let mut push = Service::start(&mut client.push_command(&origin, &target), &log);
        eventually("it sends", || uploaded(&server, "killed") > 10 * MIB);
        assert!(push.ended().is_none(), "{client:?}: {}", push.log());
        push.kill();
        let missing = server.http().get("/v2/killed/manifests/1");
        assert_eq!(missing.status, 404, "half an image has a tag");

        let pushed = client.push(&origin, &target);
        assert_eq!(pushed, server.http().digest("killed", "1"), "{client:?}");
        let back = home.path().join("back");
        run(&mut copy(
            &format!("docker://{target}"),
            &format!("dir:{}", back.display()),
        ));
        client.forget();
    }
}

#[test]
fn a_pull_that_was_killed_leaves_the_server_well() {
    let home = folder();
    let mut server = Wharfinger::start(home.path());
    let bytes = noise(3, 64 << 20);
    let digest = server.http().push_blob("pulled", &bytes);
    let path = format!("/v2/pulled/blobs/{digest}");
    for _ in 0..8 {
        // Not one byte is read: the connection is dropped with the kernel's buffers full.
        let connection = server.http().begin("GET", &path, &[], 0).unwrap();
        thread::sleep(Duration::from_millis(20));
        drop(connection);
    }
    assert!(server.http().get(&path).body == bytes);
    let end = bytes.len() - 1000;
    let range = format!("bytes={end}-");
    let rest = server.http().send("GET", &path, &[("Range", &range)], b"");
    assert_eq!((rest.status, rest.body.as_slice()), (206, &bytes[end..]));
    assert!(server.ended().is_none());
}

#[test]
fn an_upload_goes_on_where_it_was_acknowledged() {
    let home = folder();
    let mut server = Wharfinger::start(home.path());
    let bytes = noise(4, 24 << 20);
    let mut location = server.http().open_upload("resumed");
    let mut sent = 0;
    for (turn, size) in [7_000_001, 3, 5 << 20, 1 << 20].into_iter().enumerate() {
        let chunk = &bytes[sent..sent + size];
        let range = format!("{sent}-{}", sent + size - 1);
        let headers = [("Content-Range", range.as_str())];
        let answer = server.http().send("PATCH", &location, &headers, chunk);
        assert_eq!(answer.outcome(), (202, String::new()), "{answer:?}");
        location = answer.location();
        sent += size;
        let expected = format!("0-{}", sent - 1);
        assert_eq!(answer.header("range"), Some(expected.as_str()));

        // Another chunk is under way when the server dies.
        let rest = &bytes[sent..];
        let mut connection = server
            .http()
            .begin("PATCH", &location, &[], rest.len() as u64)
            .unwrap();
        let half = if turn % 2 == 0 { rest.len() / 2 } else { 100 };
        let _ = connection.write_all(&rest[..half]);
        thread::sleep(Duration::from_millis(50));
        server.kill();
        server.start_again();
        let status = server.http().get(&location);
        assert_eq!(status.status, 204, "{status:?}");
        let range = status.header("range").unwrap();
        let known: usize = range.strip_prefix("0-").unwrap().parse().unwrap();
        // More than was acknowledged may have become durable, never less.
        assert!(
            known + 1 >= sent,
            "{range} of {sent} bytes that were acknowledged"
        );
        sent = known + 1;
        location = status.location();
    }
    let wanted = digest(&bytes);
    let done = server
        .http()
        .send("PUT", &with_digest(&location, &wanted), &[], &bytes[sent..]);
    assert_eq!(done.outcome(), (201, String::new()), "{done:?}");
    let got = server.http().get(&format!("/v2/resumed/blobs/{wanted}"));
    assert!(got.body == bytes);
    assert_eq!(uploaded(&server, "resumed"), 0);
}

/// How many kills there are unless `WHARFINGER_E2E_KILLS` says another number.
const KILLS: u64 = 200;

/// How many clients work at once.
const CLIENTS: u64 = 4;

/// How long a collection goes on at the most before it is killed, in kills of the server.
const COLLECTION: usize = 400;

fn kills() -> u64 {
    std::env::var("WHARFINGER_E2E_KILLS").map_or(KILLS, |text| text.parse().expect("a number"))
}

/// Every request there is, on a server that is killed at random moments: while it starts, while it
/// works, and several times in a row, beside a collector that is killed too.
#[test]
fn what_was_acknowledged_outlives_a_server_that_is_killed_again_and_again() {
    let home = folder();
    let mut prey = Prey::new(home.path());
    let names: Vec<String> = (0..CLIENTS)
        .map(|client| format!("load/{client}"))
        .collect();
    let mut repositories: Vec<_> = names.iter().map(|name| Repository::new(name)).collect();
    let mut random = Random(std::process::id().into());
    println!("the seed is {}", random.0);
    let (mut acknowledged, mut rounds, mut collections) = (0, 0_u64, 0);
    let mut collector: Option<(Child, usize)> = None;
    while prey.kills < kills() {
        while random.below(4) == 0 {
            prey.begin();
            thread::sleep(Duration::from_micros(random.below(15_000) as u64));
            prey.kill();
        }
        prey.start();
        for repository in &mut repositories {
            for _ in 0..3 {
                let thing = random.below(repository.things());
                repository.check(prey.http(), thing);
            }
        }
        let stop = AtomicBool::new(false);
        let (http, seed) = (prey.http(), random.below(usize::MAX) as u64);
        acknowledged += thread::scope(|scope| {
            let (names, stop) = (&names, &stop);
            let clients = repositories
                .iter_mut()
                .zip(seed..)
                .map(|(repository, seed)| {
                    let random = Random(seed);
                    let mut client = Client::new(http, repository, names, random);
                    scope.spawn(move || client.work(stop))
                });
            let clients: Vec<_> = clients.collect();
            thread::sleep(Duration::from_micros(random.below(120_000) as u64));
            prey.kill();
            stop.store(true, Ordering::Relaxed);
            let told = clients
                .into_iter()
                .map(|client| client.join().expect("as promised"));
            told.sum::<u64>()
        });
        rounds += 1;
        // One that begins here may find that it has the store alone.
        collector = match collector {
            None if random.below(5) == 0 => Some((prey.collect(), 1 + random.below(COLLECTION))),
            Some((mut child, left)) => match child.try_wait().expect("it is ours") {
                Some(status) => {
                    collections += u64::from(status.success());
                    None
                }
                None if left == 0 => {
                    let _ = child.kill();
                    let _ = child.wait();
                    None
                }
                None => Some((child, left - 1)),
            },
            None => None,
        };
    }
    if let Some((mut child, _)) = collector {
        let _ = child.kill();
        let _ = child.wait();
    }
    prey.start();
    for repository in &mut repositories {
        repository.check_all(prey.http());
    }
    prey.kill();
    // Nobody writes: what is left is sound, and whatever is needed stays.
    assert!(
        prey.collect().wait().expect("it is ours").success(),
        "{}",
        prey.log()
    );
    prey.start();
    for repository in &mut repositories {
        repository.check_all(prey.http());
    }
    let kills = prey.kills;
    println!("{kills} kills, {rounds} of them under load, {collections} collections went through");
    println!("{acknowledged} requests were acknowledged, and nothing of them was lost");
    assert!(acknowledged > kills, "hardly anything was put to the test");
}
