//! Loads that read, made by tools of the field: wrk, ab and curl.

use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};
use crate::fixture::{LARGE, MANIFEST_TYPE};
use crate::measure::{Sample, figure, throughput};
use crate::servers::Server;

/// How many connections ask at once.
const CONNECTIONS: &str = "32";

/// GET requests per second, by wrk in `seconds`.
///
/// # Errors
/// When an answer is no success, or wrk cannot be run.
pub fn gets(server: &Server, path: &str, seconds: u32) -> Result<Sample> {
    figure(server, || {
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", "-c", CONNECTIONS, "-d", &format!("{seconds}s")])
            .args(["-H", &format!("Accept: {MANIFEST_TYPE}")])
            .arg(server.url(path));
        let report = run(&mut wrk)?;
        if report.contains("Non-2xx") {
            return Err(unreadable("wrk", report));
        }
        number_after(&report, "Requests/sec:").ok_or_else(|| unreadable("wrk", report))
    })
}

/// HEAD requests per second, by ab in `seconds`, which wrk cannot do.
///
/// # Errors
/// When an answer is no success, or ab cannot be run.
pub fn heads(server: &Server, path: &str, seconds: u32) -> Result<Sample> {
    figure(server, || {
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
pub fn downloads(server: &Server, path: &str, clients: usize, times: usize) -> Result<Sample> {
    let bytes = (LARGE * clients * times) as u64;
    throughput(server, bytes, || {
        let mut running = Vec::new();
        for _ in 0..clients {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--fail", "-w", "%{size_download}\\n"]);
            for _ in 0..times {
                curl.args(["-o", "/dev/null"]).arg(server.url(path));
            }
            curl.stdout(Stdio::piped()).stderr(Stdio::piped());
            running.push(curl.spawn().context("run curl")?);
        }
        for curl in running {
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
}
