use futures_util::TryStreamExt as _;

use super::*;
use crate::MemoryDriver;
use crate::testing::block_on;

crate::contract_tests!((FaultDriver::new(MemoryDriver::new()), ()));

fn path(text: &str) -> StoragePath {
    text.parse().unwrap()
}

async fn driver_with(file: &str, content: &'static str) -> FaultDriver {
    let driver = FaultDriver::new(MemoryDriver::new());
    driver
        .put(&path(file), content.into(), Durability::Process)
        .await
        .unwrap();
    driver.clear();
    driver
}

#[test]
fn each_cause_is_told_apart() {
    block_on(async {
        let driver = driver_with("/a", "x").await;
        for (cause, no_space, refused) in [
            (Cause::Io, false, false),
            (Cause::Timeout, false, false),
            (Cause::NoSpace, true, false),
            (Cause::Permission, false, true),
            (Cause::ReadOnly, false, true),
        ] {
            driver.clear();
            driver.plan(Fault::new(Effect::Fail(cause)));
            let error = driver.stat(&path("/a")).await.unwrap_err();
            assert_eq!(
                (error.is_no_space(), error.is_refused()),
                (no_space, refused),
                "{error}"
            );
            assert!(!error.is_not_found());
        }
    });
}

#[test]
fn faults_come_when_and_where_they_are_planned() {
    block_on(async {
        let driver = driver_with("/a/b", "x").await;
        let fail = Effect::Fail(Cause::Io);
        driver.plan(
            Fault::new(fail)
                .on(Operation::Get)
                .at("/a/*")
                .after(1)
                .times(2),
        );
        let mut results = Vec::new();
        for _ in 0..5 {
            results.push(driver.get(&path("/a/b")).await.is_ok());
            driver.stat(&path("/a/b")).await.unwrap();
        }
        assert_eq!(results, [true, false, false, true, true]);
        assert_eq!(
            (driver.count(Operation::Get), driver.count(Operation::Stat)),
            (5, 5)
        );
        assert_eq!(driver.operations()[1], (Operation::Stat, path("/a/b")));

        driver.plan(Fault::new(fail).at("/to"));
        driver
            .rename(&path("/a/b"), &path("/to"))
            .await
            .expect_err("the target matches, too");
    });
}

#[test]
fn patterns() {
    for (text, pattern, expected) in [
        ("/a/b", "/a/b", true),
        ("/a/b", "/a", false),
        ("/a/b", "/a/b/c", false),
        ("/a/b", "*", true),
        ("/a/b/link", "/a/*/link", true),
        ("/a/b/c/link", "/a/*/link", true),
        ("/a/link", "/a/*/link", false),
        ("/a/b/links", "*/link", false),
    ] {
        assert_eq!(
            has_form(text.as_bytes(), pattern.as_bytes()),
            expected,
            "{text} {pattern}"
        );
    }
}

#[test]
fn chance_follows_the_seed() {
    block_on(async {
        let run = async |seed| {
            let driver = driver_with("/a", "x").await;
            driver.seed(seed);
            driver.plan(Fault::new(Effect::Fail(Cause::Io)).one_in(4));
            let mut results = Vec::new();
            for _ in 0..200 {
                results.push(driver.get(&path("/a")).await.is_ok());
            }
            results
        };
        let first = run(1).await;
        assert_eq!(first, run(1).await);
        assert_ne!(first, run(2).await);
        let failed = first.iter().filter(|ok| !**ok).count();
        assert!((20..=90).contains(&failed), "{failed} of 200 failed");
    });
}

#[test]
fn a_lost_answer_is_a_deed_done() {
    block_on(async {
        let driver = driver_with("/a", "old").await;
        driver.plan(Fault::new(Effect::FailAfter(Cause::Timeout)).on(Operation::Put));
        driver
            .put(&path("/a"), "new".into(), Durability::Machine)
            .await
            .unwrap_err();
        assert_eq!(driver.get(&path("/a")).await.unwrap(), "new");
    });
}

#[test]
fn a_short_write_breaks_the_writer() {
    block_on(async {
        let driver = driver_with("/a", "x").await;
        let short = Effect::Short(4, Cause::NoSpace);
        driver.plan(Fault::new(short).on(Operation::Write).after(1));
        let mut writer = driver.writer(&path("/b"), WriteMode::Create).await.unwrap();
        writer.write(vec!["one ".into()]).await.unwrap();
        let error = writer
            .write(vec!["tw".into(), "o three".into()])
            .await
            .unwrap_err();
        assert!(error.is_no_space());
        writer.write(vec!["more".into()]).await.unwrap_err();
        writer.commit().await.unwrap_err();
        assert_eq!(driver.get(&path("/b")).await.unwrap(), "one two ");
    });
}

#[test]
fn a_reader_fails_in_the_middle() {
    block_on(async {
        let driver = driver_with("/a", "0123456789").await;
        driver.plan(Fault::new(Effect::Short(4, Cause::Io)).on(Operation::Read));
        let mut reader = driver.reader(&path("/a"), 0).await.unwrap();
        assert_eq!(reader.try_next().await.unwrap().unwrap(), "0123");
        reader.try_next().await.unwrap_err();
        assert!(reader.try_next().await.unwrap().is_none());
    });
}

#[test]
fn what_hangs_can_be_given_up() {
    block_on(async {
        let driver = driver_with("/a", "x").await;
        driver.plan(Fault::new(Effect::Hang).on(Operation::Delete));
        driver.plan(Fault::new(Effect::Delay(Duration::from_millis(30))).on(Operation::Get));
        let file = path("/a");
        let deleted = driver.delete(&file);
        tokio::time::timeout(Duration::from_millis(20), deleted)
            .await
            .expect_err("it hangs");
        let begun = std::time::Instant::now();
        assert_eq!(driver.get(&path("/a")).await.unwrap(), "x");
        assert!(begun.elapsed() >= Duration::from_millis(30));
    });
}
