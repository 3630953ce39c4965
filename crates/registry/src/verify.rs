//! Verification: whether the store holds what it should, and mending it where it does not.
//!
//! [`blobs`](self::blobs) hashes every blob; [`examine`](self::examine) looks at what a repository
//! says and whether it is there; [`repair`](self::repair) mends what that finds, and
//! [`quarantine`](self::quarantine) puts damaged blobs where nobody finds them, so that the next
//! push brings them back. [`scrub`](self::scrub) hashes in the background.

mod blobs;
mod check;
mod examine;
mod finding;
mod manifest;
mod position;
mod quarantine;
mod repair;
mod repository;
mod scrub;
mod tags;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use futures_util::future::BoxFuture;
use wharfinger_oci::{Digest, RepositoryName};

use crate::catalog::CatalogWalk;
use crate::gc::BlobSet;
use crate::pace::Pace;
use crate::{Registry, Result};
pub use finding::{Affected, Damage, Finding, Outcome};
pub use position::Position;
pub(crate) use quarantine::{Suspects, suspect};
pub use scrub::ScrubSchedule;
pub(crate) use scrub::VerifyCounts;

/// How long ago something half made must have been written to: a push that is under way makes
/// folders before what belongs into them.
const HALF_MADE_AGE: Duration = Duration::from_secs(3600);

/// Whether what is found is mended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repair {
    /// Nothing is written.
    #[default]
    Nothing,
    /// What can be mended while others write to the store, on this node or another.
    Beside,
    /// Everything that can be mended. Nobody else may write to the store.
    Alone,
}

/// How a store is verified.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// What is mended.
    pub repair: Repair,
    /// How many blobs are read at once.
    pub workers: usize,
    /// How many bytes of blobs are read in a second at the most.
    pub rate: Option<u64>,
    /// Where an earlier verification got to, whose blobs are not read again.
    pub resume: Position,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            repair: Repair::Nothing,
            workers: 4,
            rate: None,
            resume: Position::default(),
        }
    }
}

/// A step of a verification, told as it is taken.
#[derive(Clone, Copy, Debug)]
pub enum VerifyStep<'a> {
    /// So many bytes of blobs more were read.
    Read(u64),
    /// All blobs up to a position were read; so much of everything, from 0 to 1.
    Position(&'a Position, f64),
    /// A repository is looked at; so much of all repositories lies behind, from 0 to 1.
    Repository(&'a RepositoryName, f64),
    /// Something is not as it should be. What blobs are damaged is told last, when it is known
    /// what that affects.
    Found(&'a Finding),
}

/// What a verification came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// How many blobs were read, by this verification and the one that it resumed.
    pub blobs: u64,
    /// Their size, in bytes.
    pub bytes: u64,
    /// How many repositories were looked at.
    pub repositories: u64,
    /// How many manifests.
    pub manifests: u64,
    /// How many tags.
    pub tags: u64,
    /// How much was found that is not as it should be.
    pub damage: u64,
    /// How much of that has been mended.
    pub repaired: u64,
}

impl Registry {
    /// Reads all blobs and everything that leads to them, and tells what is not as it should be.
    ///
    /// Others may write meanwhile, unless it is told to repair [alone](Repair::Alone). What they
    /// have not finished is not taken for damage.
    ///
    /// # Errors
    /// When the store fails, which is something else than damage to a file;
    /// [`Error::ReadOnly`](crate::Error::ReadOnly) when it is to repair.
    pub fn verify<'a>(
        &'a self,
        options: VerifyOptions,
        told: impl FnMut(VerifyStep<'_>) + Send + 'a,
    ) -> BoxFuture<'a, Result<VerifyReport>> {
        self.verify_and_tell(options, Box::new(told))
    }

    /// A future of no particular type, so that it is compiled once, here, and not in every program
    /// that verifies.
    fn verify_and_tell<'a>(
        &'a self,
        options: VerifyOptions,
        told: Box<dyn FnMut(VerifyStep<'_>) + Send + 'a>,
    ) -> BoxFuture<'a, Result<VerifyReport>> {
        Box::pin(self.verify_now(options, told))
    }

    async fn verify_now(
        &self,
        options: VerifyOptions,
        mut told: Box<dyn FnMut(VerifyStep<'_>) + Send + '_>,
    ) -> Result<VerifyReport> {
        if options.repair != Repair::Nothing {
            quarantine::settle_suspects(&self.shared).await?;
        }
        let mut blobs = blobs::Blobs::new(self, &options);
        let rate = options.rate;
        let mut position = options.resume;
        blobs.read_all(&mut position, &mut told).await?;
        let mut verification = Verification {
            registry: self,
            repair: options.repair,
            present: blobs.present(),
            damaged: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            pace: Pace::new(rate.and_then(NonZeroU64::new)),
            hashed_again: BlobSet::default(),
            report: VerifyReport {
                blobs: position.blobs,
                bytes: position.bytes,
                ..VerifyReport::default()
            },
        };
        verification.look_at_damaged(&mut position).await?;
        let mut walk = CatalogWalk::all(self);
        while let Some(name) = walk.next().await? {
            told(VerifyStep::Repository(&name, walk.behind()));
            verification.repository(&name, &mut told).await?;
        }
        verification.tell_folders(walk.passed_over(), &mut told);
        verification.tell_blobs(&position, &mut told).await?;
        Ok(verification.report)
    }
}

/// What is known while repositories are looked at.
struct Verification<'a> {
    registry: &'a Registry,
    repair: Repair,
    /// The blobs that were there.
    present: BlobSet,
    /// The blobs among them that are damaged, and the manifests that need them.
    damaged: BTreeMap<Digest, Affected>,
    /// What became of those.
    outcomes: BTreeMap<Digest, Outcome>,
    pace: Pace,
    /// Which blobs were found to have which digests of other algorithms.
    hashed_again: BlobSet,
    report: VerifyReport,
}
