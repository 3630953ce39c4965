//! Uploads: resuming, digests, and what is left when they fail.

mod support;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use support::{append, content, name, push, registry, with};
use wharfinger_oci::{Algorithm, Digest};
use wharfinger_registry::{
    Content, Error, Options, PurgeSchedule, Registry, Repository, Upload, layout,
};
use wharfinger_storage::{Driver, Durability};

const LARGE: usize = 3_500_000;

async fn read(repository: &Repository, digest: &Digest) -> Bytes {
    let blobs = repository.blobs();
    let descriptor = blobs.stat(digest).await.unwrap();
    let mut bytes = Vec::new();
    match blobs.open(&descriptor, 0..descriptor.size).await.unwrap() {
        Content::Bytes(content) => bytes.extend_from_slice(&content),
        Content::Stream { mut reader, length } => {
            use futures_util::StreamExt;
            while let Some(piece) = reader.next().await {
                bytes.extend_from_slice(&piece.unwrap());
            }
            assert_eq!(bytes.len() as u64, length);
        }
        Content::File { mut file, range } => {
            use std::io::{Read, Seek};
            file.seek(io::SeekFrom::Start(range.start)).unwrap();
            file.take(range.end - range.start)
                .read_to_end(&mut bytes)
                .unwrap();
        }
    }
    bytes.into()
}

async fn uploads_left(driver: &dyn Driver, repository: &Repository) -> usize {
    match driver
        .list(&layout::uploads(repository.name()), None, None)
        .await
    {
        Ok(entries) => entries.len(),
        Err(error) if error.is_not_found() => 0,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn content_of_every_size_comes_back() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("a/b"));
    for length in [0, 1, 63, 64, 65_535, 65_536, 65_537, 1 << 20, LARGE] {
        let bytes = content(1, length);
        let descriptor = push(&repository, &bytes).await;
        assert_eq!(descriptor.size, length as u64);
        assert!(
            read(&repository, &descriptor.digest).await == bytes,
            "{length} bytes"
        );
    }
    assert_eq!(uploads_left(&*driver, &repository).await, 0);
}

#[tokio::test]
async fn an_upload_goes_on_in_another_process() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("a"));
    let bytes = content(2, LARGE);
    let cuts = [
        vec![0],
        vec![0, 0],
        vec![1],
        vec![70_000],
        vec![1, 2, 2_000_000],
        vec![1000, 60_000, 65_000, 90_000, 90_001],
    ];
    // A client that brings back what it was told, and one that does not.
    let cases = cuts.iter().flat_map(|cuts| [(cuts, true), (cuts, false)]);
    for (cuts, brings) in cases {
        let upload = repository.blobs().create(Algorithm::Sha256).unwrap();
        let id = upload.id().clone();
        let told = |upload: &Upload| brings.then(|| upload.progress().told());
        let mut known = told(&upload);
        upload.pause().await.unwrap();
        let mut at = 0;
        for cut in cuts.iter().copied().chain([LARGE]) {
            // Nothing but the store is carried over.
            let other = wharfinger_registry::Registry::new(driver.clone(), Options::default());
            let other = other.unwrap().repository(&name("a"));
            let mut upload = other
                .blobs()
                .resume(&id, known, Algorithm::CANONICAL)
                .await
                .unwrap();
            assert_eq!(upload.offset(), at as u64);
            append(&mut upload, &bytes.slice(at..cut)).await.unwrap();
            at = cut;
            known = told(&upload);
            upload.pause().await.unwrap();
            let progress = repository.blobs().progress(&id, known).await.unwrap();
            assert_eq!(progress.offset, at as u64);
        }
        let upload = repository
            .blobs()
            .resume(&id, known, Algorithm::CANONICAL)
            .await
            .unwrap();
        let descriptor = upload.commit(&Digest::canonical(&bytes)).await.unwrap();
        assert!(
            read(&repository, &descriptor.digest).await == bytes,
            "cut at {cuts:?}"
        );
        assert!(matches!(
            repository
                .blobs()
                .resume(&id, known, Algorithm::CANONICAL)
                .await,
            Err(Error::UploadUnknown(_))
        ));
        let blob = layout::blob_data(&descriptor.digest);
        driver.delete(&blob).await.unwrap(); // so that the next round stores it again
    }
}

