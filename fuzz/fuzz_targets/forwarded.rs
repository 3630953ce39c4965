//! An element of `Forwarded` (RFC 7239): no panic, and an address in every form it can have is read.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use wharfinger_server::parse::forwarded_for;

fuzz_target!(|text: &str| {
    let Some(address) = forwarded_for(text) else {
        return;
    };
    let host = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    for element in [
        format!("for=\"{host}\""),
        format!("FOR=\"{host}:65535\";proto=https"),
        format!("by=_proxy;for={host}"),
    ] {
        assert_eq!(forwarded_for(&element), Some(address), "{element}");
    }
});
