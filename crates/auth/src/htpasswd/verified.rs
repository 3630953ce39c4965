//! Passwords that were verified: bcrypt is slow on purpose, and clients send the password with every
//! request.

use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use quick_cache::sync::Cache;
use sha2::Sha256;
use uuid::Uuid;

/// How many are remembered.
const CAPACITY: usize = 4096;

/// How long one is remembered that nobody asks for.
const KEPT: Duration = Duration::from_secs(10 * 60);

/// A user, a password and the hash that these are compared with, as one keyed hash.
pub(super) type Name = [u8; 32];

/// What was verified. Only keyed hashes are kept: nobody who reads the process's memory finds a
/// password, nor anything to guess one by without the key.
///
/// A password that matched a hash always will, so this is never untrue: a user whose line in the
/// file has changed has another hash. It ends when nobody has come with the password for a while,
/// and not earlier, so that those who are at work get in while others keep the threads for bcrypt
/// busy.
#[derive(Debug)]
pub(super) struct Verified {
    key: [u8; 32],
    /// When each was last asked for.
    known: Cache<Name, Instant>,
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

    pub(super) fn name(&self, user: &str, password: &[u8], hash: &str) -> Name {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length is a key");
        for part in [user.as_bytes(), hash.as_bytes(), password] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    pub(super) fn contains(&self, name: &Name) -> bool {
        let now = Instant::now();
        let known = self.known.get(name);
        let holds = known.is_some_and(|last| now.duration_since(last) < KEPT);
        if holds {
            self.known.insert(*name, now);
        }
        holds
    }

    pub(super) fn insert(&self, name: Name) {
        self.known.insert(name, Instant::now());
    }
}
