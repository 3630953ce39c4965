//! Writing.

use bytes::Bytes;

use super::{Place, content};
use crate::{Durability, Error, WriteMode};

async fn write_and_read(place: &Place, below: &str, bytes: impl Into<Bytes>) {
    let bytes = bytes.into();
    place.put(below, bytes.clone()).await;
    assert!(place.get(below).await == bytes);
    let streamed = format!("{below}-streamed");
    place
        .write(&streamed, WriteMode::Create, vec![bytes.clone()])
        .await;
    assert!(place.get(&streamed).await == bytes);
    assert!(place.read_from(&streamed, 0).await == bytes);
    assert_eq!(
        place
            .driver
            .stat(&place.path(&streamed))
            .await
            .unwrap()
            .size,
        bytes.len() as u64
    );
}

/// A few bytes, whole and streamed.
pub async fn write_and_read_small(place: Place) {
    write_and_read(&place, "one", "a").await;
    write_and_read(&place, "text", "\u{df}").await;
    write_and_read(&place, "some", content(32)).await;
    place.remove().await;
}

/// Megabytes, whole and streamed.
pub async fn write_and_read_large(place: Place) {
    write_and_read(&place, "whole", content(1024 * 1024)).await;
    write_and_read(&place, "odd", content(5 * 1024 * 1024 + 3)).await;
    place.remove().await;
}

/// Content is bytes, not text.
pub async fn bytes_of_any_kind(place: Place) {
    write_and_read(&place, "no-utf8", vec![0x80; 4]).await;
    write_and_read(&place, "each", (0..=255).collect::<Vec<u8>>()).await;
    write_and_read(&place, "zeros", vec![0; 70_000]).await;
    place.remove().await;
}

/// A file may be empty.
pub async fn empty_files(place: Place) {
    write_and_read(&place, "empty", "").await;
    assert!(
        !place
            .driver
            .stat(&place.path("empty"))
            .await
            .unwrap()
            .is_dir
    );
    place.remove().await;
}

/// Nothing of a longer file is left behind a shorter one.
pub async fn put_replaces_longer_and_shorter(place: Place) {
    for size in [1024 * 1024, 1024, 0, 2048] {
        write_and_read(&place, "file", content(size)).await;
    }
    place.remove().await;
}

/// A put does not go on where the last one ended.
pub async fn put_again_and_again(place: Place) {
    for i in 0..20 {
        place.put("file", format!("content {i}")).await;
    }
    assert_eq!(place.get("file").await, "content 19");
    assert_eq!(place.names("", None, None).await, ["file"]);
    place.remove().await;
}

async fn append_in_sessions(place: &Place, size: usize) {
    let whole = content(3 * size);
    let path = place.path("file");
    let mut writer = place.driver.writer(&path, WriteMode::Create).await.unwrap();
    for (i, part) in [&whole[..size], &whole[size..2 * size], &whole[2 * size..]]
        .iter()
        .enumerate()
    {
        assert_eq!(writer.size(), (i * size) as u64);
        writer
            .write(vec![Bytes::copy_from_slice(part)])
            .await
            .unwrap();
        assert_eq!(writer.size(), ((i + 1) * size) as u64);
        let at = writer.size();
        writer.close().await.unwrap();
        let stat = place.driver.stat(&path).await.unwrap();
        assert_eq!((stat.size, stat.is_dir), (at, false));
        if !place.driver.has_only_objects() {
            assert!(place.get("file").await == whole[..(i + 1) * size]);
        }
        writer = place
            .driver
            .writer(&path, WriteMode::Append { at })
            .await
            .unwrap();
    }
    writer.commit().await.unwrap();
    assert!(place.get("file").await == whole);
}

/// A file grows over several writers by a few bytes.
pub async fn append_small(place: Place) {
    append_in_sessions(&place, 32).await;
    place.remove().await;
}

/// A file grows over several writers by megabytes.
pub async fn append_large(place: Place) {
    append_in_sessions(&place, 10 * 1024 * 1024).await;
    place.remove().await;
}

/// Only what is there can be gone on with.
pub async fn append_to_nothing(place: Place) {
    let path = place.path("no/file");
    for at in [0, 7] {
        let error = place.driver.writer(&path, WriteMode::Append { at }).await;
        assert!(error.expect_err("no writer").is_not_found());
    }
    assert!(
        place.is_missing("no").await,
        "a failed append makes no folder"
    );
    place.remove().await;
}

/// Going on before the end drops what lies behind.
pub async fn append_cuts_what_is_behind(place: Place) {
    place.put("file", "0123456789").await;
    place
        .write("file", WriteMode::Append { at: 4 }, vec!["xy".into()])
        .await;
    assert_eq!(place.get("file").await, "0123xy");
    place
        .write("file", WriteMode::Append { at: 2 }, vec![])
        .await;
    assert_eq!(place.get("file").await, "01");
    place
        .write("file", WriteMode::Append { at: 0 }, vec!["z".into()])
        .await;
    assert_eq!(place.get("file").await, "z");
    place.remove().await;
}