#[tokio::test]
async fn an_upload_without_a_byte_is_kept_by_who_opened_it() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("a"));
    let algorithm = Algorithm::CANONICAL;
    for length in [0, 10, 70_000, LARGE] {
        let bytes = content(7, length);
        let opened = repository.blobs().create(algorithm).unwrap().progress();
        let (id, at) = (opened.id.clone(), Some(opened.told()));
        assert_eq!(uploads_left(&*driver, &repository).await, 0);
        if length > 64 * 1024 {
            // What a crash may have left where a file is to be, and nobody was told of.
            let state = layout::hash_state(repository.name(), &id, algorithm, 100);
            let data = layout::upload_data(repository.name(), &id);
            for path in [state, data] {
                let torn = Bytes::from(vec![0; 100]);
                let torn = driver.put(&path, torn, Durability::Process);
                torn.await.unwrap();
            }
        }

        // Another process has but what its client says.
        let other = Registry::new(driver.clone(), Options::default()).unwrap();
        let other = other.repository(&name("a"));
        assert_eq!(other.blobs().progress(&id, at).await.unwrap(), opened);
        let unknown = other.blobs().resume(&id, None, algorithm).await;
        assert!(matches!(unknown, Err(Error::UploadUnknown(_))));
        let mut upload = other.blobs().resume(&id, at, algorithm).await.unwrap();
        assert_eq!(upload.offset(), 0);
        append(&mut upload, &bytes.slice(..length / 2))
            .await
            .unwrap();
        upload.pause().await.unwrap();

        // From then on the store knows better.
        let mut upload = repository.blobs().resume(&id, at, algorithm).await.unwrap();
        assert_eq!(upload.offset(), length as u64 / 2);
        append(&mut upload, &bytes.slice(length / 2..))
            .await
            .unwrap();
        upload.commit(&Digest::canonical(&bytes)).await.unwrap();
        assert!(read(&repository, &Digest::canonical(&bytes)).await == bytes);
        assert_eq!(uploads_left(&*driver, &repository).await, 0);
        let over = repository.blobs().resume(&id, at, algorithm).await;
        assert!(matches!(over, Err(Error::UploadUnknown(_))));
        let over = repository.blobs().progress(&id, at).await;
        assert!(matches!(over, Err(Error::UploadUnknown(_))));
    }
}

#[tokio::test]
async fn small_content_that_was_paused_is_what_is_claimed() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("a"));
    let (blobs, algorithm) = (repository.blobs(), Algorithm::CANONICAL);
    let bytes = content(9, 10_000);
    for whole in [true, false] {
        let mut upload = blobs.create(algorithm).unwrap();
        let id = upload.id().clone();
        append(&mut upload, &bytes).await.unwrap();
        let told = Some(upload.progress().told());
        upload.pause().await.unwrap();
        let small = layout::small_upload(repository.name(), &id);
        assert_eq!(driver.get(&small).await.unwrap(), bytes);
        assert_eq!(uploads_left(&*driver, &repository).await, 1);
        if !whole {
            let other = driver.put(&small, content(10, 10_000), Durability::Machine);
            other.await.unwrap();
        }
        let upload = blobs.resume(&id, told, algorithm).await.unwrap();
        let ended = upload.commit(&Digest::canonical(&bytes)).await;
        match whole {
            true => assert!(read(&repository, &ended.unwrap().digest).await == bytes),
            false => assert!(matches!(ended, Err(Error::DigestMismatch { .. }))),
        }
        assert_eq!(uploads_left(&*driver, &repository).await, 0);
    }
}

#[tokio::test]
async fn an_upload_that_was_opened_ends_without_a_trace() {
    let (registry, driver) = registry();
    let blobs = registry.repository(&name("a")).blobs();
    let algorithm = Algorithm::CANONICAL;
    let opened = || {
        let opened = blobs.create(algorithm).unwrap().progress();
        (opened.id.clone(), Some(opened.told()))
    };
    let (id, at) = opened();
    let mut upload = blobs.resume(&id, at, algorithm).await.unwrap();
    let bytes = content(8, 10);
    append(&mut upload, &bytes).await.unwrap();
    upload.commit(&Digest::canonical(&bytes)).await.unwrap();
    let (cancelled, at) = opened();
    let upload = blobs.resume(&cancelled, at, algorithm).await.unwrap();
    upload.cancel().await.unwrap();
    for id in [id, cancelled] {
        let over = blobs.resume(&id, at, algorithm).await;
        assert!(matches!(over, Err(Error::UploadUnknown(_))));
    }
    let folder = layout::uploads(&name("a"));
    let listed = driver.list(&folder, None, None).await;
    assert!(listed.unwrap_err().is_not_found());
}

