//! Large blobs, which the kernel sends from their files: over TCP and Unix sockets, several one
//! after the other over a connection, read slowly, and cut short.

mod support;

use std::fs::OpenOptions;
use std::sync::Arc;

use support::{Request, Running, Store, deleting, quiet, random};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use wharfinger_registry::layout;
use wharfinger_server::{Listener, Server};
use wharfinger_storage::{FilesystemDriver, FilesystemOptions};

/// More than is sent at once, and than the buffers of a socket take.
const LARGE: usize = 9_000_001;

#[tokio::test]
async fn answers_come_one_after_the_other_whatever_they_are_made_of() {
    let server = Running::start(Store::Folder, deleting(), quiet()).await;
    let blobs = [LARGE, 100, 700_000, 70_000].map(|size| random(size as u64, size));
    let mut connection = server.connect().await;
    let mut requests = Vec::new();
    let mut wanted = Vec::new();
    for turn in 0..3 {
        for blob in &blobs {
            let digest = server.push_blob("a", blob).await;
            let path = format!("/v2/a/blobs/{digest}");
            let (from, to) = (turn * 17, blob.len() - turn * 13);
            let range = format!("bytes={from}-{}", to - 1);
            requests.push(Request::get(&path).header("range", range));
            wanted.push(&blob[from..to]);
        }
    }
    // All at once: the next answer is made while the last one is still being sent.
    let host = connection.host().to_owned();
    let bytes = requests.iter().map(|request| request.to_bytes(&host));
    connection.write(bytes.collect::<Vec<_>>().concat()).await;
    for wanted in wanted {
        let reply = connection.reply(false).await.unwrap();
        assert_eq!(reply.status, 206);
        assert!(reply.body == wanted, "{} bytes", wanted.len());
    }
}

#[tokio::test]
async fn a_file_that_becomes_shorter_breaks_the_connection() {
    let folder = TempDir::new().unwrap();
    let driver = FilesystemDriver::new(FilesystemOptions::new(folder.path())).unwrap();
    let server = Running::over(Arc::new(driver), deleting(), quiet()).await;
    // The client does not read, so that most of it is not sent yet when the file becomes shorter.
    let blob = random(1, 4 * LARGE);
    let digest = server.push_blob("a", &blob).await;
    let mut connection = server.connect().await;
    let get = Request::get(&format!("/v2/a/blobs/{digest}"));
    connection.write(get.to_bytes("here")).await;
    connection.wait_for_answer().await;
    let path = layout::blob_data(&digest).to_string();
    let file = folder.path().join(path.trim_start_matches('/'));
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(1_000_000).unwrap();
    let read = connection.read_to_end().await;
    assert!(read < blob.len(), "{read} bytes came");
    // Nobody else is concerned.
    let other = random(2, LARGE);
    let digest = server.push_blob("a", &other).await;
    assert!(server.get(&format!("/v2/a/blobs/{digest}")).await.body == other);
}

#[tokio::test]
async fn files_go_over_unix_sockets() {
    let mut server = Running::start(Store::Folder, deleting(), quiet()).await;
    let blob = random(3, LARGE);
    let digest = server.push_blob("a", &blob).await;
    server.stop().await.unwrap();

    let folder = TempDir::new().unwrap();
    let path = folder.path().join("socket").display().to_string();
    let listener = Listener::unix(&path).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = Server::new(server.registry.clone(), quiet()).serve(listener, async {
        let _ = stopped.await;
    });
    let serving = tokio::spawn(serving);
    let mut socket = UnixStream::connect(&path).await.unwrap();
    let get = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(get.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(answer.ends_with(&blob));
    drop(stop);
    serving.await.unwrap();
}