/// A file has no holes.
pub async fn append_beyond_the_end(place: Place) {
    place.put("file", "0123456789").await;
    let path = place.path("file");
    for at in [11, u64::MAX >> 1] {
        match place.driver.writer(&path, WriteMode::Append { at }).await {
            Err(Error::InvalidOffset {
                path: named,
                offset,
            }) => {
                assert_eq!((named, offset), (path.clone(), at));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(place.get("file").await, "0123456789");
    place.remove().await;
}

/// An empty file can be gone on with, however it was made.
pub async fn append_to_an_empty_file(place: Place) {
    place.put("put", "").await;
    place.write("written", WriteMode::Create, vec![]).await;
    for file in ["put", "written"] {
        assert!(place.read_from(file, 0).await.is_empty());
        place
            .write(file, WriteMode::Append { at: 0 }, vec![content(32)])
            .await;
        assert_eq!(place.get(file).await, content(32));
    }
    place.remove().await;
}

/// A file that is written anew is the old one until the writer ends.
pub async fn create_replaces_at_the_end(place: Place) {
    for commits in [false, true] {
        place.put("file", "old and longer").await;
        let path = place.path("file");
        let mut writer = place.driver.writer(&path, WriteMode::Create).await.unwrap();
        assert_eq!(writer.size(), 0);
        writer.write(vec!["new".into()]).await.unwrap();
        assert_eq!(place.get("file").await, "old and longer");
        assert_eq!(
            place.names("", None, None).await,
            ["file"],
            "something else is in sight"
        );
        let end = if commits {
            writer.commit()
        } else {
            writer.close()
        };
        end.await.unwrap();
        assert_eq!(place.get("file").await, "new");
    }
    place.remove().await;
}

/// A file that was to be written anew stays when the writer gives up.
pub async fn create_cancelled_keeps_the_old(place: Place) {
    place.put("file", "old").await;
    let path = place.path("file");
    let mut writer = place.driver.writer(&path, WriteMode::Create).await.unwrap();
    writer.write(vec!["new".into()]).await.unwrap();
    writer.cancel().await.unwrap();
    assert_eq!(place.get("file").await, "old");
    place.remove().await;
}

/// What is given up is gone.
pub async fn cancel_removes(place: Place) {
    let path = place.path("file");
    let mut writer = place.driver.writer(&path, WriteMode::Create).await.unwrap();
    writer.write(vec![content(100_000)]).await.unwrap();
    writer.cancel().await.unwrap();
    assert!(place.is_missing("file").await);

    let mut writer = place.driver.writer(&path, WriteMode::Create).await.unwrap();
    writer.write(vec!["some".into()]).await.unwrap();
    writer.close().await.unwrap();
    let writer = place
        .driver
        .writer(&path, WriteMode::Append { at: 4 })
        .await
        .unwrap();
    writer.cancel().await.unwrap();
    assert!(place.is_missing("file").await);
    place.remove().await;
}

/// A writer that is dropped leaves what was durable and perhaps a beginning of what was not.
pub async fn drop_without_close(place: Place) {
    let path = place.path("file");
    let mut writer = place.driver.writer(&path, WriteMode::Create).await.unwrap();
    writer.write(vec!["first ".into()]).await.unwrap();
    writer.close().await.unwrap();
    let mut writer = place
        .driver
        .writer(&path, WriteMode::Append { at: 6 })
        .await
        .unwrap();
    writer.write(vec!["second".into()]).await.unwrap();
    drop(writer);
    let left = place.get("file").await;
    assert!(
        left.len() >= 6 && b"first second".starts_with(&left),
        "{left:?}"
    );

    // And the path can be gone on with.
    let at = left.len() as u64;
    place
        .write("file", WriteMode::Append { at }, vec!["!".into()])
        .await;
    assert_eq!(place.get("file").await, [&left[..], b"!"].concat());

    place.put("old", "old").await;
    let mut writer = place
        .driver
        .writer(&place.path("old"), WriteMode::Create)
        .await
        .unwrap();
    writer.write(vec!["new".into()]).await.unwrap();
    drop(writer);
    assert_eq!(place.get("old").await, "old");
    place.remove().await;
}

/// More buffers than a system call takes, empty ones among them, arrive in order.
pub async fn many_buffers_in_one_write(place: Place) {
    let buffers: Vec<Bytes> = (0..3000_usize).map(|i| content(i % 50)).collect();
    let path = place.path("file");
    let mut writer = place.driver.writer(&path, WriteMode::Create).await.unwrap();
    writer.write(buffers.clone()).await.unwrap();
    writer.write(vec![]).await.unwrap();
    writer.write(vec![Bytes::new()]).await.unwrap();
    writer.write(buffers.clone()).await.unwrap();
    writer.commit().await.unwrap();
    assert!(place.get("file").await == [buffers.concat(), buffers.concat()].concat());
    place.remove().await;
}

/// The latest writer of a path is the only one.
pub async fn a_new_writer_ends_the_old(place: Place) {
    let path = place.path("file");
    let mut old = place.driver.writer(&path, WriteMode::Create).await.unwrap();
    old.write(vec!["0123".into()]).await.unwrap();
    if place.driver.has_only_objects() {
        // There is nothing yet that another could go on with.
        old.close().await.unwrap();
        let mode = WriteMode::Append { at: 4 };
        old = place.driver.writer(&path, mode).await.unwrap();
    }
    let mut new = place
        .driver
        .writer(&path, WriteMode::Append { at: 2 })
        .await
        .unwrap();
    new.write(vec!["new".into()]).await.unwrap();
    old.write(vec!["old".into()])
        .await
        .expect_err("the old writer still writes");
    old.commit()
        .await
        .expect_err("the old writer still commits");
    new.write(vec![" end".into()]).await.unwrap();
    new.commit().await.unwrap();
    assert_eq!(place.get("file").await, "01new end");
    place.remove().await;
}

/// Both durabilities write the same.
pub async fn both_durabilities(place: Place) {
    for durability in [Durability::Process, Durability::Machine] {
        for file in ["deep/below/file", "file"] {
            let bytes = format!("{durability:?}");
            let path = place.path(file);
            place
                .driver
                .put(&path, bytes.clone().into(), durability)
                .await
                .unwrap();
            assert_eq!(place.get(file).await, bytes);
        }
    }
    if place.driver.has_only_objects() {
        return place.remove().await;
    }
    let onto_folder = place
        .driver
        .put(&place.path("deep"), "x".into(), Durability::Machine)
        .await;
    match onto_folder {
        Err(Error::WrongKind {
            path,
            expected: "a file",
        }) => assert_eq!(path, place.path("deep")),
        other => panic!("{other:?}"),
    }
    assert_eq!(place.names("", None, None).await, ["deep", "file"]);
    place.remove().await;
}

/// Files put together are all there, replace what was, and stop at the step that fails.
pub async fn put_together(place: Place) {
    let file = |below: &str, content: &'static str| (place.path(below), Bytes::from(content));
    place.put("tag/current", "old").await;
    let steps = vec![
        vec![file("blob/data", "bytes")],
        vec![file("tag/index/link", "new"), file("tag/current", "new")],
    ];
    place.driver.put_all(steps).await.unwrap();
    assert_eq!(place.get("blob/data").await, "bytes");
    assert_eq!(place.get("tag/index/link").await, "new");
    assert_eq!(place.get("tag/current").await, "new");
    place.driver.put_all(Vec::new()).await.unwrap();

    if place.driver.has_only_objects() {
        return place.remove().await;
    }
    let below_a_file = vec![
        vec![file("blob/data/x", "x")],
        vec![file("tag/current", "newer")],
    ];
    assert!(matches!(
        place.driver.put_all(below_a_file).await,
        Err(Error::WrongKind { .. })
    ));
    assert_eq!(place.get("tag/current").await, "new");
    place.remove().await;
}

/// A file is moved before others appear, replacing one that was there; what is not there cannot be,
/// and then nothing else appears.
pub async fn move_and_put_together(place: Place) {
    let file = |below: &str, content: &'static str| (place.path(below), Bytes::from(content));
    place.put("upload/data", "bytes").await;
    place.put("blob/data", "damaged").await;
    let steps = || {
        vec![
            vec![file("link/1", "a"), file("link/2", "b")],
            vec![file("tag", "c")],
        ]
    };
    let (from, to) = (place.path("upload/data"), place.path("blob/data"));
    let driver = &place.driver;
    driver.move_and_put_all(&from, &to, steps()).await.unwrap();
    assert_eq!(place.get("blob/data").await, "bytes");
    for (below, content) in [("link/1", "a"), ("link/2", "b"), ("tag", "c")] {
        assert_eq!(place.get(below).await, content);
    }
    assert!(driver.stat(&from).await.unwrap_err().is_not_found());

    let steps = vec![vec![file("late", "x")]];
    let gone = driver.move_and_put_all(&from, &to, steps).await;
    assert!(gone.unwrap_err().is_not_found());
    assert_eq!(place.get("blob/data").await, "bytes");
    let late = driver.stat(&place.path("late")).await;
    assert!(late.unwrap_err().is_not_found());

    place.put("upload/data", "alone").await;
    driver
        .move_and_put_all(&from, &to, Vec::new())
        .await
        .unwrap();
    assert_eq!(place.get("blob/data").await, "alone");
    place.remove().await;
}
