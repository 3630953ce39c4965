//! Loads that write: each client pushes on one kept-alive connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wharfinger_oci::Digest;

use crate::error::{Error, Result};
use crate::fixture::{MANIFEST_TYPE, manifest, noise};
use crate::http::Client;
use crate::measure::{Sample, figure, throughput};
use crate::servers::Server;

/// The size of a small image's layers in bytes.
const SMALL_LAYER: usize = 10 * 1024;
/// How many layers a small image has.
const SMALL_LAYERS: usize = 10;

/// How a blob is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// POST, then PUT with the bytes.
    Put,
    /// POST, PATCH with the bytes, then PUT: what Docker does.
    Patch,
}

/// No two pushes are of the same bytes: a store would keep them once.
fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 32);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Pushes one large blob.
///
/// # Errors
/// When the server refuses.
pub fn large(server: &Server, bytes: &mut [u8], way: Way) -> Result<Sample> {
    // Only the beginning differs, as making all of it anew would take long.
    bytes[..8].copy_from_slice(&unique().to_le_bytes());
    let digest = Digest::canonical(bytes);
    let mut client = Client::connect(server.addr)?;
    // What earlier pushes left unwritten must not weigh on this one.
    rustix::fs::sync();
    throughput(server, bytes.len() as u64, || {
        blob(&mut client, "bench/large", bytes, &digest, way)
    })
}

/// Pushes `count` layers at once, each on a connection of its own: `bytes` in equal parts.
///
/// # Errors
/// When the server refuses.
pub fn layers(server: &Server, bytes: &mut [u8], count: usize) -> Result<Sample> {
    let length = bytes.len() / count;
    let layers: Vec<(&[u8], Digest)> = bytes
        .chunks_exact_mut(length)
        .map(|layer| {
            layer[..8].copy_from_slice(&unique().to_le_bytes());
            (&*layer, Digest::canonical(layer))
        })
        .collect();
    rustix::fs::sync();
    throughput(server, (length * count) as u64, || {
        at_once(layers.iter().map(|(layer, digest)| {
            move || {
                let mut client = Client::connect(server.addr)?;
                blob(&mut client, "bench/layers", layer, digest, Way::Put)
            }
        }))
    })
}

/// Does all of these at once, each on a thread of its own.
fn at_once<W: FnOnce() -> Result<()> + Send>(works: impl Iterator<Item = W>) -> Result<()> {
    thread::scope(|scope| {
        let working: Vec<_> = works.map(|work| scope.spawn(work)).collect();
        working
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or(Err(Error::Answer("a panic"))))
    })
}

/// Small images pushed per second by `clients` at once, each to a repository of its own.
///
/// # Errors
/// When the server refuses.
pub fn images(server: &Server, clients: usize, each: usize, way: Way) -> Result<Sample> {
    let work: Vec<Vec<Image>> = (0..clients)
        .map(|_| (0..each).map(|_| Image::new()).collect())
        .collect();
    rustix::fs::sync();
    figure(server, || {
        let begun = Instant::now();
        at_once(work.iter().enumerate().map(|(n, images)| {
            move || {
                let mut client = Client::connect(server.addr)?;
                let repository = format!("bench/images-{n}");
                images
                    .iter()
                    .try_for_each(|image| image.push(&mut client, &repository, way))
            }
        }))?;
        Ok((clients * each) as f64 / begun.elapsed().as_secs_f64())
    })
}

/// Manifests pushed per second for about `time`: one manifest, each time under a new tag.
///
/// # Errors
/// When the server refuses.
pub fn tags(server: &Server, time: Duration) -> Result<Sample> {
    let mut client = Client::connect(server.addr)?;
    let image = Image::new();
    image.push(&mut client, "bench/new-tags", Way::Put)?;
    rustix::fs::sync();
    figure(server, || {
        let (begun, mut count) = (Instant::now(), 0_u32);
        while begun.elapsed() < time {
            image.tag(&mut client, "bench/new-tags")?;
            count += 1;
        }
        Ok(f64::from(count) / begun.elapsed().as_secs_f64())
    })
}

/// A small image that no server has seen.
struct Image {
    blobs: Vec<(Vec<u8>, Digest)>,
    manifest: Vec<u8>,
}

impl Image {
    fn new() -> Self {
        let layers = (0..SMALL_LAYERS).map(|_| noise(unique(), SMALL_LAYER));
        let config = format!("{{\"architecture\":\"amd64\",\"id\":{}}}", unique()).into_bytes();
        let blobs: Vec<_> = layers
            .chain([config])
            .map(|bytes| {
                let digest = Digest::canonical(&bytes);
                (bytes, digest)
            })
            .collect();
        let layers: Vec<&[u8]> = blobs[..SMALL_LAYERS].iter().map(|b| &*b.0).collect();
        let manifest = manifest(&blobs[SMALL_LAYERS].0, &layers);
        Self { blobs, manifest }
    }

    fn push(&self, client: &mut Client, repository: &str, way: Way) -> Result<()> {
        for (bytes, digest) in &self.blobs {
            blob(client, repository, bytes, digest, way)?;
        }
        self.tag(client, repository)
    }

    fn tag(&self, client: &mut Client, repository: &str) -> Result<()> {
        let path = format!("/v2/{repository}/manifests/t{}", unique());
        client.expect(201, "PUT", &path, MANIFEST_TYPE, &self.manifest)?;
        Ok(())
    }
}

fn blob(
    client: &mut Client,
    repository: &str,
    bytes: &[u8],
    digest: &Digest,
    way: Way,
) -> Result<()> {
    let uploads = format!("/v2/{repository}/blobs/uploads/");
    let mut location = client.expect(202, "POST", &uploads, "", &[])?.location;
    let mut rest = bytes;
    let kind = "application/octet-stream";
    if way == Way::Patch {
        let path = location.ok_or(Error::Answer("it has no location"))?;
        location = client.expect(202, "PATCH", &path, kind, bytes)?.location;
        rest = &[];
    }
    let path = location.ok_or(Error::Answer("it has no location"))?;
    let joint = if path.contains('?') { '&' } else { '?' };
    let path = format!("{path}{joint}digest={digest}");
    client.expect(201, "PUT", &path, kind, rest)?;
    Ok(())
}
