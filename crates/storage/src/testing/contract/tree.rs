//! Listing, looking, moving and removing.

use std::time::{Duration, SystemTime};

use super::{Place, content};
use crate::{Entry, Error, StoragePath, WriteMode};

/// A listing has the direct children in order, and says which are folders.
pub async fn list_names_only_children(place: Place) {
    for file in ["b/file", "b/deep/file", "a", "c/x", "B", "a-b", "a.b"] {
        place.put(file, "x").await;
    }
    let entries = place.driver.list(&place.folder, None, None).await.unwrap();
    let entry = |name: &str, is_dir| Entry {
        name: name.to_owned(),
        is_dir,
    };
    let expected = [
        entry("B", false),
        entry("a", false),
        entry("a-b", false),
        entry("a.b", false),
        entry("b", true),
        entry("c", true),
    ];
    assert_eq!(entries, expected);
    assert_eq!(place.names("b", None, None).await, ["deep", "file"]);
    let root = place
        .driver
        .list(&StoragePath::root(), None, None)
        .await
        .unwrap();
    assert!(root.contains(&entry(place.folder.name(), true)));
    place.remove().await;
}

/// A listing starts behind a name, which need not exist, and ends at the limit.
pub async fn list_after_and_limit(place: Place) {
    let names: Vec<_> = (0..50).map(|i| format!("n{i:02}")).collect();
    for name in &names {
        place.put(name, "x").await;
    }
    assert_eq!(place.names("", None, None).await, names);
    assert_eq!(place.names("", None, Some(7)).await, names[..7]);
    assert_eq!(place.names("", None, Some(50)).await, names);
    assert_eq!(place.names("", None, Some(usize::MAX)).await, names);
    assert_eq!(place.names("", Some("n09"), Some(3)).await, names[10..13]);
    assert_eq!(place.names("", Some("n09x"), Some(3)).await, names[10..13]);
    assert_eq!(place.names("", Some("a"), None).await, names);
    assert_eq!(place.names("", Some(""), None).await, names);
    assert_eq!(place.names("", Some("n48"), Some(9)).await, names[49..]);
    assert_eq!(place.names("", Some("n49"), None).await, [""; 0]);
    assert_eq!(place.names("", Some("z"), Some(1)).await, [""; 0]);
    assert_eq!(place.names("", None, Some(0)).await, [""; 0]);
    place.remove().await;
}

/// Only a folder can be listed.
pub async fn list_what_is_not_there(place: Place) {
    place.put("file", "x").await;
    let missing = place
        .driver
        .list(&place.path("nothing"), None, None)
        .await
        .unwrap_err();
    assert!(missing.is_not_found(), "{missing:?}");
    let file = place
        .driver
        .list(&place.path("file"), None, None)
        .await
        .unwrap_err();
    let told = match place.driver.has_only_objects() {
        true => file.is_not_found(),
        false => matches!(
            file,
            Error::WrongKind {
                expected: "a folder",
                ..
            }
        ),
    };
    assert!(told, "{file:?}");
    place.remove().await;
}

/// A file has its size, a folder none.
pub async fn stat_files_and_folders(place: Place) {
    assert!(place.is_missing("folder").await);
    assert!(place.is_missing("folder/file").await);
    place.put("folder/file", content(4096)).await;
    let file = place.driver.stat(&place.path("folder/file")).await.unwrap();
    assert_eq!((file.size, file.is_dir), (4096, false));
    let folder = place.driver.stat(&place.path("folder")).await.unwrap();
    assert_eq!((folder.size, folder.is_dir), (0, true));
    let size = async |below: &str| place.driver.file_size(&place.path(below)).await;
    assert_eq!(size("folder/file").await.unwrap(), 4096);
    assert!(size("folder/none").await.unwrap_err().is_not_found());
    match size("folder").await.unwrap_err() {
        Error::WrongKind { .. } => {}
        error => assert!(place.driver.has_only_objects() && error.is_not_found()),
    }
    place.remove().await;
}

