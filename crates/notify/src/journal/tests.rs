use std::collections::VecDeque;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const LIMIT: u64 = 4096;

fn open(folder: &Path) -> Journal {
    Journal::open(folder, LIMIT).unwrap()
}

/// Takes everything off the queue.
fn drain(journal: &mut Journal) -> Vec<Bytes> {
    let mut all = Vec::new();
    while let Some(content) = journal.first().unwrap() {
        journal.delivered(&content).unwrap();
        all.push(content);
    }
    all
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .filter(|path| path.extension() == Some(SEGMENT.as_ref()))
        .collect();
    found.sort();
    found
}

/// A record of this number that says so, of a length that differs.
fn content(number: u64) -> Vec<u8> {
    let length = 20 + usize::try_from(number * 37 % 150).unwrap();
    format!("{number:0length$}").into_bytes()
}

#[test]
fn records_come_out_in_order_and_survive_the_process() {
    let folder = TempDir::new().unwrap();
    let mut journal = open(folder.path());
    for number in 0..10 {
        assert_eq!(journal.append(&content(number)).unwrap(), Appended::Kept);
    }
    for number in 0..4 {
        let first = journal.first().unwrap().unwrap();
        assert_eq!(first, content(number));
        journal.delivered(&first).unwrap();
    }
    drop(journal);
    let mut journal = open(folder.path());
    assert_eq!(journal.len(), 6);
    assert_eq!(journal.append(&content(10)).unwrap(), Appended::Kept);
    let expected: Vec<_> = (4..11).map(content).collect();
    assert_eq!(drain(&mut journal), expected);
    assert_eq!(journal.len(), 0);
}

#[test]
fn a_folder_serves_one_process_at_a_time() {
    let folder = TempDir::new().unwrap();
    let journal = open(folder.path());
    assert!(matches!(
        Journal::open(folder.path(), LIMIT),
        Err(OpenError::Taken)
    ));
    drop(journal);
    open(folder.path());
}

#[test]
fn what_is_full_takes_nothing_until_there_is_room() {
    let folder = TempDir::new().unwrap();
    let mut journal = open(folder.path());
    let mut kept = 0;
    while journal.append(&content(kept)).unwrap() == Appended::Kept {
        kept += 1;
    }
    let on_disk = |folder: &Path| -> u64 {
        let files = segments(folder);
        files
            .iter()
            .map(|path| path.metadata().unwrap().len())
            .sum()
    };
    assert!(kept > 10);
    assert!(on_disk(folder.path()) <= LIMIT);
    assert_eq!(journal.len(), kept);
    for _ in 0..kept / 2 {
        let first = journal.first().unwrap().unwrap();
        journal.delivered(&first).unwrap();
    }
    assert_eq!(journal.append(&content(kept)).unwrap(), Appended::Kept);
    assert!(on_disk(folder.path()) <= LIMIT);
    drain(&mut journal);
    // One that fills all of it finds its room when nothing waits.
    let large = vec![b'x'; usize::try_from(LIMIT).unwrap() - 8];
    assert_eq!(journal.append(&large).unwrap(), Appended::Kept);
    assert_eq!(journal.append(b"x").unwrap(), Appended::Full);
    assert_eq!(drain(&mut journal), [large]);
    let too_large = vec![b'x'; usize::try_from(LIMIT).unwrap() - 7];
    assert_eq!(journal.append(&too_large).unwrap(), Appended::Full);
}

#[test]
fn what_is_delivered_leaves_the_disk() {
    let folder = TempDir::new().unwrap();
    let mut journal = open(folder.path());
    for number in 0..1000 {
        journal.append(&content(number)).unwrap();
        assert_eq!(drain(&mut journal), [content(number)]);
        assert!(segments(folder.path()).len() <= 2);
    }
}

#[test]
fn a_lost_mark_means_more_deliveries_and_a_mark_ahead_means_no_fewer() {
    let folder = TempDir::new().unwrap();
    let mut journal = open(folder.path());
    for number in 0..3 {
        journal.append(&content(number)).unwrap();
    }
    let first = journal.first().unwrap().unwrap();
    journal.delivered(&first).unwrap();
    drop(journal);
    fs::write(folder.path().join(DELIVERED), b"scrambled...").unwrap();
    let mut journal = open(folder.path());
    assert_eq!(drain(&mut journal).len(), 3);
    drop(journal);
    // The machine's crash took the records, but not the mark.
    for segment in segments(folder.path()) {
        fs::write(segment, b"").unwrap();
    }
    let mut journal = open(folder.path());
    assert_eq!(journal.len(), 0);
    journal.append(&content(7)).unwrap();
    drop(journal);
    assert_eq!(drain(&mut open(folder.path())), [content(7)]);
}

