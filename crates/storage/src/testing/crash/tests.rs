use std::collections::HashSet;

use super::*;
use crate::testing::block_on;

crate::contract_tests!((CrashDisk::new(), ()));

const SEEDS: u64 = 64;

fn path(text: &str) -> StoragePath {
    text.parse().unwrap()
}

/// What a file is after a crash, for many seeds; `None` where it is gone.
async fn outcomes(disk: &CrashDisk, file: &str) -> HashSet<Option<Bytes>> {
    let mut outcomes = HashSet::new();
    for seed in 0..SEEDS {
        let content = disk.crash(seed).get(&path(file)).await;
        assert!(content.as_ref().err().is_none_or(Error::is_not_found));
        outcomes.insert(content.ok());
    }
    outcomes
}

/// Runs `change` on a fresh disk after `before`, with the power cut after each of its steps, and
/// calls `check` with whether it was acknowledged and what the disk is then.
async fn cut_everywhere(
    before: impl AsyncFn(&CrashDisk),
    change: impl AsyncFn(&CrashDisk) -> Result<()>,
    check: impl AsyncFn(bool, CrashDisk),
) {
    let whole = CrashDisk::new();
    before(&whole).await;
    let first = whole.steps();
    change(&whole).await.unwrap();
    let mut acknowledged = Vec::new();
    for step in first..=whole.steps() {
        let disk = CrashDisk::new();
        before(&disk).await;
        disk.cut_power_after(step);
        acknowledged.push(change(&disk).await.is_ok());
        check(*acknowledged.last().unwrap(), disk).await;
    }
    assert!(acknowledged.len() > 2 && acknowledged.pop() == Some(true));
    assert!(
        !acknowledged.contains(&true),
        "acknowledged after the power went"
    );
}

#[test]
fn a_put_leaves_the_old_or_the_new() {
    block_on(async {
        let put = async |disk: &CrashDisk, text: &'static str| {
            disk.put(&path("/a/b"), text.into(), Durability::Machine)
                .await
        };
        cut_everywhere(
            async |disk| put(disk, "old").await.unwrap(),
            async |disk| put(disk, "new").await,
            async |acknowledged, disk| {
                let outcomes = outcomes(&disk, "/a/b").await;
                let (old, new) = (Some("old".into()), Some("new".into()));
                if acknowledged {
                    assert_eq!(outcomes, HashSet::from([new]));
                } else {
                    assert!(outcomes.iter().all(|seen| *seen == old || *seen == new));
                }
            },
        )
        .await;
    });
}

#[test]
fn what_only_the_process_was_promised_may_be_lost_or_torn() {
    block_on(async {
        let disk = CrashDisk::new();
        disk.put(&path("/a/b"), vec![7; 2000].into(), Durability::Process)
            .await
            .unwrap();
        let outcomes = outcomes(&disk, "/a/b").await;
        assert!(outcomes.contains(&None), "never lost");
        assert!(
            outcomes.iter().flatten().any(|seen| seen.len() < 2000),
            "never short"
        );
        assert!(
            outcomes.iter().flatten().any(|seen| seen.contains(&0)),
            "never torn"
        );
        assert_eq!(
            disk.get(&path("/a/b")).await.unwrap(),
            vec![7; 2000],
            "the disk itself stays"
        );
    });
}

#[test]
fn a_durable_file_in_a_folder_that_was_not_is_durable() {
    block_on(async {
        let disk = CrashDisk::new();
        disk.put(&path("/a/b/x"), "".into(), Durability::Process)
            .await
            .unwrap();
        disk.put(&path("/a/b/y"), "y".into(), Durability::Machine)
            .await
            .unwrap();
        assert_eq!(
            outcomes(&disk, "/a/b/y").await,
            HashSet::from([Some("y".into())])
        );
        assert!(outcomes(&disk, "/a/b/x").await.contains(&None));
    });
}

#[test]
fn a_closed_writer_keeps_its_part_and_a_dropped_one_may_not() {
    block_on(async {
        let disk = CrashDisk::new();
        let file = path("/data");
        let mut writer = disk.writer(&file, WriteMode::Create).await.unwrap();
        writer.write(vec![vec![1; 1000].into()]).await.unwrap();
        writer.close().await.unwrap();
        let mut writer = disk
            .writer(&file, WriteMode::Append { at: 1000 })
            .await
            .unwrap();
        writer.write(vec![vec![2; 1000].into()]).await.unwrap();
        drop(writer);
        let outcomes = outcomes(&disk, "/data").await;
        assert!(outcomes.len() > 2, "{} outcomes", outcomes.len());
        for content in outcomes {
            let content = content.expect("a name that was synced");
            assert!(content.len() >= 1000 && content[..1000] == [1; 1000]);
            assert!(content[1000..].iter().all(|byte| [0, 2].contains(byte)));
        }
    });
}

