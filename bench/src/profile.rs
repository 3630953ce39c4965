//! Where the time goes: what the release build does while lines of the table are measured, recorded
//! by perf and drawn as flame graphs.

mod flame;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::error::{Context, Error, Result};
use crate::fixture::Fixture;
use crate::lines::{self, Effort, Unit};
use crate::servers::{Kind, Server};

/// How often a second each processor is looked at: no multiple of what else happens regularly.
const FREQUENCY: &str = "997";

/// How much of the stack is kept each time, in bytes. Callers are found in it by what the compiler
/// tells of each function's frame, so that no build of its own is needed.
const STACK: &str = "dwarf,16384";

/// How often each stack was seen, by its functions from the outermost on.
type Stacks = BTreeMap<Vec<String>, u64>;

/// Draws a flame graph of each line whose name has a text in it, or of all, into a folder.
///
/// # Errors
/// When a server does not start, or perf cannot record it.
pub fn run(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let usage = || Error::Usage("usage: bench profile FOLDER [TEXT]".to_owned());
    let graphs = PathBuf::from(arguments.next().ok_or_else(usage)?);
    let only = arguments.next().unwrap_or_default();
    fs::create_dir_all(&graphs).context(format!("make {}", graphs.display()))?;
    let folder = tempfile::Builder::new()
        .prefix("wharfinger-profile-")
        .tempdir()
        .context("make a folder")?;
    let fixture = Fixture::new();
    let server = Server::start(Kind::Wharfinger, &folder.path().join("server"), &fixture)?;
    rustix::fs::sync();
    let mut upload = fixture.large.clone();
    for mut line in lines::all(&fixture, &mut upload, Effort::QUICK) {
        if line.unit == Unit::Memory || !line.name.contains(&only) {
            continue;
        }
        let recording = folder.path().join("perf.data");
        let recorder = record(&server, &recording)?;
        let worked = (line.work)(&server);
        stop(recorder)?;
        worked?;
        let stacks = stacks(&recording)?;
        let path = graphs.join(format!("{}.svg", file_name(line.name)));
        fs::write(&path, flame::draw(line.name, &stacks))
            .context(format!("write {}", path.display()))?;
        println!("{}", path.display());
        for (share, function) in flame::dearest(&stacks).into_iter().take(10) {
            println!("  {:4.1} % {function}", share * 100.0);
        }
    }
    Ok(())
}

/// Begins to record. perf goes on for as long as the program that it is given: one that says that
/// it has begun, and ends with its input.
fn record(server: &Server, recording: &Path) -> Result<Child> {
    let ids: Vec<_> = server.processes().iter().map(u32::to_string).collect();
    let mut recorder = Command::new("perf")
        .args(["record", "--quiet", "-F", FREQUENCY, "--call-graph", STACK])
        .arg("-o")
        .arg(recording)
        .args(["-p", &ids.join(","), "--"])
        .args(["sh", "-c", "echo begun; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run perf (the Debian package linux-perf)")?;
    let mut line = String::new();
    if let Some(output) = recorder.stdout.as_mut() {
        let read = BufReader::new(output).read_line(&mut line);
        read.context("wait for perf")?;
    }
    match line.is_empty() {
        false => Ok(recorder),
        true => Err(stop(recorder).err().unwrap_or_else(|| perf(String::new()))),
    }
}

fn stop(recorder: Child) -> Result<()> {
    // This closes its input.
    let output = recorder.wait_with_output().context("wait for perf")?;
    match output.status.success() {
        true => Ok(()),
        false => Err(perf(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

fn perf(report: String) -> Error {
    let tool = "perf".to_owned();
    Error::Tool { tool, report }
}

fn stacks(recording: &Path) -> Result<Stacks> {
    let output = Command::new("perf")
        .args(["script", "--no-inline", "-F", "comm,ip,sym", "-i"])
        .arg(recording)
        .output()
        .context("run perf")?;
    let stacks = fold(&String::from_utf8_lossy(&output.stdout));
    match stacks.is_empty() {
        false => Ok(stacks),
        true => Err(perf(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

/// Counts the stacks that `perf script` printed: a line with the thread's name, then one for each
/// function with its address, the innermost first, and an empty one.
fn fold(script: &str) -> Stacks {
    let mut stacks = Stacks::new();
    let mut stack = Vec::new();
    for line in script.lines().chain([""]) {
        if line.is_empty() {
            if !stack.is_empty() {
                stack.reverse();
                *stacks.entry(std::mem::take(&mut stack)).or_default() += 1;
            }
        } else if line.starts_with(char::is_whitespace)
            && let Some((address, function)) = line.trim().split_once(' ')
        {
            // Where the kernel was entered from user space, perf tells no name.
            if function != "[unknown]" {
                stack.push(name(address, function));
            }
        }
    }
    stacks
}

/// A function's name without the compiler's hash; one of the kernel's is marked.
fn name(address: &str, function: &str) -> String {
    let function = match function.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 => name,
        _ => function,
    };
    match address.len() == 16 && address.starts_with("ffff") {
        true => format!("{function} [kernel]"),
        false => function.to_owned(),
    }
}

fn file_name(line: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = line.chars().map(letter).collect();
    let parts: Vec<_> = name.split('-').filter(|part| !part.is_empty()).collect();
    parts.join("-").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_are_counted_from_the_outermost_on() {
        let script = "worker \n\
                      \t    55d0 a::b::h0123456789abcdef\n\
                      \t    55d1 main\n\n\
                      worker \n\
                      \t    55d0 a::b::hfedcba9876543210\n\
                      \t    55d1 main\n\n\
                      worker \n\
                      \tffffffff81000130 entry\n\
                      \tffffffffffffffff [unknown]\n\
                      \t    55d1 main\n";
        let stack = |functions: &[&str]| functions.iter().map(ToString::to_string).collect();
        let expected = Stacks::from([
            (stack(&["main", "a::b"]), 2),
            (stack(&["main", "entry [kernel]"]), 1),
        ]);
        assert_eq!(fold(script), expected);
    }

    #[test]
    fn a_line_names_a_file() {
        assert_eq!(
            file_name("push small images (POST, PUT), 1 client"),
            "push-small-images-post-put-1-client"
        );
    }
}
