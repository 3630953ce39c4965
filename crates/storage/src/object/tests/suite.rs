//! What holds on every store.

use super::*;

pub(super) async fn another_node_goes_on_wherever_the_last_one_closed<S: Server>() {
    let server = S::start().await;
    let whole = content(23 * MIB);
    let mut at = 0;
    for end in [
        100,
        4 * MIB,
        11 * MIB,
        11 * MIB + 1,
        20 * MIB,
        20 * MIB,
        23 * MIB,
    ] {
        // A driver of its own each time: nothing is remembered in the process.
        let driver = server.driver();
        let mode = match at {
            0 => WriteMode::Create,
            at => WriteMode::Append { at: at as u64 },
        };
        let writer = write(&driver, mode, whole.slice(at..end)).await;
        assert_eq!(writer.size(), end as u64);
        writer.close().await.unwrap();
        let stat = server.driver().stat(&path("/up/data")).await.unwrap();
        assert_eq!((stat.size, stat.is_dir), (end as u64, false));
        let entries = driver.list(&path("/up"), None, None).await.unwrap();
        assert!(entries.len() <= 1, "{entries:?}");
        at = end;
    }
    let driver = server.driver();
    let mode = WriteMode::Append { at: at as u64 };
    let writer = driver.writer(&path("/up/data"), mode).await.unwrap();
    writer.commit().await.unwrap();
    assert!(driver.get(&path("/up/data")).await.unwrap() == whole);
    assert_eq!(
        all(&server).await,
        (vec!["some/where/up/data".to_owned()], 0)
    );
}

pub(super) async fn a_node_that_dies_is_gone_on_behind<S: Server>() {
    let server = S::start().await;
    let whole = content(18 * MIB);
    for first in [3 * MIB, 7 * MIB, 10 * MIB] {
        let mode = WriteMode::Create;
        let writer = write(&server.driver(), mode, whole.slice(..first)).await;
        writer.close().await.unwrap();
        // This one sends parts and dies; the next begins where the first ended.
        let mode = WriteMode::Append { at: first as u64 };
        let node = server.driver();
        drop(write(&node, mode, whole.slice(..8 * MIB)).await);
        // What it was sending is under way in this process still.
        node.settled().await;
        let driver = server.driver();
        let stat = driver.stat(&path("/up/data")).await.unwrap();
        assert_eq!(stat.size, first as u64);
        let writer = write(&driver, mode, whole.slice(first..)).await;
        writer.commit().await.unwrap();
        assert!(driver.get(&path("/up/data")).await.unwrap() == whole);
        assert_eq!(all(&server).await.1, 0);
        driver.delete(&path("/up")).await.unwrap();
        assert!(all(&server).await.0.is_empty());
    }
}

pub(super) async fn an_offset_that_was_closed_before_the_last_can_be_gone_back_to<S: Server>() {
    let server = S::start().await;
    let driver = server.driver();
    let whole = content(16 * MIB);
    let ends = [6 * MIB, 13 * MIB];
    let close = async |mode, range: std::ops::Range<usize>| {
        let writer = write(&driver, mode, whole.slice(range)).await;
        writer.close().await.unwrap();
    };
    let behind = |at: usize| WriteMode::Append { at: at as u64 };
    // The last but one is kept; others, and those in between, cost putting it together.
    for at in [ends[0], 2 * MIB, 12 * MIB] {
        close(WriteMode::Create, 0..ends[0]).await;
        close(behind(ends[0]), ends[0]..ends[1]).await;
        let writer = write(&driver, behind(at), whole.slice(at..)).await;
        writer.commit().await.unwrap();
        assert!(
            driver.get(&path("/up/data")).await.unwrap() == whole,
            "{at}"
        );
        assert_eq!(
            all(&server).await,
            (vec!["some/where/up/data".to_owned()], 0)
        );
        driver.delete(&path("/up/data")).await.unwrap();
    }
}

pub(super) async fn a_long_file_is_cut_and_gone_on_with<S: Server>() {
    let server = S::start().await;
    let driver = server.driver();
    let whole = content(17 * MIB);
    for at in [17 * MIB, 16 * MIB, 11 * MIB, PART, 3, 0] {
        let writer = write(&driver, WriteMode::Create, whole.clone()).await;
        writer.commit().await.unwrap();
        let mode = WriteMode::Append { at: at as u64 };
        let writer = write(&driver, mode, Bytes::from_static(b"end")).await;
        writer.commit().await.unwrap();
        let got = driver.get(&path("/up/data")).await.unwrap();
        assert!(got == [&whole[..at], b"end"].concat(), "{at}");
        assert_eq!(
            all(&server).await,
            (vec!["some/where/up/data".to_owned()], 0)
        );
    }
}

