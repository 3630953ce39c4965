//! What requests cost, counted and not timed: instructions, allocations and system calls of the
//! build beside this program under callgrind, compared with what is kept in `instructions.toml`.
//!
//! Counts are the same on a machine that is busy, so a path that has become dearer is seen where
//! times would only be noise. They say nothing of what the kernel does, and of caches.

mod callgrind;
mod requests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::http::Client;
use callgrind::{Cost, Server, is_there};
use requests::{Request, Setting};

/// How much dearer than what is kept a path may be. Another patch of the compiler, or of the C
/// library, moves counts by a few percent.
const MORE: f64 = 0.15;

/// How much more may always be: of a few system calls, one more is not yet another path.
const SLACK: f64 = 1.0;

/// How many batches of requests are counted, of which the middle one counts: now and then a request
/// pays for what holds for many, such as asking the store what a cache knew until then.
const BATCHES: usize = 5;

/// How many requests a batch has.
const BATCH: u32 = 30;

/// How many requests come before, which fill caches and make what is made once.
const WARM_UP: u32 = 30;

/// The costs of all paths, by architecture and name.
type Kept = BTreeMap<String, BTreeMap<String, Cost>>;

/// Counts, and compares with what is kept or, to `write`, keeps it.
///
/// # Errors
/// [`Error::Dearer`] with the paths that cost more; what else kept it from being counted.
pub fn run(arguments: impl Iterator<Item = String>) -> Result<()> {
    let mut write = false;
    for argument in arguments {
        match argument.as_str() {
            "--write" => write = true,
            _ => return Err(Error::Usage("usage: bench instructions [--write]".into())),
        }
    }
    let architecture = std::env::consts::ARCH;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml");
    let mut kept = read(&path)?;
    let of_architecture = kept.get(architecture);
    if of_architecture.is_none() && !write {
        println!("nothing is compared: no counts are kept for {architecture}");
        return Ok(());
    }
    if !is_there() {
        return Err(Error::Usage(
            "the Debian package valgrind is missing: nothing can be counted".to_owned(),
        ));
    }
    let counted = count()?;
    print!("{}", table(&counted, of_architecture));
    if write {
        kept.insert(architecture.to_owned(), counted);
        return fs::write(&path, text(&kept)).context(format!("write {}", path.display()));
    }
    let complaints = compare(&counted, kept.get(architecture).unwrap_or(&BTreeMap::new()));
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(Error::Dearer(complaints.join("\n"))),
    }
}

fn read(path: &Path) -> Result<Kept> {
    let what = || format!("read {}", path.display());
    let text = fs::read_to_string(path).context(what())?;
    toml::from_str(&text).map_err(|error| Error::Io {
        what: what(),
        source: std::io::Error::other(error),
    })
}

/// Counts all paths.
fn count() -> Result<BTreeMap<String, Cost>> {
    let folder = tempfile::Builder::new()
        .prefix("wharfinger-instructions-")
        .tempdir()
        .context("make a folder")?;
    let mut counted = BTreeMap::new();
    for setting in Setting::ALL {
        let own: PathBuf = folder.path().join(setting.name());
        let server = Server::start(&own, setting)?;
        let mut client = Client::connect(server.addr)?;
        requests::prepare(&mut client, setting)?;
        for request in requests::all(setting) {
            let cost = cost(&server, &mut client, &request)?;
            counted.insert(request.name.to_owned(), cost);
        }
    }
    Ok(counted)
}

