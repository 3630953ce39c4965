//! The state of uploads that clients carry: only what was signed is taken.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wharfinger_server::parse::{Secret, UploadState};

static SECRET: LazyLock<Secret> = LazyLock::new(|| Secret::new("the fuzzer does not know this"));

fuzz_target!(|input: (&str, &str, u64, i32, Option<&str>)| {
    let (name, uuid, offset, seconds, algorithm) = input;
    assert_eq!(SECRET.verify(name), None, "nobody can guess a signature");
    let state = UploadState {
        name: name.to_owned(),
        uuid: uuid.to_owned(),
        offset,
        started_at: std::time::SystemTime::UNIX_EPOCH
            .checked_add(std::time::Duration::from_secs(
                seconds.unsigned_abs().into(),
            ))
            .and_then(|time| time.try_into().ok())
            .expect("the time is within a century of 1970"),
        algorithm: algorithm.map(str::to_owned),
    };
    let token = SECRET.sign(&state);
    assert_eq!(SECRET.verify(&token), Some(state));
    assert_eq!(Secret::new("another").verify(&token), None);
});
