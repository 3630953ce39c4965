//! Listening.

use std::io;

use tracing::info;
use wharfinger_config::Config;
use wharfinger_server::Listener;

use super::{Unusable, unusable};

/// The listener that the configuration names, or that systemd hands over in its place.
pub(crate) async fn listener(config: &Config) -> Result<Listener, Unusable> {
    let http = &config.http;
    let inherited = Listener::inherited();
    if let Some(inherited) = inherited.map_err(|error| unusable("http.addr")(&error))? {
        let address = inherited.address();
        info!(%address, "the socket that was handed over is used in place of http.addr");
        return Ok(inherited);
    }
    let is_unix = http.net == "unix";
    let listener = if is_unix {
        Listener::unix(&http.addr)
    } else {
        Listener::tcp(&http.addr).await
    };
    listener.map_err(|error| {
        let hint = if is_unix { "" } else { hint(&error) };
        cannot_listen("http.addr", &http.addr, &error, hint)
    })
}

/// The second listener.
pub(crate) async fn debug_listener(config: &Config) -> Result<Listener, Unusable> {
    let addr = &config.http.debug.addr;
    let listener = Listener::tcp(addr).await;
    listener.map_err(|error| cannot_listen("http.debug.addr", addr, &error, hint(&error)))
}

fn cannot_listen(key: &'static str, addr: &str, error: &io::Error, hint: &str) -> Unusable {
    unusable(key)(&format_args!("cannot listen on {addr:?}: {error}{hint}"))
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program listens there, choose another port",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges",
        io::ErrorKind::InvalidInput => "; write host and port, like 127.0.0.1:5000 or :5000",
        _ => "",
    }
}
