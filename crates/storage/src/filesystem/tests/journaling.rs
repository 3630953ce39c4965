//! The journal, and what crashes leave of a folder that has one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::syncs::synced;
use super::*;
use crate::testing::Random;

const FILES: [&str; 5] = ["/a/x", "/a/y", "/b/x", "/b/c/z", "/b/c/y"];
const FOLDERS: [&str; 3] = ["/a", "/b", "/b/c"];

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(usize),
    /// Two steps, the second with two files.
    PutAll(usize, usize, usize),
    MoveAndPut(usize, usize, usize),
    Rename(usize, usize),
    Delete(usize),
    DeleteFolder(usize),
    Discard(usize),
    DiscardFolder(usize),
    Write(usize),
    /// The power fails, and the next process begins.
    Crash(u64),
    /// The process is killed, and the next one begins.
    Kill,
    /// The process ends, and the next one begins.
    Restart,
}

fn steps() -> impl Strategy<Value = Step> {
    let file = || 0..FILES.len();
    let folder = || 0..FOLDERS.len();
    prop_oneof![
        6 => file().prop_map(Step::Put),
        3 => (file(), file(), file()).prop_map(|(a, b, c)| Step::PutAll(a, b, c)),
        2 => (file(), file(), file()).prop_map(|(a, b, c)| Step::MoveAndPut(a, b, c)),
        1 => (file(), file()).prop_map(|(from, to)| Step::Rename(from, to)),
        2 => file().prop_map(Step::Delete),
        1 => folder().prop_map(Step::DeleteFolder),
        1 => file().prop_map(Step::Discard),
        1 => folder().prop_map(Step::DiscardFolder),
        1 => file().prop_map(Step::Write),
        2 => any::<u64>().prop_map(Step::Crash),
        1 => Just(Step::Kill),
        1 => Just(Step::Restart),
    ]
}

/// What a file may be, `None` being that it is not there.
type Seen = BTreeSet<Option<Vec<u8>>>;

/// A folder, its driver, and what is known of the files.
struct Machine {
    driver: FilesystemDriver,
    folder: tempfile::TempDir,
    /// What each file is now.
    now: BTreeMap<String, Vec<u8>>,
    /// What a file that was discarded may be again after a crash.
    may_be: BTreeMap<String, Seen>,
    /// What the disk may have of a file besides, as it was not synced.
    on_disk: BTreeMap<String, Seen>,
    written: u64,
    /// How often the journal was written back.
    written_back: u64,
}

impl Machine {
    fn new() -> Self {
        let (driver, folder) = driver();
        Self {
            driver,
            folder,
            now: BTreeMap::new(),
            may_be: BTreeMap::new(),
            on_disk: BTreeMap::new(),
            written: 0,
            written_back: 0,
        }
    }

    fn content(&mut self) -> Vec<u8> {
        self.written += 1;
        format!("content {}", self.written).into_bytes()
    }

    /// A file is changed, with the journal or without.
    fn set(&mut self, file: &str, content: Option<Vec<u8>>) {
        let before = self.now.get(file).cloned();
        let on_disk = self.on_disk.entry(file.to_owned()).or_default();
        on_disk.extend([before, content.clone()]);
        self.may_be.remove(file);
        match content {
            Some(content) => self.now.insert(file.to_owned(), content),
            None => self.now.remove(file),
        };
    }

    /// A file is as it is on the disk, and nothing else.
    fn is_synced(&mut self, file: &str) {
        self.on_disk.remove(file);
    }

    fn below(&self, folder: &str) -> Vec<String> {
        let below = format!("{folder}/");
        let files = self.now.keys().filter(|file| file.starts_with(&below));
        files.cloned().collect()
    }

    fn discard(&mut self, file: &str) {
        let before = self.now.get(file).cloned();
        let mut may_be = self.may_be.remove(file).unwrap_or_default();
        may_be.insert(before);
        self.set(file, None);
        self.may_be.insert(file.to_owned(), may_be);
    }

