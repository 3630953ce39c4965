//! Saved hash states: what is restored is saved as it was, and goes on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharfinger_oci::{Algorithm, Digest, Hasher};

fuzz_target!(|data: &[u8]| {
    for algorithm in Algorithm::ALL {
        if let Ok(mut hasher) = Hasher::restore(algorithm, data) {
            let saved = hasher.save();
            assert_eq!(saved.len(), data.len());
            // Behind the filled part of the block a writer may leave what it likes.
            let again = Hasher::restore(algorithm, &saved).expect("its own state can be restored");
            assert_eq!(again.save(), saved);
            assert_eq!(again.length().to_be_bytes(), data[data.len() - 8..]);
            let length = hasher.length();
            if length < u64::MAX / 8 - 200 {
                hasher.update(&[7; 200]);
                assert_eq!(hasher.length(), length + 200);
            }
            assert_eq!(hasher.finish().algorithm(), algorithm);
        }
        let (first, second) = data.split_at(data.len() / 3);
        let mut hasher = Hasher::new(algorithm);
        hasher.update(first);
        let mut resumed =
            Hasher::restore(algorithm, &hasher.save()).expect("a state can be restored");
        resumed.update(second);
        assert_eq!(resumed.finish(), Digest::of(algorithm, data));
    }
});
