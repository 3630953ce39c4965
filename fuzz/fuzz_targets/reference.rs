//! Tags and references: what parses is written back as it was, and is one of the two.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharfinger_oci::{Digest, Reference, Tag};

fuzz_target!(|text: &str| {
    let tag = text.parse::<Tag>();
    if let Ok(tag) = &tag {
        assert_eq!(tag.as_str(), text);
        assert!((1..=Tag::MAX_LEN).contains(&text.len()));
        assert!(!text.starts_with(['.', '-']) && !text.contains(['/', ':', '%', '\0']));
    }
    let digest = text.parse::<Digest>();
    assert!(tag.is_err() || digest.is_err());
    match text.parse::<Reference>() {
        Ok(reference) => {
            assert_eq!(reference.to_string(), text);
            match reference {
                Reference::Tag(found) => assert_eq!(Ok(found), tag),
                Reference::Digest(found) => assert_eq!(Ok(found), digest),
            }
        }
        Err(_) => assert!(tag.is_err() && digest.is_err()),
    }
});
