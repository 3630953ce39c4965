//! HTTP for the registry: the OCI distribution API, which is Docker's registry API version 2.
//!
//! [`Server`] answers requests for one [`wharfinger_registry::Registry`]. What a request is about
//! is settled once, in `route`; each noun of the API has its handlers in a file of its own; errors
//! of the floors below become statuses and codes in `error` alone.

mod access;
mod access_log;
mod answer;
mod app;
mod base;
mod blob;
mod body;
mod call;
mod catalog;
mod conditional;
mod connection;
mod debug;
mod error;
mod event;
mod exchange;
mod file_body;
mod handler;
mod intake;
mod limits;
mod listen;
mod location;
mod manifest;
mod mapping;
mod metrics;
mod naming;
mod options;
mod pagination;
mod peer;
mod policy;
mod probes;
mod query;
mod range;
mod referrer;
mod request_body;
mod route;
mod sending;
mod serving;
mod source;
mod tag;
mod tls;
mod trace;
mod upload;
mod upload_state;

pub use connection::Server;
pub use debug::{Collector, DebugServer};
pub use limits::{ForwardedHeader, Limits, Network, Rate, TrustedProxies};
pub use listen::{Address, Listener};
pub use metrics::{Metrics, register_build_info, register_process};
pub use options::{Notifications, Options};
pub use peer::Peer;
pub use tls::{
    AcmeOptions, CertificateFiles, Certificates, ClientAuth, FreshTls, Tls, TlsError, TlsOptions,
    TlsPart,
};
pub use trace::ContinueTrace;

/// The pure parsers of what clients send, for fuzzing.
#[doc(hidden)]
pub mod parse {
    pub use crate::limits::forwarded_for;
    pub use crate::query::Query;
    pub use crate::range::{ByteRange, content_range, range};
    pub use crate::route::Route;
    pub use crate::upload_state::{Secret, UploadState};
}
