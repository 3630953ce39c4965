//! Loads that read, made by tools of the field: wrk, ab and curl.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::fs::{Advice, fadvise};

use crate::error::{Context, Error, Result};
use crate::fixture::{LARGE, MANIFEST_TYPE};
use crate::measure::{Sample, figure, median, requests, throughput};
use crate::servers::Server;

/// How many connections ask at once.
const CONNECTIONS: &str = "32";

/// GET requests per second, by wrk in `seconds`.
///
/// # Errors
/// When an answer is no success, or wrk cannot be run.
pub fn gets(server: &Server, path: &str, seconds: u32) -> Result<Sample> {
    requests(server, || {
        let report = wrk(server, path, seconds)?;
        number_after(&report, "Requests/sec:").ok_or_else(|| unreadable("wrk", report))
    })
}

/// The 99th percentile of how long a GET takes, in milliseconds, by wrk in `seconds`.
///
/// # Errors
/// As [`gets`].
pub fn percentile(server: &Server, path: &str, seconds: u32) -> Result<f64> {
    let report = wrk(server, path, seconds)?;
    let time = report.lines().find_map(|line| {
        let time = line.trim().strip_prefix("99%")?.trim();
        milliseconds(time)
    });
    time.ok_or_else(|| unreadable("wrk", report))
}

fn wrk(server: &Server, path: &str, seconds: u32) -> Result<String> {
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-c", CONNECTIONS, "-d", &format!("{seconds}s")])
        .args(["-H", &format!("Accept: {MANIFEST_TYPE}"), "--latency"])
        .arg(server.url(path));
    let report = run(&mut wrk)?;
    if report.contains("Non-2xx") {
        return Err(unreadable("wrk", report));
    }
    Ok(report)
}

/// GET requests per second over HTTP/2, eight at once on each connection, by h2load in `seconds`.
///
/// # Errors
/// When an answer is no success, or h2load cannot be run.
pub fn streams(server: &Server, path: &str, seconds: u32) -> Result<Sample> {
    requests(server, || {
        let mut h2load = Command::new("h2load");
        h2load
            .args(["-t1", "-m8", "-c", CONNECTIONS, "-D", &seconds.to_string()])
            .arg(server.url(path));
        let report = run(&mut h2load)?;
        let clean = report.contains(" 0 4xx, 0 5xx") && report.contains("Application protocol: h2");
        let rate = report.split_once("finished in").and_then(|(_, rest)| {
            let rate = rest.split(',').nth(1)?.trim();
            rate.strip_suffix("req/s")?.trim().parse().ok()
        });
        match rate {
            Some(rate) if clean => Ok(rate),
            _ => Err(unreadable("h2load", report)),
        }
    })
}

/// How long one GET takes on a connection that is kept alive, in milliseconds: the middle one of as
/// many as fit into `seconds`, at least three.
///
/// # Errors
/// When an answer is no success, or curl cannot be run.
pub fn one_by_one(server: &Server, path: &str, seconds: u32) -> Result<Sample> {
    figure(server, || {
        let begun = Instant::now();
        let mut times = Vec::new();
        while times.is_empty() || begun.elapsed().as_secs() < u64::from(seconds) {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--fail", "-w", "%{time_total}\\n"])
                .args(["-H", &format!("Accept: {MANIFEST_TYPE}")]);
            for _ in 0..3 {
                curl.args(["-o", "/dev/null"]).arg(server.url(path));
            }
            let report = run(&mut curl)?;
            // The first one waits for the connection too.
            times.extend(report.lines().skip(1).filter_map(|s| s.parse::<f64>().ok()));
        }
        Ok(median(times).map_or(0.0, |(middle, _)| middle * 1e3))
    })
}

/// HEAD requests per second, by ab in `seconds`, which wrk cannot do.
///
/// # Errors
/// When an answer is no success, or ab cannot be run.
pub fn heads(server: &Server, path: &str, seconds: u32) -> Result<Sample> {
    requests(server, || {
        let mut ab = Command::new("ab");
        // A time limit also limits the number, unless one is named behind it.
        ab.args(["-q", "-i", "-k", "-r", "-c", CONNECTIONS])
            .args(["-t", &seconds.to_string(), "-n", "100000000"])
            .arg(server.url(path));
        let report = run(&mut ab)?;
        if report.contains("Non-2xx") {
            return Err(unreadable("ab", report));
        }
        number_after(&report, "Requests per second:").ok_or_else(|| unreadable("ab", report))
    })
}

