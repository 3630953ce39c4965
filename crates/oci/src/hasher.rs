//! Incremental hashing whose state can be kept and taken up again.
//!
//! States are kept in the form in which Go's `crypto/sha256` and `crypto/sha512` marshal theirs, as
//! CNCF Distribution stores them: a magic, the hash words big-endian, the block that is being
//! filled (zeros behind its bytes), and the number of bytes hashed so far, 64 bits big-endian. An
//! upload begun under one registry can so be finished under the other.

use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest as _, Sha256, Sha512};
use thiserror::Error;

use crate::{Algorithm, Digest};

/// A hash under way.
#[derive(Clone, Debug)]
pub enum Hasher {
    /// SHA-256 under way.
    Sha256(Sha256),
    /// SHA-512 under way.
    Sha512(Sha512),
}

/// A saved hash state cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the saved hash state is not one of this algorithm's")]
pub struct HasherStateError;

impl Hasher {
    /// A hash of no bytes yet.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Takes up more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all bytes taken up.
    pub fn finish(self) -> Digest {
        let digest = match self {
            Self::Sha256(hasher) => Digest::from_raw(Algorithm::Sha256, &hasher.finalize()),
            Self::Sha512(hasher) => Digest::from_raw(Algorithm::Sha512, &hasher.finalize()),
        };
        digest.expect("a hash has its algorithm's length")
    }
}

/// How one algorithm's state is laid out, in Go's form and in that of the `sha2` crate: the hash
/// words, little-endian; the number of full blocks, little-endian; the number of bytes in the
/// block being filled, one byte; these bytes, and zeros for one byte less than a block.
struct StateForm {
    magic: &'static [u8; 4],
    word: usize,
    block: usize,
    counter: usize,
}

const SHA256: StateForm = StateForm {
    magic: b"sha\x03",
    word: 4,
    block: 64,
    counter: 8,
};
const SHA512: StateForm = StateForm {
    magic: b"sha\x07",
    word: 8,
    block: 128,
    counter: 16,
};

/// SHA-256 counts bits in 64 bits (FIPS 180-4, section 1), so no content is longer, in bytes.
const MAX_LENGTH: u64 = u64::MAX / 8;

impl StateForm {
    fn write_go(&self, state: &[u8]) -> Vec<u8> {
        let (words, rest) = state.split_at(8 * self.word);
        let (counter, rest) = rest.split_at(self.counter);
        let (filled, buffer) = rest.split_at(1);
        let mut go = Vec::with_capacity(4 + words.len() + self.block + 8);
        go.extend_from_slice(self.magic);
        words
            .chunks(self.word)
            .for_each(|word| go.extend(word.iter().rev()));
        go.extend_from_slice(buffer);
        go.resize(4 + words.len() + self.block, 0);
        let mut blocks = [0; 8];
        blocks.copy_from_slice(&counter[..8]);
        let length = u64::from_le_bytes(blocks) * self.block as u64 + u64::from(filled[0]);
        go.extend_from_slice(&length.to_be_bytes());
        go
    }

    fn read_go(&self, go: &[u8]) -> Option<Vec<u8>> {
        let rest = go.strip_prefix(self.magic)?;
        let (words, rest) = rest.split_at_checked(8 * self.word)?;
        let (block, length) = rest.split_at_checked(self.block)?;
        let length = u64::from_be_bytes(length.try_into().ok()?);
        if length > MAX_LENGTH {
            return None;
        }
        let filled = usize::try_from(length % self.block as u64).ok()?;
        let mut state = Vec::with_capacity(go.len() + self.counter);
        words
            .chunks(self.word)
            .for_each(|word| state.extend(word.iter().rev()));
        state.extend_from_slice(&(length / self.block as u64).to_le_bytes());
        state.resize(words.len() + self.counter, 0);
        state.push(u8::try_from(filled).ok()?);
        state.extend_from_slice(&block[..filled]);
        state.resize(words.len() + self.counter + self.block, 0);
        Some(state)
    }
}

impl Hasher {
    /// The state in Go's form, from which [`Hasher::restore`] goes on.
    pub fn save(&self) -> Vec<u8> {
        match self {
            Self::Sha256(hasher) => SHA256.write_go(&hasher.serialize()),
            Self::Sha512(hasher) => SHA512.write_go(&hasher.serialize()),
        }
    }

    /// A hasher that goes on from a saved state.
    ///
    /// # Errors
    /// When the bytes are not a state of this algorithm.
    pub fn restore(algorithm: Algorithm, saved: &[u8]) -> Result<Self, HasherStateError> {
        fn state<H: SerializableState>(form: &StateForm, saved: &[u8]) -> Option<H> {
            let state = form.read_go(saved)?;
            H::deserialize(state.as_slice().try_into().ok()?).ok()
        }
        let restored = match algorithm {
            Algorithm::Sha256 => state(&SHA256, saved).map(Self::Sha256),
            Algorithm::Sha512 => state(&SHA512, saved).map(Self::Sha512),
        };
        restored.ok_or(HasherStateError)
    }

    /// How many bytes have been taken up.
    pub fn length(&self) -> u64 {
        let saved = self.save();
        let (_, length) = saved.split_at(saved.len() - 8);
        u64::from_be_bytes(length.try_into().expect("eight bytes are left"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_state_goes_on_at_every_length() {
        let content: Vec<u8> = (0..700u32).map(|n| (n * 7 % 251) as u8).collect();
        for algorithm in Algorithm::ALL {
            for cut in 0..content.len() {
                let mut hasher = Hasher::new(algorithm);
                hasher.update(&content[..cut]);
                assert_eq!(hasher.length(), cut as u64);
                let mut restored = Hasher::restore(algorithm, &hasher.save()).unwrap();
                restored.update(&content[cut..]);
                assert_eq!(
                    restored.finish(),
                    Digest::of(algorithm, &content),
                    "cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn the_form_is_gos() {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(b"abc");
        let saved = hasher.save();
        // The initial hash words (FIPS 180-4, 5.3.3), as no block is full yet.
        assert_eq!(saved[..12], *b"sha\x03\x6a\x09\xe6\x67\xbb\x67\xae\x85");
        assert_eq!(saved[36..40], *b"abc\0");
        assert_eq!(saved[100..], [0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(saved.len(), 108);
        let sha512 = Hasher::new(Algorithm::Sha512).save();
        assert_eq!(sha512[..12], *b"sha\x07\x6a\x09\xe6\x67\xf3\xbc\xc9\x08");
        assert_eq!(sha512.len(), 4 + 64 + 128 + 8);
    }

    #[test]
    fn what_is_no_state_is_refused() {
        let good = Hasher::new(Algorithm::Sha256).save();
        for bad in [
            &b""[..],
            b"sha\x03",
            &good[..107],
            &Hasher::new(Algorithm::Sha512).save(),
        ] {
            assert!(Hasher::restore(Algorithm::Sha256, bad).is_err());
        }
        let mut long = good.clone();
        long.push(0);
        assert!(Hasher::restore(Algorithm::Sha256, &long).is_err());
        let mut endless = good.clone();
        endless[100] = 0x20;
        assert!(Hasher::restore(Algorithm::Sha256, &endless).is_err());
        assert!(Hasher::restore(Algorithm::Sha512, &good).is_err());
    }
}
