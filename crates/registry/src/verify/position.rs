//! How far the blobs have been read, so that another process can go on from there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharfinger_oci::Digest;

use crate::blob_walk::share;

/// How far the blobs of a store have been read, which goes in the order of their digests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The last of them.
    pub(super) behind: Option<Digest>,
    /// How many they are.
    pub(super) blobs: u64,
    /// How many bytes they have.
    pub(super) bytes: u64,
    /// Those that are damaged, and what is wrong with each.
    pub(super) damaged: BTreeMap<Digest, String>,
    /// Those of which there is a folder and nothing else.
    pub(super) half_made: Vec<Digest>,
}

impl Position {
    /// How many blobs have been read.
    pub fn blobs(&self) -> u64 {
        self.blobs
    }

    /// How many bytes they have.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many of them are damaged.
    pub fn damaged(&self) -> u64 {
        self.damaged.len() as u64
    }

    pub(super) fn is_behind(&self, digest: &Digest) -> bool {
        self.behind.is_some_and(|behind| *digest <= behind)
    }

    /// About how much of all that is, from 0 to 1.
    pub(super) fn part(&self) -> f64 {
        self.behind.as_ref().map_or(0.0, share)
    }
}
