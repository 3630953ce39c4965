//! The storage driver contract and its drivers.
//!
//! A [`Driver`] keeps files under `/`-separated paths. Everything above it (blobs, links,
//! uploads) is built from these few operations, so a new backend is one implementation of one
//! trait that passes the contract suite.

mod driver;
mod error;
mod path;

pub use driver::{Driver, Durability, Entry, Reader, RedirectRequest, Stat, WriteMode, Writer};
pub use error::{Error, Result};
pub use path::{InvalidPath, StoragePath};
