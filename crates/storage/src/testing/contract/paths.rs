//! Which paths there are.

use super::Place;
use crate::{Durability, Error, StoragePath, WriteMode};

/// Every part that the grammar allows can be written and read.
pub async fn valid_paths(place: Place) {
    let files = [
        "a",
        "2",
        "aa",
        "a.a",
        "0-9/abcdefg",
        "abcdefg/z.75",
        "abc/1.2.3.4.5-6_zyx/123.z/4",
        "docker/docker-registry",
        "123.abc",
        "abc./abc",
        ".abc",
        "a--b",
        "a-.b",
        "_.abc",
        "Docker/docker-registry",
        "Abc/Cba",
        "...",
        "-",
        "_",
    ];
    for file in files {
        place.put(file, file).await;
    }
    // After all are there: names that differ in case only are different files.
    for file in files {
        assert_eq!(place.get(file).await, file);
    }
    let longest = "n".repeat(255);
    place.put(&longest, "long").await;
    assert_eq!(place.get(&longest).await, "long");
    place.remove().await;
}

/// What is no path cannot even be asked for, so none can lead out of the root.
pub async fn invalid_paths(place: Place) {
    let invalid = [
        "",
        "abc",
        "123.abc",
        "//bcd",
        "/abc_123/",
        "/a//b",
        "/.",
        "/..",
        "/a/../b",
        "/a/.",
        "/a b",
        "/a\\b",
        "/a\0b",
        "/\u{e4}",
        "/~",
        "/a:b",
        "/a\n",
        "..",
        "/a/..",
        "\\a",
    ];
    for text in invalid {
        assert!(
            text.parse::<StoragePath>().is_err(),
            "{text:?} is taken for a path"
        );
    }
    for part in ["", ".", "..", "a/b", "/", "a\0"] {
        assert!(
            place.folder.join(part).is_err(),
            "{part:?} is taken for a part"
        );
    }
    place.remove().await;
}

/// The root is there before anything is, and it is no file.
pub async fn the_root_is_a_folder(place: Place) {
    let (driver, root) = (&place.driver, StoragePath::root());
    driver
        .list(&root, None, None)
        .await
        .expect("the root can be listed");
    assert!(driver.stat(&root).await.expect("the root is there").is_dir);
    let put = driver.put(&root, "x".into(), Durability::Process).await;
    assert!(matches!(put, Err(Error::WrongKind { .. })), "{put:?}");
    let written = driver.writer(&root, WriteMode::Create).await.map(drop);
    assert!(
        matches!(written, Err(Error::WrongKind { .. })),
        "{written:?}"
    );
    let got = driver.get(&root).await;
    assert!(matches!(got, Err(Error::WrongKind { .. })), "{got:?}");
    place.remove().await;
}

/// Below a file there is nothing, and nothing can be made there.
pub async fn names_below_a_file(place: Place) {
    place.put("file", "content").await;
    let (driver, below) = (&place.driver, place.path("file/below/it"));
    assert!(driver.get(&below).await.unwrap_err().is_not_found());
    assert!(driver.stat(&below).await.unwrap_err().is_not_found());
    place.no_file_to_open("file/below/it").await;
    assert!(
        driver
            .list(&below, None, None)
            .await
            .unwrap_err()
            .is_not_found()
    );
    assert!(driver.delete(&below).await.unwrap_err().is_not_found());
    assert!(
        driver
            .reader(&below, 0)
            .await
            .err()
            .expect("no reader")
            .is_not_found()
    );
    let appended = driver.writer(&below, WriteMode::Append { at: 0 }).await;
    assert!(appended.expect_err("no writer").is_not_found());

    if driver.has_only_objects() {
        return place.remove().await;
    }
    let named = |result: Result<(), Error>| match result {
        Err(Error::WrongKind { path, expected }) => {
            assert_eq!((path, expected), (place.path("file"), "a folder"));
        }
        other => panic!("{other:?}"),
    };
    named(driver.put(&below, "x".into(), Durability::Process).await);
    named(driver.writer(&below, WriteMode::Create).await.map(drop));
    assert_eq!(place.get("file").await, "content");
    place.remove().await;
}
