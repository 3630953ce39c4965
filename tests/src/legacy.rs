//! Stores as early releases of Distribution 2 left them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::run;

/// Makes one, by the registry's own example `legacy_store`, and gives the digest of each image in
/// it.
///
/// # Panics
/// With what it printed, when it fails.
pub fn store(data: &Path) -> BTreeMap<String, String> {
    let mut make = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    make.args(["run", "--quiet", "-p", "wharfinger-registry"]);
    make.args(["--example", "legacy_store", "--"]).arg(data);
    let made = run(make.current_dir(env!("CARGO_MANIFEST_DIR")));
    let images = made.lines().filter_map(|line| line.split_once(' '));
    images
        .map(|(image, digest)| (image.to_owned(), digest.to_owned()))
        .collect()
}