/// What one such request costs.
fn cost(server: &Server, client: &mut Client, request: &Request) -> Result<Cost> {
    let mut send = |times: u32| -> Result<()> {
        for _ in 0..times {
            // What comes while the server is still busy with the last one is read along with that:
            // it would depend on the machine how much each costs.
            server.wait_until_idle()?;
            request.send(client)?;
        }
        server.wait_until_idle()
    };
    send(WARM_UP)?;
    server.dump()?;
    let mut batches = Vec::new();
    for _ in 0..BATCHES {
        send(BATCH)?;
        batches.push(server.dump()?);
    }
    let middle = |of: fn(&Cost) -> u64| {
        let mut figures: Vec<u64> = batches.iter().map(of).collect();
        figures.sort_unstable();
        let batch = u64::from(BATCH);
        (figures[BATCHES / 2] + batch / 2) / batch
    };
    Ok(Cost {
        instructions: middle(|cost| cost.instructions),
        allocations: middle(|cost| cost.allocations),
        system_calls: middle(|cost| cost.system_calls),
    })
}

/// What is wrong with what was counted.
fn compare(counted: &BTreeMap<String, Cost>, kept: &BTreeMap<String, Cost>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, now) in counted {
        let Some(before) = kept.get(name) else {
            complaints.push(format!("{name}: no counts are kept of it"));
            continue;
        };
        for (what, of) in Cost::FIGURES {
            let (before, now) = (of(before), of(now));
            if now as f64 > before as f64 * (1.0 + MORE) + SLACK {
                complaints.push(format!("{name}: {now} {what}, not {before}"));
            }
        }
    }
    let gone = kept.keys().filter(|name| !counted.contains_key(*name));
    complaints.extend(gone.map(|name| format!("{name}: it is not counted any more")));
    complaints
}

/// The counts for people, beside those that are kept.
fn table(counted: &BTreeMap<String, Cost>, kept: Option<&BTreeMap<String, Cost>>) -> String {
    let mut out =
        "| request | instructions | allocations | system calls |\n|---|---|---|---|\n".to_owned();
    for (name, now) in counted {
        let before = kept.and_then(|kept| kept.get(name));
        let cells = Cost::FIGURES.map(|(_, of)| match before.map(of) {
            Some(before) if before != of(now) => format!("{} (kept: {before})", of(now)),
            _ => of(now).to_string(),
        });
        // To write to memory does not fail.
        let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
    }
    out
}

/// The file with what is kept.
fn text(kept: &Kept) -> String {
    let mut out = "# What one request costs the profile `dev`, by architecture, as\n\
                   # `cargo xtask instructions --write` counted it; a release build takes far fewer\n\
                   # instructions. The test command fails when a path costs over 15 % more: make\n\
                   # it cheaper, or count again and say in the commit's message what the rest buys.\n"
        .to_owned();
    for (architecture, costs) in kept {
        let _ = writeln!(out, "\n[{architecture}]");
        for (name, cost) in costs {
            let figures = Cost::FIGURES.map(|(what, of)| format!("{} = {}", key(what), of(cost)));
            let _ = writeln!(out, "{name:?} = {{ {} }}", figures.join(", "));
        }
    }
    out
}

fn key(what: &str) -> String {
    what.replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(named: &[(&str, u64)]) -> BTreeMap<String, Cost> {
        let cost = |instructions| Cost {
            instructions,
            allocations: 20,
            system_calls: 4,
        };
        let named = named.iter();
        named
            .map(|(name, i)| ((*name).to_owned(), cost(*i)))
            .collect()
    }

    #[test]
    fn what_has_become_dearer_is_told_with_both_counts() {
        let kept = costs(&[("a", 1000), ("b", 1000), ("gone", 1)]);
        let counted = costs(&[("a", 1151), ("b", 1152), ("new", 1)]);
        assert_eq!(
            compare(&counted, &kept),
            [
                "b: 1152 instructions, not 1000",
                "new: no counts are kept of it",
                "gone: it is not counted any more",
            ]
        );
        let mut more = costs(&[("a", 900)]);
        more.get_mut("a").unwrap().system_calls = 6;
        assert_eq!(
            compare(&more, &costs(&[("a", 1000)])),
            ["a: 6 system calls, not 4"]
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        let kept = Kept::from([("x86_64".to_owned(), costs(&[("a \"b\"", 7)]))]);
        let read: Kept = toml::from_str(&text(&kept)).unwrap();
        assert_eq!(read, kept);
    }
}
