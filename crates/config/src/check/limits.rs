//! `http.limits` and `http.trustedproxies`.

use super::Checker;
use crate::section::{ClientIdentity, Limits};
use crate::{ByteSize, Config};

/// What a request's line and headers must be let have, and what would let a connection take much
/// memory.
const HEADERS: [ByteSize; 2] = [ByteSize::new(8 << 10), ByteSize::new(1 << 20)];

impl Checker<'_> {
    pub(super) fn limits(&mut self, config: &Config) {
        let limits = &config.http.limits;
        let [least, most] = HEADERS;
        if !(least..=most).contains(&limits.headersize) {
            let message = format!("{} is not from {least} to {most}", limits.headersize);
            self.wrong("http.limits.headersize", message);
        }
        if limits.manifestsize > Limits::MANIFEST {
            let message = format!(
                "{} is more than a manifest can have, {}",
                limits.manifestsize,
                Limits::MANIFEST
            );
            self.wrong("http.limits.manifestsize", message);
        }
        let client = &limits.client;
        if client.requests == 0 && client.burst > 0 {
            let message = "there is no limit that it belongs to; set http.limits.client.requests";
            self.wrong("http.limits.client.burst", message);
        }
        let auth = &config.auth;
        let has_users = auth.htpasswd.is_some() || auth.token.is_some();
        if client.by == ClientIdentity::User && !has_users {
            let message = "no user is known without auth.htpasswd or auth.token; address is right";
            self.wrong("http.limits.client.by", message);
        }
    }
}