#[tokio::test]
async fn bytes_behind_the_last_hash_state_are_dropped() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("a"));
    let bytes = content(3, 200_000);
    let mut upload = repository.blobs().create(Algorithm::Sha256).unwrap();
    let id = upload.id().clone();
    append(&mut upload, &bytes.slice(..100_000)).await.unwrap();
    upload.pause().await.unwrap();
    // What a crash in the middle of the next request leaves.
    let mode = wharfinger_storage::WriteMode::Append { at: 100_000 };
    let data = layout::upload_data(repository.name(), &id);
    let mut writer = driver.writer(&data, mode).await.unwrap();
    writer
        .write(vec![Bytes::from_static(b"torn")])
        .await
        .unwrap();
    writer.close().await.unwrap();

    let mut upload = repository
        .blobs()
        .resume(&id, None, Algorithm::CANONICAL)
        .await
        .unwrap();
    assert_eq!(upload.offset(), 100_000);
    append(&mut upload, &bytes.slice(100_000..)).await.unwrap();
    let descriptor = upload.commit(&Digest::canonical(&bytes)).await.unwrap();
    assert!(read(&repository, &descriptor.digest).await == bytes);
}

#[tokio::test]
async fn without_a_readable_hash_state_the_data_is_hashed_again() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("a"));
    let bytes = content(4, 150_000);
    for damage in [
        None,
        Some(Bytes::from_static(b"sha\x03 but no more")),
        Some(Bytes::new()),
    ] {
        let mut upload = repository.blobs().create(Algorithm::Sha256).unwrap();
        let id = upload.id().clone();
        append(&mut upload, &bytes.slice(..100_000)).await.unwrap();
        upload.pause().await.unwrap();
        let state = layout::hash_state(repository.name(), &id, Algorithm::Sha256, 100_000);
        match damage {
            None => driver.delete(&state).await.unwrap(),
            Some(content) => {
                driver
                    .put(&state, content, wharfinger_storage::Durability::Process)
                    .await
                    .unwrap();
            }
        }
        let mut upload = repository
            .blobs()
            .resume(&id, None, Algorithm::CANONICAL)
            .await
            .unwrap();
        assert_eq!(upload.offset(), 100_000);
        append(&mut upload, &bytes.slice(100_000..)).await.unwrap();
        upload.commit(&Digest::canonical(&bytes)).await.unwrap();
        assert!(read(&repository, &Digest::canonical(&bytes)).await == bytes);
    }
}

