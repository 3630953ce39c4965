//! What is kept of folders is true, whoever changes them: compared with what a driver says that has
//! kept nothing.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// How many times folders were read.
fn readings(driver: &FilesystemDriver) -> usize {
    driver.store.read.lock().unwrap().len()
}

/// Lists the folder until that takes no reading, as it does when its times are old enough.
async fn keep(driver: &FilesystemDriver, folder: &str) {
    for _ in 0..1000 {
        let before = readings(driver);
        names(driver, folder).await;
        if readings(driver) == before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{folder} is read every time");
}

fn another(folder: &tempfile::TempDir) -> FilesystemDriver {
    FilesystemDriver::new(FilesystemOptions::new(folder.path())).unwrap()
}

#[test]
fn a_folder_is_read_again_when_it_was_changed() {
    block_on(async {
        let (driver, folder) = driver();
        for name in ["a", "b", "c", "d"] {
            put(&driver, &format!("/folder/{name}"), "").await;
        }
        keep(&driver, "/folder").await;
        let before = readings(&driver);
        let page = driver.list(&path("/folder"), Some("a"), Some(2)).await;
        assert_eq!(page.unwrap().len(), 2);
        let both = [path("/folder"), path("/folder/none")];
        let listed = driver.list_each(&both).await.unwrap();
        assert_eq!(
            listed.iter().map(Option::is_some).collect::<Vec<_>>(),
            [true, false]
        );
        assert!(
            driver.store.read.lock().unwrap()[before..]
                .iter()
                .all(|read| read == "/folder/none")
        );

        put(&another(&folder), "/folder/e", "").await;
        assert_eq!(names(&driver, "/folder").await, ["a", "b", "c", "d", "e"]);
        keep(&driver, "/folder").await;
        fs::remove_dir_all(folder.path().join("folder")).unwrap();
        let gone = driver.list(&path("/folder"), None, None).await;
        assert!(gone.unwrap_err().is_not_found());
        fs::write(folder.path().join("folder"), "a file").unwrap();
        let wrong = driver.list(&path("/folder"), None, Some(1)).await;
        assert!(matches!(wrong, Err(Error::WrongKind { .. })), "{wrong:?}");
    });
}

#[test]
fn what_links_lead_to_is_not_kept() {
    block_on(async {
        let (driver, folder) = driver();
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("target");
        fs::create_dir(&target).unwrap();
        put(&driver, "/folder/a", "").await;
        keep(&driver, "/folder").await;
        symlink(&target, folder.path().join("folder/link")).unwrap();
        // Old enough to be kept, were it not for the link.
        put(&driver, "/beside/a", "").await;
        keep(&driver, "/beside").await;
        assert_eq!(names(&driver, "/folder").await, ["a", "link"]);
        fs::remove_dir(&target).unwrap();
        assert_eq!(names(&driver, "/folder").await, ["a"]);
    });
}

#[test]
fn the_root_is_listed_without_the_trash_by_no_path() {
    block_on(async {
        let (driver, folder) = driver();
        put(&driver, "/a/b", "").await;
        fs::create_dir(folder.path().join(super::trash::TRASH)).unwrap();
        symlink(folder.path(), folder.path().join("a/root")).unwrap();
        for _ in 0..30 {
            assert_eq!(names(&driver, "/").await, ["a"]);
            assert_eq!(names(&driver, "/a/root").await.len(), 2);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
#[allow(
    clippy::await_holding_lock,
    reason = "whoever lists must do without it"
)]
fn only_one_large_folder_is_read_for_keeping_at_a_time() {
    block_on(async {
        let (driver, folder) = driver();
        let large = folder.path().join("large");
        fs::create_dir(&large).unwrap();
        let all: Vec<_> = (0..500).map(|n| format!("{n:0>200}")).collect();
        for name in &all {
            fs::write(large.join(name), "").unwrap();
        }
        put(&driver, "/small/a", "").await;
        keep(&driver, "/small").await;
        let page = async |after: &str, limit| {
            let page = driver.list(&path("/large"), Some(after), Some(limit)).await;
            let page = page.unwrap().into_iter();
            page.map(|entry| entry.name).collect::<Vec<_>>()
        };
        let turn = driver.store.listings.take_turn();
        for at in [0, 7, 450] {
            let before = readings(&driver);
            assert_eq!(
                page(&all[at], 40).await,
                all[at + 1..].iter().take(40).cloned().collect::<Vec<_>>()
            );
            assert_eq!(readings(&driver), before + 1, "it was not kept");
        }
        drop(turn);
        page("", 3).await;
        let before = readings(&driver);
        assert_eq!(page(&all[450], 100).await, all[451..]);
        assert_eq!(readings(&driver), before, "it was kept");
    });
}

/// Whoever asks after a change was made is told of it, also while others read the folder.
#[test]
fn a_change_is_seen_by_all_who_ask_afterwards() {
    let (driver, folder) = driver();
    let place = folder.path().join("folder");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("always"), "").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                block_on(async {
                    while !done.load(Ordering::Relaxed) {
                        assert!(
                            names(&driver, "/folder")
                                .await
                                .contains(&"always".to_owned())
                        );
                        driver.list_each(&[path("/folder")]).await.unwrap();
                    }
                });
            });
        }
        block_on(async {
            for turn in 0_u64..100 {
                fs::write(place.join("new"), "").unwrap();
                assert_eq!(names(&driver, "/folder").await, ["always", "new"], "{turn}");
                // Some come in the same tick, some when the listing is kept.
                tokio::time::sleep(Duration::from_millis(turn % 16)).await;
                fs::remove_file(place.join("new")).unwrap();
                assert_eq!(names(&driver, "/folder").await, ["always"], "{turn}");
                tokio::time::sleep(Duration::from_millis(turn * 7 % 16)).await;
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(!driver.store.read.lock().unwrap().is_empty());
    });
}