pub(super) async fn what_is_deleted_or_given_up_leaves_no_multipart_upload<S: Server>() {
    let server = S::start().await;
    let driver = server.driver();
    for deleted in ["/up", "/up/data"] {
        write(&driver, WriteMode::Create, content(8 * MIB))
            .await
            .close()
            .await
            .unwrap();
        assert_eq!(all(&server).await.1, 1);
        driver.delete(&path(deleted)).await.unwrap();
        assert_eq!(all(&server).await, (vec![], 0));
    }
    write(&driver, WriteMode::Create, content(8 * MIB))
        .await
        .close()
        .await
        .unwrap();
    let mode = WriteMode::Append { at: 8 * MIB as u64 };
    write(&driver, mode, content(9 * MIB))
        .await
        .cancel()
        .await
        .unwrap();
    assert_eq!(all(&server).await, (vec![], 0));
    write(&driver, WriteMode::Create, content(9 * MIB))
        .await
        .cancel()
        .await
        .unwrap();
    assert_eq!(all(&server).await, (vec![], 0));
    // One that died, and another that begins anew.
    drop(write(&driver, WriteMode::Create, content(9 * MIB)).await);
    driver.settled().await;
    write(&driver, WriteMode::Create, content(7 * MIB))
        .await
        .close()
        .await
        .unwrap();
    assert_eq!(
        driver.stat(&path("/up/data")).await.unwrap().size,
        7 * MIB as u64
    );
    assert_eq!(all(&server).await.1, 1);
}

pub(super) async fn long_files_are_moved_part_by_part<S: Server>() {
    let server = S::start().await;
    let driver = server.driver();
    // At the threshold, above it, and with a rest that is no part by itself.
    for size in [8 * MIB, 8 * MIB + 1, 21 * MIB] {
        let whole = content(size);
        write(&driver, WriteMode::Create, whole.clone())
            .await
            .commit()
            .await
            .unwrap();
        driver
            .rename(&path("/up/data"), &path("/blobs/data"))
            .await
            .unwrap();
        assert!(driver.get(&path("/blobs/data")).await.unwrap() == whole);
        assert_eq!(
            all(&server).await,
            (vec!["some/where/blobs/data".to_owned()], 0)
        );
    }
}

pub(super) async fn listings_are_in_the_order_of_names_whatever_the_order_of_keys<S: Server>() {
    let server = S::start().await;
    let driver = server.driver();
    let model = crate::MemoryDriver::new();
    // Folders whose names begin others' names, which keys have in another order.
    let names = [
        "1", "1-a", "1-b", "1.0", "1.0-a", "1.0.1", "1.0.1-a", "10", "a", "a-", "b.c",
    ];
    for name in names {
        for file in [format!("/t/{name}/link"), format!("/t/{name}/x/y")] {
            for driver in [&driver as &dyn Driver, &model] {
                let durability = Durability::Machine;
                driver
                    .put(&path(&file), "".into(), durability)
                    .await
                    .unwrap();
            }
        }
    }
    for after in [None]
        .into_iter()
        .chain(names.map(Some))
        .chain([Some("1.0.0")])
    {
        for limit in [None, Some(1), Some(2), Some(3), Some(7)] {
            let listed = driver.list(&path("/t"), after, limit).await.unwrap();
            let expected = model.list(&path("/t"), after, limit).await.unwrap();
            assert_eq!(listed, expected, "behind {after:?}, {limit:?}");
        }
    }
}

/// Where uploads are the store's own, as with Amazon's and Google's.
pub(super) async fn leftovers_are_multipart_uploads_that_nobody_needs<S: Server>() {
    let driver = S::start().await.driver();
    let bucket = &driver.0.bucket;
    write(&driver, WriteMode::Create, content(8 * MIB))
        .await
        .close()
        .await
        .unwrap();
    bucket.begin("some/where/up/data").await.unwrap();
    bucket.begin("some/where/blobs/data").await.unwrap();
    bucket.begin("some/where/other/data").await.unwrap();
    driver
        .put(&path("/other/startedat"), "x".into(), Durability::Machine)
        .await
        .unwrap();
    bucket.begin("elsewhere/data").await.unwrap();
    // The server says that all uploads were begun years ago.
    let ages = Duration::from_secs(50 * 365 * 24 * 3600);
    assert_eq!(driver.remove_leftovers(ages).await.unwrap(), 0);
    // What somebody goes on with stays, and what another registry may go on with.
    assert_eq!(driver.remove_leftovers(Duration::ZERO).await.unwrap(), 2);
    let mode = WriteMode::Append { at: 8 * MIB as u64 };
    write(&driver, mode, content(5 * MIB))
        .await
        .commit()
        .await
        .unwrap();
    let keys = bucket.open_uploads("").await.unwrap();
    let keys: Vec<_> = keys.iter().map(|upload| upload.key.as_str()).collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert!(keys.contains(&"elsewhere/data") && keys.contains(&"some/where/other/data"));
}
