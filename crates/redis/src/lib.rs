//! What several registries over one store remember together, in Redis.
//!
//! [`SharedCache`] keeps short texts under keys, each for a bounded time, and is made so that what
//! was removed cannot come back: see `cache.rs`. It connects by itself, in the background, and says
//! [`Answer::Unavailable`] whenever Redis cannot be asked; nobody ever waits for a connection.

mod cache;
mod connection;
mod keeper;
mod metrics;
mod options;
#[cfg(feature = "testing")]
pub mod testing;
mod tls;

pub use cache::{Absence, Answer, SharedCache};
pub use options::{Address, Options, Servers, TlsFiles};
pub use tls::{TlsError, TlsPart};
