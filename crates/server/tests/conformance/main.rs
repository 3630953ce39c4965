//! The OCI distribution specification, point by point, optional points included. Quotes in the
//! doc comments of the tests are headings of its text.

#[path = "../support/mod.rs"]
mod support;

mod deletion;
mod listing;
mod manifests;
mod pulling;
mod pushing;

use support::{Running, Store, deleting, quiet};

/// A server over each kind of store, with deletion switched on.
async fn servers() -> Vec<Running> {
    let mut servers = Vec::new();
    for store in Store::ALL {
        servers.push(Running::start(store, deleting(), quiet()).await);
    }
    servers
}
