//! Backup and restore: a registry's images as an image layout, and images from files or from
//! another registry's store into a registry.
//!
//! [`export`] writes an image layout (OCI image specification, "Image Layout") into a folder or a
//! tar archive, [`import`] reads these, archives of `docker save`, and stores. Both work while
//! others use the registry: an export has of each tag one whole image that it stood for meanwhile,
//! and an import pushes as clients do. Of content, no more than some pieces of a mebibyte are in
//! memory.

#![forbid(unsafe_code)]

mod copy;
mod endpoint;
mod error;
mod export;
mod import;
mod layout;
mod naming;
mod pieces;
mod remote;
mod report;
mod selection;
mod source;
mod store;
mod sync;

pub use error::{Error, Fault, Result};
pub use export::{Destination, ExportOptions, export};
pub use import::{Images, ImportOptions, import};
pub use naming::{Naming, NamingRule};
pub use report::{Failure, Progress, Report, Step};
pub use selection::{Limits, Platform, PlatformError, RangeError, Selection, Versions};
pub use sync::{Deletion, Direction, SyncJob, SyncMetrics, SyncSchedule, sync, sync_regularly};
pub use wharfinger_oci::{Choice, Pattern, PatternError};
