//! Numbers of bytes: `64MiB`, `500KB`, `1048576`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

/// A text that is no number of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a number of bytes; write it like 1048576, 64MiB or 2GiB")]
pub struct InvalidSize(String);

const KIB: u64 = 1024;
/// By size, those that are written first.
const UNITS: [(&str, u64); 8] = [
    ("tib", KIB * KIB * KIB * KIB),
    ("gib", KIB * KIB * KIB),
    ("mib", KIB * KIB),
    ("kib", KIB),
    ("tb", 1_000_000_000_000),
    ("gb", 1_000_000_000),
    ("mb", 1_000_000),
    ("kb", 1_000),
];

impl ByteSize {
    /// This many times 1024 * 1024 bytes.
    pub const fn mebibytes(number: u64) -> Self {
        Self(number * KIB * KIB)
    }

    /// In bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let lower = text.to_ascii_lowercase();
        let unit = UNITS.iter().find(|(name, _)| lower.ends_with(name));
        let (name, size) = *unit.unwrap_or(&("", 1));
        let digits = lower[..lower.len() - name.len()]
            .trim_end()
            .replace('_', "");
        let number = match digits.bytes().all(|c| c.is_ascii_digit()) {
            true => digits.parse::<u64>().ok(),
            false => None,
        };
        let bytes = number.and_then(|number| number.checked_mul(size));
        bytes.map(Self).ok_or_else(|| InvalidSize(text.to_owned()))
    }
}

impl fmt::Display for ByteSize {
    /// In the largest unit of 1024s that gives a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TiB", 4), ("GiB", 3), ("MiB", 2), ("KiB", 1)];
        for (name, power) in units {
            let unit = KIB.pow(power);
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(f, "{}{name}", self.0 / unit);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self::default());
        }
        text.parse().map_err(de::Error::custom)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_in_the_units_that_people_write() {
        let cases = [
            ("0", 0),
            ("1048576", 1_048_576),
            ("1_000", 1_000),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("2GiB", 2 << 30),
            ("1TiB", 1 << 40),
            ("10KiB", 10_240),
            ("500KB", 500_000),
            ("3mb", 3_000_000),
            ("1GB", 1_000_000_000),
        ];
        for (text, bytes) in cases {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in [
            "",
            "MiB",
            "-1",
            "1.5GiB",
            "64M",
            "1 PiB",
            "x",
            "99999999999TiB",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(bytes: u64) {
            let size = ByteSize(bytes);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,20}") {
            let _ = text.parse::<ByteSize>();
        }
    }
}
