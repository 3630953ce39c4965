//! Whose request it is.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, header};

use crate::call::Call;
use crate::peer::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The addresses whose first `prefix` bits are those of `address`.
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        let (address, prefix) = match address {
            // The same network is the same whichever way it is written.
            IpAddr::V6(mapped) if prefix >= 96 => match mapped.to_ipv4_mapped() {
                Some(address) => (IpAddr::V4(address), prefix - 96),
                None => (address, prefix),
            },
            address => (address, prefix),
        };
        Self { address, prefix }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let differ = match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (ours.to_bits() ^ theirs.to_bits()).leading_zeros()
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                (ours.to_bits() ^ theirs.to_bits()).leading_zeros()
            }
            _ => return false,
        };
        differ >= u32::from(self.prefix)
    }
}

/// Proxies that are believed when they tell whose request they pass on (`http.trustedproxies`).
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    /// Where they are.
    pub networks: Vec<Network>,
    /// Where they tell it.
    pub header: ForwardedHeader,
}

/// The header in which a proxy tells whose request it is. Only one is looked at: proxies pass on
/// what clients say in the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl TrustedProxies {
    /// Whether the other end of a connection is one. Over a Unix socket it is: who is let in there
    /// has the machine's trust already.
    pub(crate) fn contain(&self, peer: Peer) -> bool {
        peer.ip()
            .is_none_or(|address| self.contain_address(address))
    }

    fn contain_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|one| one.contains(address))
    }

    /// Who sent a request: the last one that is not a trusted proxy, as far as these tell; else the
    /// connection's other end.
    pub(crate) fn client(&self, peer: Peer, headers: &HeaderMap) -> Peer {
        if !self.contain(peer) {
            return peer;
        }
        let name = match self.header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => header::FORWARDED,
        };
        let values: Vec<&str> = headers
            .get_all(name)
            .iter()
            .map(|value| value.to_str().unwrap_or_default())
            .collect();
        let mut client = peer;
        // Each proxy adds the one before it at the end.
        for element in values.iter().rev().flat_map(|value| value.rsplit(',')) {
            let told = match self.header {
                ForwardedHeader::XForwardedFor => address(element.trim()),
                ForwardedHeader::Forwarded => forwarded_for(element),
            };
            // What cannot be read was not written by one that is trusted.
            let Some(told) = told else { break };
            client = Peer::Behind(told.to_canonical());
            if !self.contain_address(told) {
                break;
            }
        }
        client
    }
}

/// The address in an element of `Forwarded`: `for=192.0.2.60;proto=http`, `for="[2001:db8::1]:80"`.
/// `None` for one that is hidden, or that cannot be read.
pub fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    let value = value.trim();
    let unquoted = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    address(unquoted.unwrap_or(value))
}

/// An address, with a port or without.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    bare.unwrap_or(text)
        .parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

/// All addresses that are one client's: of IPv6 whoever has one has the 2^64 beside it too.
pub(crate) fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

/// Who is counted for what is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// Everybody at addresses that [`group`] gave.
    Address(IpAddr),
    /// A user, wherever.
    User(String),
    /// Everybody at such addresses, for credentials that were no good.
    Guesser(IpAddr),
}

impl Client {
    pub(crate) fn id(&self) -> ClientId {
        static HASHERS: LazyLock<(RandomState, RandomState)> = LazyLock::new(Default::default);
        ClientId(HASHERS.0.hash_one(self), HASHERS.1.hash_one(self))
    }
}

/// The addresses that are one client's with that of `peer`. Over a Unix socket comes who is on this
/// machine.
pub(super) fn of_peer(peer: Peer) -> IpAddr {
    group(peer.ip().unwrap_or(Ipv4Addr::LOCALHOST.into()))
}

/// The addresses that a request comes from, as far as they are one client's.
pub(crate) fn origin(call: &Call) -> IpAddr {
    of_peer(call.client)
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) | Self::Guesser(IpAddr::V6(address)) => {
                write!(f, "{address}/64")
            }
            Self::Address(address) | Self::Guesser(address) => address.fmt(f),
            Self::User(user) => f.write_str(user),
        }
    }
}

