//! Storage paths: nothing that parses leads anywhere but below the root.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharfinger_storage::StoragePath;

fuzz_target!(|text: &str| {
    let root = StoragePath::root();
    if let Ok(path) = text.parse::<StoragePath>() {
        assert_eq!(path.as_str(), text);
        assert!(path.is_within(&root) && path.is_within(&path));
        assert!(path.parts().all(|part| !matches!(part, "" | "." | "..")));
        assert!(!text.contains(['\\', '\0', '%']));
        let rebuilt = path
            .parts()
            .try_fold(root.clone(), |folder, part| folder.join(part));
        assert_eq!(rebuilt.as_ref(), Ok(&path));
        match path.parent() {
            None => assert!(path.is_root()),
            Some(parent) => {
                assert_eq!(parent.join(path.name()).as_ref(), Ok(&path));
                assert!(path.is_within(&parent) && !parent.is_within(&path));
            }
        }
    }
    if let Ok(path) = root.join(text) {
        assert_eq!((path.name(), path.parts().count()), (text, 1));
    }
});
