//! What is needed, in little memory: a hundred million of them take 650 MB.
//!
//! Fingerprints are digests' first bits, so they are spread evenly: in order, the differences
//! between neighbours are small numbers. New ones are collected in a hash set; when that is full it
//! is put in order and becomes a run. Runs of like size are merged, so that there are few.

use std::collections::HashSet;

use super::item::Fingerprint;

/// How many are collected before they become a run.
const COLLECTED: usize = 1 << 10;

/// How many stand in a block: one is looked for by reading a block.
const BLOCK: usize = 64;

/// In how many parts a set is kept, by the first bits: while two runs of a part are merged, only
/// that part is there twice.
const PARTS: usize = 64;

/// A set of fingerprints.
#[derive(Debug)]
pub(super) struct MarkSet {
    parts: Vec<Part>,
    len: u64,
}

impl Default for MarkSet {
    fn default() -> Self {
        Self {
            parts: (0..PARTS).map(|_| Part::default()).collect(),
            len: 0,
        }
    }
}

impl MarkSet {
    /// Adds one; false when it was in it.
    pub(super) fn insert(&mut self, fingerprint: Fingerprint) -> bool {
        let bits = fingerprint.bits();
        let is_new = self.parts[part_of(bits)].insert(bits);
        self.len += u64::from(is_new);
        is_new
    }

    pub(super) fn contains(&self, fingerprint: Fingerprint) -> bool {
        let bits = fingerprint.bits();
        self.parts[part_of(bits)].contains(bits)
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The memory that it takes, in bytes.
    #[cfg(test)]
    fn memory(&self) -> usize {
        self.parts.iter().map(Part::memory).sum()
    }
}

fn part_of(bits: u64) -> usize {
    (bits >> (u64::BITS - PARTS.ilog2())) as usize
}

/// The fingerprints that begin alike.
#[derive(Debug, Default)]
struct Part {
    collected: HashSet<u64>,
    /// The largest first; each is at least twice as large as the one behind it.
    runs: Vec<Run>,
}

impl Part {
    fn insert(&mut self, bits: u64) -> bool {
        if self.contains(bits) {
            return false;
        }
        self.collected.insert(bits);
        if self.collected.len() >= COLLECTED {
            self.settle();
        }
        true
    }

    fn contains(&self, bits: u64) -> bool {
        self.collected.contains(&bits) || self.runs.iter().any(|run| run.contains(bits))
    }

    /// Makes a run of what was collected.
    fn settle(&mut self) {
        let mut collected: Vec<u64> = self.collected.drain().collect();
        collected.sort_unstable();
        let mut run = Run::of(collected.into_iter(), 0);
        while let Some(last) = self.runs.pop_if(|last| last.len < run.len * 2) {
            let bytes = last.bytes.len() + run.bytes.len();
            run = Run::of(Merge::new(last.iter(), run.iter()), bytes);
        }
        self.runs.push(run);
    }

    #[cfg(test)]
    fn memory(&self) -> usize {
        let runs = self.runs.iter();
        let runs: usize = runs
            .map(|run| run.bytes.capacity() + run.blocks.capacity() * size_of::<(u64, usize)>())
            .sum();
        // A hash set has a byte besides for each place, and an eighth of the places is free.
        runs + self.collected.capacity() * 8 / 7 * (size_of::<u64>() + 1)
    }
}

/// Numbers in order, as the differences between them.
#[derive(Debug, Default)]
struct Run {
    /// The first number of each block, and where the others of it begin in `bytes`.
    blocks: Vec<(u64, usize)>,
    /// Seven bits of a difference in each byte, the lowest first; the highest bit says that more
    /// follow.
    bytes: Vec<u8>,
    len: usize,
}

impl Run {
    /// A run of numbers in order, of which it is guessed how many bytes they take.
    fn of(numbers: impl Iterator<Item = u64>, bytes: usize) -> Self {
        let mut run = Self {
            bytes: Vec::with_capacity(bytes),
            ..Self::default()
        };
        let mut last = 0;
        for number in numbers {
            if run.len.is_multiple_of(BLOCK) {
                run.blocks.push((number, run.bytes.len()));
            } else {
                let mut difference = number - last;
                while difference >= 0x80 {
                    run.bytes.push(difference as u8 | 0x80);
                    difference >>= 7;
                }
                run.bytes.push(difference as u8);
            }
            last = number;
            run.len += 1;
        }
        run.blocks.shrink_to_fit();
        run.bytes.shrink_to_fit();
        run
    }

