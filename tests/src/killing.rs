//! A server that is killed again and again under load, and clients that remember what it
//! acknowledged.

pub mod content;
pub mod load;
pub mod model;
pub mod prey;

pub use load::Client;
pub use model::Repository;
pub use prey::Prey;

/// Numbers that are random enough for a test, the same for the same seed: SplitMix64, by Steele,
/// Lea and Flood (2014).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end.max(1) as u64).unwrap_or(0)
    }
}
