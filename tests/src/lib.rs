//! What the end-to-end tests are made of: Wharfinger and its peers as processes, real clients, and
//! real images. The tests themselves are in `tests/`, one subject to a file. They run as root on
//! Debian; a program that is not installed fails them.

#![forbid(unsafe_code)]

pub mod azurite;
pub mod bucket;
pub mod certificates;
pub mod clients;
pub mod collector;
pub mod containerd;
pub mod debian;
pub mod distribution;
pub mod docker;
pub mod edge;
pub mod gate;
pub mod gcs;
pub mod http;
pub mod image;
pub mod killing;
pub mod legacy;
pub mod machine;
pub mod mail;
pub mod network;
pub mod pebble;
pub mod process;
pub mod receiver;
pub mod redis;
pub mod s3;
pub mod store_proxy;
pub mod token;
pub mod torn;
pub mod tunnel;
pub mod wharfinger;

use std::path::PathBuf;

pub use http::Http;
pub use process::{Service, eventually, output, run};
pub use receiver::Receiver;
use tempfile::TempDir;
pub use wharfinger::{Config, Wharfinger};
use wharfinger_oci::{Algorithm, Hasher};

/// The sha256 digest of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(bytes);
    hasher.finish().to_string()
}

/// A folder that is removed when it is dropped, unless `WHARFINGER_E2E_KEEP` is set: then it stays,
/// for somebody to look at.
///
/// # Panics
/// When it cannot be made.
pub fn folder() -> TempDir {
    let folder = tempfile::Builder::new()
        .prefix("wharfinger-e2e-")
        .disable_cleanup(std::env::var_os("WHARFINGER_E2E_KEEP").is_some())
        .tempdir();
    folder.expect("a temporary folder can be made")
}

/// Cargo's target folder, which also keeps what is made once and used by many tests.
pub fn target_folder() -> PathBuf {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || workspace.join("target"),
        // Cargo takes a relative one from the folder it was started in: the workspace's.
        |target| workspace.join(target),
    )
}

/// Bytes that do not compress and differ by seed: xorshift64*, by Vigna (2016).
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
