//! The driver on real servers, which each test process starts for itself.

mod azure;
mod gcs;
mod s3;

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::*;
use crate::testing::moto::{client, target_folder};

/// A server of a store's protocol, and a bucket of its own for one test.
trait Server: Sized {
    /// The server may be one for all tests of this process; the bucket is new and empty.
    async fn start() -> Self;

    /// A driver on it, with parts of [`PART`] bytes and everything below `some/where`.
    fn driver(&self) -> ObjectDriver;

    /// How many uploads are neither complete nor given up.
    async fn open_uploads(&self) -> usize;
}

/// The tests of the driver on a server: the contract, and the properties in [`suite`].
macro_rules! driver_tests {
    ($server:ty) => {
        crate::contract_tests!((<$server>::start().await.driver(), ()));
        driver_tests! { $server:
            another_node_goes_on_wherever_the_last_one_closed
            a_node_that_dies_is_gone_on_behind
            an_offset_that_was_closed_before_the_last_can_be_gone_back_to
            a_long_file_is_cut_and_gone_on_with
            what_is_deleted_or_given_up_leaves_no_multipart_upload
            long_files_are_moved_part_by_part
            listings_are_in_the_order_of_names_whatever_the_order_of_keys
        }
    };
    ($server:ty: $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                crate::testing::block_on(super::suite::$name::<$server>());
            }
        )*
    };
}
use driver_tests;

const MIB: usize = 1024 * 1024;
const PART: usize = 5 * MIB;

fn path(text: &str) -> StoragePath {
    text.parse().unwrap()
}

fn content(size: usize) -> Bytes {
    crate::testing::Random::new(size as u64).bytes(size).into()
}

async fn write(driver: &ObjectDriver, mode: WriteMode, bytes: Bytes) -> Box<dyn Writer> {
    let mut writer = driver.writer(&path("/up/data"), mode).await.unwrap();
    // In pieces that do not divide a part.
    for piece in bytes.chunks(700_001) {
        writer.write(vec![bytes.slice_ref(piece)]).await.unwrap();
    }
    writer
}

/// The keys of the bucket and the number of uploads that are under way in it.
async fn all(server: &impl Server) -> (Vec<String>, usize) {
    let driver = server.driver();
    let mut listing = driver.0.bucket.list("", None, false, 1000);
    let page = listing.next().await.unwrap().unwrap();
    let keys = page.objects.into_iter().map(|object| object.key);
    (keys.collect(), server.open_uploads().await)
}

mod suite;