    /// When something was written back, all that had been done before this step was.
    fn look_for_writing_back(&mut self) {
        let log = self.driver.store.journal.log();
        let written_back = log.map_or(0, |log| log.written_back());
        if std::mem::replace(&mut self.written_back, written_back) != written_back {
            let may_be = &self.may_be;
            self.on_disk.retain(|file, on_disk| {
                let discarded = may_be.get(file);
                if let Some(before) = discarded {
                    on_disk.clone_from(before);
                    on_disk.insert(None);
                }
                discarded.is_some()
            });
        }
    }

    async fn step(&mut self, step: Step) {
        let file = |n: usize| path(FILES[n]);
        match step {
            Step::Put(n) => {
                let content = self.content();
                let put = Bytes::from(content.clone());
                let put = self.driver.put(&file(n), put, Durability::Machine).await;
                put.unwrap();
                self.set(FILES[n], Some(content));
            }
            Step::PutAll(a, b, c) => {
                let contents = [a, b, c].map(|n| (n, self.content()));
                let mut put: Vec<_> = contents
                    .iter()
                    .map(|(n, content)| (file(*n), Bytes::from(content.clone())))
                    .collect();
                let last = put.split_off(1);
                self.driver.put_all(vec![put, last]).await.unwrap();
                for (n, content) in contents {
                    self.set(FILES[n], Some(content));
                }
            }
            Step::MoveAndPut(from, to, n) => {
                let (content, moved) = (self.content(), self.now.get(FILES[from]).cloned());
                let put = vec![vec![(file(n), Bytes::from(content.clone()))]];
                let done = self
                    .driver
                    .move_and_put_all(&file(from), &file(to), put)
                    .await;
                assert_eq!(done.is_ok(), moved.is_some(), "{done:?}");
                self.look_for_writing_back();
                if moved.is_some() {
                    self.set(FILES[from], None);
                    self.set(FILES[to], moved);
                    self.is_synced(FILES[to]);
                    self.set(FILES[n], Some(content));
                }
            }
            Step::Rename(from, to) => {
                let moved = self.now.get(FILES[from]).cloned();
                let done = self.driver.rename(&file(from), &file(to)).await;
                assert_eq!(done.is_ok(), moved.is_some(), "{done:?}");
                self.look_for_writing_back();
                if moved.is_some() {
                    self.set(FILES[from], None);
                    self.set(FILES[to], moved);
                    self.is_synced(FILES[from]);
                    self.is_synced(FILES[to]);
                }
            }
            Step::Delete(n) => {
                let deleted = self.driver.delete(&file(n)).await;
                assert_eq!(deleted.is_ok(), self.now.contains_key(FILES[n]));
                if deleted.is_ok() {
                    self.set(FILES[n], None);
                }
            }
            Step::DeleteFolder(n) => {
                if self.driver.delete(&path(FOLDERS[n])).await.is_ok() {
                    let back = format!("{}/", FOLDERS[n]);
                    for file in FILES.iter().filter(|file| file.starts_with(&back)) {
                        self.set(file, None);
                    }
                }
            }
            Step::Discard(n) => {
                let discarded = self.driver.discard(&file(n)).await;
                assert_eq!(discarded.is_ok(), self.now.contains_key(FILES[n]));
                if discarded.is_ok() {
                    self.discard(FILES[n]);
                }
            }
            Step::DiscardFolder(n) => {
                if self.driver.discard(&path(FOLDERS[n])).await.is_ok() {
                    for file in self.below(FOLDERS[n]) {
                        self.discard(&file);
                    }
                }
            }
            Step::Write(n) => {
                let content = self.content();
                let mut writer = self
                    .driver
                    .writer(&file(n), WriteMode::Create)
                    .await
                    .unwrap();
                writer.write(vec![content.clone().into()]).await.unwrap();
                writer.commit().await.unwrap();
                self.look_for_writing_back();
                self.set(FILES[n], Some(content));
                self.is_synced(FILES[n]);
            }
            Step::Crash(seed) => self.crash(seed).await,
            Step::Kill => self.next(self.copied().await).await,
            Step::Restart => {
                let (other, _unused) = driver();
                drop(std::mem::replace(&mut self.driver, other));
                // What was discarded may still be being taken apart, by its driver.
                let journal = self.folder.path().join(super::journal::JOURNAL);
                for _ in 0..500 {
                    if !journal.exists() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                assert!(!journal.exists(), "{:?}", names_on_disk(&journal));
                self.on_disk.clear();
                self.next(self.copied().await).await;
            }
        }
        if let Some(log) = self.driver.store.journal.log() {
            log.keep_all();
        }
        self.compare(false).await;
    }

    /// The folder as the end of the process alone leaves it.
    async fn copied(&self) -> tempfile::TempDir {
        // What was discarded may still be being taken apart.
        let all = self
            .driver
            .threads
            .acquire_many(self.driver.max_threads)
            .await;
        drop(all.unwrap());
        let to = tempfile::tempdir().unwrap();
        copy(self.folder.path(), to.path());
        to
    }

    /// What was not synced is on the disk, or is not, or was before, or is damaged.
    async fn crash(&mut self, seed: u64) {
        let (to, mut random) = (self.copied().await, Random::new(seed));
        for (file, on_disk) in &self.on_disk {
            let place = to.path().join(&file[1..]);
            let choices: Vec<_> = on_disk.iter().collect();
            let choice = random.up_to(choices.len() as u64 + 1) as usize;
            let content = match choices.get(choice) {
                Some(content) => content.as_deref().map(<[u8]>::to_vec),
                None => self.now.get(file).map(|now| match random.coin() {
                    true => vec![0; now.len()],
                    false => now[..random.up_to(now.len() as u64 - 1) as usize].to_vec(),
                }),
            };
            match content {
                Some(content) => {
                    // Its inode may be durable while its bytes are not.
                    let modified = fs::metadata(&place).and_then(|found| found.modified());
                    fs::create_dir_all(place.parent().unwrap()).unwrap();
                    fs::write(&place, content).unwrap();
                    let file = File::options().write(true).open(&place).unwrap();
                    file.set_modified(modified.unwrap_or(UNIX_EPOCH)).unwrap();
                }
                None => drop(fs::remove_file(&place)),
            }
        }
        self.next(to).await;
    }

    /// A process begins on a folder.
    async fn next(&mut self, folder: tempfile::TempDir) {
        let options = FilesystemOptions::new(folder.path());
        self.driver = FilesystemDriver::new(options).unwrap();
        self.folder = folder;
        self.written_back = 0;
        self.compare(true).await;
        self.on_disk.clear();
        self.may_be.clear();
    }

    /// All files are as they are known to be; after a crash what was discarded may be back.
    async fn compare(&mut self, crashed: bool) {
        for file in FILES {
            let found = match self.driver.get(&path(file)).await {
                Ok(content) => Some(content.to_vec()),
                Err(error) if error.is_not_found() => None,
                Err(error) => panic!("{error}"),
            };
            let expected = self.now.get(file).cloned();
            if crashed
                && self
                    .may_be
                    .get(file)
                    .is_some_and(|may_be| may_be.contains(&found))
            {
                match found {
                    Some(found) => self.now.insert(file.to_owned(), found),
                    None => self.now.remove(file),
                };
                continue;
            }
            let text = |content: &Option<Vec<u8>>| {
                content
                    .as_ref()
                    .map(|c| String::from_utf8_lossy(c).into_owned())
            };
            assert_eq!(text(&found), text(&expected), "{file}, crashed: {crashed}");
        }
    }
}

/// Copies a folder with the times of its files.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (place, found) = (to.join(entry.file_name()), entry.metadata().unwrap());
        if found.is_dir() {
            fs::create_dir(&place).unwrap();
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), &place).unwrap();
            let file = File::options().write(true).open(&place).unwrap();
            file.set_modified(found.modified().unwrap()).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_crash_leaves_all_that_was_acknowledged_is_there(
        steps in prop::collection::vec(steps(), 1..30)
    ) {
        block_on(async {
            let mut machine = Machine::new();
            for step in steps {
                machine.step(step).await;
            }
        });
    }
}

