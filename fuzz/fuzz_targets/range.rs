//! Ranges: what is asked for lies within what there is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharfinger_server::parse::{ByteRange, content_range, range};

fuzz_target!(|input: (u64, &str)| {
    let (size, text) = input;
    for header in [text.to_owned(), format!("bytes={text}")] {
        match range(&header, size) {
            ByteRange::Whole | ByteRange::Unsatisfiable => {}
            ByteRange::Part(part) => assert!(part.start < part.end && part.end <= size),
        }
    }
    if let Some(chunk) = content_range(text) {
        assert!(chunk.start < chunk.end);
        let plain = format!("{}-{}", chunk.start, chunk.end - 1);
        assert_eq!(content_range(&plain), Some(chunk));
    }
});
