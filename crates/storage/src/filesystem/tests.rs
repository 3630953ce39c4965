mod errands;
mod journaling;
mod listings;
mod model;
mod small_files;
mod syncs;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use futures_util::TryStreamExt as _;

use super::folder::{is_temporary_name, temporary_name};
use super::*;
use crate::testing::block_on;

mod with_journal {
    crate::contract_tests!(super::super::driver());
}

mod without_journal {
    crate::contract_tests!(super::super::synced_driver());
}

fn driver() -> (FilesystemDriver, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let driver = FilesystemDriver::new(FilesystemOptions::new(folder.path())).expect("a driver");
    (driver, folder)
}

/// One that syncs each file where it is.
fn synced_driver() -> (FilesystemDriver, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    (open_synced(folder.path()), folder)
}

fn open_synced(folder: &Path) -> FilesystemDriver {
    let mut options = FilesystemOptions::new(folder);
    options.journal = false;
    FilesystemDriver::new(options).expect("a driver")
}

fn path(text: &str) -> StoragePath {
    text.parse().unwrap()
}

async fn put(driver: &FilesystemDriver, file: &str, content: &'static str) {
    driver
        .put(&path(file), content.into(), Durability::Process)
        .await
        .unwrap();
}

async fn put_durable(driver: &FilesystemDriver, file: &str, content: &str) {
    let content = Bytes::copy_from_slice(content.as_bytes());
    let put = driver.put(&path(file), content, Durability::Machine).await;
    put.unwrap();
}

async fn names(driver: &FilesystemDriver, folder: &str) -> Vec<String> {
    let entries = driver.list(&path(folder), None, None).await.unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

/// The names that are really in a folder.
fn names_on_disk(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_path_is_the_path_below_the_root() {
    block_on(async {
        let (driver, folder) = driver();
        put(&driver, "/docker/registry/v2/link", "sha256:x").await;
        let file = folder.path().join("docker/registry/v2/link");
        assert_eq!(fs::read(&file).unwrap(), b"sha256:x");
        fs::write(file.with_file_name("other"), "written by another").unwrap();
        let other = driver
            .get(&path("/docker/registry/v2/other"))
            .await
            .unwrap();
        assert_eq!(other, "written by another");
    });
}

#[test]
fn modes_are_those_of_any_new_file() {
    block_on(async {
        let (driver, folder) = driver();
        put(&driver, "/made/put", "x").await;
        let writer = driver
            .writer(&path("/made/written"), WriteMode::Create)
            .await
            .unwrap();
        writer.commit().await.unwrap();
        // What the umask leaves of 0777 and 0666, whatever it is.
        let mode = |name: &str| {
            fs::metadata(folder.path().join(name))
                .unwrap()
                .permissions()
                .mode()
        };
        fs::create_dir(folder.path().join("folder")).unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(mode("made"), mode("folder"));
        assert_eq!(mode("made/put"), mode("file"));
        assert_eq!(mode("made/written"), mode("file"));
    });
}

#[test]
fn the_root_is_made_or_the_error_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("not/yet/there");
    let driver = FilesystemDriver::new(FilesystemOptions::new(&root)).unwrap();
    assert!(root.is_dir());
    assert_eq!(driver.root(), root);
    block_on(driver.check()).unwrap();
    assert!(
        names_on_disk(&root).is_empty(),
        "the check leaves something"
    );

    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for root in [file.clone(), file.join("below")] {
        let error = FilesystemDriver::new(FilesystemOptions::new(&root)).unwrap_err();
        assert!(
            matches!(&error, Error::Root { root: named, .. } if *named == root),
            "{error:?}"
        );
        assert!(
            error.to_string().contains(root.to_str().unwrap()),
            "{error}"
        );
    }
}

#[test]
fn a_root_that_was_taken_away_is_made_anew() {
    block_on(async {
        let (driver, folder) = driver();
        put(&driver, "/a/b", "x").await;
        fs::remove_dir_all(folder.path()).unwrap();
        assert!(driver.get(&path("/a/b")).await.unwrap_err().is_not_found());
        driver
            .put(&path("/a/b"), "y".into(), Durability::Machine)
            .await
            .unwrap();
        assert_eq!(driver.get(&path("/a/b")).await.unwrap(), "y");
    });
}

#[test]
fn links_are_followed_in_the_root_and_below() {
    block_on(async {
        let (real, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let links = tempfile::tempdir().unwrap();
        let root = links.path().join("root");
        symlink(real.path(), &root).unwrap();
        symlink(elsewhere.path(), real.path().join("linked")).unwrap();
        fs::write(elsewhere.path().join("target"), "there").unwrap();
        symlink(elsewhere.path().join("target"), real.path().join("file")).unwrap();
        symlink("nowhere", real.path().join("dangling")).unwrap();

        let driver = FilesystemDriver::new(FilesystemOptions::new(&root)).unwrap();
        driver
            .put(&path("/linked/a/b"), "x".into(), Durability::Machine)
            .await
            .unwrap();
        assert_eq!(fs::read(elsewhere.path().join("a/b")).unwrap(), b"x");
        assert_eq!(driver.get(&path("/file")).await.unwrap(), "there");
        let entries = driver.list(&StoragePath::root(), None, None).await.unwrap();
        let entry = |name: &str, is_dir| Entry {
            name: name.to_owned(),
            is_dir,
        };
        assert_eq!(entries, [entry("file", false), entry("linked", true)]);

        // Removing a link leaves what it leads to.
        driver.delete(&path("/linked")).await.unwrap();
        assert!(elsewhere.path().join("a/b").exists());
        driver.delete(&path("/file")).await.unwrap();
        assert!(elsewhere.path().join("target").exists());
        assert!(names(&driver, "/").await.is_empty());
    });
}

#[test]
fn listings_leave_out_what_is_no_path() {
    block_on(async {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;

        let (driver, folder) = driver();
        put(&driver, "/kept", "x").await;
        for name in [&b"a b"[..], b"~", b"caf\xc3\xa9", b"\xff\xfe", b"a:b"] {
            fs::write(folder.path().join(OsStr::from_bytes(name)), "").unwrap();
        }
        fs::write(folder.path().join(temporary_name()), "").unwrap();
        std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        assert_eq!(names(&driver, "/").await, ["kept"]);
    });
}

#[test]
fn a_pipe_in_the_store_holds_nobody() {
    block_on(async {
        let (driver, folder) = driver();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let wrong = driver.get(&path("/pipe")).await.unwrap_err();
        assert!(matches!(wrong, Error::WrongKind { .. }), "{wrong:?}");
        driver
            .writer(&path("/pipe"), WriteMode::Append { at: 0 })
            .await
            .expect_err("no writer");
        assert!(names(&driver, "/").await.is_empty());
    });
}

#[test]
fn names_too_long_are_the_stores_error() {
    block_on(async {
        let (driver, _folder) = driver();
        let long = path(&format!("/a/{}", "n".repeat(256)));
        let error = driver
            .put(&long, "x".into(), Durability::Process)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, Error::Io { path, .. } if *path == long),
            "{error:?}"
        );
        let error = driver.get(&long).await.unwrap_err();
        assert!(
            matches!(&error, Error::Io { path, .. } if *path == long),
            "{error:?}"
        );
        assert!(names(&driver, "/a").await.is_empty());
    });
}

