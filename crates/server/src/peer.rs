//! Who asks: the other end of a connection, or somebody behind it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The other end of a connection, or whom that speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// By address and port.
    Tcp(SocketAddr),
    /// On this machine, over a Unix socket: such a peer has no address.
    Unix,
    /// Behind a proxy that tells the address.
    Behind(IpAddr),
}

impl Peer {
    /// The address, without the port that changes from connection to connection.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix => None,
            Self::Behind(address) => Some(*address),
        }
    }

    /// What to call it in a log.
    pub(crate) fn name(&self) -> Name {
        Name(*self)
    }
}

/// A peer without the port that changes from connection to connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name(Peer);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.ip() {
            Some(ip) => ip.fmt(f),
            None => self.0.fmt(f),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
            Self::Behind(address) => address.fmt(f),
        }
    }
}
