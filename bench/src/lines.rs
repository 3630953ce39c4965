//! The lines of the table: what is measured, in which unit, and of whom.

use std::time::Duration;

use crate::error::Result;
use crate::fixture::{Fixture, LARGE};
use crate::measure::{Sample, figure, memory};
use crate::servers::{Kind, Server};
use crate::{pull, push};

/// How much is done per line.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How often each server has its turn on each line.
    pub rounds: usize,
    /// How long a load of requests lasts, in seconds.
    pub seconds: u32,
    /// How many downloads each client makes.
    pub downloads: usize,
    /// How many small images each client pushes.
    pub images: usize,
}

impl Effort {
    /// For figures to be written down.
    pub const FULL: Effort = Effort {
        rounds: 5,
        seconds: 4,
        downloads: 4,
        images: 8,
    };
    /// For a look: under five minutes.
    pub const QUICK: Effort = Effort {
        rounds: 2,
        seconds: 2,
        downloads: 2,
        images: 3,
    };
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Per second; more is better.
    Requests,
    /// Images per second; more is better.
    Images,
    /// MB (10^6 bytes) per second; more is better.
    Throughput,
    /// MB of memory; less is better.
    Memory,
}

impl Unit {
    /// How it is written in the table.
    pub fn title(self) -> &'static str {
        match self {
            Unit::Requests => "requests/s",
            Unit::Images => "images/s",
            Unit::Throughput => "MB/s",
            Unit::Memory => "MB",
        }
    }

    /// Whether more is better.
    pub fn more_is_better(self) -> bool {
        self != Unit::Memory
    }
}

/// Takes one measurement.
type Work<'a> = Box<dyn FnMut(&Server) -> Result<Sample> + 'a>;

/// A line of the table.
pub struct Line<'a> {
    /// What is done.
    pub name: &'static str,
    /// The unit of its figures.
    pub unit: Unit,
    /// Who is measured.
    pub servers: Vec<Kind>,
    /// Takes one measurement.
    pub work: Work<'a>,
}

const REGISTRIES: &[Kind] = &[Kind::Wharfinger, Kind::Distribution];
const WITH_NGINX: &[Kind] = &[Kind::Wharfinger, Kind::Distribution, Kind::Nginx];

/// Every line, in the table's order.
pub fn all<'a>(fixture: &'a Fixture, upload: &'a mut Vec<u8>, effort: Effort) -> Vec<Line<'a>> {
    let Effort {
        seconds,
        downloads,
        images,
        ..
    } = effort;
    let digest = fixture.manifest_digest();
    let by_digest = format!("/v2/bench/pull/manifests/{digest}");
    let blob = |bytes: &[u8]| {
        let digest = wharfinger_oci::Digest::canonical(bytes);
        format!("/v2/bench/pull/blobs/{digest}")
    };
    let (small, large) = (blob(&fixture.small), blob(&fixture.large));
    // nginx serves the same bytes under a short name.
    let at = |server: &Server, path: &str, file: &str| {
        let path = if server.kind.is_registry() {
            path
        } else {
            file
        };
        path.to_owned()
    };
    let gets = move |path: String, file: &'static str| -> Work<'a> {
        Box::new(move |server| pull::gets(server, &at(server, &path, file), seconds))
    };
    let download = |clients: usize, times: usize| -> Work<'a> {
        let path = large.clone();
        Box::new(move |server| {
            pull::downloads(server, &at(server, &path, "/large"), clients, times)
        })
    };
    let list = |path: &'static str| -> Work<'a> {
        Box::new(move |server| pull::gets(server, path, seconds))
    };
    let push_images = |clients: usize, way| -> Work<'a> {
        Box::new(move |server| push::images(server, clients, images, way))
    };
    let upload = std::rc::Rc::new(std::cell::RefCell::new(upload));
    let push_large = |way| -> Work<'a> {
        let upload = std::rc::Rc::clone(&upload);
        Box::new(move |server| {
            let mut upload = upload.borrow_mut();
            upload.resize(LARGE, 0);
            push::large(server, &mut upload, way)
        })
    };
    let line = |name, unit, servers: &[Kind], work| Line {
        name,
        unit,
        servers: servers.to_vec(),
        work,
    };
    use Unit::{Images, Memory, Requests, Throughput};
    vec![
        line(
            "resident memory, idle",
            Memory,
            REGISTRIES,
            Box::new(|server| figure(server, || Ok(memory(server, "VmRSS")))),
        ),
        line(
            "GET manifest by tag, 32 connections",
            Requests,
            WITH_NGINX,
            gets("/v2/bench/pull/manifests/latest".to_owned(), "/manifest"),
        ),
        line(
            "GET manifest by digest, 32 connections",
            Requests,
            WITH_NGINX,
            gets(by_digest, "/manifest"),
        ),
        line("HEAD blob, 32 connections", Requests, WITH_NGINX, {
            let path = small.clone();
            Box::new(move |server| pull::heads(server, &at(server, &path, "/small"), seconds))
        }),
        line(
            "GET 1 KiB blob, 32 connections",
            Requests,
            WITH_NGINX,
            gets(small, "/small"),
        ),
        line(
            "GET 256 MiB blob, 1 client",
            Throughput,
            &Kind::ALL,
            download(1, downloads),
        ),
        line(
            "GET 256 MiB blob, 8 clients",
            Throughput,
            &Kind::ALL,
            download(8, downloads.div_ceil(4)),
        ),
        line(
            "push 256 MiB, one PUT",
            Throughput,
            REGISTRIES,
            push_large(push::Way::Put),
        ),
        line(
            "push 256 MiB, PATCH then PUT",
            Throughput,
            REGISTRIES,
            push_large(push::Way::Patch),
        ),
        line(
            "push small images (POST, PUT), 1 client",
            Images,
            REGISTRIES,
            push_images(1, push::Way::Put),
        ),
        line(
            "push small images (POST, PUT), 8 clients",
            Images,
            REGISTRIES,
            push_images(8, push::Way::Put),
        ),
        line(
            "push small images (POST, PATCH, PUT), 1 client",
            Images,
            REGISTRIES,
            push_images(1, push::Way::Patch),
        ),
        line(
            "push small images (POST, PATCH, PUT), 8 clients",
            Images,
            REGISTRIES,
            push_images(8, push::Way::Patch),
        ),
        line(
            "PUT manifest under a new tag, 1 client",
            Requests,
            REGISTRIES,
            Box::new(move |server| push::tags(server, Duration::from_secs(seconds.into()))),
        ),
        line(
            "tags/list of 5,000 tags, n=100",
            Requests,
            REGISTRIES,
            list("/v2/bench/tags/tags/list?n=100"),
        ),
        line(
            "tags/list of 5,000 tags, whole",
            Requests,
            REGISTRIES,
            list("/v2/bench/tags/tags/list"),
        ),
        line(
            "_catalog of 1,020 repositories, n=100",
            Requests,
            REGISTRIES,
            list("/v2/_catalog?n=100"),
        ),
        line(
            "_catalog of 1,020 repositories, n=1000",
            Requests,
            REGISTRIES,
            list("/v2/_catalog?n=1000"),
        ),
        line(
            "peak memory, 64 downloads of 256 MiB",
            Memory,
            WITH_NGINX,
            {
                let path = large.clone();
                Box::new(move |server| {
                    let sample = pull::downloads(server, &at(server, &path, "/large"), 64, 1)?;
                    Ok(Sample {
                        value: sample.peak,
                        cpu: None,
                        ..sample
                    })
                })
            },
        ),
    ]
}