/// What others do to the folders.
#[derive(Clone, Debug)]
enum Step {
    Put(StoragePath),
    MakeFolder(StoragePath),
    Remove(StoragePath),
    Rename(StoragePath, StoragePath),
    /// Lets the folders get old enough for keeping.
    Wait,
}

fn paths() -> impl Strategy<Value = StoragePath> {
    let part = prop_oneof![Just("a"), Just("b"), Just("c-d")];
    prop::collection::vec(part, 1..4).prop_map(|parts| {
        let root = StoragePath::root();
        parts
            .into_iter()
            .fold(root, |path, part| path.join(part).unwrap())
    })
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => paths().prop_map(Step::Put),
        2 => paths().prop_map(Step::MakeFolder),
        2 => paths().prop_map(Step::Remove),
        2 => (paths(), paths()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => Just(Step::Wait),
    ]
}

/// What a listing says, or why there is none.
async fn told(
    driver: &FilesystemDriver,
    folder: &StoragePath,
    after: Option<&str>,
    limit: Option<usize>,
) -> String {
    match driver.list(folder, after, limit).await {
        Ok(entries) => format!("{entries:?}"),
        Err(error) => error.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_is_what_is_there(
        steps in prop::collection::vec((steps(), paths(), prop::option::of("[a-d]"), prop::option::of(0_usize..3)), 1..40)
    ) {
        block_on(async {
            let (driver, folder) = driver();
            let other = another(&folder);
            for (step, listed, after, limit) in steps {
                let real = |path: &StoragePath| folder.path().join(&path.as_str()[1..]);
                match &step {
                    Step::Put(path) => {
                        let _ = other.put(path, "".into(), Durability::Process).await;
                    }
                    Step::MakeFolder(path) => {
                        let _ = fs::create_dir_all(real(path));
                    }
                    Step::Remove(path) => {
                        let _ = other.discard(path).await;
                    }
                    Step::Rename(from, to) => {
                        let _ = fs::rename(real(from), real(to));
                    }
                    Step::Wait => tokio::time::sleep(Duration::from_millis(15)).await,
                }
                // Has kept nothing from before the step.
                let fresh = another(&folder);
                for listed in [listed.clone(), listed.parent().unwrap(), path("/a"), path("/a/b")] {
                    for (after, limit) in [(after.as_deref(), limit), (None, None)] {
                        let seen = told(&driver, &listed, after, limit).await;
                        let expected = told(&fresh, &listed, after, limit).await;
                        assert_eq!(seen, expected, "{listed} after {step:?}");
                    }
                    let listed = std::slice::from_ref(&listed);
                    let each = driver.list_each(listed).await.ok();
                    assert_eq!(each, fresh.list_each(listed).await.ok());
                }
            }
        });
    }
}