async fn get(driver: &FilesystemDriver, file: &str) -> Bytes {
    driver.get(&path(file)).await.unwrap()
}

#[test]
fn only_what_is_moved_is_synced_where_it_is() {
    block_on(async {
        let (driver, _folder) = driver();
        put_durable(&driver, "/a/b/file", "x").await;
        driver.delete(&path("/a/b/file")).await.unwrap();
        let steps = vec![vec![(path("/b"), Bytes::from_static(b"x"))]];
        driver.put_all(steps).await.unwrap();
        assert_eq!(synced(&driver), [""; 0]);
        put(&driver, "/up/data", "x").await;
        let steps = vec![vec![(path("/links/1/link"), Bytes::from_static(b"x"))]];
        driver
            .move_and_put_all(&path("/up/data"), &path("/blobs/1/data"), steps)
            .await
            .unwrap();
        assert_eq!(
            synced(&driver),
            ["folder /blobs/1, folder /blobs, folder /"]
        );
    });
}

#[test]
fn what_another_program_did_later_stays() {
    block_on(async {
        let (driver, folder) = driver();
        for file in ["/tag", "/damaged", "/folder/old"] {
            put_durable(&driver, file, "ours").await;
        }
        driver.store.journal.log().unwrap().keep_all();
        driver.delete(&path("/folder")).await.unwrap();
        // The kernel's clock for files ticks.
        tokio::time::sleep(Duration::from_millis(30)).await;
        fs::write(folder.path().join("tag"), "another's").unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        fs::write(folder.path().join("folder/new"), "another's").unwrap();
        let crashed = tempfile::tempdir().unwrap();
        copy(folder.path(), crashed.path());
        for file in ["damaged", "folder/old"] {
            let place = crashed.path().join(file);
            fs::write(&place, "").unwrap();
            let file = File::options().write(true).open(&place).unwrap();
            file.set_modified(UNIX_EPOCH).unwrap();
        }
        let next = FilesystemDriver::new(FilesystemOptions::new(crashed.path())).unwrap();
        assert_eq!(get(&next, "/tag").await, "another's");
        assert_eq!(get(&next, "/damaged").await, "ours");
        assert_eq!(get(&next, "/folder/new").await, "another's");
        assert!(
            next.get(&path("/folder/old"))
                .await
                .unwrap_err()
                .is_not_found()
        );
    });
}

