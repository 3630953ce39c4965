//! Bodies of which the connection receives most by itself: however they come, and whatever comes
//! before, between and behind them, their bytes and nothing else are stored.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{Request, Running, Store, deleting, quiet, random};
use wharfinger_oci::Digest;
use wharfinger_storage::MemoryDriver;
use wharfinger_storage::testing::fault::{Cause, Effect, Fault, FaultDriver, Operation};

/// Several buffers and a part of one.
const LENGTH: usize = 3_500_007;

fn whole(content: &[u8]) -> Request {
    let digest = Digest::canonical(content);
    Request::post(&format!("/v2/a/blobs/uploads/?digest={digest}")).body(content)
}

async fn has(server: &Running, content: &[u8]) {
    let digest = Digest::canonical(content);
    let reply = server.get(&format!("/v2/a/blobs/{digest}")).await;
    assert_eq!(reply.status, 200);
    assert!(reply.body == content);
}

/// What follows a body at once is the next request, even when it comes with the body's end.
#[tokio::test]
async fn requests_come_behind_each_other() {
    for store in Store::ALL {
        let server = Running::start(store, deleting(), quiet()).await;
        let (first, second) = (random(1, LENGTH), random(2, LENGTH + 1));
        let small = random(3, 1000);
        let mut all = Vec::new();
        for content in [&first, &small, &second] {
            all.extend(whole(content).to_bytes("a"));
            all.extend(Request::get("/v2/a/tags/list").to_bytes("a"));
        }
        let mut connection = server.connect().await;
        connection.write(&all).await;
        for _ in 0..3 {
            let pushed = connection.reply(false).await.unwrap();
            assert_eq!(pushed.status, 201, "{pushed:?}");
            let listed = connection.reply(false).await.unwrap();
            assert_eq!(listed.status, 200, "{listed:?}");
        }
        for content in [&first, &small, &second] {
            has(&server, content).await;
        }
    }
}

/// A body comes as the network likes it.
#[tokio::test]
async fn bodies_come_in_pieces_of_any_size() {
    let server = support::server().await;
    for (seed, sizes) in [
        (4, &[1_usize][..]),
        (5, &[300_000, 1, 1_048_576]),
        (6, &[4096, 65_536, 131_072]),
        (7, &[1_200_000]),
    ] {
        let content = random(seed, LENGTH);
        let mut connection = server.connect().await;
        let request = whole(&content).to_bytes("a");
        let (head, mut left) = request.split_at(request.len() - LENGTH);
        connection.write(head).await;
        for (turn, size) in sizes.iter().cycle().enumerate() {
            // The sizes that are small go on long enough to meet all that can be half full.
            let size = if turn > 40 { left.len() } else { *size };
            let (now, later) = left.split_at(size.min(left.len()));
            connection.write(now).await;
            left = later;
            if left.is_empty() {
                break;
            }
            if turn % 3 == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        let pushed = connection.reply(false).await.unwrap();
        assert_eq!(pushed.status, 201, "{pushed:?}");
        has(&server, &content).await;
    }
}

/// An upload goes on at any offset, by any kind of request, and what came of a body that broke off
/// is there to its last byte.
#[tokio::test]
async fn uploads_go_on_where_a_body_broke_off() {
    for store in Store::ALL {
        let server = Running::start(store, deleting(), quiet()).await;
        let content = random(8, LENGTH);
        let upload = server.open_upload("a").await;
        let first = Request::patch(&upload).body(&content[..300_001]);
        let mut location = server.send(first).await.location();
        let mut at = 300_001;
        for to in [1_900_000, 1_900_001, 3_111_111] {
            let mut connection = server.connect().await;
            let request = Request::patch(&location)
                .header("content-length", LENGTH - at)
                .body(&content[at..to]);
            connection.write(request.to_bytes("a")).await;
            connection.finish().await;
            let reply = connection.reply(false).await;
            assert!(
                reply.as_ref().is_none_or(|reply| reply.status == 400),
                "{reply:?}"
            );
            let reply = server.get(&upload).await;
            assert_eq!(reply.get("range"), Some(&*format!("0-{}", to - 1)));
            (location, at) = (reply.location(), to);
        }
        let end = format!("{location}&digest={}", Digest::canonical(&content));
        let end = Request::put(&end).body(&content[at..]);
        assert_eq!(server.send(end).await.status, 201);
        has(&server, &content).await;
    }
}

/// A body that comes in chunks, which nobody announced the length of.
#[tokio::test]
async fn bodies_come_in_chunks() {
    for store in Store::ALL {
        let server = Running::start(store, deleting(), quiet()).await;
        let content = random(9, LENGTH);
        let location = server.open_upload("a").await;
        let chunked = Request::patch(&location).streamed(&content[..LENGTH - 5]);
        let reply = server.send(chunked).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        let end = format!(
            "{}&digest={}",
            reply.location(),
            Digest::canonical(&content)
        );
        let end = Request::put(&end).streamed(&content[LENGTH - 5..]);
        assert_eq!(server.send(end).await.status, 201);
        has(&server, &content).await;
    }
}

/// Who fails in the middle of a body says so, and the connection goes on behind the body's end.
#[tokio::test]
async fn a_failure_in_the_middle_leaves_the_connection_usable() {
    let driver = Arc::new(FaultDriver::new(MemoryDriver::new()));
    let server = Running::over(driver.clone(), deleting(), quiet()).await;
    let content = random(10, 2 * LENGTH);
    let mut connection = server.connect().await;
    for written in 0..3 {
        let fault = Fault::new(Effect::Fail(Cause::NoSpace)).on(Operation::Write);
        driver.plan(fault.after(written).times(1));
        let reply = connection.send(&whole(&content)).await;
        assert_eq!(reply.status, 507, "{reply:?}");
        driver.clear();
        let next = connection.send(&Request::get("/v2/")).await;
        assert_eq!(next.status, 200);
    }
    let reply = connection.send(&whole(&content)).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    has(&server, &content).await;
}
