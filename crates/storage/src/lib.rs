//! The storage driver contract and its drivers.
//!
//! A [`Driver`] keeps files under `/`-separated paths. Everything above it (blobs, links,
//! uploads) is built from these few operations, so a new backend is one implementation of one
//! trait that passes the contract suite (`contract_tests!`, behind the `testing` feature).
//!
//! - [`FilesystemDriver`] keeps files in a folder, laid out as CNCF Distribution lays them out.
//! - [`MemoryDriver`] keeps them in memory.
//! - [`ObjectDriver`] keeps them as objects of a store such as Amazon S3.
//! - [`MeasuredDriver`] times and traces the calls of another driver.
//! - [`MiddlewareDriver`] lets a [`Middleware`] decide where clients of another driver are sent:
//!   [`Redirect`], [`Rewrite`] or [`CloudFront`].
//! - [`spawn_errand`] runs what makes many small calls where a driver answers them soonest.
//! - [`Buffer`] holds what comes for a file as the filesystem's driver can write it without a copy.
//! - [`Walk`] goes through a tree in path order, over any driver.
//!
//! What may be relied on, with every driver: a [`put`](Driver::put) and a
//! [`rename`](Driver::rename) switch a file atomically; what a call acknowledges with
//! [`Durability::Machine`], and what [`Writer::close`] and [`Writer::commit`] acknowledge,
//! survives a crash of the machine; dropping a future leaves the operation done or not done.
//!
//! ```
//! use futures_util::TryStreamExt as _;
//! use wharfinger_storage::{Driver, Durability, MemoryDriver, Result, StoragePath, WriteMode};
//!
//! async fn example(driver: &dyn Driver) -> Result<()> {
//!     let folder: StoragePath = "/docker/registry".parse().unwrap();
//!
//!     // Small files are written and read whole.
//!     let small = folder.join("link").unwrap();
//!     driver.put(&small, "sha256:...".into(), Durability::Machine).await?;
//!     assert_eq!(driver.get(&small).await?, "sha256:...");
//!
//!     // Large ones go through a writer, in as many sessions as it takes.
//!     let large = folder.join("data").unwrap();
//!     let mut writer = driver.writer(&large, WriteMode::Create).await?;
//!     writer.write(vec!["one ".into(), "two ".into()]).await?;
//!     let size = writer.size();
//!     writer.close().await?;
//!     let mut writer = driver.writer(&large, WriteMode::Append { at: size }).await?;
//!     writer.write(vec!["three".into()]).await?;
//!     writer.commit().await?;
//!
//!     // And are read from any offset, in pieces.
//!     let pieces: Vec<_> = driver.reader(&large, 4).await?.try_collect().await?;
//!     assert_eq!(pieces.concat(), b"two three");
//!
//!     // Listings are in the order of names, and start and end where asked.
//!     let entries = driver.list(&folder, Some("data"), Some(10)).await?;
//!     assert_eq!(entries.len(), 1);
//!     assert_eq!(entries[0].name, "link");
//!     Ok(())
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap()
//! #     .block_on(example(&MemoryDriver::new())).unwrap();
//! ```

mod buffer;
mod driver;
mod errand;
mod error;
mod filesystem;
mod listing;
mod measured;
mod memory;
mod middleware;
mod object;
mod path;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod walk;

pub use buffer::Buffer;
pub use driver::{
    Driver, Durability, Entry, Fetch, Reader, RedirectRequest, Stat, Steps, WriteMode, Writer,
};
pub use errand::{Errand, spawn_errand};
pub use error::{Error, Result};
pub use filesystem::{Claim, ClaimError, Claimed, FilesystemDriver, FilesystemOptions};
pub use listing::{Listed, Listing};
pub use measured::MeasuredDriver;
pub use memory::MemoryDriver;
pub use middleware::{
    AmazonRanges, CloudFront, InvalidKey, InvalidUrl, Middleware, MiddlewareDriver, Redirect,
    Rewrite,
};
pub use object::{
    Amazon, AzureCredentials, AzureCredentialsError, AzureOptions, CopyOptions, CredentialsError,
    CredentialsFault, GcsCredentials, GcsCredentialsError, GcsOptions, ObjectDriver, Retries,
    S3Credentials, S3Encryption, S3Endpoint, S3Options, ServiceAccount,
};
pub use path::{InvalidPath, StoragePath};
pub use walk::{Walk, WalkEntry};
