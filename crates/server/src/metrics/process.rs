//! What the process takes of the machine, under the names that every Prometheus client library
//! uses (proc_pid_stat(5)).

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// Adds the process's metrics to `registry`, which should have no prefix.
pub fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Process));
}

/// Asks the kernel whenever it is asked.
#[derive(Debug)]
struct Process;

/// What `/proc/self/stat` says.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    start_seconds_after_boot: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        let ticks = clock_ticks_per_second() as f64;
        Self::parse(&text, ticks, page_size() as f64)
    }

    /// Reads the fields behind the program's name, which may hold anything but ends at the last
    /// parenthesis.
    fn parse(text: &str, ticks: f64, page: f64) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<f64> = fields
            .split_whitespace()
            .skip(1) // the state, a letter
            .map(|field| field.parse().unwrap_or(0.0))
            .collect();
        // The first of these is the manual's fourth field.
        let field = |number: usize| fields.get(number - 4).copied();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            start_seconds_after_boot: field(22)? / ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page,
        })
    }
}

/// When the machine was started, in seconds since 1970.
fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// A limit; none is the largest number there is, as others tell it.
fn limit(resource: Resource) -> f64 {
    getrlimit(resource).current.unwrap_or(u64::MAX) as f64
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let Some(stat) = Stat::read() else {
            return Ok(()); // a system without /proc
        };
        let cpu = ConstCounter::new(stat.cpu_seconds);
        let told = "Processor time spent in user mode and in the kernel, in seconds";
        let name = "process_cpu_seconds";
        cpu.encode(encoder.encode_descriptor(name, told, None, MetricType::Counter)?)?;
        let open_files = fs::read_dir("/proc/self/fd").map_or(0.0, |open| open.count() as f64);
        let mut gauge = |name, told, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, told, None, MetricType::Gauge)?)
        };
        gauge(
            "process_start_time_seconds",
            "When the process began, in seconds since 1970",
            boot_time().unwrap_or(0.0) + stat.start_seconds_after_boot,
        )?;
        gauge(
            "process_resident_memory_bytes",
            "Bytes of memory that are resident",
            stat.resident_bytes,
        )?;
        gauge(
            "process_virtual_memory_bytes",
            "Bytes of address space in use",
            stat.virtual_bytes,
        )?;
        gauge(
            "process_virtual_memory_max_bytes",
            "Bytes of address space that may be used",
            limit(Resource::As),
        )?;
        gauge("process_open_fds", "Open file descriptors", open_files)?;
        gauge(
            "process_max_fds",
            "How many file descriptors may be open",
            limit(Resource::Nofile),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_read_whatever_the_program_is_called() {
        let text = "7 (a) b) (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 1234 1000000 \
                    300 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n";
        let stat = Stat::parse(text, 100.0, 4096.0).unwrap();
        assert_eq!(
            stat,
            Stat {
                cpu_seconds: 3.0,
                start_seconds_after_boot: 12.34,
                virtual_bytes: 1_000_000.0,
                resident_bytes: 300.0 * 4096.0,
            }
        );
        assert_eq!(Stat::parse("7 (a) S 1", 100.0, 4096.0), None);
    }

    #[test]
    fn this_process_is_measured() {
        let stat = Stat::read().unwrap();
        assert!(stat.resident_bytes > 100_000.0, "{stat:?}");
        assert!(stat.virtual_bytes >= stat.resident_bytes, "{stat:?}");
        assert!(boot_time().unwrap() > 1e9);
    }
}