#[test]
fn a_commit_and_move_is_nothing_or_all() {
    block_on(async {
        cut_everywhere(
            async |_| {},
            async |disk| {
                let mut writer = disk.writer(&path("/up/data"), WriteMode::Create).await?;
                writer.write(vec![vec![3; 3000].into()]).await?;
                writer.commit().await?;
                disk.rename(&path("/up/data"), &path("/blobs/x/data")).await
            },
            async |acknowledged, disk| {
                for content in outcomes(&disk, "/blobs/x/data").await {
                    match content {
                        Some(content) => assert_eq!(content, vec![3; 3000]),
                        None => assert!(!acknowledged),
                    }
                }
                for seed in 0..SEEDS {
                    let disk = disk.crash(seed);
                    let both = (
                        disk.get(&path("/up/data")).await,
                        disk.get(&path("/blobs/x/data")).await,
                    );
                    assert!(!matches!(both, (Ok(_), Ok(_))), "one file under two names");
                }
            },
        )
        .await;
    });
}

#[test]
fn a_removal_is_nothing_or_all() {
    block_on(async {
        cut_everywhere(
            async |disk| {
                for file in ["/a/1", "/a/2"] {
                    disk.put(&path(file), "x".into(), Durability::Machine)
                        .await
                        .unwrap();
                }
            },
            async |disk| disk.delete(&path("/a")).await,
            async |acknowledged, disk| {
                for seed in 0..SEEDS {
                    let disk = disk.crash(seed);
                    let there = disk.get(&path("/a/1")).await.is_ok();
                    assert_eq!(there, disk.get(&path("/a/2")).await.is_ok());
                    assert!(!(there && acknowledged));
                }
            },
        )
        .await;
    });
}

#[test]
fn of_a_step_any_part_and_of_a_later_one_nothing_before() {
    block_on(async {
        let file = |name: &str| (path(&format!("/{name}/x")), Bytes::from(name.to_owned()));
        let steps = || vec![vec![file("a"), file("b")], vec![file("c")]];
        let seen = std::sync::Mutex::new(HashSet::new());
        cut_everywhere(
            async |_| {},
            async |disk| disk.put_all(steps()).await,
            async |acknowledged, disk| {
                for seed in 0..SEEDS {
                    let disk = disk.crash(seed);
                    let mut there = Vec::new();
                    for (path, content) in steps().concat() {
                        let found = disk.get(&path).await;
                        there.push(found.is_ok());
                        assert!(found.is_err() || found.unwrap() == content, "torn");
                    }
                    assert!(!there[2] || (there[0] && there[1]), "{there:?}");
                    assert!(!acknowledged || there == [true; 3], "{there:?}");
                    seen.lock().unwrap().insert(there);
                }
            },
        )
        .await;
        // Nothing, either of the first two, both, all.
        assert_eq!(seen.into_inner().unwrap().len(), 5);
    });
}

#[test]
fn what_was_discarded_may_come_back_and_what_was_deleted_may_not() {
    block_on(async {
        for durable in [false, true] {
            let disk = CrashDisk::new();
            let file = path("/a/b");
            disk.put(&file, "x".into(), Durability::Machine)
                .await
                .unwrap();
            match durable {
                true => disk.delete(&file).await.unwrap(),
                false => disk.discard(&file).await.unwrap(),
            }
            assert!(disk.restart().get(&file).await.unwrap_err().is_not_found());
            let outcomes = outcomes(&disk, "/a/b").await;
            assert_eq!(outcomes.len(), 2 - usize::from(durable));
        }
    });
}

#[test]
fn the_end_of_the_process_loses_nothing() {
    block_on(async {
        let disk = CrashDisk::new();
        let file = path("/a");
        disk.put(&file, "x".into(), Durability::Process)
            .await
            .unwrap();
        disk.cut_power_after(disk.steps());
        disk.delete(&file).await.unwrap_err();
        let again = disk.restart();
        assert_eq!(again.get(&file).await.unwrap(), "x");
        assert!(
            outcomes(&again, "/a").await.contains(&None),
            "it was never synced"
        );
    });
}

#[test]
fn the_same_seed_leaves_the_same() {
    block_on(async {
        let disk = CrashDisk::new();
        for i in 0..20 {
            let file = path(&format!("/f{i}"));
            disk.put(&file, vec![1; 3000].into(), Durability::Process)
                .await
                .unwrap();
        }
        let mut listings = HashSet::new();
        for seed in 0..8 {
            let root = StoragePath::root();
            let (one, two) = (disk.crash(seed), disk.crash(seed));
            let entries = one.list(&root, None, None).await.unwrap();
            assert_eq!(entries, two.list(&root, None, None).await.unwrap());
            for entry in &entries {
                let file = root.join(&entry.name).unwrap();
                assert_eq!(one.get(&file).await.unwrap(), two.get(&file).await.unwrap());
            }
            listings.insert(format!("{entries:?}"));
        }
        assert!(listings.len() > 4, "the seed hardly matters");
    });
}

#[test]
fn without_power_nothing_works() {
    block_on(async {
        let disk = CrashDisk::new();
        let file = path("/a");
        disk.put(&file, "x".into(), Durability::Machine)
            .await
            .unwrap();
        disk.cut_power_after(disk.steps());
        assert_eq!(
            disk.get(&file).await.unwrap(),
            "x",
            "still on until the next step"
        );
        disk.delete(&file).await.unwrap_err();
        assert!(!disk.get(&file).await.unwrap_err().is_not_found());
        assert!(!disk.stat(&file).await.unwrap_err().is_not_found());
        assert!(disk.list(&StoragePath::root(), None, None).await.is_err());
        assert_eq!(disk.crash(1).get(&file).await.unwrap(), "x");
    });
}