#[tokio::test]
async fn a_wrong_digest_ends_the_upload_in_nothing() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("a"));
    for length in [10, LARGE] {
        let bytes = content(5, length);
        let wrong = Digest::canonical(b"something else");
        let mut upload = repository.blobs().create(Algorithm::Sha256).unwrap();
        let id = upload.id().clone();
        append(&mut upload, &bytes).await.unwrap();
        let error = upload.commit(&wrong).await.unwrap_err();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
        assert!(matches!(
            repository
                .blobs()
                .resume(&id, None, Algorithm::CANONICAL)
                .await,
            Err(Error::UploadUnknown(_))
        ));
        for digest in [wrong, Digest::canonical(&bytes)] {
            let stat = repository.blobs().stat(&digest).await;
            assert!(matches!(stat, Err(Error::BlobUnknown(_))));
        }
        assert_eq!(uploads_left(&*driver, &repository).await, 0);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_kept_up_to_there() {
    let (registry, _) = registry();
    let repository = registry.repository(&name("a"));
    let bytes = content(6, LARGE);
    let mut upload = repository.blobs().create(Algorithm::Sha256).unwrap();
    let id = upload.id().clone();
    let pieces = vec![Ok(bytes.slice(..2_000_000)), Err(io::Error::other("gone"))];
    let error = upload.append(stream::iter(pieces)).await.unwrap_err();
    assert!(matches!(error, Error::Body(_)), "{error}");
    upload.pause().await.unwrap();

    let mut upload = repository
        .blobs()
        .resume(&id, None, Algorithm::CANONICAL)
        .await
        .unwrap();
    assert_eq!(upload.offset(), 2_000_000);
    append(&mut upload, &bytes.slice(2_000_000..))
        .await
        .unwrap();
    upload.commit(&Digest::canonical(&bytes)).await.unwrap();
}

#[tokio::test]
async fn the_same_bytes_under_sha512_are_kept_once() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("a"));
    for (round, length) in [(0, 100), (1, LARGE)] {
        let bytes = content(7, length);
        let sha512 = Digest::of(Algorithm::Sha512, &bytes);
        let asked_for = if round == 0 {
            Algorithm::Sha512
        } else {
            Algorithm::Sha256
        };
        let upload = repository.blobs().create(asked_for).unwrap();
        let id = upload.id().clone();
        upload.pause().await.unwrap();
        let mut upload = repository
            .blobs()
            .resume(&id, None, asked_for)
            .await
            .unwrap();
        append(&mut upload, &bytes).await.unwrap();
        let descriptor = upload.commit(&sha512).await.unwrap();
        assert_eq!(descriptor.digest, sha512);
        assert_eq!(repository.blobs().stat(&sha512).await.unwrap(), descriptor);
        let canonical = Digest::canonical(&bytes);
        assert!(driver.stat(&layout::blob_data(&canonical)).await.is_ok());
        assert!(driver.stat(&layout::blob_data(&sha512)).await.is_err());
        assert!(read(&repository, &sha512).await == bytes);
        assert!(read(&repository, &canonical).await == bytes);

        repository.blobs().delete(&canonical).await.unwrap();
        for digest in [sha512, canonical] {
            let stat = repository.blobs().stat(&digest).await;
            assert!(matches!(stat, Err(Error::BlobUnknown(_))), "{digest}");
        }
    }
}

#[tokio::test]
async fn one_request_at_a_time_works_on_an_upload() {
    let (registry, _) = registry();
    let repository = registry.repository(&name("a"));
    let upload = repository.blobs().create(Algorithm::Sha256).unwrap();
    let id = upload.id().clone();
    upload.pause().await.unwrap();
    let mut first = repository
        .blobs()
        .resume(&id, None, Algorithm::CANONICAL)
        .await
        .unwrap();
    let second = {
        let (repository, id) = (repository.clone(), id.clone());
        tokio::spawn(async move {
            repository
                .blobs()
                .resume(&id, None, Algorithm::CANONICAL)
                .await
                .map(|u| u.offset())
        })
    };
    append(&mut first, &content(8, 100_000)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!second.is_finished(), "the second request must wait");
    first.pause().await.unwrap();
    assert_eq!(second.await.unwrap().unwrap(), 100_000);
}

#[tokio::test]
async fn old_uploads_are_purged_and_others_stay() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("only/uploads"));
    let mut ids = Vec::new();
    for _ in 0..3 {
        let upload = repository.blobs().create(Algorithm::Sha256).unwrap();
        ids.push(upload.id().clone());
        upload.pause().await.unwrap();
    }
    let started_at = layout::upload_started_at(repository.name(), &ids[0]);
    let long_ago = Bytes::from_static(b"2015-08-01T12:00:00Z");
    let durability = wharfinger_storage::Durability::Process;
    driver
        .put(&started_at, long_ago.clone(), durability)
        .await
        .unwrap();
    let busy = layout::upload_started_at(repository.name(), &ids[1]);
    driver.put(&busy, long_ago, durability).await.unwrap();
    let held = repository
        .blobs()
        .resume(&ids[1], None, Algorithm::CANONICAL)
        .await
        .unwrap();

    let week = Duration::from_secs(7 * 24 * 3600);
    let dry = registry.purge_uploads(week, true).await.unwrap();
    assert_eq!(dry.purged, [(repository.name().clone(), ids[0].clone())]);
    assert_eq!(uploads_left(&*driver, &repository).await, 3);
    let wet = registry.purge_uploads(week, false).await.unwrap();
    assert_eq!((wet.purged.len(), wet.kept, wet.failed.len()), (1, 2, 0));
    assert_eq!(uploads_left(&*driver, &repository).await, 2);
    drop(held);
}

