//! Many at once, and some that leave halfway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::{Place, content};
use crate::{Durability, WriteMode};

async fn all(tasks: Vec<JoinHandle<()>>) {
    for result in join_all(tasks).await {
        if let Err(error) = result {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Readers of one file from many offsets do not disturb each other.
pub async fn many_readers_of_one_file(place: Place) {
    let whole = content(8 * 1024 * 1024);
    place.put("file", whole.clone()).await;
    let tasks = (0..16_usize).map(|i| {
        let (place, whole) = (place.clone(), whole.clone());
        tokio::spawn(async move {
            let offset = i * whole.len() / 16 + i;
            assert!(place.read_from("file", offset as u64).await == whole[offset..]);
        })
    });
    all(tasks.collect()).await;
    place.remove().await;
}

/// Writers of different files, more than there are threads, all come to an end.
pub async fn many_writers_of_many_files(place: Place) {
    let tasks = (0..64_usize).map(|i| {
        let place = place.clone();
        tokio::spawn(async move {
            let name = format!("folder/{i}/data");
            let path = place.path(&name);
            let mut writer = place.driver.writer(&path, WriteMode::Create).await.unwrap();
            for _ in 0..4 {
                writer
                    .write(vec![content(i * 1000), content(i)])
                    .await
                    .unwrap();
            }
            writer.commit().await.unwrap();
            let once = [content(i * 1000), content(i)].concat();
            assert!(place.get(&name).await == once.repeat(4));
        })
    });
    all(tasks.collect()).await;
    place.remove().await;
}

/// Runs `change` over and over while others look whether `seen` is one whole content.
async fn watched<F: Future<Output = ()> + Send>(
    place: &Place,
    versions: [Bytes; 2],
    change: impl Fn(Place, Bytes) -> F + Send,
) {
    let done = Arc::new(AtomicBool::new(false));
    let watchers = (0..4).map(|i| {
        let (place, versions, done) = (place.clone(), versions.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let seen = match i % 2 {
                    0 => place.get("file").await,
                    _ => place.read_from("file", 0).await.into(),
                };
                assert!(
                    versions.contains(&seen),
                    "{} bytes of neither version",
                    seen.len()
                );
                tokio::task::yield_now().await;
            }
        })
    });
    let watchers: Vec<_> = watchers.collect();
    for i in 0..60 {
        change(place.clone(), versions[i % 2].clone()).await;
        if watchers.iter().any(JoinHandle::is_finished) {
            break;
        }
    }
    done.store(true, Ordering::Relaxed);
    all(watchers).await;
}

/// Whoever reads a file while it is put sees the old content or the new.
pub async fn put_is_atomic_under_readers(place: Place) {
    let versions = [content(500_000), content(20)];
    place.put("file", versions[0].clone()).await;
    watched(&place, versions, |place, bytes| async move {
        place.put("file", bytes).await
    })
    .await;
    place.remove().await;
}

/// Whoever reads a file while another is moved onto it sees the old content or the new.
pub async fn move_is_atomic_under_readers(place: Place) {
    let versions = [content(500_000), content(20)];
    place.put("file", versions[0].clone()).await;
    watched(&place, versions, |place, bytes| async move {
        place.put("next", bytes).await;
        place
            .driver
            .rename(&place.path("next"), &place.path("file"))
            .await
            .unwrap();
    })
    .await;
    place.remove().await;
}

/// Files are put into a folder that others keep removing: every put works.
pub async fn put_and_delete_race(place: Place) {
    let writers = (0..4).map(|i| {
        let place = place.clone();
        tokio::spawn(async move {
            for j in 0..25 {
                place.put(&format!("shared/deep/{i}"), format!("{j}")).await;
                let path = place.path(&format!("shared/moved/{i}"));
                place.put(&format!("from{i}"), "x").await;
                place
                    .driver
                    .rename(&place.path(&format!("from{i}")), &path)
                    .await
                    .unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    while !writers.iter().all(JoinHandle::is_finished) {
        match place.driver.delete(&place.path("shared")).await {
            Err(error) if !error.is_not_found() => panic!("{error}"),
            _ => tokio::task::yield_now().await,
        }
    }
    all(writers).await;
    place.put("shared/deep/last", "whole").await;
    assert_eq!(place.get("shared/deep/last").await, "whole");
    place.remove().await;
}

/// Files are put into folders that others remove whenever they are empty: every write works, and
/// nothing that was written goes.
pub async fn put_and_remove_empty_race(place: Place) {
    let writers = (0..4).map(|i| {
        let place = place.clone();
        tokio::spawn(async move {
            for j in 0..25 {
                let file = format!("shared/{i}/deep/{j}");
                if j % 2 == 0 {
                    place.put(&file, "x").await;
                } else {
                    let path = place.path(&file);
                    let writer = place.driver.writer(&path, WriteMode::Create).await;
                    let mut writer = writer.unwrap();
                    writer.write(vec!["x".into()]).await.unwrap();
                    writer.commit().await.unwrap();
                }
                assert_eq!(place.get(&file).await, "x");
                place.driver.delete(&place.path(&file)).await.unwrap();
            }
            place.put(&format!("shared/{i}/deep/last"), "x").await;
        })
    });
    let writers: Vec<_> = writers.collect();
    while !writers.iter().all(JoinHandle::is_finished) {
        for i in 0..4 {
            for below in [format!("shared/{i}/deep"), format!("shared/{i}")] {
                place
                    .driver
                    .remove_empty(&place.path(&below))
                    .await
                    .unwrap();
            }
        }
        tokio::task::yield_now().await;
    }
    all(writers).await;
    for i in 0..4 {
        assert_eq!(place.get(&format!("shared/{i}/deep/last")).await, "x");
    }
    place.remove().await;
}

/// Operations whose futures are dropped halfway have happened or not, and an abandoned write
/// does not reach into the file of the writer that comes after.
pub async fn abandoned_operations(place: Place) {
    let versions = [content(300_000), content(40)];
    place.put("file", versions[0].clone()).await;
    place.put("log", "kept ").await;
    let large = content(2_000_000);
    for i in 0..60_u64 {
        let wait = Duration::from_micros(i * 20);
        let bytes = versions[(i % 2) as usize].clone();
        let path = place.path("file");
        let put = place.driver.put(&path, bytes, Durability::Process);
        let _ = tokio::time::timeout(wait, put).await;
        let seen = place.get("file").await;
        assert!(
            versions.contains(&seen),
            "{} bytes of neither version",
            seen.len()
        );

        let path = place.path("log");
        let mode = WriteMode::Append { at: 5 };
        let mut abandoned = place.driver.writer(&path, mode).await.unwrap();
        let write = abandoned.write(vec![large.clone()]);
        if tokio::time::timeout(wait, write).await.is_err() {
            abandoned
                .write(vec!["more".into()])
                .await
                .expect_err("nobody knows where to go on");
        }
        drop(abandoned);
        place.write("log", mode, vec!["and whole".into()]).await;
        assert_eq!(place.get("log").await, "kept and whole");
    }
    assert_eq!(place.names("", None, None).await, ["file", "log"]);
    place.remove().await;
}
