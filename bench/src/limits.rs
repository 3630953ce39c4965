//! What the machine itself can do, taken in the same run: no server pushes faster.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use wharfinger_oci::Digest;

use crate::error::{Context, Result};
use crate::fixture::{LARGE, noise};
use crate::measure::median;

/// How often each is taken.
const TIMES: usize = 5;

/// Measures hashing, writing and syncing, and tells them in a sentence.
///
/// # Errors
/// When the disk fails.
pub fn report(folder: &Path) -> Result<String> {
    let bytes = noise(3, LARGE);
    let (mut hash, mut disk, mut sync) = (Vec::new(), Vec::new(), Vec::new());
    let path = folder.join("limit");
    for _ in 0..TIMES {
        let begun = Instant::now();
        std::hint::black_box(Digest::canonical(std::hint::black_box(&bytes)));
        hash.push(throughput(begun));

        let begun = Instant::now();
        let mut file = File::create(&path).context("write a file")?;
        file.write_all(&bytes).context("write a file")?;
        file.sync_all().context("sync a file")?;
        disk.push(throughput(begun));

        // Emptying the large file would weigh on the small one.
        std::fs::remove_file(&path).context("remove a file")?;
        rustix::fs::sync();

        let begun = Instant::now();
        let mut file = File::create(&path).context("write a file")?;
        file.write_all(&bytes[..1024]).context("write a file")?;
        file.sync_all().context("sync a file")?;
        sync.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    std::fs::remove_file(&path).context("remove a file")?;
    let middle = |values| median(values).map_or(0.0, |(middle, _)| middle);
    Ok(format!(
        "Limits of this machine in the same run: SHA-256 {:.0} MB/s on one core, writing 256 MiB \
         and syncing it {:.0} MB/s, writing 1 KiB and syncing it {:.2} ms.",
        middle(hash),
        middle(disk),
        middle(sync)
    ))
}

/// MB/s of [`LARGE`] bytes since then.
fn throughput(begun: Instant) -> f64 {
    LARGE as f64 / 1e6 / begun.elapsed().as_secs_f64()
}