/// How many uploads there are after some time of a schedule.
async fn left_after(time: Duration, schedule: PurgeSchedule, read_only: bool) -> usize {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("a"));
    let upload = repository.blobs().create(Algorithm::Sha256).unwrap();
    let begun = layout::upload_started_at(repository.name(), upload.id());
    upload.pause().await.unwrap();
    let long_ago = "2020-01-01T00:00:00Z".into();
    driver
        .put(&begun, long_ago, Durability::Machine)
        .await
        .unwrap();
    if read_only {
        registry.make_read_only().await;
    }
    let purging = tokio::spawn(registry.purge_regularly(schedule));
    tokio::time::sleep(time).await;
    purging.abort();
    uploads_left(&*driver, &repository).await
}

#[tokio::test(start_paused = true)]
async fn purging_begins_within_the_interval_or_an_hour() {
    let often = PurgeSchedule {
        age: Duration::from_secs(60),
        interval: Duration::from_secs(10),
        dry_run: false,
    };
    let seconds = Duration::from_secs;
    assert_eq!(left_after(seconds(11), often, false).await, 0);
    assert_eq!(left_after(seconds(100), often, true).await, 1);
    let dry_run = true;
    let dry = PurgeSchedule { dry_run, ..often };
    assert_eq!(left_after(seconds(100), dry, false).await, 1);
    let interval = seconds(24 * 3600);
    let daily = PurgeSchedule { interval, ..often };
    assert_eq!(left_after(seconds(3601), daily, false).await, 0);
}

#[tokio::test]
async fn a_read_only_registry_takes_nothing() {
    let (registry, _) = with(Options {
        read_only: true,
        delete: true,
        ..Options::default()
    });
    let repository = registry.repository(&name("a"));
    assert!(matches!(
        repository.blobs().create(Algorithm::Sha256),
        Err(Error::ReadOnly)
    ));
    let delete = repository.blobs().delete(&Digest::canonical(b"")).await;
    assert!(matches!(delete, Err(Error::ReadOnly)));
    registry.make_writable().await.unwrap();
    assert!(repository.blobs().create(Algorithm::Sha256).is_ok());
}

#[tokio::test]
async fn a_push_mends_small_content_whose_bytes_were_damaged() {
    let (registry, driver) = registry();
    let bytes = content(1, 500);
    let digest = push(&registry.repository(&name("a")), &bytes).await.digest;
    // Of the same length: only its digest tells.
    let other = content(2, 500);
    let path = layout::blob_data(&digest);
    driver.put(&path, other, Durability::Machine).await.unwrap();
    let fresh = Registry::new(driver.clone(), Options::default()).unwrap();
    push(&fresh.repository(&name("b")), &bytes).await;
    assert_eq!(driver.get(&path).await.unwrap(), bytes);
}

#[tokio::test(start_paused = true)]
async fn progress_tells_what_is_durable_even_of_an_upload_at_work() {
    let (registry, _) = registry();
    let blobs = registry.repository(&name("a")).blobs();
    let bytes = content(3, LARGE);
    let mut upload = blobs.create(Algorithm::Sha256).unwrap();
    let id = upload.id().clone();
    assert!(matches!(
        blobs.progress(&id, None).await,
        Err(Error::UploadUnknown(_))
    ));
    append(&mut upload, &bytes).await.unwrap();
    let started = upload.progress().started_at;
    upload.pause().await.unwrap();

    let mut upload = blobs.resume(&id, None, Algorithm::CANONICAL).await.unwrap();
    append(&mut upload, &bytes).await.unwrap();
    // The upload is still at work.
    let progress = blobs.progress(&id, None).await.unwrap();
    assert_eq!(progress.offset, LARGE as u64);
    assert_eq!(progress.started_at.as_second(), started.as_second());
    upload.pause().await.unwrap();
    assert_eq!(
        blobs.progress(&id, None).await.unwrap().offset,
        2 * LARGE as u64
    );
}
