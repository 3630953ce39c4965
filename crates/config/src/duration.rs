//! Lengths of time as Go writes them: `168h`, `1m30s`, `1.5s`, `300ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A length of time, read and written as Go's `time.ParseDuration` does, but never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(Duration);

/// A text that is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a length of time; write it like 168h, 1m30s or 300ms")]
pub struct InvalidDuration(String);

const NANOSECOND: u128 = 1;
const SECOND: u128 = 1_000_000_000;
const UNITS: [(&str, u128); 8] = [
    ("ns", NANOSECOND),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
];

/// The longest there is, as in Go: about 292 years.
const MAX: u128 = i64::MAX as u128;

impl GoDuration {
    /// This many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// This many milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// The same as the standard library's type.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// The same as [`is_zero`](Self::is_zero), for serialization.
    pub(crate) const fn is_zero_ref(&self) -> bool {
        self.0.is_zero()
    }

    /// Whether it is zero, which most keys take for "not set".
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl FromStr for GoDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let invalid = || InvalidDuration(text.to_owned());
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        // A bare number counts nanoseconds, as where Go decodes YAML; zero needs no unit.
        if !rest.is_empty() && rest.bytes().all(|c| c.is_ascii_digit()) {
            let nanoseconds = rest.parse::<u128>().map_err(|_| invalid())?;
            return from_nanoseconds(nanoseconds).ok_or_else(invalid);
        }
        let mut total = 0u128;
        while {
            let (nanoseconds, after) = part(rest).ok_or_else(invalid)?;
            total = total.saturating_add(nanoseconds);
            rest = after;
            !rest.is_empty()
        } {}
        from_nanoseconds(total).ok_or_else(invalid)
    }
}

fn from_nanoseconds(nanoseconds: u128) -> Option<GoDuration> {
    if nanoseconds > MAX {
        return None;
    }
    let seconds = u64::try_from(nanoseconds / SECOND).ok()?;
    let rest = u32::try_from(nanoseconds % SECOND).ok()?;
    Some(GoDuration(Duration::new(seconds, rest)))
}

/// The first number with its unit, in nanoseconds, and what follows.
fn part(text: &str) -> Option<(u128, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits(text));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let end = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let mut total = match whole {
        "" => 0,
        whole => whole.parse::<u128>().ok()?.checked_mul(*unit)?,
    };
    let mut share = *unit;
    for digit in fraction.bytes() {
        share /= 10;
        total += u128::from(digit - b'0') * share;
    }
    Some((total, rest))
}

impl fmt::Display for GoDuration {
    /// The shortest form with whole numbers: `168h`, `1m30s`, `1s500ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_nanos();
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in UNITS.iter().rev().filter(|(unit, _)| unit.is_ascii()) {
            let count = left / size;
            left %= size;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self::default());
        }
        text.parse().map_err(de::Error::custom)
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases = [
            ("0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("1m30s", 90_000_000_000),
            ("168h", 604_800_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("300ms", 300_000_000),
            ("3us4ns", 3_004),
            ("7µs", 7_000),
            ("7μs", 7_000),
            ("+2s", 2_000_000_000),
            ("1000", 1_000),
        ];
        for (text, nanoseconds) in cases {
            let read: GoDuration = text.parse().unwrap();
            assert_eq!(read.get().as_nanos(), nanoseconds, "{text}");
        }
        for text in ["", "s", ".", "-1s", "1d", "7 days", "1s ", "3.4.5s", "1h2"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text:?}");
        }
        assert!("9999999999h".parse::<GoDuration>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(nanoseconds in 0..=i64::MAX as u64) {
            let duration = GoDuration(Duration::from_nanos(nanoseconds));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,20}") {
            let _ = text.parse::<GoDuration>();
        }
    }
}
