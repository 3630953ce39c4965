//! Repository names: what parses matches the specification's grammar, and makes a path inside the
//! repositories' folder.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharfinger_oci::RepositoryName;
use wharfinger_registry::layout;

fuzz_target!(|text: &str| {
    let parsed = text.parse::<RepositoryName>();
    let by_grammar = text.len() <= 255 && text.split('/').all(|part| is_component(part.as_bytes()));
    assert_eq!(parsed.is_ok(), by_grammar);
    if let Ok(name) = parsed {
        assert_eq!(name.as_str(), text);
        assert!(layout::repository(&name).is_within(&layout::repositories()));
    }
});

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, as a machine that reads it from left to right.
fn is_component(mut rest: &[u8]) -> bool {
    loop {
        let word = rest
            .iter()
            .take_while(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9'))
            .count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        rest = match rest {
            [] => return true,
            [b'.', rest @ ..] | [b'_', b'_', rest @ ..] | [b'_', rest @ ..] => rest,
            [b'-', ..] => &rest[rest.iter().take_while(|c| **c == b'-').count()..],
            _ => return false,
        };
    }
}
