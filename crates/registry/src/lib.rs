//! The registry itself, embeddable: typed services over a storage driver.
//!
//! [`Registry`] hands out [`Repository`]s; a repository hands out its services: [`Blobs`],
//! [`Manifests`], [`Tags`], [`Referrers`] and [`Signatures`]. All of them are cheap to make, and
//! everything they return was checked: a digest, a name or a tag is parsed once, at the door.

mod blob;
mod blob_walk;
mod catalog;
mod content_cache;
mod descriptor_cache;
mod error;
mod gc;
pub mod layout;
mod link;
mod lock;
mod manifest;
mod metrics;
mod note;
mod options;
mod pace;
mod publication;
mod read_only;
mod referrer;
mod repository;
mod signature;
mod tag;
mod turn;
mod upload;
mod verify;

pub use blob::{Blobs, Content};
pub use error::{Error, Result};
pub use gc::{
    Activity, CollectOptions, CollectProgress, CollectReport, CollectSchedule, CollectStep,
    Eviction, Explanation, Need, Standing,
};
pub use manifest::{Manifests, Served};
pub use note::Note;
pub use options::{IndexPlatforms, Options, UrlRules, Validation};
pub use read_only::NotWritable;
pub use referrer::Referrers;
pub use repository::{Page, Registry, Repository};
pub use signature::Signatures;
pub use tag::Tags;
pub use turn::{Turn, TurnTaking};
pub use upload::{Progress, PurgeReport, PurgeSchedule, Told, Upload, UploadId};
pub use verify::{
    Affected, Damage, Finding, Outcome, Position, Repair, ScrubSchedule, VerifyOptions,
    VerifyReport, VerifyStep,
};