#[test]
fn who_is_not_alone_has_no_journal() {
    block_on(async {
        let (first, folder) = driver();
        put_durable(&first, "/a", "first's").await;
        first.store.journal.log().unwrap().keep_all();
        // It is given up within a second or two.
        let second = FilesystemDriver::new(FilesystemOptions::new(folder.path())).unwrap();
        put_durable(&second, "/b", "second's").await;
        assert_eq!(synced(&second), ["content /b", "folder /"]);
        let journal = folder.path().join(super::journal::JOURNAL);
        assert_eq!(names_on_disk(&journal), ["wanted"]);
        assert!(first.store.journal.log().is_none() && second.store.journal.log().is_none());
        put_durable(&first, "/a", "new").await;
        assert_eq!(synced(&first), ["content /a", "folder /"]);

        // Who comes later finds them, and who is alone finds nobody.
        let third = FilesystemDriver::new(FilesystemOptions::new(folder.path())).unwrap();
        put_durable(&third, "/c", "third's").await;
        assert!(third.store.journal.log().is_none());
        drop((first, second, third));
        assert_eq!(names_on_disk(folder.path()), ["a", "b", "c"]);
        let alone = FilesystemDriver::new(FilesystemOptions::new(folder.path())).unwrap();
        put_durable(&alone, "/c", "alone").await;
        assert!(alone.store.journal.log().is_some());
    });
}

#[test]
fn what_a_crash_left_is_done_before_anybody_shares_the_folder() {
    block_on(async {
        let (driver, folder) = driver();
        put_durable(&driver, "/a", "x").await;
        driver.store.journal.log().unwrap().keep_all();
        let crashed = tempfile::tempdir().unwrap();
        let unwanted = open_synced(crashed.path());
        // It has begun already when the files of a crash appear.
        copy(folder.path(), crashed.path());
        fs::remove_file(crashed.path().join("a")).unwrap();
        put_durable(&unwanted, "/b", "x").await;
        assert_eq!(get(&unwanted, "/a").await, "x");
        let journal = crashed.path().join(super::journal::JOURNAL);
        assert!(names_on_disk(&journal).is_empty());
    });
}

