//! What a server's work took: time, processor and memory.

use std::fs;
use std::time::Instant;

use crate::error::{Context, Result};
use crate::servers::Server;

/// The kernel's clock ticks per second as `/proc` counts them (proc(5), `USER_HZ`).
const TICKS: f64 = 100.0;

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// In the line's unit.
    pub value: f64,
    /// What it cost the server's processors: seconds per GB (10^9 bytes) moved, or microseconds per
    /// request, where either is counted.
    pub cpu: Option<f64>,
    /// The server's peak resident memory while it worked, in MB (10^6 bytes).
    pub peak: f64,
}

/// Does `work`, which moves `bytes`, and gives its throughput in MB/s.
///
/// # Errors
/// Those of `work`.
pub fn throughput(
    server: &Server,
    bytes: u64,
    work: impl FnOnce() -> Result<()>,
) -> Result<Sample> {
    let gigabytes = bytes as f64 / 1e9;
    reset_peak(server)?;
    let (cpu, begun) = (cpu_seconds(server), Instant::now());
    work()?;
    let (took, cpu) = (begun.elapsed(), cpu_seconds(server) - cpu);
    Ok(Sample {
        value: gigabytes * 1000.0 / took.as_secs_f64(),
        cpu: Some(cpu / gigabytes),
        peak: memory(server, "VmHWM"),
    })
}

/// Does `work`, which gives its requests per second.
///
/// # Errors
/// Those of `work`.
pub fn requests(server: &Server, work: impl FnOnce() -> Result<f64>) -> Result<Sample> {
    let (cpu, begun) = (cpu_seconds(server), Instant::now());
    let sample = figure(server, work)?;
    let (took, cpu) = (begun.elapsed(), cpu_seconds(server) - cpu);
    Ok(Sample {
        cpu: Some(cpu / (sample.value * took.as_secs_f64()) * 1e6),
        ..sample
    })
}

/// Does `work`, which gives its own figure.
///
/// # Errors
/// Those of `work`.
pub fn figure(server: &Server, work: impl FnOnce() -> Result<f64>) -> Result<Sample> {
    reset_peak(server)?;
    let value = work()?;
    Ok(Sample {
        value,
        cpu: None,
        peak: memory(server, "VmHWM"),
    })
}

/// User and system time of all the server's processes so far, in seconds.
fn cpu_seconds(server: &Server) -> f64 {
    let ticks = |id: u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name is in parentheses and may hold anything; the fields after it are numbers.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut next = || fields.next()?.parse::<u64>().ok();
        Some(next()? + next()?)
    };
    let sum: u64 = server.processes().into_iter().filter_map(ticks).sum();
    sum as f64 / TICKS
}

/// A memory figure of all the server's processes, in MB (10^6 bytes).
pub fn memory(server: &Server, key: &str) -> f64 {
    let kilobytes = |id: u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let sum: u64 = server.processes().into_iter().filter_map(kilobytes).sum();
    sum as f64 * 1024.0 / 1e6
}

/// Lets `VmHWM` begin anew at what is resident now (proc(5), `clear_refs`).
fn reset_peak(server: &Server) -> Result<()> {
    for id in server.processes() {
        fs::write(format!("/proc/{id}/clear_refs"), "5").context("reset a peak of memory")?;
    }
    Ok(())
}

/// The middle of some figures and their spread: half the distance between the least and the
/// largest, relative to the middle.
pub fn median(mut values: Vec<f64>) -> Option<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    let (first, last) = (*values.first()?, *values.last()?);
    let half = values.len() / 2;
    let middle = match values.len() % 2 {
        0 => f64::midpoint(values[half - 1], values[half]),
        _ => values[half],
    };
    Some((middle, (last - first) / 2.0 / middle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some((2.0, 0.5)));
        assert_eq!(median(vec![4.0, 2.0]), Some((3.0, 1.0 / 3.0)));
        assert_eq!(median(vec![]), None);
    }
}
