//! What a crash leaves.

use std::collections::{BTreeMap, BTreeSet};

use super::platter::{Content, Inode, Names, State};
use crate::testing::Random;

/// What is written at once: a torn file is old, new or zero in whole blocks of this many bytes.
const BLOCK: usize = 512;

impl State {
    /// What a crash leaves of a file or folder, as an inode of the new disk.
    pub(super) fn survive(&self, inode: u64, random: &mut Random, disk: &mut State) -> u64 {
        let survivor = match &self.inodes[&inode] {
            Inode::File(content) => {
                let left = content.survive(random);
                let modified = content.modified;
                Inode::File(Content {
                    live: left.clone(),
                    durable: Some(left),
                    modified,
                })
            }
            Inode::Folder(names) => {
                let mut left = BTreeMap::new();
                let all: BTreeSet<_> = names.live.keys().chain(names.durable.keys()).collect();
                for name in all {
                    let (live, durable) = (names.live.get(name), names.durable.get(name));
                    let kept = if live == durable || random.coin() {
                        live
                    } else {
                        durable
                    };
                    if let Some(&kept) = kept {
                        left.insert(name.clone(), self.survive(kept, random, disk));
                    }
                }
                Inode::Folder(Names {
                    live: left.clone(),
                    durable: left,
                    modified: names.modified,
                })
            }
        };
        disk.add(survivor)
    }
}

impl Content {
    fn survive(&self, random: &mut Random) -> Vec<u8> {
        let durable = self.durable.as_deref().unwrap_or_default();
        let live = self.live.as_slice();
        if durable == live {
            return self.live.clone();
        }
        let same = durable.iter().zip(live).take_while(|(a, b)| a == b).count();
        let longest = durable.len().max(live.len());
        let length = same + random.up_to((longest - same) as u64) as usize;
        let mut left = live[..same].to_vec();
        left.resize(length, 0);
        let mut start = same;
        while start < length {
            let end = (start / BLOCK * BLOCK + BLOCK).min(length);
            let source = [live, durable, &[]][random.up_to(2) as usize];
            if let Some(written) = source.get(start..end.min(source.len())) {
                left[start..start + written.len()].copy_from_slice(written);
            }
            start = end;
        }
        left
    }
}