#[test]
fn what_is_in_the_journal_is_done_also_by_who_wants_none() {
    block_on(async {
        let (driver, folder) = driver();
        put_durable(&driver, "/a", "x").await;
        driver.store.journal.log().unwrap().keep_all();
        let crashed = tempfile::tempdir().unwrap();
        copy(folder.path(), crashed.path());
        fs::remove_file(crashed.path().join("a")).unwrap();
        let next = open_synced(crashed.path());
        assert_eq!(get(&next, "/a").await, "x");
        assert_eq!(names_on_disk(crashed.path()), ["a"]);
        assert!(next.store.journal.log().is_none());
    });
}

#[test]
fn what_cannot_be_written_back_is_written_again() {
    block_on(async {
        let (driver, folder) = driver();
        put_durable(&driver, "/a", "x").await;
        driver.store.journal.log().unwrap().fail();
        for _ in 0..1000 {
            if driver.store.journal.log().is_none() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // So the disk may have it.
        fs::write(folder.path().join("a"), "").unwrap();
        let file = File::options().write(true).open(folder.path().join("a"));
        file.unwrap().set_modified(UNIX_EPOCH).unwrap();
        put_durable(&driver, "/b", "x").await;
        assert_eq!(synced(&driver), ["content /b", "folder /"]);
        assert_eq!(get(&driver, "/a").await, "x");
    });
}

#[test]
fn what_is_in_the_way_of_the_journal_is_left_out() {
    block_on(async {
        let (driver, folder) = driver();
        put_durable(&driver, "/a", "x").await;
        put_durable(&driver, "/b/c", "x").await;
        put_durable(&driver, "/d", "x").await;
        driver.store.journal.log().unwrap().keep_all();
        let crashed = tempfile::tempdir().unwrap();
        copy(folder.path(), crashed.path());
        fs::remove_file(crashed.path().join("a")).unwrap();
        fs::create_dir(crashed.path().join("a")).unwrap();
        fs::remove_dir_all(crashed.path().join("b")).unwrap();
        fs::write(crashed.path().join("b"), "a file").unwrap();
        fs::remove_file(crashed.path().join("d")).unwrap();
        let next = FilesystemDriver::new(FilesystemOptions::new(crashed.path())).unwrap();
        assert!(next.stat(&path("/a")).await.unwrap().is_dir);
        assert_eq!(get(&next, "/b").await, "a file");
        assert_eq!(get(&next, "/d").await, "x");
    });
}

#[test]
fn a_journal_that_cannot_be_read_keeps_the_registry_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join(super::journal::JOURNAL).join("0")).unwrap();
    let error = FilesystemDriver::new(FilesystemOptions::new(folder.path())).unwrap_err();
    let place = folder.path().join(super::journal::JOURNAL);
    assert!(
        error.to_string().contains(place.to_str().unwrap()),
        "{error}"
    );
}

#[test]
fn more_than_the_journal_holds_goes_through_it() {
    block_on(async {
        let (driver, folder) = driver();
        let mut writers = Vec::new();
        for writer in 0..4 {
            let driver = driver.clone();
            writers.push(tokio::spawn(async move {
                for n in 0..25 {
                    let content = Bytes::from(vec![writer; 400_000]);
                    let file = path(&format!("/{writer}/{n}"));
                    driver
                        .put(&file, content, Durability::Machine)
                        .await
                        .unwrap();
                }
            }));
        }
        for writer in writers {
            writer.await.unwrap();
        }
        let journal = folder.path().join(super::journal::JOURNAL);
        for name in ["0", "1"] {
            let size = fs::metadata(journal.join(name)).unwrap().len();
            assert!(size > 0 && size <= 16 << 20, "{size}");
        }
        for writer in 0..4 {
            for n in 0..25 {
                let content = get(&driver, &format!("/{writer}/{n}")).await;
                assert!(content.len() == 400_000 && content.iter().all(|byte| *byte == writer));
            }
        }
    });
}
