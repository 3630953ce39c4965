//! Paths of the layout: what is located has exactly one path, which leads back to it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharfinger_registry::layout::{self, Located};
use wharfinger_storage::StoragePath;

fuzz_target!(|data: &str| {
    for root in [
        "",
        "/docker/registry/v2/repositories/",
        "/docker/registry/v2/blobs/",
    ] {
        let Ok(path) = format!("{root}{data}").parse::<StoragePath>() else {
            continue;
        };
        let made = match layout::locate(&path) {
            None => continue,
            Some(Located::BlobData(digest)) => layout::blob_data(&digest),
            Some(Located::LayerLink(name, digest)) => layout::layer_link(&name, &digest),
            Some(Located::RevisionLink(name, digest)) => layout::revision_link(&name, &digest),
            Some(Located::SignatureLink(name, revision, digest)) => {
                layout::signature_link(&name, &revision, &digest)
            }
            Some(Located::TagCurrent(name, tag)) => layout::tag_current(&name, &tag),
            Some(Located::TagIndexLink(name, tag, digest)) => {
                layout::tag_index_link(&name, &tag, &digest)
            }
            Some(Located::ReferrerLink(name, subject, digest)) => {
                layout::referrer_link(&name, &subject, &digest)
            }
            Some(Located::Upload(name, id)) => {
                assert!(path.is_within(&layout::upload(&name, &id)));
                continue;
            }
        };
        assert_eq!(made, path);
    }
});
