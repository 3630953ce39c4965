//! Digests, names, tags, descriptors and manifests of every generation.
//!
//! Pure: nothing here performs I/O or is async. Everything that enters the registry from outside
//! is parsed here once, and is a type from there on.

mod choice;
mod descriptor;
mod digest;
mod hasher;
pub mod key;
pub mod manifest;
mod name;
pub mod pattern;
mod tag;

pub mod media_type;
pub mod schema1;

pub use choice::{Choice, Pattern, PatternError};
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, DigestError};
pub use hasher::{Hasher, HasherStateError};
pub use name::{NameError, RepositoryName};
pub use pattern::NamePattern;
pub use tag::{Reference, ReferenceError, Tag, TagError};
