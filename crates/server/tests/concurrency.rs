//! Many clients at once, on threads of their own: pushes of the same, reads during pushes, two
//! requests for one upload, deletions beside pushes.

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use support::{Request, Running, Store, deleting, quiet, random};
use wharfinger_oci::Digest;
use wharfinger_registry::layout;

async fn servers() -> Vec<Arc<Running>> {
    let mut servers = Vec::new();
    for store in Store::ALL {
        servers.push(Arc::new(Running::start(store, deleting(), quiet()).await));
    }
    servers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_blob_is_pushed_by_many() {
    for server in servers().await {
        for (seed, size) in [(1, 1000), (2, 400_000)] {
            let content = random(seed, size);
            let digest = Digest::canonical(&content);
            let pushes = (0..24).map(|n| {
                let (server, content) = (Arc::clone(&server), content.clone());
                tokio::spawn(async move {
                    let name = format!("r{}", n % 3);
                    match n % 2 {
                        0 => server.push_blob(&name, &content).await,
                        _ => {
                            let upload = server.open_upload(&name).await;
                            let put = Request::put(&format!("{upload}&digest={digest}"))
                                .streamed(&content);
                            assert_eq!(server.send(put).await.status, 201);
                            digest
                        }
                    };
                    // What was acknowledged is there at once.
                    let reply = server.get(&format!("/v2/{name}/blobs/{digest}")).await;
                    assert!(reply.status == 200 && reply.body == content, "{reply:?}");
                })
            });
            for push in join_all(pushes.collect::<Vec<_>>()).await {
                push.unwrap();
            }
        }
        for n in 0..3 {
            let uploads = layout::uploads(&format!("r{n}").parse().unwrap());
            match server.driver.list(&uploads, None, None).await {
                Ok(left) => assert!(left.is_empty(), "{left:?}"),
                Err(error) => assert!(error.is_not_found(), "{error}"),
            }
        }
    }
}

/// "A tag read during a push gives the old manifest or the new one, never neither" (semantics,
/// "Consistency").
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tag_is_always_one_of_its_manifests() {
    for server in servers().await {
        let mut images = Vec::new();
        for seed in 0..4 {
            images.push(server.image("tag", seed, "").await);
        }
        assert_eq!(
            server.push_manifest("tag", "t", &images[0]).await.status,
            201
        );
        let images = Arc::new(images);
        let done = Arc::new(AtomicBool::new(false));
        let readers = (0..3).map(|_| {
            let (server, images, done) =
                (Arc::clone(&server), Arc::clone(&images), Arc::clone(&done));
            tokio::spawn(async move {
                let mut connection = server.connect().await;
                let mut seen = HashSet::new();
                while !done.load(Ordering::Relaxed) {
                    let reply = connection.send(&Request::get("/v2/tag/manifests/t")).await;
                    assert_eq!(reply.status, 200, "{reply:?}");
                    let found = images.iter().find(|image| image.bytes == reply.body);
                    let digest = found
                        .expect("it is one that was pushed")
                        .digest()
                        .to_string();
                    assert_eq!(reply.get("docker-content-digest"), Some(&*digest));
                    seen.insert(digest);
                }
                seen.len()
            })
        });
        let readers: Vec<_> = readers.collect();
        let writers = (0..4).map(|n| {
            let (server, images) = (Arc::clone(&server), Arc::clone(&images));
            tokio::spawn(async move {
                for round in 0..25 {
                    let image = &images[(n + round) % images.len()];
                    let reply = server.push_manifest("tag", "t", image).await;
                    assert_eq!(reply.status, 201, "{reply:?}");
                }
            })
        });
        for writer in join_all(writers.collect::<Vec<_>>()).await {
            writer.unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.await.unwrap() > 1, "the tag moved while it was read");
        }
        for image in &*images {
            let reply = server
                .get(&format!("/v2/tag/manifests/{}", image.digest()))
                .await;
            assert!(reply.body == image.bytes);
        }
    }
}

/// Of two chunks for one offset of one upload, one is taken and the other is told where the
/// upload is.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_two_chunks_wins() {
    for server in servers().await {
        for size in [1000, 300_000] {
            let upload = server.open_upload("race").await;
            let contents: Vec<_> = (0..6).map(|seed| random(seed, size)).collect();
            let chunks = contents.iter().map(|content| {
                let (server, upload, content) =
                    (Arc::clone(&server), upload.clone(), content.clone());
                tokio::spawn(
                    async move { server.send(Request::patch(&upload).body(&content)).await },
                )
            });
            let mut winner = None;
            for (n, reply) in join_all(chunks.collect::<Vec<_>>())
                .await
                .into_iter()
                .enumerate()
            {
                let reply = reply.unwrap();
                assert_eq!(
                    reply.get("range"),
                    Some(&*format!("0-{}", size - 1)),
                    "{reply:?}"
                );
                match reply.status {
                    202 => assert!(winner.replace((n, reply)).is_none(), "two were taken"),
                    416 => {}
                    _ => panic!("{reply:?}"),
                }
            }
            let (n, reply) = winner.expect("one is taken");
            let digest = Digest::canonical(&contents[n]);
            let put = Request::put(&format!("{}&digest={digest}", reply.location()));
            assert_eq!(
                server.send(put).await.status,
                201,
                "the winner's bytes are whole"
            );
            assert!(server.get(&format!("/v2/race/blobs/{digest}")).await.body == contents[n]);
        }
    }
}