#[test]
fn errors_of_the_system_are_told_apart() {
    use rustix::io::Errno;

    let (driver, _folder) = driver();
    let file = path("/a");
    let error = |errno: Errno| driver.store.write_error(&file, "write", errno.into());
    for errno in [Errno::NOSPC, Errno::DQUOT] {
        assert!(error(errno).is_no_space(), "{errno:?}");
    }
    for errno in [Errno::ROFS, Errno::ACCESS, Errno::PERM] {
        assert!(error(errno).is_refused(), "{errno:?}");
    }
    assert!(matches!(
        error(Errno::ISDIR),
        Error::WrongKind {
            expected: "a file",
            ..
        }
    ));
    assert!(matches!(error(Errno::NAMETOOLONG), Error::Io { .. }));
    assert!(error(Errno::IO).to_string().starts_with("/a: write: "));
    for errno in [Errno::NOENT, Errno::NOTDIR] {
        assert!(store::read_error(&file, "read", errno.into()).is_not_found());
    }
}

#[test]
fn nothing_temporary_stays_behind() {
    block_on(async {
        let (driver, folder) = driver();
        put(&driver, "/folder/file", "x").await;
        driver
            .put(&path("/folder"), "x".into(), Durability::Machine)
            .await
            .unwrap_err();
        assert_eq!(names_on_disk(folder.path()), [journal::JOURNAL, "folder"]);

        for end in 0..4 {
            let mut writer = driver
                .writer(&path("/folder/file"), WriteMode::Create)
                .await
                .unwrap();
            writer.write(vec!["new".into()]).await.unwrap();
            assert_eq!(names_on_disk(&folder.path().join("folder")).len(), 2);
            match end {
                0 => drop(writer),
                1 => writer.cancel().await.unwrap(),
                2 => writer.close().await.unwrap(),
                _ => writer.commit().await.unwrap(),
            }
            // A dropped writer's file goes in the background.
            for _ in 0..200 {
                if names_on_disk(&folder.path().join("folder")).len() == 1 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(
                names_on_disk(&folder.path().join("folder")),
                ["file"],
                "end {end}"
            );
        }
        driver.delete(&path("/folder")).await.unwrap();
        assert_eq!(
            names_on_disk(folder.path()),
            [journal::JOURNAL],
            "the trash stays"
        );
        driver.settled().await;
        assert!(names_on_disk(folder.path()).is_empty(), "the journal stays");
        // And goes on where it was given up.
        put_durable(&driver, "/folder/file", "x").await;
        assert_eq!(names_on_disk(folder.path()), [journal::JOURNAL, "folder"]);
    });
}

/// What a dropped future has begun goes on, and is waited for.
#[test]
fn settling_waits_for_operations_that_nobody_waits_for() {
    block_on(async {
        let (driver, _folder) = driver();
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (end, may_end) = std::sync::mpsc::channel::<()>();
        let root = StoragePath::root();
        let operation = driver.hop(&root, move |_| {
            begun.send(()).unwrap();
            Ok(may_end.recv().is_ok())
        });
        let abandoned = tokio::time::timeout(Duration::from_millis(10), operation).await;
        assert!(abandoned.is_err());
        has_begun.recv().unwrap();
        let settled = driver.settled();
        let mut settled = std::pin::pin!(settled);
        let early = tokio::time::timeout(Duration::from_millis(50), &mut settled).await;
        assert!(early.is_err(), "it is still at work");
        end.send(()).unwrap();
        settled.await;
        put(&driver, "/a", "the threads are free again").await;
    });
}

#[test]
fn what_a_crash_left_is_hidden_and_removed() {
    block_on(async {
        let (driver, folder) = driver();
        put(&driver, "/a/link", "x").await;
        let leftover = folder.path().join("a").join(temporary_name());
        fs::write(&leftover, "half").unwrap();
        let trashed = folder.path().join(trash::TRASH).join(temporary_name());
        fs::create_dir_all(trashed.join("deep")).unwrap();
        fs::write(trashed.join("deep/file"), "x").unwrap();
        assert_eq!(names(&driver, "/a").await, ["link"]);
        assert_eq!(names(&driver, "/").await, ["a"]);

        assert_eq!(
            driver
                .remove_leftovers(Duration::from_secs(3600))
                .await
                .unwrap(),
            0
        );
        assert!(leftover.exists(), "a write may be under way");
        assert_eq!(driver.remove_leftovers(Duration::ZERO).await.unwrap(), 1);
        assert!(!leftover.exists());
        assert_eq!(driver.get(&path("/a/link")).await.unwrap(), "x");

        let _next = FilesystemDriver::new(FilesystemOptions::new(folder.path())).unwrap();
        for _ in 0..200 {
            if names_on_disk(folder.path()) == ["a"] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!(
            "the trash is still there: {:?}",
            names_on_disk(folder.path())
        );
    });
}

#[test]
fn temporary_names_have_a_form_of_their_own() {
    assert!(is_temporary_name(&temporary_name()));
    assert_ne!(temporary_name(), temporary_name());
    let letters = "a".repeat(32);
    assert!(is_temporary_name(&format!(".tmp-{letters}")));
    for name in [
        ".tmp-",
        ".tmp-abc",
        &letters,
        &format!(".tmp-{letters}0"),
        "data",
        ".tmp",
    ] {
        assert!(!is_temporary_name(name), "{name}");
    }
    assert!(!is_temporary_name(&format!(".tmp-{}", "A".repeat(32))));
}

#[test]
fn more_readers_than_threads_all_come_to_the_end() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let options = FilesystemOptions {
            max_threads: 0,
            ..FilesystemOptions::new(folder.path())
        };
        let driver = FilesystemDriver::new(options).unwrap();
        assert_eq!(
            driver.threads.available_permits(),
            FilesystemOptions::MIN_MAX_THREADS
        );
        let content = Bytes::from(vec![5; 1_000_000]);
        driver
            .put(&path("/f"), content.clone(), Durability::Process)
            .await
            .unwrap();
        let mut readers = Vec::new();
        for _ in 0..100 {
            readers.push(driver.reader(&path("/f"), 0).await.unwrap());
        }
        // One piece from each in turn, so that all are under way at once.
        let mut lengths = vec![0; readers.len()];
        while lengths.iter().any(|length| *length < content.len()) {
            for (reader, length) in readers.iter_mut().zip(&mut lengths) {
                *length += reader
                    .try_next()
                    .await
                    .unwrap()
                    .map_or(0, |piece| piece.len());
            }
        }
        drop(readers);
        assert_eq!(
            driver.threads.available_permits(),
            FilesystemOptions::MIN_MAX_THREADS
        );
    });
}

#[test]
fn a_file_that_grows_while_it_is_read_is_read_to_its_end() {
    block_on(async {
        let (driver, folder) = driver();
        let piece = vec![1; 256 * 1024];
        fs::write(folder.path().join("f"), piece.repeat(3)).unwrap();
        let reader = driver.reader(&path("/f"), 0).await.unwrap();
        fs::write(folder.path().join("f"), piece.repeat(5)).unwrap();
        let read = reader.try_collect::<Vec<_>>().await.unwrap().concat();
        assert_eq!(read.len(), 5 * piece.len());
    });
}

#[test]
fn slots_of_paths_nobody_writes_are_forgotten() {
    block_on(async {
        let (driver, _folder) = driver();
        for i in 0..200 {
            let file = path(&format!("/f{i}"));
            let writer = driver.writer(&file, WriteMode::Create).await.unwrap();
            writer.cancel().await.unwrap();
        }
        assert!(driver.writers.len() < 50, "{} slots", driver.writers.len());
    });
}
