//! A registry that runs under callgrind, and what callgrind has counted.

use std::collections::HashSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::requests::Setting;
use crate::error::{Context, Error, Result};
use crate::servers::free_address;

/// How long the server may take to start, to become idle, or to tell its counts: everything takes
/// about fifty times as long as usual.
const PATIENCE: Duration = Duration::from_secs(60);

/// What callgrind calls the functions that allocate.
const ALLOCATORS: [&str; 5] = [
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
];

/// What work costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cost {
    /// Instructions outside of the kernel.
    pub instructions: u64,
    /// How often memory is asked for, or made larger.
    pub allocations: u64,
    /// System calls.
    pub system_calls: u64,
}

/// A kind of figures: what it is called, and the figure.
type Figure = (&'static str, fn(&Cost) -> u64);

impl Cost {
    /// All figures.
    pub const FIGURES: [Figure; 3] = [
        ("instructions", |cost| cost.instructions),
        ("allocations", |cost| cost.allocations),
        ("system calls", |cost| cost.system_calls),
    ];
}

/// Whether callgrind is installed.
pub fn is_there() -> bool {
    let mut valgrind = Command::new("valgrind");
    valgrind.arg("--version").stdout(Stdio::null());
    valgrind.status().is_ok_and(|status| status.success())
}

/// The registry, until this is dropped.
pub struct Server {
    /// Where it listens.
    pub addr: SocketAddr,
    folder: PathBuf,
    child: Child,
}

impl Server {
    /// Starts one in `folder` and waits until it can be reached.
    ///
    /// # Errors
    /// [`Error::Start`] when it cannot be reached in time.
    pub fn start(folder: &Path, setting: Setting) -> Result<Self> {
        fs::create_dir_all(folder).context("make a server's folder")?;
        let addr = free_address()?;
        let config = setting.write_config(folder, addr)?;
        let log = fs::File::create(folder.join("log")).context("make a log file")?;
        let this = std::env::current_exe().context("find this program")?;
        let child = Command::new("valgrind")
            .arg("--tool=callgrind")
            .arg("--collect-systime=yes")
            .arg(format!(
                "--callgrind-out-file={}",
                folder.join("out").display()
            ))
            .arg(this.with_file_name("wharfinger"))
            .arg("serve")
            .arg(config)
            // With several threads it would be chance which of them takes up what.
            .env("TOKIO_WORKER_THREADS", "1")
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start valgrind")?;
        let server = Self {
            addr,
            folder: folder.to_owned(),
            child,
        };
        server.wait_for(|| Ok(TcpStream::connect(addr).is_ok()))?;
        Ok(server)
    }

    /// Waits until no thread of the server has anything to do.
    ///
    /// # Errors
    /// [`Error::Start`] when that takes too long.
    pub fn wait_until_idle(&self) -> Result<()> {
        let tasks = format!("/proc/{}/task", self.child.id());
        self.wait_for(|| {
            for task in fs::read_dir(&tasks).context("look at the server")? {
                let path = task.context("look at the server")?.path().join("stat");
                // A thread may have ended.
                let stat = fs::read_to_string(path).unwrap_or_default();
                let state = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
                if !state.is_empty() && !state.starts_with('S') {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    fn wait_for(&self, is_so: impl Fn() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !is_so()? {
            if begun.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(Error::Tool {
                    tool: "valgrind".to_owned(),
                    report: format!("the registry under it does not get on\n{log}"),
                });
            }
            sleep(Duration::from_micros(50));
        }
        Ok(())
    }

    /// What has been counted since this was called the last time.
    ///
    /// # Errors
    /// When callgrind does not tell it.
    pub fn dump(&self) -> Result<Cost> {
        let before = self.dumps()?;
        let output = Command::new("vgdb")
            .arg(format!("--pid={}", self.child.id()))
            .arg("dump")
            .output()
            .context("run vgdb")?;
        let new: Vec<PathBuf> = self.dumps()?.difference(&before).cloned().collect();
        let [file] = new.as_slice() else {
            let report = String::from_utf8_lossy(&output.stderr).into_owned();
            let tool = "vgdb".to_owned();
            return Err(Error::Tool { tool, report });
        };
        let text = fs::read_to_string(file).context("read what callgrind has counted")?;
        parse(&text).ok_or_else(|| Error::Tool {
            tool: "callgrind".to_owned(),
            report: format!("{} is not what it was expected to be", file.display()),
        })
    }

    fn dumps(&self) -> Result<HashSet<PathBuf>> {
        let mut dumps = HashSet::new();
        for entry in fs::read_dir(&self.folder).context("look for counts")? {
            let path = entry.context("look for counts")?.path();
            if path.file_stem().is_some_and(|stem| stem == "out") && path.extension().is_some() {
                dumps.insert(path);
            }
        }
        Ok(dumps)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its end is of no interest, and would take long.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sums of a dump (Callgrind Format Specification, valgrind's manual).
fn parse(text: &str) -> Option<Cost> {
    let (mut columns, mut totals) = (Vec::new(), Vec::new());
    let mut allocations = 0;
    let mut allocators = HashSet::new();
    let mut called = "";
    for line in text.lines() {
        if let Some(events) = line.strip_prefix("events: ") {
            columns = events.split(' ').collect();
        } else if let Some(sums) = line.strip_prefix("totals: ") {
            // Noughts at the end are left out.
            totals = sums.split(' ').filter_map(|sum| sum.parse().ok()).collect();
        } else if let Some(name) = line.strip_prefix("fn=").or(line.strip_prefix("cfn=")) {
            // A name follows its number where it stands first.
            called = name.split(' ').next()?;
            if let Some((number, name)) = name.split_once(' ')
                && ALLOCATORS.contains(&name)
            {
                allocators.insert(number);
            }
        } else if let Some(calls) = line.strip_prefix("calls=")
            && allocators.contains(called)
        {
            allocations += calls.split(' ').next()?.parse::<u64>().ok()?;
        }
    }
    let sum = |event: &str| -> Option<u64> {
        let column = columns.iter().position(|column| *column == event)?;
        Some(totals.get(column).copied().unwrap_or(0))
    };
    Some(Cost {
        instructions: sum("Ir").filter(|instructions| *instructions > 0)?,
        allocations,
        system_calls: sum("sysCount")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_calls_are_read() {
        let text = "events: Ir sysCount sysTime\n\
                    fn=(1) handle\n16 4\ncfn=(2) malloc\ncalls=3 0 \n16 30\n\
                    cfn=(3) free\ncalls=7 0 \n16 30\n\
                    fn=(2)\n1 30\n\
                    fn=(4) other\ncfn=(2)\ncalls=2 0 \n1 20\n\
                    totals: 104 5\n";
        let cost = Cost {
            instructions: 104,
            allocations: 5,
            system_calls: 5,
        };
        assert_eq!(parse(text), Some(cost));
        assert_eq!(parse("events: Ir sysCount\n"), None);
    }
}