/// The time of a file is that of its last write, give or take what clocks differ by.
pub async fn stat_knows_when(place: Place) {
    let modified = async || {
        place
            .driver
            .stat(&place.path("file"))
            .await
            .unwrap()
            .modified
    };
    place.put("file", content(10)).await;
    if let Some(first) = modified().await {
        let now = SystemTime::now();
        let difference = now
            .duration_since(first)
            .unwrap_or_else(|error| error.duration());
        assert!(difference < Duration::from_secs(600), "{difference:?} off");
        tokio::time::sleep(Duration::from_millis(50)).await;
        place.put("file", content(20)).await;
        let second = modified().await.expect("the store knew before");
        if place.driver.has_only_objects() {
            assert!(second >= first, "{second:?} is before {first:?}");
            return place.remove().await;
        }
        assert!(second > first, "{second:?} is not after {first:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        place
            .write("file", WriteMode::Append { at: 20 }, vec![content(1)])
            .await;
        assert!(modified().await.expect("the store knew before") > second);
    }
    place.remove().await;
}

/// What is moved is at its new place and not at the old one.
pub async fn move_file(place: Place) {
    place.put("from", content(32)).await;
    place
        .driver
        .rename(&place.path("from"), &place.path("to"))
        .await
        .unwrap();
    assert_eq!(place.get("to").await, content(32));
    assert!(place.is_missing("from").await);
    place.remove().await;
}

/// A move replaces the file that is there.
pub async fn move_replaces(place: Place) {
    place.put("from", content(32)).await;
    place.put("to", content(64)).await;
    place
        .driver
        .rename(&place.path("from"), &place.path("to"))
        .await
        .unwrap();
    assert_eq!(place.get("to").await, content(32));
    assert!(place.is_missing("from").await);
    place.remove().await;
}

/// Moving nothing harms nothing.
pub async fn move_what_is_not_there(place: Place) {
    place.put("to", content(32)).await;
    let moved = place
        .driver
        .rename(&place.path("from"), &place.path("to"))
        .await;
    match moved.unwrap_err() {
        Error::NotFound { path } => assert_eq!(path, place.path("from")),
        error => panic!("{error:?}"),
    }
    assert_eq!(place.get("to").await, content(32));
    let moved = place
        .driver
        .rename(&place.path("from"), &place.path("new/to"))
        .await;
    assert!(moved.unwrap_err().is_not_found());
    assert!(
        place.is_missing("new").await,
        "a failed move makes no folder"
    );
    place.remove().await;
}

/// A move makes the folders that it needs, and works for a file that has just been committed.
pub async fn move_makes_folders(place: Place) {
    place
        .write("up/load", WriteMode::Create, vec![content(70_000)])
        .await;
    place
        .driver
        .rename(&place.path("up/load"), &place.path("a/b/c/data"))
        .await
        .unwrap();
    assert!(place.get("a/b/c/data").await == content(70_000));
    assert!(place.is_missing("up/load").await);
    place.remove().await;
}

/// A file is no place to move to.
pub async fn move_below_a_file(place: Place) {
    place.put("file", "x").await;
    let nothing = place
        .driver
        .rename(&place.path("file/a"), &place.path("file/b"))
        .await;
    nothing.expect_err("moved nothing to nowhere");
    place.put("from", "y").await;
    if place.driver.has_only_objects() {
        return place.remove().await;
    }
    let below = place
        .driver
        .rename(&place.path("from"), &place.path("file/b/c"))
        .await;
    match below.unwrap_err() {
        Error::WrongKind { path, .. } => assert_eq!(path, place.path("file")),
        error => panic!("{error:?}"),
    }
    assert_eq!(place.get("from").await, "y");
    assert_eq!(place.get("file").await, "x");
    place.remove().await;
}

/// Only files move, and not onto folders: no object store could do otherwise at once.
pub async fn move_folders_is_refused(place: Place) {
    place.put("folder/file", "x").await;
    place.put("from", "y").await;
    let refused = |error: Error| {
        assert!(
            matches!(
                error,
                Error::WrongKind {
                    expected: "a file",
                    ..
                }
            ),
            "{error:?}"
        );
    };
    let onto_folders = [("from", "folder"), ("folder/file", "folder")];
    let onto_folders = match place.driver.has_only_objects() {
        true => &[][..],
        false => &onto_folders[..],
    };
    for (from, to) in [&[("folder", "to")], onto_folders].concat() {
        let moved = place
            .driver
            .rename(&place.path(from), &place.path(to))
            .await;
        refused(moved.unwrap_err());
    }
    let root = place
        .driver
        .rename(&place.path("from"), &StoragePath::root())
        .await;
    refused(root.unwrap_err());
    assert_eq!(place.get("folder/file").await, "x");
    assert_eq!(place.get("from").await, "y");
    place.remove().await;
}

/// A file moved to where it is stays.
pub async fn move_onto_itself(place: Place) {
    place.put("file", "x").await;
    place
        .driver
        .rename(&place.path("file"), &place.path("file"))
        .await
        .unwrap();
    assert_eq!(place.get("file").await, "x");
    place.remove().await;
}

/// What is removed is gone, and nothing else is.
pub async fn delete_file(place: Place) {
    place.put("file", "x").await;
    place.put("other", "y").await;
    place.driver.delete(&place.path("file")).await.unwrap();
    assert!(place.is_missing("file").await);
    assert_eq!(place.names("", None, None).await, ["other"]);
    place.put("file", "again").await;
    assert_eq!(place.get("file").await, "again");
    place.remove().await;
}

/// Removing nothing is an error.
pub async fn delete_what_is_not_there(place: Place) {
    for file in ["nothing", "no/such/file"] {
        match place.driver.delete(&place.path(file)).await.unwrap_err() {
            Error::NotFound { path } => assert_eq!(path, place.path(file)),
            error => panic!("{error:?}"),
        }
    }
    place.remove().await;
}

/// A folder goes with all below it.
pub async fn delete_folder(place: Place) {
    for file in ["folder/1", "folder/2", "folder/deep/er/3", "folder/deep/4"] {
        place.put(file, "x").await;
    }
    place.driver.delete(&place.path("folder/1")).await.unwrap();
    assert!(place.is_missing("folder/1").await);
    assert_eq!(place.get("folder/2").await, "x");
    place.driver.delete(&place.path("folder")).await.unwrap();
    for gone in ["folder", "folder/2", "folder/deep", "folder/deep/er/3"] {
        assert!(place.is_missing(gone).await, "{gone} is still there");
    }
    place.put("folder/2", "new").await;
    assert_eq!(place.names("folder", None, None).await, ["2"]);
    place.remove().await;
}

/// A path that starts with the same letters is another path.
pub async fn delete_only_what_is_below(place: Place) {
    for file in ["a/file", "a/filesuffix", "a/a/file", "a/asuffix/file", "ab"] {
        place.put(file, "x").await;
    }
    place.driver.delete(&place.path("a/file")).await.unwrap();
    assert_eq!(place.get("a/filesuffix").await, "x");
    place.driver.delete(&place.path("a/a")).await.unwrap();
    assert!(place.is_missing("a/a/file").await);
    assert_eq!(place.get("a/asuffix/file").await, "x");
    place.driver.delete(&place.path("a")).await.unwrap();
    assert_eq!(place.get("ab").await, "x");
    place.remove().await;
}

/// Nobody removes everything by an empty path.
pub async fn delete_the_root_is_refused(place: Place) {
    place.put("file", "x").await;
    let refused = place.driver.delete(&StoragePath::root()).await.unwrap_err();
    assert!(matches!(refused, Error::Unsupported { .. }), "{refused:?}");
    assert_eq!(place.get("file").await, "x");
    place.remove().await;
}

/// Several folders are listed as each alone; one that is not there is told.
pub async fn list_several(place: Place) {
    place.put("a/1", "").await;
    place.put("a/2/x", "").await;
    place.put("b/3", "").await;
    let paths = ["a", "nothing", "b"].map(|below| place.path(below));
    let listed = place.driver.list_each(&paths).await.unwrap();
    for (path, listed) in paths.iter().zip(listed) {
        let alone = place.driver.list(path, None, None).await.ok();
        let listed = listed.map(|listing| listing.iter().map(Entry::from).collect());
        assert_eq!(alone, listed);
    }
    let file = place.path("a/1");
    if place.driver.has_only_objects() {
        assert_eq!(place.driver.list_each(&[file]).await.unwrap(), [None]);
        return place.remove().await;
    }
    assert!(matches!(
        place.driver.list_each(&[file]).await,
        Err(Error::WrongKind { .. })
    ));
    place.remove().await;
}

/// What is discarded is gone, file or folder.
pub async fn discard_file_and_folder(place: Place) {
    place.put("a/1", "").await;
    place.put("b/2", "").await;
    for below in ["a/1", "b"] {
        place.driver.discard(&place.path(below)).await.unwrap();
        let stat = place.driver.stat(&place.path(below)).await;
        assert!(stat.unwrap_err().is_not_found());
        let again = place.driver.discard(&place.path(below)).await;
        assert!(again.unwrap_err().is_not_found());
    }
    place.put("alone", "x").await;
    for _ in 0..2 {
        // The second time there is nothing any more.
        let discarded = place.driver.discard_file(&place.path("alone")).await;
        discarded.unwrap();
        let gone = place.driver.stat(&place.path("alone")).await;
        assert!(gone.unwrap_err().is_not_found());
    }
    place.remove().await;
}

/// An empty folder can be removed as such, and nothing else can.
pub async fn remove_empty_folders_only(place: Place) {
    place.put("a/b/file", "x").await;
    let remove = async |below: &str| place.driver.remove_empty(&place.path(below)).await.unwrap();
    for below in ["a", "a/b", "a/b/file", "nothing", "nothing/at/all"] {
        assert!(!remove(below).await, "{below}");
    }
    assert_eq!(place.get("a/b/file").await, "x");
    place.driver.delete(&place.path("a/b/file")).await.unwrap();
    if place.driver.has_only_objects() {
        assert!(!remove("a/b").await);
    } else {
        assert!(!remove("a").await);
        assert!(remove("a/b").await);
        assert!(remove("a").await);
        assert!(!remove("a").await);
    }
    place.put("a/b/file", "y").await;
    place.remove().await;
}