/// Downloads of the large blob: `clients` at once, each `times` in turn.
///
/// # Errors
/// When a download is not whole, or curl cannot be run.
pub fn downloads(
    server: &Server,
    path: &str,
    version: Version,
    clients: usize,
    times: usize,
) -> Result<Sample> {
    let bytes = (LARGE * clients * times) as u64;
    throughput(server, bytes, || {
        let running: Result<Vec<_>> = (0..clients)
            .map(|_| download(server, path, version, times))
            .collect();
        for curl in running? {
            let output = curl.wait_with_output().context("run curl")?;
            let report = String::from_utf8_lossy(&output.stdout);
            let whole = report.lines().filter(|line| *line == LARGE.to_string());
            if !output.status.success() || whole.count() != times {
                let report = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(unreadable("curl", report));
            }
        }
        Ok(())
    })
}

/// Begins a client's downloads.
fn download(server: &Server, path: &str, version: Version, times: usize) -> Result<Child> {
    let mut curl = Command::new("curl");
    // Nobody vouches for the certificate.
    curl.args(["-sS", "--fail", "--insecure", version.option()])
        .args(["-w", "%{size_download}\\n"]);
    for _ in 0..times {
        curl.args(["-o", "/dev/null"]).arg(server.url(path));
    }
    curl.stdout(Stdio::piped()).stderr(Stdio::piped());
    curl.spawn().context("run curl")
}

/// Does `work` while `clients` download the large blob at `path` over and over again.
///
/// # Errors
/// Those of `work`, or when curl cannot be run.
pub fn beside_downloads<T>(
    server: &Server,
    path: &str,
    clients: usize,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let running: Result<Vec<_>> = (0..clients)
        .map(|_| download(server, path, Version::Http1, 1000))
        .collect();
    let mut running = running?;
    let done = work();
    for curl in &mut running {
        // One that has ended by itself downloaded nothing.
        let ended = curl.try_wait().context("run curl")?;
        let _ = curl.kill();
        curl.wait().context("run curl")?;
        if ended.is_some() {
            return Err(unreadable("curl", "a download beside has ended".to_owned()));
        }
    }
    done
}

/// The version of HTTP that curl speaks.
#[derive(Clone, Copy, Debug)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, over TLS.
    Http2,
}

impl Version {
    fn option(self) -> &'static str {
        match self {
            Version::Http1 => "--http1.1",
            Version::Http2 => "--http2",
        }
    }
}

/// Lets the kernel forget what it holds of a file, so that it is read from the disk.
///
/// # Errors
/// When the file cannot be opened or synced.
pub fn forget(file: &Path) -> Result<()> {
    let what = || format!("forget {}", file.display());
    let file = File::open(file).context(what())?;
    file.sync_all().context(what())?;
    fadvise(&file, 0, None, Advice::DontNeed).context(what())
}

/// Runs a tool to its end and gives what it printed.
fn run(command: &mut Command) -> Result<String> {
    let tool = command.get_program().to_string_lossy().into_owned();
    let output = command.output().context(format!("run {tool}"))?;
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(report);
    }
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(unreadable(&tool, report + &complaint))
}

fn unreadable(tool: &str, report: String) -> Error {
    Error::Tool {
        tool: tool.to_owned(),
        report,
    }
}

/// A time as wrk writes it, in milliseconds.
fn milliseconds(time: &str) -> Option<f64> {
    let digits = time.trim_end_matches(char::is_alphabetic);
    let factor = match &time[digits.len()..] {
        "us" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        _ => return None,
    };
    Some(digits.parse::<f64>().ok()? * factor)
}

/// The number that follows a label in a report.
fn number_after(report: &str, label: &str) -> Option<f64> {
    let rest = report.split_once(label)?.1;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_behind_its_label() {
        let report = "Latency 1ms\nRequests/sec:  1234.50\nTransfer/sec: 1MB\n";
        assert_eq!(number_after(report, "Requests/sec:"), Some(1234.5));
        assert_eq!(number_after(report, "Requests per second:"), None);
    }

    #[test]
    fn a_time_is_read_with_its_unit() {
        assert_eq!(milliseconds("1.50ms"), Some(1.5));
        assert_eq!(milliseconds("500.00us"), Some(0.5));
        assert_eq!(milliseconds("2.00s"), Some(2000.0));
        assert_eq!(milliseconds("2.00"), None);
    }
}