#[test]
fn damage_costs_the_rest_of_its_segment_and_is_counted() {
    let folder = TempDir::new().unwrap();
    let mut journal = open(folder.path());
    for number in 0..12 {
        journal.append(&content(number)).unwrap();
    }
    drop(journal);
    let files = segments(folder.path());
    assert!(files.len() > 3, "{files:?}");
    let mut bytes = fs::read(&files[1]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&files[1], bytes).unwrap();
    let mut journal = open(folder.path());
    let left = drain(&mut journal);
    let lost = journal.take_lost();
    assert!((1..4).contains(&lost));
    assert_eq!(left.len() as u64 + lost, 12);
    assert_eq!(left.last().unwrap(), &content(11));
    assert_eq!(journal.take_lost(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Append,
    Deliver,
    /// The process ends, in whatever way.
    Reopen,
    /// The machine ends: of the newest segment, a part of what was not synced is there.
    Cut(prop::sample::Index),
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Append),
        3 => Just(Step::Deliver),
        1 => Just(Step::Reopen),
        1 => any::<prop::sample::Index>().prop_map(Step::Cut),
        1 => Just(Step::Sync),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))] // each syncs many files

    /// What is delivered is a run of what was appended, in order and without a gap; after a crash
    /// at least what was synced.
    #[test]
    fn the_queue_is_a_queue_whatever_happens(steps in prop::collection::vec(step(), 1..120)) {
        let folder = TempDir::new().unwrap();
        let mut journal = open(folder.path());
        let mut waiting: VecDeque<Vec<u8>> = VecDeque::new();
        let mut number = 0;
        // How many of those waiting are at the end and not synced, and where the newest segment
        // ended at its last sync.
        let (mut unsynced, mut synced_size) = (0, 0);
        for step in steps {
            match step {
                Step::Append => {
                    let before = journal.segments.back().map(|newest| newest.first);
                    if journal.append(&content(number)).unwrap() == Appended::Kept {
                        waiting.push_back(content(number));
                        if journal.segments.back().map(|newest| newest.first) != before {
                            (unsynced, synced_size) = (0, 0);
                        }
                        unsynced += 1;
                    } else {
                        prop_assert!(!waiting.is_empty());
                    }
                    number += 1;
                }
                Step::Deliver => {
                    let first = journal.first().unwrap();
                    let expected = waiting.pop_front().map(Bytes::from);
                    prop_assert_eq!(&first, &expected);
                    if let Some(first) = first {
                        journal.delivered(&first).unwrap();
                    }
                    unsynced = unsynced.min(waiting.len());
                }
                Step::Sync => {
                    journal.sync().unwrap();
                    unsynced = 0;
                    synced_size = journal.segments.back().map_or(0, |newest| newest.size);
                }
                Step::Reopen => {
                    drop(journal);
                    journal = open(folder.path());
                }
                Step::Cut(index) => {
                    drop(journal);
                    if let Some(newest) = segments(folder.path()).last() {
                        let size = newest.metadata().unwrap().len();
                        if unsynced > 0 && size > synced_size {
                            let length = synced_size + index.index((size - synced_size + 1) as usize) as u64;
                            own_file().open(newest).unwrap().set_len(length).unwrap();
                        }
                    }
                    journal = open(folder.path());
                    let left = usize::try_from(journal.len()).unwrap();
                    prop_assert!((waiting.len() - unsynced..=waiting.len()).contains(&left));
                    waiting.truncate(left);
                    (unsynced, synced_size) = (0, u64::MAX);
                }
            }
            prop_assert_eq!(journal.len(), waiting.len() as u64);
        }
        let expected: Vec<_> = waiting.into_iter().collect();
        prop_assert_eq!(drain(&mut journal), expected);
        prop_assert_eq!(journal.take_lost(), 0);
    }

    /// A queue cut off at any byte gives the records before that byte, and goes on behind them.
    #[test]
    fn a_cut_anywhere_leaves_what_was_whole_before_it(
        records in 1..30u64,
        at in any::<prop::sample::Index>(),
    ) {
        let folder = TempDir::new().unwrap();
        let mut journal = Journal::open(folder.path(), 1 << 20).unwrap();
        let mut ends = Vec::new();
        for number in 0..records {
            journal.append(&content(number)).unwrap();
            ends.push(journal.bytes());
        }
        drop(journal);
        let [segment] = &segments(folder.path())[..] else {
            panic!("one segment is large enough");
        };
        let cut = at.index(usize::try_from(*ends.last().unwrap()).unwrap() + 1) as u64;
        own_file().open(segment).unwrap().set_len(cut).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count() as u64;
        let mut journal = Journal::open(folder.path(), 1 << 20).unwrap();
        prop_assert_eq!(journal.len(), whole);
        journal.append(b"more").unwrap();
        let mut expected: Vec<Vec<u8>> = (0..whole).map(content).collect();
        expected.push(b"more".to_vec());
        prop_assert_eq!(drain(&mut journal), expected);
    }

    /// Whatever lies in the folder, opening and emptying it ends, and it takes records again.
    #[test]
    fn no_bytes_in_its_files_break_it(
        segment in prop::collection::vec(any::<u8>(), 0..300),
        mark in prop::collection::vec(any::<u8>(), 0..20),
        first in prop::sample::select(vec![0, 5, u64::MAX - 2]),
    ) {
        let folder = TempDir::new().unwrap();
        let name = format!("{first:020}.{SEGMENT}");
        fs::write(folder.path().join(name), segment).unwrap();
        fs::write(folder.path().join(DELIVERED), mark).unwrap();
        let mut journal = open(folder.path());
        drain(&mut journal);
        journal.append(b"x").unwrap();
        prop_assert_eq!(drain(&mut journal), vec![Bytes::from_static(b"x")]);
    }
}
