//! Tells others what happens in the registry: events, as CNCF Distribution sends them, posted to
//! endpoints over HTTP.
//!
//! An [`EventSink`] takes [`Event`]s without waiting. The [`Notifier`] is the one that sends them:
//! each endpoint has a bounded queue, in memory or in a journal on disk, and a task that hands over
//! one event after the other until it is accepted.

mod delivery;
mod endpoint;
mod event;
mod journal;
mod metrics;
mod notifier;
mod queue;
mod reference;
mod sink;
mod throttle;

pub use delivery::{InvalidReceiver, Receiver};
pub use endpoint::EndpointOptions;
pub use event::{Action, Event, Format, InvalidAction, Request, Source, Target};
pub use metrics::Metrics;
pub use notifier::{Notifier, Unusable, UnusableReason};
pub use reference::Reference;
pub use sink::{EventSink, Kept};
