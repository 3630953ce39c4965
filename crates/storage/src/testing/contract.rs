//! What every driver must do: one function per property.
//!
//! Each works in a folder of its own, so that they may run side by side on one store, and removes
//! it at the end. A property that does not hold panics.

mod concurrency;
mod paths;
mod reading;
mod tree;
mod writing;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;

pub use self::concurrency::*;
pub use self::paths::*;
pub use self::reading::*;
pub use self::tree::*;
pub use self::writing::*;
use super::Random;
use crate::{Driver, Durability, Entry, StoragePath, WriteMode};

/// Expands to one `#[test]` for each property of the driver contract.
///
/// The argument is an expression that makes a pair: a driver, and anything that must live as long
/// as it does (such as the temporary folder it works in). It is evaluated once for each test,
/// inside a tokio runtime.
///
/// ```
/// use wharfinger_storage::MemoryDriver;
///
/// wharfinger_storage::contract_tests!((MemoryDriver::new(), ()));
/// ```
#[macro_export]
macro_rules! contract_tests {
    ($driver:expr) => {
        $crate::contract_tests! { @each $driver;
            valid_paths invalid_paths the_root_is_a_folder names_below_a_file
            write_and_read_small write_and_read_large bytes_of_any_kind empty_files
            put_replaces_longer_and_shorter put_again_and_again put_together move_and_put_together
            read_what_is_not_there reading_a_folder reader_offsets reader_keeps_its_file
            open_handle_keeps_its_file redirects_are_urls
            append_small append_large append_to_nothing append_cuts_what_is_behind
            append_beyond_the_end append_to_an_empty_file create_replaces_at_the_end
            create_cancelled_keeps_the_old cancel_removes drop_without_close
            many_buffers_in_one_write a_new_writer_ends_the_old both_durabilities
            list_names_only_children list_after_and_limit list_what_is_not_there list_several
            stat_files_and_folders stat_knows_when
            move_file move_replaces move_what_is_not_there move_makes_folders
            move_below_a_file move_folders_is_refused move_onto_itself
            delete_file delete_what_is_not_there delete_folder delete_only_what_is_below
            delete_the_root_is_refused discard_file_and_folder
            remove_empty_folders_only
            many_readers_of_one_file many_writers_of_many_files put_is_atomic_under_readers
            move_is_atomic_under_readers put_and_delete_race put_and_remove_empty_race
            abandoned_operations
        }
    };
    (@each $driver:expr; $($name:ident)*) => {
        /// The driver contract, property by property.
        mod contract {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[test]
                fn $name() {
                    $crate::testing::block_on(async {
                        let (driver, _keep) = $driver;
                        let driver = ::std::sync::Arc::new(driver);
                        $crate::testing::contract::$name(
                            $crate::testing::contract::Place::new(driver)
                        ).await;
                    });
                }
            )*
        }
    };
}

/// A driver and a folder of its own for one property.
#[derive(Clone, Debug)]
pub struct Place {
    /// The driver that is tried.
    pub driver: Arc<dyn Driver>,
    /// The folder; not there yet.
    pub folder: StoragePath,
}

impl Place {
    /// A new folder name in the driver's root.
    pub fn new(driver: Arc<dyn Driver>) -> Self {
        let name = format!("contract-{}", uuid::Uuid::new_v4().simple());
        Self {
            driver,
            folder: StoragePath::root().join(&name).expect("a valid part"),
        }
    }

    /// The path of something in the folder, given as parts joined by `/`.
    fn path(&self, below: &str) -> StoragePath {
        below.split('/').fold(self.folder.clone(), |path, part| {
            path.join(part).expect("a part")
        })
    }

    async fn put(&self, below: &str, content: impl Into<Bytes>) {
        let path = self.path(below);
        let put = self
            .driver
            .put(&path, content.into(), Durability::Process)
            .await;
        put.unwrap_or_else(|error| panic!("put {below}: {error}"));
    }

    async fn get(&self, below: &str) -> Bytes {
        let got = self.driver.get(&self.path(below)).await;
        got.unwrap_or_else(|error| panic!("get {below}: {error}"))
    }

    async fn is_missing(&self, below: &str) -> bool {
        match self.driver.stat(&self.path(below)).await {
            Ok(_) => false,
            Err(error) if error.is_not_found() => true,
            Err(error) => panic!("stat {below}: {error}"),
        }
    }

    /// Opening what is not there is an error, unless the driver never has a handle.
    async fn no_file_to_open(&self, below: &str) {
        match self.driver.open(&self.path(below)).await {
            Ok(None) if self.driver.has_only_objects() => {}
            opened => assert!(opened.unwrap_err().is_not_found()),
        }
    }

    async fn read_from(&self, below: &str, offset: u64) -> Vec<u8> {
        let reader = self
            .driver
            .reader(&self.path(below), offset)
            .await
            .expect("a reader");
        reader
            .try_collect::<Vec<_>>()
            .await
            .expect("the content")
            .concat()
    }

    async fn names(&self, below: &str, after: Option<&str>, limit: Option<usize>) -> Vec<String> {
        let path = if below.is_empty() {
            self.folder.clone()
        } else {
            self.path(below)
        };
        let entries = self
            .driver
            .list(&path, after, limit)
            .await
            .expect("a listing");
        entries.into_iter().map(|Entry { name, .. }| name).collect()
    }

    /// Writes through a writer and commits.
    async fn write(&self, below: &str, mode: WriteMode, buffers: Vec<Bytes>) {
        let mut writer = self
            .driver
            .writer(&self.path(below), mode)
            .await
            .expect("a writer");
        writer.write(buffers).await.expect("written");
        writer.commit().await.expect("committed");
    }

    async fn remove(self) {
        match self.driver.delete(&self.folder).await {
            Err(error) if !error.is_not_found() => panic!("clean up: {error}"),
            _ => {}
        }
    }
}

/// Bytes that differ from call to call of one property, and not from run to run.
fn content(size: usize) -> Bytes {
    Random::new(size as u64 + 1).bytes(size).into()
}
