//! Which syncs each operation does without a journal: all that durability needs, and no more.

use super::*;

/// What was synced since this was last asked; what was synced together is one line.
pub(super) fn synced(driver: &FilesystemDriver) -> Vec<String> {
    std::mem::take(&mut *driver.store.synced.lock().unwrap())
}

#[test]
fn a_put_syncs_its_content_its_folder_and_what_is_not_known_above() {
    block_on(async {
        let (driver, folder) = synced_driver();
        put_durable(&driver, "/a/b/file", "x").await;
        assert_eq!(
            synced(&driver),
            ["content /a/b/file, folder /a, folder /", "folder /a/b"]
        );
        put_durable(&driver, "/a/b/file", "x").await;
        assert_eq!(synced(&driver), ["content /a/b/file", "folder /a/b"]);
        put_durable(&driver, "/a/c/file", "x").await;
        assert_eq!(
            synced(&driver),
            ["content /a/c/file, folder /a", "folder /a/c"]
        );
        put_durable(&driver, "/file", "x").await;
        assert_eq!(synced(&driver), ["content /file", "folder /"]);

        // A process that is killed may have made a folder and not have synced it.
        let next = open_synced(folder.path());
        put_durable(&next, "/a/b/file", "x").await;
        assert_eq!(
            synced(&next),
            ["content /a/b/file, folder /a, folder /", "folder /a/b"]
        );
    });
}

#[test]
fn what_only_the_process_is_promised_is_not_synced_and_not_taken_for_synced() {
    block_on(async {
        let (driver, _folder) = synced_driver();
        put(&driver, "/a/b/one", "x").await;
        assert_eq!(synced(&driver), [""; 0]);
        put_durable(&driver, "/a/b/two", "x").await;
        assert_eq!(
            synced(&driver),
            ["content /a/b/two, folder /a, folder /", "folder /a/b"]
        );
    });
}

#[test]
fn a_folder_made_again_is_synced_again() {
    block_on(async {
        let (driver, _folder) = synced_driver();
        put_durable(&driver, "/a/b/file", "x").await;
        synced(&driver);
        driver.delete(&path("/a")).await.unwrap();
        assert_eq!(synced(&driver), ["folder /"]);
        put(&driver, "/a/b/other", "x").await;
        put_durable(&driver, "/a/b/file", "x").await;
        assert_eq!(
            synced(&driver),
            ["content /a/b/file, folder /a, folder /", "folder /a/b"]
        );
    });
}

#[test]
fn a_writer_syncs_the_name_once() {
    block_on(async {
        let (driver, folder) = synced_driver();
        let file = path("/up/data");
        let mut writer = driver.writer(&file, WriteMode::Create).await.unwrap();
        writer.write(vec!["one".into()]).await.unwrap();
        assert_eq!(synced(&driver), [""; 0]);
        writer.close().await.unwrap();
        assert_eq!(synced(&driver), ["content /up/data, folder /up, folder /"]);
        let mode = WriteMode::Append { at: 3 };
        driver
            .writer(&file, mode)
            .await
            .unwrap()
            .close()
            .await
            .unwrap();
        assert_eq!(synced(&driver), ["content /up/data"]);

        // The name may be there without being durable: its writer was killed.
        let next = open_synced(folder.path());
        next.writer(&file, mode)
            .await
            .unwrap()
            .close()
            .await
            .unwrap();
        assert_eq!(synced(&next), ["content /up/data, folder /up, folder /"]);

        // A file that takes another's place brings its own name.
        driver
            .writer(&file, WriteMode::Create)
            .await
            .unwrap()
            .commit()
            .await
            .unwrap();
        assert_eq!(synced(&driver), ["content /up/data", "folder /up"]);
    });
}

#[test]
fn a_rename_syncs_the_new_name_before_the_old_one() {
    block_on(async {
        let (driver, _folder) = synced_driver();
        put_durable(&driver, "/up/data", "x").await;
        synced(&driver);
        driver
            .rename(&path("/up/data"), &path("/blobs/x/data"))
            .await
            .unwrap();
        let all = ["folder /blobs/x, folder /blobs, folder /", "folder /up"];
        assert_eq!(synced(&driver), all);
        driver
            .rename(&path("/blobs/x/data"), &path("/blobs/x/other"))
            .await
            .unwrap();
        assert_eq!(synced(&driver), ["folder /blobs/x"]);

        // A name that is durable says nothing of the name the file gets next.
        driver
            .rename(&path("/blobs/x/other"), &path("/up/data"))
            .await
            .unwrap();
        synced(&driver);
        driver.delete(&path("/up/data")).await.unwrap();
        assert_eq!(synced(&driver), ["folder /up"]);
    });
}

#[test]
fn files_put_together_sync_their_contents_first_and_each_folder_once_a_step() {
    block_on(async {
        let (driver, _folder) = synced_driver();
        let file = |name: &str| (path(name), Bytes::from_static(b"x"));
        let steps = vec![
            vec![file("/blobs/1/data")],
            vec![file("/links/1/link"), file("/links/2/link")],
        ];
        driver.put_all(steps.clone()).await.unwrap();
        assert_eq!(
            synced(&driver),
            [
                "content /blobs/1/data, content /links/1/link, content /links/2/link, \
                 folder /blobs, folder /, folder /links",
                "folder /blobs/1",
                "folder /links/1, folder /links/2",
            ]
        );
        driver.put_all(steps).await.unwrap();
        assert_eq!(
            synced(&driver),
            [
                "content /blobs/1/data, content /links/1/link, content /links/2/link",
                "folder /blobs/1",
                "folder /links/1, folder /links/2",
            ]
        );
    });
}

#[test]
fn the_name_of_a_moved_file_is_synced_with_the_contents_and_its_old_one_after() {
    block_on(async {
        let (driver, _folder) = synced_driver();
        put(&driver, "/up/data", "x").await;
        synced(&driver);
        let steps = vec![vec![(path("/links/1/link"), Bytes::from_static(b"x"))]];
        driver
            .move_and_put_all(&path("/up/data"), &path("/blobs/1/data"), steps)
            .await
            .unwrap();
        assert_eq!(
            synced(&driver),
            [
                "content /links/1/link, folder /blobs/1, folder /links, folder /, folder /blobs",
                "folder /links/1, folder /up",
            ]
        );
        driver
            .move_and_put_all(&path("/blobs/1/data"), &path("/up/data"), Vec::new())
            .await
            .unwrap();
        assert_eq!(synced(&driver), ["folder /up, folder /", "folder /blobs/1"]);
    });
}

#[test]
fn what_is_discarded_is_gone_without_a_sync() {
    block_on(async {
        let (driver, _folder) = synced_driver();
        put(&driver, "/a/b/file", "x").await;
        driver.discard(&path("/a/b/file")).await.unwrap();
        driver.discard(&path("/a")).await.unwrap();
        assert_eq!(synced(&driver), [""; 0]);
        assert!(driver.stat(&path("/a")).await.unwrap_err().is_not_found());
    });
}