/// An upload is ended once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_two_ends_wins() {
    for server in servers().await {
        for round in 0..10 {
            let content = random(round, 100_000);
            let digest = Digest::canonical(&content);
            let upload = server.open_upload("end").await;
            let reply = server.send(Request::patch(&upload).body(&content)).await;
            let close = format!("{}&digest={digest}", reply.location());
            let requests = [
                Request::put(&close),
                Request::new("DELETE", &reply.location()),
                Request::put(&close),
            ];
            let ends = requests.map(|request| {
                let server = Arc::clone(&server);
                tokio::spawn(async move { server.send(request).await })
            });
            let mut ended = 0;
            let mut pushed = false;
            for reply in join_all(ends).await {
                let reply = reply.unwrap();
                match reply.status {
                    201 | 204 => {
                        ended += 1;
                        pushed |= reply.status == 201;
                    }
                    _ => reply.is_error(404, "BLOB_UPLOAD_UNKNOWN"),
                }
            }
            assert_eq!(ended, 1);
            let head = server.head(&format!("/v2/end/blobs/{digest}")).await;
            assert_eq!(head.status == 200, pushed);
        }
    }
}

/// A push beside the deletion of what it names comes before it or after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_push_beside_a_deletion_is_whole_or_refused() {
    for server in servers().await {
        for round in 0..15 {
            let image = server.image("both", round, "").await;
            let layer = Digest::canonical(&random(round, 500));
            let (pusher, deleter) = (Arc::clone(&server), Arc::clone(&server));
            let path = format!("/v2/both/blobs/{layer}");
            let deleted = path.clone();
            let (pushed, deleted) = tokio::join!(
                tokio::spawn(async move { pusher.push_manifest("both", "t", &image).await }),
                tokio::spawn(async move { deleter.delete(&deleted).await }),
            );
            assert_eq!(deleted.unwrap().status, 202);
            let pushed = pushed.unwrap();
            match pushed.status {
                // Pushed first: deleting a layer of it is the client's own doing.
                201 => {}
                _ => pushed.is_error(400, "MANIFEST_BLOB_UNKNOWN"),
            }
            assert_eq!(
                server.head(&path).await.status,
                404,
                "the deletion was acknowledged"
            );
        }
    }
}

/// Tags, manifests and repositories come and go; listings never fail meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn listings_go_on_beside_pushes_and_deletions() {
    for server in servers().await {
        server.push_image("stays", "t", 0).await;
        let done = Arc::new(AtomicBool::new(false));
        let lister = {
            let (server, done) = (Arc::clone(&server), Arc::clone(&done));
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let catalog = server.get("/v2/_catalog").await;
                    assert_eq!(catalog.status, 200, "{catalog:?}");
                    let names = catalog.json()["repositories"].as_array().unwrap().clone();
                    assert!(names.iter().any(|name| name == "stays"), "{names:?}");
                    let tags = server.get("/v2/stays/tags/list").await.json()["tags"].clone();
                    assert!(
                        tags.as_array().unwrap().iter().any(|tag| tag == "t"),
                        "{tags}"
                    );
                }
            })
        };
        let changers = (1..4).map(|n| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                for round in 0..10 {
                    let image = server
                        .push_image("stays", &format!("x{n}"), n * 100 + round)
                        .await;
                    server.push_image(&format!("new/{n}/{round}"), "t", n).await;
                    let path = match round % 2 {
                        0 => format!("/v2/stays/manifests/x{n}"),
                        _ => format!("/v2/stays/manifests/{}", image.digest()),
                    };
                    let reply = server.delete(&path).await;
                    assert_eq!(reply.status, 202, "{reply:?}");
                    assert_eq!(server.get(&path).await.status, 404);
                }
            })
        });
        for changer in join_all(changers.collect::<Vec<_>>()).await {
            changer.unwrap();
        }
        done.store(true, Ordering::Relaxed);
        lister.await.unwrap();
        assert_eq!(
            server.get("/v2/stays/tags/list").await.json()["tags"],
            serde_json::json!(["t"])
        );
    }
}
