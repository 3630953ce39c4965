//! Passwords that were verified a short time ago: bcrypt is slow on purpose, and clients send the
//! password with every request.

use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use quick_cache::sync::Cache;
use sha2::Sha256;
use uuid::Uuid;

/// How long a password counts as verified.
const LIFETIME: Duration = Duration::from_secs(60);

/// How many are remembered.
const CAPACITY: usize = 4096;

/// What was verified, as keyed hashes: nobody who reads the process's memory finds a password, nor
/// anything to guess one by without the key.
#[derive(Debug)]
pub(super) struct Verified {
    key: [u8; 32],
    known: Cache<[u8; 32], Instant>,
}

impl Verified {
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        key[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        key[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        Self {
            key,
            known: Cache::new(CAPACITY),
        }
    }

    /// The hash is part of what is remembered: a user who gets another password in the file is not
    /// let in by the old one.
    fn name(&self, user: &str, password: &[u8], hash: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length is a key");
        for part in [user.as_bytes(), hash.as_bytes(), password] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    pub(super) fn contains(&self, user: &str, password: &[u8], hash: &str) -> bool {
        let since = self.known.get(&self.name(user, password, hash));
        since.is_some_and(|since| since.elapsed() < LIFETIME)
    }

    pub(super) fn insert(&self, user: &str, password: &[u8], hash: &str) {
        let name = self.name(user, password, hash);
        self.known.insert(name, Instant::now());
    }
}
