//! `http.limits`, `http.timeouts` and `http.trustedproxies`: what a client may take. Distribution
//! has none of these keys.

use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::network::Network;
use crate::size::ByteSize;

/// `http.limits`. Nought is no limit where it makes sense, and else the default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// How large a request's line and headers may be together.
    pub headersize: ByteSize,
    /// How large a manifest may be that is pushed.
    pub manifestsize: ByteSize,
    /// How large the body of one request with a part of a blob may be.
    pub bodysize: ByteSize,
    /// How large a blob may be, in however many requests it is pushed.
    pub blobsize: ByteSize,
    /// How many connections there may be at once.
    pub connections: u32,
    /// How many requests at once may bring parts of blobs.
    pub uploads: u32,
    /// How long one more waits for its turn.
    pub uploadwait: GoDuration,
    /// What each client may take.
    pub client: ClientLimits,
}

impl Limits {
    /// The largest manifest there is.
    pub(crate) const MANIFEST: ByteSize = ByteSize::new(4 << 20);

    /// Replaces what counts as "not set" by what is then used.
    pub(super) fn settle(&mut self) {
        let default = Self::default();
        if self.headersize.is_zero() {
            self.headersize = default.headersize;
        }
        if self.manifestsize.is_zero() {
            self.manifestsize = default.manifestsize;
        }
        if self.client.per.is_zero() {
            self.client.per = default.client.per;
        }
        if self.client.burst == 0 {
            self.client.burst = self.client.requests;
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            headersize: ByteSize::new(64 << 10),
            manifestsize: Self::MANIFEST,
            bodysize: ByteSize::default(),
            blobsize: ByteSize::default(),
            connections: 0,
            uploads: 0,
            uploadwait: GoDuration::from_secs(300),
            client: ClientLimits::default(),
        }
    }
}

/// `http.limits.client`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientLimits {
    /// How many connections it may have at once.
    pub connections: u32,
    /// How many of its requests at once may bring parts of blobs.
    pub uploads: u32,
    /// How many requests it may send in `per`, in the long run.
    pub requests: u32,
    /// The time for `requests`.
    pub per: GoDuration,
    /// How many requests it may send at once after a pause; nought is as many as `requests`.
    pub burst: u32,
    /// How long a request is held back at most that comes too early.
    pub delay: GoDuration,
    /// What clients are told apart by.
    pub by: ClientIdentity,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connections: 0,
            uploads: 0,
            requests: 0,
            per: GoDuration::from_secs(1),
            burst: 0,
            delay: GoDuration::from_secs(10),
            by: ClientIdentity::Address,
        }
    }
}

/// `http.limits.client.by`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientIdentity {
    /// Its address: of IPv6 the first 64 bits.
    #[default]
    Address,
    /// Its user, or its address where that is not known.
    User,
}

/// `http.timeouts`. Nought is the default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeouts {
    /// How long a request's headers may take, from their first byte.
    pub header: GoDuration,
    /// How long a client may pause in the middle of a body.
    pub body: GoDuration,
    /// How long nothing may happen on a connection.
    pub idle: GoDuration,
}

impl Timeouts {
    /// Replaces what counts as "not set" by what is then used.
    pub(super) fn settle(&mut self) {
        let default = Self::default();
        for (timeout, default) in [
            (&mut self.header, default.header),
            (&mut self.body, default.body),
            (&mut self.idle, default.idle),
        ] {
            if timeout.is_zero() {
                *timeout = default;
            }
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: GoDuration::from_secs(30),
            body: GoDuration::from_secs(120),
            idle: GoDuration::from_secs(15 * 60),
        }
    }
}

/// `http.trustedproxies`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TrustedProxies {
    /// Where they are.
    pub addresses: Vec<Network>,
    /// The header in which they tell whose request it is.
    pub header: ForwardedHeader,
}

/// `http.trustedproxies.header`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, as most proxies write it.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}
