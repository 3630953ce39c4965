//! Reading.

use std::io::Read as _;

use futures_util::TryStreamExt as _;

use super::{Place, content};
use crate::{Error, RedirectRequest, WriteMode};

/// What is not there is not found, whichever way it is asked for.
pub async fn read_what_is_not_there(place: Place) {
    let (driver, path) = (&place.driver, place.path("no/such/file"));
    let error = driver.get(&path).await.unwrap_err();
    assert!(
        matches!(&error, Error::NotFound { path: named } if *named == path),
        "{error:?}"
    );
    place.no_file_to_open("no/such/file").await;
    for offset in [0, 64] {
        let error = driver.reader(&path, offset).await.err().expect("no reader");
        assert!(error.is_not_found(), "{error:?}");
    }
    place.remove().await;
}

/// A folder has no content.
pub async fn reading_a_folder(place: Place) {
    place.put("folder/file", "x").await;
    if place.driver.has_only_objects() {
        let got = place.driver.get(&place.path("folder")).await;
        assert!(got.unwrap_err().is_not_found());
        return place.remove().await;
    }
    let (driver, path) = (&place.driver, place.path("folder"));
    let wrong = |error: Error| assert!(matches!(error, Error::WrongKind { .. }), "{error:?}");
    wrong(driver.get(&path).await.unwrap_err());
    wrong(driver.open(&path).await.unwrap_err());
    wrong(driver.reader(&path, 0).await.err().expect("no reader"));
    for mode in [WriteMode::Create, WriteMode::Append { at: 0 }] {
        wrong(driver.writer(&path, mode).await.expect_err("no writer"));
    }
    place.remove().await;
}

/// A reader starts at any offset up to the end, and nowhere beyond.
pub async fn reader_offsets(place: Place) {
    // More than a few pieces, and not a whole number of them.
    let size = 3 * 1024 * 1024 + 17;
    let whole = content(size);
    place.put("file", whole.clone()).await;
    for offset in [
        0,
        1,
        32,
        256 * 1024,
        256 * 1024 + 1,
        2_000_000,
        size - 1,
        size,
    ] {
        assert!(
            place.read_from("file", offset as u64).await == whole[offset..],
            "from {offset}"
        );
        let end = (offset + 1000).min(size);
        let range = offset as u64..end as u64;
        let part = place.driver.range_reader(&place.path("file"), range).await;
        let part: Vec<_> = part.unwrap().try_collect().await.unwrap();
        assert!(
            part.concat().starts_with(&whole[offset..end]),
            "from {offset} to {end}"
        );
    }
    let pieces: Vec<_> = place
        .driver
        .reader(&place.path("file"), 0)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert!(
        pieces.iter().all(|piece| !piece.is_empty()),
        "an empty piece"
    );

    for beyond in [size as u64 + 1, u64::MAX >> 1, u64::MAX] {
        let error = place.driver.reader(&place.path("file"), beyond).await.err();
        match error.expect("no reader beyond the end") {
            Error::InvalidOffset { path, offset } => {
                assert_eq!((path, offset), (place.path("file"), beyond));
            }
            error => panic!("{error:?}"),
        }
    }
    place.remove().await;
}

/// A reader that is under way gives the file it was opened on, whatever becomes of the name.
pub async fn reader_keeps_its_file(place: Place) {
    let old = content(2 * 1024 * 1024);
    for removed in [false, true] {
        place.put("file", old.clone()).await;
        let mut reader = place.driver.reader(&place.path("file"), 0).await.unwrap();
        let mut read = reader.try_next().await.unwrap().expect("a piece").to_vec();
        if removed {
            place.driver.delete(&place.path("file")).await.unwrap();
        } else {
            place.put("file", content(3 * 1024 * 1024)).await;
        }
        while let Some(piece) = reader.try_next().await.unwrap() {
            read.extend_from_slice(&piece);
        }
        assert!(read == old, "removed: {removed}");
    }
    place.remove().await;
}

/// An open handle, where there is one, reads the whole file it was opened on.
pub async fn open_handle_keeps_its_file(place: Place) {
    let old = content(300_000);
    place.put("file", old.clone()).await;
    if let Some(mut file) = place.driver.open(&place.path("file")).await.unwrap() {
        place.put("file", "new").await;
        place.driver.delete(&place.path("file")).await.unwrap();
        let mut read = Vec::new();
        file.read_to_end(&mut read).expect("the handle reads");
        assert!(read == old);
    }
    place.remove().await;
}

/// A redirect is a URL of HTTP, or none at all.
pub async fn redirects_are_urls(place: Place) {
    place.put("file", content(32)).await;
    let path = place.path("file");
    for method in ["GET", "HEAD"] {
        let content_type = "application/octet-stream";
        let request = RedirectRequest {
            path: &path,
            method,
            content_type,
            client: None,
        };
        if let Some(url) = place
            .driver
            .redirect_url(request)
            .await
            .expect("signed or declined")
        {
            assert!(
                url.starts_with("http://") || url.starts_with("https://"),
                "{url}"
            );
            assert!(place.driver.may_redirect(), "who gives one says so");
        }
    }
    place.remove().await;
}