    fn contains(&self, number: u64) -> bool {
        let behind = self.blocks.partition_point(|(first, _)| *first <= number);
        let Some(block) = behind.checked_sub(1) else {
            return false;
        };
        let numbers = self.block(block);
        numbers
            .take_while(|one| *one <= number)
            .any(|one| one == number)
    }

    fn block(&self, block: usize) -> impl Iterator<Item = u64> {
        let (mut last, begin) = self.blocks[block];
        let end = self.blocks.get(block + 1).map(|(_, begin)| *begin);
        let mut bytes = self.bytes[begin..end.unwrap_or(self.bytes.len())].iter();
        let rest = std::iter::from_fn(move || {
            let mut difference = 0;
            let mut shift = 0;
            loop {
                let byte = *bytes.next()?;
                difference |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            last += difference;
            Some(last)
        });
        std::iter::once(self.blocks[block].0).chain(rest)
    }

    fn iter(&self) -> impl Iterator<Item = u64> {
        (0..self.blocks.len()).flat_map(|block| self.block(block))
    }
}

/// Two ordered sequences as one.
struct Merge<A: Iterator<Item = u64>, B: Iterator<Item = u64>> {
    left: std::iter::Peekable<A>,
    right: std::iter::Peekable<B>,
}

impl<A: Iterator<Item = u64>, B: Iterator<Item = u64>> Merge<A, B> {
    fn new(left: A, right: B) -> Self {
        Self {
            left: left.peekable(),
            right: right.peekable(),
        }
    }
}

impl<A: Iterator<Item = u64>, B: Iterator<Item = u64>> Iterator for Merge<A, B> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match (self.left.peek(), self.right.peek()) {
            (Some(left), Some(right)) if right < left => self.right.next(),
            (Some(_), _) => self.left.next(),
            (None, _) => self.right.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(numbers: impl IntoIterator<Item = u64>) -> MarkSet {
        let mut set = MarkSet::default();
        for number in numbers {
            set.insert(Fingerprint::from_bits(number));
        }
        set
    }

    /// Numbers as evenly spread as those of digests (Steele and others, "Fast splittable
    /// pseudorandom number generators", 2014).
    fn spread(n: u64) -> u64 {
        let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_run_holds_what_it_was_made_of(
            numbers in prop::collection::btree_set(any::<u64>(), 0..300),
            others in prop::collection::vec(any::<u64>(), 50),
        ) {
            let run = Run::of(numbers.iter().copied(), 0);
            prop_assert_eq!(run.iter().collect::<BTreeSet<_>>(), numbers.clone());
            for number in numbers.iter().flat_map(|n| [*n, n.wrapping_add(1), n.wrapping_sub(1)]).chain(others) {
                prop_assert_eq!(run.contains(number), numbers.contains(&number), "{}", number);
            }
        }
    }

    #[test]
    fn close_and_distant_numbers_are_kept() {
        let numbers = [0, 1, 2, u64::MAX / 2, u64::MAX - 1, u64::MAX];
        let run = Run::of(numbers.into_iter(), 0);
        assert_eq!(run.iter().collect::<Vec<_>>(), numbers);
    }

    #[test]
    fn many_take_few_bytes_each() {
        let many = 300_000;
        let mut set = set((0..many).map(spread));
        assert_eq!(set.len(), many);
        assert!(!set.insert(Fingerprint::from_bits(spread(77))));
        assert_eq!(set.len(), many);
        for n in (0..many).step_by(17) {
            assert!(set.contains(Fingerprint::from_bits(spread(n))));
            assert!(!set.contains(Fingerprint::from_bits(spread(n + many))));
        }
        let each = set.memory() as f64 / many as f64;
        assert!(each < 12.0, "{each} bytes each");
        let most = set.parts.iter().map(|part| part.runs.len()).max();
        assert!(most < Some(8), "{most:?} runs");
    }
}
