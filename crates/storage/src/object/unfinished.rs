//! What is kept of a file that is longer than a part and not yet committed: all that another node
//! needs to go on with it.

use std::io;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// A multipart upload with the parts it has, and the bytes behind them that do not fill a part.
///
/// It is one object, so that it is there whole or not at all: a line of JSON, then the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unfinished {
    pub(super) header: Header,
    pub(super) tail: Bytes,
}

/// What is known of a multipart upload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// The store's name for the upload.
    pub(super) upload: String,
    /// Its parts in their order.
    pub(super) parts: Vec<Part>,
}

/// A part that the store has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// The store's name for it.
    pub(super) id: String,
    /// Its size in bytes.
    pub(super) size: u64,
}

impl Header {
    /// How many bytes the parts have.
    pub(super) fn size(&self) -> u64 {
        self.parts.iter().map(|part| part.size).sum()
    }
}

impl Unfinished {
    /// The size of the file so far in bytes.
    pub(super) fn size(&self) -> u64 {
        self.header.size() + self.tail.len() as u64
    }

    pub(super) fn encode(&self) -> Bytes {
        let header = serde_json::to_vec(&self.header).expect("text and numbers are JSON");
        let mut bytes = BytesMut::with_capacity(header.len() + 1 + self.tail.len());
        bytes.put_slice(&header);
        bytes.put_u8(b'\n');
        bytes.put_slice(&self.tail);
        bytes.freeze()
    }

    /// # Errors
    /// When the bytes are not what [`encode`](Self::encode) makes of a file of `size` bytes.
    pub(super) fn decode(bytes: &Bytes, size: u64) -> io::Result<Self> {
        let damaged = |reason: &str| {
            let reason = format!("what is kept of the unfinished file is damaged: {reason}");
            io::Error::new(io::ErrorKind::InvalidData, reason)
        };
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| damaged("its first line has no end"))?;
        let header =
            serde_json::from_slice(&bytes[..end]).map_err(|error| damaged(&error.to_string()))?;
        let tail = bytes.slice(end + 1..);
        let unfinished = Self { header, tail };
        match unfinished.size() == size {
            true => Ok(unfinished),
            false => Err(damaged("its parts do not add up to its size")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_again_or_refused() {
        let part = |size| Part {
            id: "\"e\n\"".to_owned(),
            size,
        };
        let kept = Unfinished {
            header: Header {
                upload: "up".to_owned(),
                parts: vec![part(5), part(6)],
            },
            tail: Bytes::from_static(b"\n\0tail"),
        };
        let bytes = kept.encode();
        assert_eq!(Unfinished::decode(&bytes, 17).unwrap(), kept);
        assert!(Unfinished::decode(&bytes, 16).is_err());
        assert!(Unfinished::decode(&bytes.slice(..bytes.len() - 1), 17).is_err());
        assert!(Unfinished::decode(&Bytes::from_static(b"{}"), 0).is_err());
        assert!(Unfinished::decode(&Bytes::from_static(b"{\n"), 0).is_err());
    }
}
