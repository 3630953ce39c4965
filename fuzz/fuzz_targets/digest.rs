//! Digests and algorithms: what parses is written back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharfinger_oci::{Algorithm, Digest};

fuzz_target!(|text: &str| {
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
        let again =
            Digest::from_hex(digest.algorithm(), &digest.hex()).expect("its own hex parses");
        assert_eq!(again, digest);
        assert_eq!(
            Digest::from_raw(digest.algorithm(), digest.raw()),
            Some(digest)
        );
    }
    if let Ok(algorithm) = text.parse::<Algorithm>() {
        assert_eq!(algorithm.to_string(), text);
    }
    let of_content = Digest::canonical(text.as_bytes());
    assert_eq!(of_content.to_string().parse(), Ok(of_content));
});
