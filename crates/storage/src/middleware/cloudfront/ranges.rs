//! The networks of Amazon, as it publishes them.

use std::net::IpAddr;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::Deserialize;
use thiserror::Error;
use tokio::time::sleep;
use tracing::{debug, warn};

/// A list that is longer is none: Amazon's is about 2 MB.
const LONGEST: usize = 32 * 1024 * 1024;

/// The networks of Amazon, of all its regions or some, which are asked for again from time to time.
/// Until they have been told once there are none.
#[derive(Debug)]
pub struct AmazonRanges {
    client: reqwest::Client,
    url: reqwest::Url,
    /// None is all of them.
    regions: Vec<String>,
    known: ArcSwapOption<Ranges>,
}

/// Why the list could not be had. The URL is in none of it.
#[derive(Debug, Error)]
enum Failed {
    #[error("{}", cause(.0))]
    Http(#[from] reqwest::Error),
    #[error("the answer was {0}")]
    Status(reqwest::StatusCode),
    #[error("the answer is longer than {LONGEST} bytes")]
    TooLong,
    #[error("the answer is no such list: {0}")]
    NoList(#[from] serde_json::Error),
}

/// The last cause: those before it tell the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[derive(Debug, Deserialize)]
struct List {
    #[serde(default)]
    prefixes: Vec<Entry>,
    #[serde(default)]
    ipv6_prefixes: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default, alias = "ip_prefix", alias = "ipv6_prefix")]
    prefix: String,
    #[serde(default)]
    region: String,
}

impl AmazonRanges {
    /// The networks of `regions`, or of all where none is named, from `url`. Nothing is asked yet.
    ///
    /// # Errors
    /// When it is no URL.
    pub fn new(
        client: reqwest::Client,
        url: &str,
        regions: Vec<String>,
    ) -> Result<Self, super::InvalidUrl> {
        Ok(Self {
            client,
            url: url.parse().map_err(|_| super::InvalidUrl)?,
            regions,
            known: ArcSwapOption::empty(),
        })
    }

    /// Asks for the list once. What fails is logged, and what was known stays.
    pub async fn update(&self) {
        match self.fetch().await {
            Ok(ranges) => {
                debug!(networks = ranges.0.len(), "Amazon's networks are known");
                self.known.store(Some(ranges.into()));
            }
            Err(error) => {
                let known = self.known.load().is_some();
                warn!(%error, known, "Amazon's networks could not be asked for");
            }
        }
    }

    /// Asks for the list again and again.
    pub async fn maintain(&self, every: Duration) {
        loop {
            sleep(every).await;
            self.update().await;
        }
    }

    /// Whether an address is in one of the networks that are known.
    pub fn contain(&self, address: IpAddr) -> bool {
        let known = self.known.load();
        known.as_ref().is_some_and(|ranges| ranges.contain(address))
    }

    async fn fetch(&self) -> Result<Ranges, Failed> {
        let mut answer = self.client.get(self.url.clone()).send().await?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(Failed::Status(answer.status()));
        }
        let mut text = Vec::new();
        while let Some(piece) = answer.chunk().await? {
            if text.len() + piece.len() > LONGEST {
                return Err(Failed::TooLong);
            }
            text.extend_from_slice(&piece);
        }
        Ok(Ranges::read(&text, &self.regions)?)
    }
}

/// First and last addresses, in order, without overlaps. IPv4's are those mapped into IPv6.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    fn read(text: &[u8], regions: &[String]) -> serde_json::Result<Self> {
        let list: List = serde_json::from_slice(text)?;
        let entries = list.prefixes.iter().chain(&list.ipv6_prefixes);
        let wanted = entries.filter(|entry| {
            let named = |region: &String| region.eq_ignore_ascii_case(&entry.region);
            regions.is_empty() || regions.iter().any(named)
        });
        let mut ranges = Vec::new();
        for entry in wanted {
            match range(&entry.prefix) {
                Some(range) => ranges.push(range),
                None => warn!(network = entry.prefix, "this is no network"),
            }
        }
        ranges.sort_unstable();
        ranges.dedup_by(|next, last| {
            let overlap = next.0 <= last.1;
            if overlap {
                last.1 = last.1.max(next.1);
            }
            overlap
        });
        Ok(Self(ranges))
    }

    fn contain(&self, address: IpAddr) -> bool {
        let number = number(address);
        let behind = self.0.partition_point(|(first, _)| *first <= number);
        behind > 0 && number <= self.0[behind - 1].1
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The first and the last address of a network like `10.0.0.0/8`.
fn range(network: &str) -> Option<(u128, u128)> {
    let (address, bits) = network.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits: u32 = bits.parse().ok().filter(|bits| *bits <= most)?;
    let rest = u128::MAX.checked_shr(128 - (most - bits)).unwrap_or(0);
    let first = number(address) & !rest;
    Some((first, first | rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"syncToken": "1", "prefixes": [
        {"ip_prefix": "3.5.140.0/22", "region": "ap-northeast-2", "service": "AMAZON"},
        {"ip_prefix": "3.5.141.0/24", "region": "ap-northeast-2", "service": "S3"},
        {"ip_prefix": "52.219.170.0/23", "region": "EU-central-1", "service": "S3"},
        {"ip_prefix": "1.2.3.4", "region": "eu-central-1"}],
        "ipv6_prefixes": [
        {"ipv6_prefix": "2600:1f00::/24", "region": "us-east-1", "service": "EC2"}]}"#;

    #[test]
    fn addresses_are_found_in_the_networks_of_the_regions() {
        let of = |regions: &[&str]| {
            let regions: Vec<_> = regions.iter().map(|&region| region.to_owned()).collect();
            Ranges::read(LIST.as_bytes(), &regions).unwrap()
        };
        let (all, one) = (of(&[]), of(&["eu-central-1"]));
        assert_eq!((all.0.len(), one.0.len()), (3, 1));
        for (address, in_all, in_one) in [
            ("3.5.139.255", false, false),
            ("3.5.140.0", true, false),
            ("3.5.143.255", true, false),
            ("3.5.144.0", false, false),
            ("52.219.171.9", true, true),
            ("::ffff:52.219.171.9", true, true),
            ("52.219.172.0", false, false),
            ("2600:1fff::1", true, false),
            ("2601::", false, false),
            ("1.2.3.4", false, false),
            ("::", false, false),
        ] {
            let address = address.parse().unwrap();
            let found = (all.contain(address), one.contain(address));
            assert_eq!(found, (in_all, in_one), "{address}");
        }
        assert!(of(&["nowhere"]).0.is_empty());
    }

    #[test]
    fn networks_are_read() {
        let bits = |text: &str| range(text).map(|(first, last)| last - first);
        assert_eq!(bits("10.1.2.3/32"), Some(0));
        assert_eq!(bits("0.0.0.0/0"), Some(u128::from(u32::MAX)));
        assert_eq!(bits("::/0"), Some(u128::MAX));
        assert_eq!(bits("2001:db8::/64"), Some(u128::from(u64::MAX)));
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "::/129",
            "a/8",
            "10.0.0.0/-1",
        ] {
            assert_eq!(bits(text), None, "{text}");
        }
        assert!(Ranges::read(b"<html>", &[]).is_err());
        let odd = Ranges::read(b"{\"prefixes\": [{}]}", &[]).unwrap();
        assert_eq!(odd, Ranges::default());
    }
}
