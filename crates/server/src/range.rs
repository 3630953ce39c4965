//! Byte ranges: of what a client wants (RFC 9110, section 14), and of what it sends (OCI
//! distribution specification, "Pushing a blob in chunks").

use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// Everything: there is no range, or one that may be ignored (another unit, several ranges, a
    /// form that is not valid; RFC 9110, section 14.2).
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that are not there: to be answered with 416.
    Unsatisfiable,
}

/// Reads a `Range` header for content of `size` bytes.
pub fn range(header: &str, size: u64) -> ByteRange {
    let Some((unit, set)) = header.split_once('=') else {
        return ByteRange::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return ByteRange::Whole;
    }
    let Some((first, last)) = set.trim().split_once('-') else {
        return ByteRange::Whole;
    };
    let part = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        // Not valid, so it may be ignored or refused; the specification's own suite wants 416.
        (Some(_), Some(_)) => return ByteRange::Unsatisfiable,
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(suffix)) if first.is_empty() => {
            if suffix == 0 {
                return ByteRange::Unsatisfiable;
            }
            size.saturating_sub(suffix)..size
        }
        _ => return ByteRange::Whole,
    };
    if part.start < size {
        ByteRange::Part(part)
    } else {
        ByteRange::Unsatisfiable
    }
}

/// Reads the `Content-Range` of a chunk, `<first>-<last>`, as Docker clients and the OCI
/// specification write it; `bytes <first>-<last>/<size>` is taken too. `None` when it is neither,
/// or ends before it begins.
pub fn content_range(header: &str) -> Option<Range<u64>> {
    let set = header.trim();
    let set = set
        .strip_prefix("bytes")
        .map_or(set, |rest| rest.trim_start_matches([' ', '=']));
    let set = set.split_once('/').map_or(set, |(set, _)| set);
    let (first, last) = set.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && last < u64::MAX).then(|| first..last + 1)
}

/// A number of plain digits.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        use ByteRange::{Part, Unsatisfiable, Whole};
        let cases = [
            ("bytes=0-0", Part(0..1)),
            ("bytes=0-9", Part(0..10)),
            ("bytes=5-", Part(5..10)),
            ("bytes=-3", Part(7..10)),
            ("bytes=-30", Part(0..10)),
            ("bytes=9-99999999999999999999999", Part(9..10)),
            ("Bytes=1-2", Part(1..3)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=10-20", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=3-2", Unsatisfiable),
            ("bytes=0-1,3-4", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=-", Whole),
            ("items=0-1", Whole),
            ("", Whole),
        ];
        for (header, expected) in cases {
            assert_eq!(range(header, 10), expected, "{header}");
        }
        assert_eq!(range("bytes=0-", 0), Unsatisfiable);
        assert_eq!(range("bytes=-1", 0), Unsatisfiable);
    }

    #[test]
    fn content_ranges_are_read_strictly() {
        assert_eq!(content_range("0-0"), Some(0..1));
        assert_eq!(content_range("10-19"), Some(10..20));
        assert_eq!(content_range("bytes 10-19/*"), Some(10..20));
        for bad in [
            "",
            "-",
            "1-",
            "-1",
            "2-1",
            "a-b",
            "0x1-2",
            "1-2-3",
            "1-18446744073709551615",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