/// A client as a number that an outsider cannot aim at: however long a user's name is, remembering
/// it takes the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientId(u64, u64);

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn proxies(header: ForwardedHeader) -> TrustedProxies {
        TrustedProxies {
            networks: vec![
                Network::new(ip("10.0.0.0"), 8),
                Network::new(ip("fd00::"), 8),
            ],
            header,
        }
    }

    fn client(
        header: ForwardedHeader,
        peer: &str,
        told: &[(&'static str, &'static str)],
    ) -> IpAddr {
        let mut headers = HeaderMap::new();
        for (name, value) in told {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let peer = match peer {
            "unix" => Peer::Unix,
            peer => Peer::Tcp(SocketAddr::new(ip(peer), 4711)),
        };
        let client = proxies(header).client(peer, &headers);
        client
            .ip()
            .unwrap_or(Ipv4Addr::LOCALHOST.into())
            .to_canonical()
    }

    #[test]
    fn networks_contain_what_begins_alike() {
        let contains = |network: &str, prefix, address: &str| {
            Network::new(ip(network), prefix).contains(ip(address))
        };
        assert!(contains("10.0.0.0", 8, "10.255.0.1"));
        assert!(!contains("10.0.0.0", 8, "11.0.0.1"));
        assert!(contains("192.0.2.1", 32, "192.0.2.1"));
        assert!(!contains("192.0.2.1", 32, "192.0.2.2"));
        assert!(contains("0.0.0.0", 0, "192.0.2.2"));
        assert!(!contains("0.0.0.0", 0, "::1"));
        assert!(contains("2001:db8::", 32, "2001:db8:1::1"));
        assert!(!contains("2001:db8::", 33, "2001:db8:8000::1"));
        assert!(contains("::ffff:10.0.0.0", 104, "10.1.2.3"));
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        use ForwardedHeader::XForwardedFor;
        let of = |peer, value| client(XForwardedFor, peer, &[("x-forwarded-for", value)]);
        assert_eq!(of("192.0.2.9", "203.0.113.1"), ip("192.0.2.9"));
        assert_eq!(of("10.0.0.1", "203.0.113.1"), ip("203.0.113.1"));
        assert_eq!(of("::ffff:10.0.0.1", "203.0.113.1"), ip("203.0.113.1"));
        assert_eq!(of("10.0.0.1", "203.0.113.1:4711"), ip("203.0.113.1"));
        assert_eq!(of("fd00::1", "[2001:db8::1]:4711"), ip("2001:db8::1"));
        // What a client says of itself stands before what the proxies add.
        let spoofed = "1.1.1.1, 203.0.113.1, 10.0.0.2";
        assert_eq!(of("10.0.0.1", spoofed), ip("203.0.113.1"));
        let unreadable = "203.0.113.1, nonsense, 10.0.0.2";
        assert_eq!(of("10.0.0.1", unreadable), ip("10.0.0.2"));
        assert_eq!(of("10.0.0.1", ""), ip("10.0.0.1"));
        assert_eq!(of("10.0.0.1", "10.0.0.2"), ip("10.0.0.2"));
        let twice = [
            ("x-forwarded-for", "203.0.113.1"),
            ("x-forwarded-for", "203.0.113.2"),
        ];
        let last = client(XForwardedFor, "10.0.0.1", &twice);
        assert_eq!(last, ip("203.0.113.2"));
        // Over a Unix socket comes a proxy, or somebody of this machine.
        assert_eq!(of("unix", "203.0.113.1"), ip("203.0.113.1"));
        assert_eq!(of("unix", ""), ip("127.0.0.1"));
        // Nor does the other header count.
        let other = [("forwarded", "for=203.0.113.1")];
        assert_eq!(client(XForwardedFor, "10.0.0.1", &other), ip("10.0.0.1"));
    }

    /// RFC 7239, section 4.
    #[test]
    fn the_standard_header_is_read() {
        let of = |value| {
            client(
                ForwardedHeader::Forwarded,
                "10.0.0.1",
                &[("forwarded", value)],
            )
        };
        assert_eq!(
            of("for=203.0.113.1;proto=http;by=10.0.0.1"),
            ip("203.0.113.1")
        );
        assert_eq!(
            of("by=x; For=\"[2001:db8:cafe::17]:4711\""),
            ip("2001:db8:cafe::17")
        );
        assert_eq!(
            of("for=1.1.1.1, for=203.0.113.1, for=10.0.0.2"),
            ip("203.0.113.1")
        );
        assert_eq!(of("for=203.0.113.1, for=_hidden"), ip("10.0.0.1"));
        assert_eq!(of("for=unknown"), ip("10.0.0.1"));
    }

    #[test]
    fn a_client_is_an_address_or_64_bits_of_one() {
        assert_eq!(group(ip("192.0.2.1")), ip("192.0.2.1"));
        assert_eq!(group(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        assert_eq!(group(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
        let client = Client::Address(group(ip("2001:db8:1:2:3:4:5:6")));
        assert_eq!(client.to_string(), "2001:db8:1:2::/64");
    }
}
