//! Link files: whatever a tag's or a blob's link holds, it leads to what it names or is reported,
//! and nothing panics.
#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wharfinger_oci::{Digest, RepositoryName, Tag};
use wharfinger_registry::{Error, Options, Registry, layout};
use wharfinger_storage::{Driver, Durability, MemoryDriver};

fuzz_target!(|content: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime starts").block_on(follow(content));
});

async fn follow(content: &[u8]) {
    let driver: Arc<dyn Driver> = Arc::new(MemoryDriver::new());
    let registry = Registry::new(Arc::clone(&driver), Options::default()).expect("it opens");
    let name: RepositoryName = "a/b".parse().expect("it is a name");
    let tag: Tag = "t".parse().expect("it is a tag");
    let asked = Digest::canonical(b"asked");
    for path in [
        layout::tag_current(&name, &tag),
        layout::layer_link(&name, &asked),
    ] {
        let content = Bytes::copy_from_slice(content);
        driver
            .put(&path, content, Durability::Process)
            .await
            .expect("it is written");
    }
    let named = std::str::from_utf8(content)
        .ok()
        .and_then(|text| text.trim().parse::<Digest>().ok());
    let repository = registry.repository(&name);
    match (repository.tags().get(&tag).await, named) {
        (Ok(found), Some(named)) => assert_eq!(found, named),
        (Err(Error::Damaged { .. }), None) => {}
        (other, named) => panic!("{named:?} became {other:?}"),
    }
    match (repository.blobs().stat(&asked).await, named) {
        (Err(Error::BlobUnknown(_)), Some(_)) | (Err(Error::Damaged { .. }), None) => {}
        (other, named) => panic!("{named:?} became {other:?}"),
    }
}
