//! A registry inside another program: an image is stored and read back through typed services,
//! without HTTP. Run it with `cargo run -p wharfinger-registry --example embedded`.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use wharfinger_oci::manifest::Manifest;
use wharfinger_oci::{Digest, media_type};
use wharfinger_registry::{Options, Registry};
use wharfinger_storage::MemoryDriver;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options {
        delete: true,
        ..Options::default()
    };
    let registry = Registry::new(Arc::new(MemoryDriver::new()), options)?;
    let repository = registry.repository(&"library/hello".parse()?);

    let config = repository.blobs().put(Bytes::from_static(b"{}")).await?;
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","artifactType":"text/greeting",
            "config":{{"mediaType":"{}","digest":"{}","size":{}}},"layers":[]}}"#,
        media_type::OCI_IMAGE_MANIFEST,
        "application/vnd.oci.empty.v1+json",
        config.digest,
        config.size,
    );
    let manifest = Manifest::parse(Some(media_type::OCI_IMAGE_MANIFEST), manifest.into())?;
    let digest = Digest::canonical(manifest.payload());
    repository
        .manifests()
        .put(&manifest, &digest, &["latest".parse()?])
        .await?;

    let digest = repository.tags().get(&"latest".parse()?).await?;
    let served = repository.manifests().get(&digest).await?;
    println!("latest is {digest}, a {}", served.descriptor.media_type);
    println!(
        "signatures: {}",
        repository.signatures().get(&digest).await?.len()
    );
    for name in registry.catalog(None, 100).await?.items {
        let tags = registry.repository(&name).tags().list(None, None).await?;
        println!("{name}: {:?}", tags.items);
    }
    Ok(())
}
