//! What is kept of small files is true, whoever changes them and however.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// Reads the file until it is kept, as it is when its times are old enough.
async fn keep(driver: &FilesystemDriver, file: &StoragePath) {
    for _ in 0..1000 {
        driver.get(file).await.unwrap();
        if driver.store.files.keeps(file) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{file} is read every time");
}

async fn text(driver: &FilesystemDriver, file: &StoragePath) -> String {
    let content = driver.get(file).await.unwrap();
    String::from_utf8(content.to_vec()).unwrap()
}

#[test]
fn what_is_kept_is_given_at_once() {
    block_on(async {
        let (driver, _folder) = driver();
        put(&driver, "/tag/link", "sha256:one").await;
        let link = path("/tag/link");
        keep(&driver, &link).await;
        let Fetch::Left(content) = driver.get(&link) else {
            panic!("somebody has to wait for it");
        };
        assert_eq!(content.into_inner().unwrap(), "sha256:one");
        put(&driver, "/tag/link", "sha256:two").await;
        assert_eq!(text(&driver, &link).await, "sha256:two");
        driver.delete(&path("/tag")).await.unwrap();
        assert!(driver.get(&link).await.unwrap_err().is_not_found());
    });
}

/// What it is called, and what gives the file this content.
type Change<'a> = (&'a str, &'a dyn Fn(&str));

#[test]
fn a_file_is_read_again_whatever_was_done_to_it() {
    block_on(async {
        let (driver, folder) = driver();
        let (tag, link) = (folder.path().join("tag"), path("/tag/link"));
        let real = tag.join("link");
        fs::create_dir(&tag).unwrap();
        let changes: [Change<'_>; 6] = [
            ("written in place", &|text| fs::write(&real, text).unwrap()),
            ("overwritten without a cut", &|text| {
                use std::os::unix::fs::FileExt as _;
                let file = fs::File::options().write(true).open(&real).unwrap();
                file.write_all_at(text.as_bytes(), 0).unwrap();
            }),
            ("replaced", &|text| {
                fs::write(tag.join("new"), text).unwrap();
                fs::rename(tag.join("new"), &real).unwrap();
            }),
            ("made anew", &|text| {
                fs::remove_file(&real).unwrap();
                fs::write(&real, text).unwrap();
            }),
            ("in another folder", &|text| {
                fs::rename(&tag, folder.path().join("old")).unwrap();
                fs::create_dir(&tag).unwrap();
                fs::write(&real, text).unwrap();
                fs::remove_dir_all(folder.path().join("old")).unwrap();
            }),
            ("a link to another", &|text| {
                fs::write(tag.join("target"), text).unwrap();
                fs::remove_file(&real).unwrap();
                symlink("target", &real).unwrap();
            }),
        ];
        fs::write(&real, "-").unwrap();
        for (n, (what, change)) in changes.iter().enumerate() {
            keep(&driver, &link).await;
            // Of the same size, and soon one after the other.
            for text in [format!("{n}a"), format!("{n}b"), format!("{n}c")] {
                change(&text);
                assert_eq!(self::text(&driver, &link).await, text, "{what}");
                if text.ends_with('b') {
                    keep(&driver, &link).await;
                }
            }
        }
        fs::remove_file(&real).unwrap();
        assert!(driver.get(&link).await.unwrap_err().is_not_found());
        fs::create_dir(&real).unwrap();
        let wrong = driver.get(&link).await.unwrap_err();
        assert!(matches!(wrong, Error::WrongKind { .. }), "{wrong:?}");
    });
}

#[test]
fn neither_large_nor_empty_files_are_kept() {
    block_on(async {
        let (driver, folder) = driver();
        put(&driver, "/small", "x").await;
        fs::write(folder.path().join("large"), "x".repeat(257)).unwrap();
        fs::write(folder.path().join("empty"), "").unwrap();
        for file in ["/large", "/empty"] {
            // Old enough to be kept.
            keep(&driver, &path("/small")).await;
            tokio::time::sleep(Duration::from_millis(120)).await;
            driver.get(&path(file)).await.unwrap();
            assert!(!driver.store.files.keeps(&path(file)), "{file}");
        }
    });
}

/// Whoever asks after a file was changed, by another process, is given what it has become, also while
/// others read it.
#[test]
fn a_change_is_seen_by_all_who_ask_afterwards() {
    let (driver, folder) = driver();
    let (real, link) = (folder.path().join("link"), path("/link"));
    let write = |turn: u64| {
        let text = format!("{turn:08}");
        if turn.is_multiple_of(2) {
            return fs::write(&real, text);
        }
        fs::write(real.with_extension("new"), text)?;
        fs::rename(real.with_extension("new"), &real)
    };
    write(1).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                block_on(async {
                    let mut last = 0;
                    while !done.load(Ordering::Relaxed) {
                        // One that is just being written in place is empty.
                        let read = text(&driver, &link).await.parse().unwrap_or(last);
                        assert!(read >= last, "{read} after {last}");
                        last = read;
                    }
                });
            });
        }
        block_on(async {
            for turn in 2_u64..60 {
                write(turn).unwrap();
                assert_eq!(text(&driver, &link).await, format!("{turn:08}"));
                // Some come in the same tick, some when the file is kept.
                tokio::time::sleep(Duration::from_millis(turn * 70 % 160)).await;
                assert_eq!(text(&driver, &link).await, format!("{turn:08}"));
            }
            done.store(true, Ordering::Relaxed);
        });
    });
}

/// What another process does to the files.
#[derive(Clone, Debug)]
enum Step {
    Put(StoragePath, bool),
    Remove(StoragePath),
    Rename(StoragePath, StoragePath),
    /// Lets files get old enough for keeping.
    Wait,
}

const PATHS: [&str; 5] = ["/a", "/b", "/a/link", "/b/link", "/a/b/link"];

fn paths() -> impl Strategy<Value = StoragePath> {
    prop::sample::select(&PATHS[..]).prop_map(path)
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (paths(), any::<bool>()).prop_map(|(path, in_place)| Step::Put(path, in_place)),
        1 => paths().prop_map(Step::Remove),
        2 => (paths(), paths()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => Just(Step::Wait),
    ]
}

/// What a file holds, or why it has nothing.
async fn told(driver: &FilesystemDriver, file: &StoragePath) -> String {
    match driver.get(file).await {
        Ok(content) => format!("{content:?}"),
        Err(error) => error.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 15, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_is_what_is_there(steps in prop::collection::vec(steps(), 1..25)) {
        block_on(async {
            let (driver, folder) = driver();
            for (n, step) in steps.into_iter().enumerate() {
                let real = |path: &StoragePath| folder.path().join(&path.as_str()[1..]);
                match &step {
                    Step::Put(path, true) => {
                        let _ = fs::write(real(path), format!("{n:04}"));
                    }
                    Step::Put(path, false) => {
                        let content = format!("{n:04}").into();
                        let _ = driver.put(path, content, Durability::Process).await;
                    }
                    Step::Remove(path) => {
                        let _ = driver.discard(path).await;
                    }
                    Step::Rename(from, to) => {
                        let _ = fs::rename(real(from), real(to));
                    }
                    Step::Wait => tokio::time::sleep(Duration::from_millis(112)).await,
                }
                // Has kept nothing from before the step.
                let fresh = FilesystemDriver::new(FilesystemOptions::new(folder.path())).unwrap();
                for file in PATHS {
                    let seen = told(&driver, &path(file)).await;
                    let expected = told(&fresh, &path(file)).await;
                    assert_eq!(seen, expected, "{file} after {step:?}");
                }
            }
        });
    }
}
