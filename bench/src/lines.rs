//! The lines of the table: what is measured, in which unit, and of whom.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use wharfinger_oci::Digest;

use crate::crowd::{Crowd, Habit};
use crate::error::Result;
use crate::fixture::{Fixture, LARGE, blob_path};
use crate::measure::{Sample, figure, memory};
use crate::pull::Version;
use crate::servers::{Kind, Place, Server};
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
    /// Whether the lines are left out that need a tree of 100,000 repositories.
    pub skips_vast: bool,
}

impl Effort {
    /// For figures to be written down.
    pub const FULL: Effort = Effort {
        rounds: 5,
        seconds: 4,
        downloads: 4,
        images: 8,
        skips_vast: false,
    };
    /// For a look: under five minutes.
    pub const QUICK: Effort = Effort {
        rounds: 2,
        seconds: 1,
        downloads: 2,
        images: 3,
        skips_vast: true,
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
    /// Milliseconds; less is better.
    Time,
}

impl Unit {
    /// How it is written in the table.
    pub fn title(self) -> &'static str {
        match self {
            Unit::Requests => "requests/s",
            Unit::Images => "images/s",
            Unit::Throughput => "MB/s",
            Unit::Memory => "MB",
            Unit::Time => "ms",
        }
    }

    /// Whether more is better.
    pub fn more_is_better(self) -> bool {
        !matches!(self, Unit::Memory | Unit::Time)
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
    pub kinds: &'static [Kind],
    /// Which servers of theirs.
    pub place: Place,
    /// Takes one measurement.
    pub work: Work<'a>,
}

const EVERYBODY: &[Kind] = &[
    Kind::Wharfinger,
    Kind::Distribution3,
    Kind::Distribution2,
    Kind::Nginx,
    Kind::NginxCopying,
];
const REGISTRIES: &[Kind] = &[Kind::Wharfinger, Kind::Distribution3, Kind::Distribution2];
const WITH_NGINX: &[Kind] = &[
    Kind::Wharfinger,
    Kind::Distribution3,
    Kind::Distribution2,
    Kind::Nginx,
];

/// A file that registries and file servers have under different paths.
#[derive(Clone)]
struct Target {
    of_registry: String,
    of_nginx: &'static str,
}

impl Target {
    fn path(&self, server: &Server) -> String {
        if server.kind.is_registry() {
            self.of_registry.clone()
        } else {
            self.of_nginx.to_owned()
        }
    }
}

/// What the lines are made with.
struct Loads<'a> {
    manifest: Target,
    by_digest: Target,
    small: Target,
    large: Target,
    /// Where registries keep the large blob below their folder.
    large_file: String,
    upload: Rc<RefCell<&'a mut Vec<u8>>>,
    effort: Effort,
}

/// Every line, in the table's order.
pub fn all<'a>(fixture: &Fixture, upload: &'a mut Vec<u8>, effort: Effort) -> Vec<Line<'a>> {
    let target = |kind: &str, reference: String, of_nginx| Target {
        of_registry: format!("/v2/bench/pull/{kind}/{reference}"),
        of_nginx,
    };
    let blob = |bytes: &[u8]| Digest::canonical(bytes);
    let by_digest = fixture.manifest_digest().to_string();
    let loads = Loads {
        manifest: target("manifests", "latest".to_owned(), "/manifest"),
        by_digest: target("manifests", by_digest, "/manifest"),
        small: target("blobs", blob(&fixture.small).to_string(), "/small"),
        large: target("blobs", blob(&fixture.large).to_string(), "/large"),
        large_file: blob_path(&blob(&fixture.large)),
        upload: Rc::new(RefCell::new(upload)),
        effort,
    };
    let mut lines = loads.reading();
    lines.extend(loads.pushing());
    lines.extend(loads.listing());
    lines.extend(loads.crowded());
    lines.extend(loads.over_tls());
    lines.extend(loads.growing());
    lines.retain(|line| !(effort.skips_vast && line.place == Place::Vast));
    lines
}

impl<'a> Loads<'a> {
    fn gets(&self, target: &Target) -> Work<'a> {
        let (target, seconds) = (target.clone(), self.effort.seconds);
        Box::new(move |server| pull::gets(server, &target.path(server), seconds))
    }

    fn downloads(&self, version: Version, clients: usize, times: usize) -> Work<'a> {
        let large = self.large.clone();
        Box::new(move |server| {
            pull::downloads(server, &large.path(server), version, clients, times)
        })
    }

    fn reading(&self) -> Vec<Line<'a>> {
        let Effort {
            seconds, downloads, ..
        } = self.effort;
        let (small, large) = (self.small.clone(), self.large.clone());
        let large_file = self.large_file.clone();
        vec![
            line(
                "resident memory, idle",
                Unit::Memory,
                REGISTRIES,
                Box::new(|server| figure(server, || Ok(memory(server, "VmRSS")))),
            ),
            line(
                "GET manifest by tag, 32 connections",
                Unit::Requests,
                WITH_NGINX,
                self.gets(&self.manifest),
            ),
            line(
                "GET manifest by digest, 32 connections",
                Unit::Requests,
                WITH_NGINX,
                self.gets(&self.by_digest),
            ),
            line(
                "HEAD blob, 32 connections",
                Unit::Requests,
                WITH_NGINX,
                Box::new(move |server| pull::heads(server, &small.path(server), seconds)),
            ),
            line(
                "GET 1 KiB blob, 32 connections",
                Unit::Requests,
                WITH_NGINX,
                self.gets(&self.small),
            ),
            line(
                "GET 256 MiB blob, 1 client",
                Unit::Throughput,
                EVERYBODY,
                self.downloads(Version::Http1, 1, downloads),
            ),
            line(
                "GET 256 MiB blob, 8 clients",
                Unit::Throughput,
                EVERYBODY,
                self.downloads(Version::Http1, 8, downloads.div_ceil(4)),
            ),
            line(
                "GET 256 MiB blob that is not in memory, 1 client",
                Unit::Throughput,
                EVERYBODY,
                Box::new(move |server| {
                    let file = match server.kind.is_registry() {
                        true => server.data.join(&large_file),
                        false => server.data.join("large"),
                    };
                    pull::forget(&file)?;
                    pull::downloads(server, &large.path(server), Version::Http1, 1, 1)
                }),
            ),
        ]
    }

    fn pushing(&self) -> Vec<Line<'a>> {
        let Effort {
            seconds, images, ..
        } = self.effort;
        let large = |way| -> Work<'a> {
            let upload = Rc::clone(&self.upload);
            Box::new(move |server| {
                let mut upload = upload.borrow_mut();
                upload.resize(LARGE, 0);
                push::large(server, &mut upload, way)
            })
        };
        let small = |clients: usize, way| -> Work<'a> {
            Box::new(move |server| push::images(server, clients, images, way))
        };
        let upload = Rc::clone(&self.upload);
        let push = |name, unit, work| line(name, unit, REGISTRIES, work);
        use Unit::{Images, Requests, Throughput};
        use push::Way::{Patch, Put};
        vec![
            push("push 256 MiB, one PUT", Throughput, large(Put)),
            push("push 256 MiB, PATCH then PUT", Throughput, large(Patch)),
            push(
                "push 8 layers of 32 MiB at once",
                Throughput,
                Box::new(move |server| push::layers(server, &mut upload.borrow_mut(), 8)),
            ),
            push(
                "push small images (POST, PUT), 1 client",
                Images,
                small(1, Put),
            ),
            push(
                "push small images (POST, PUT), 8 clients",
                Images,
                small(8, Put),
            ),
            push(
                "push small images (POST, PATCH, PUT), 1 client",
                Images,
                small(1, Patch),
            ),
            push(
                "push small images (POST, PATCH, PUT), 8 clients",
                Images,
                small(8, Patch),
            ),
            push(
                "PUT manifest under a new tag, 1 client",
                Requests,
                Box::new(move |server| push::tags(server, Duration::from_secs(seconds.into()))),
            ),
        ]
    }

    fn listing(&self) -> Vec<Line<'a>> {
        let seconds = self.effort.seconds;
        let list = |name, path: &'static str| {
            let work = Box::new(move |server: &Server| pull::gets(server, path, seconds));
            line(name, Unit::Requests, REGISTRIES, work)
        };
        vec![
            list(
                "tags/list of 5,000 tags, n=100",
                "/v2/bench/tags/tags/list?n=100",
            ),
            list("tags/list of 5,000 tags, whole", "/v2/bench/tags/tags/list"),
            list(
                "_catalog of 1,020 repositories, n=100",
                "/v2/_catalog?n=100",
            ),
            list(
                "_catalog of 1,020 repositories, n=1000",
                "/v2/_catalog?n=1000",
            ),
        ]
    }

    fn crowded(&self) -> Vec<Line<'a>> {
        let seconds = self.effort.seconds;
        let beside = |habit: Habit, asked: Target| -> Work<'a> {
            let small = self.small.clone();
            Box::new(move |server| {
                let _crowd = Crowd::gather(server, &asked.path(server), 1000, habit)?;
                pull::gets(server, &small.path(server), seconds)
            })
        };
        let (small, large) = (self.small.clone(), self.large.clone());
        vec![
            line(
                "peak memory, 64 downloads of 256 MiB",
                Unit::Memory,
                WITH_NGINX,
                {
                    let large = large.clone();
                    Box::new(move |server| {
                        let path = large.path(server);
                        let sample = pull::downloads(server, &path, Version::Http1, 64, 1)?;
                        Ok(Sample {
                            value: sample.peak,
                            cpu: None,
                            ..sample
                        })
                    })
                },
            ),
            line(
                "GET 1 KiB blob beside 8 large downloads, 99th percentile",
                Unit::Time,
                WITH_NGINX,
                Box::new(move |server| {
                    pull::beside_downloads(server, &large.path(server), 8, || {
                        figure(server, || {
                            pull::percentile(server, &small.path(server), seconds)
                        })
                    })
                }),
            ),
            line(
                "GET 1 KiB blob beside 1,000 idle connections",
                Unit::Requests,
                WITH_NGINX,
                beside(Habit::Idle, self.small.clone()),
            ),
            line(
                "GET 1 KiB blob beside 1,000 stuck downloads",
                Unit::Requests,
                WITH_NGINX,
                beside(Habit::Slow, self.large.clone()),
            ),
        ]
    }

    fn over_tls(&self) -> Vec<Line<'a>> {
        let Effort {
            seconds, downloads, ..
        } = self.effort;
        let small = self.small.clone();
        let tls = |name, unit, work| Line {
            place: Place::Tls,
            ..line(name, unit, WITH_NGINX, work)
        };
        use Unit::{Requests, Throughput};
        vec![
            tls(
                "TLS: GET 1 KiB blob, 32 connections",
                Requests,
                self.gets(&self.small),
            ),
            tls(
                "TLS: GET 256 MiB blob, 1 client",
                Throughput,
                self.downloads(Version::Http1, 1, downloads),
            ),
            tls(
                "TLS: GET 256 MiB blob, 8 clients",
                Throughput,
                self.downloads(Version::Http1, 8, downloads.div_ceil(4)),
            ),
            tls(
                "HTTP/2: GET 1 KiB blob, 32 connections, 8 at once on each",
                Requests,
                Box::new(move |server| pull::streams(server, &small.path(server), seconds)),
            ),
            tls(
                "HTTP/2: GET 256 MiB blob, 1 client",
                Throughput,
                self.downloads(Version::Http2, 1, downloads),
            ),
        ]
    }

    /// The same requests where there is little and much: they should cost the same.
    fn growing(&self) -> Vec<Line<'a>> {
        let seconds = self.effort.seconds;
        let one = |name, place, path: &str| {
            let path = path.to_owned();
            Line {
                place,
                ..line(
                    name,
                    Unit::Time,
                    REGISTRIES,
                    Box::new(move |server: &Server| pull::one_by_one(server, &path, seconds)),
                )
            }
        };
        let manifest = self.manifest.of_registry.as_str();
        let (catalog, tags) = ("/v2/_catalog?n=100", "/v2/bench/tags/tags/list?n=100");
        let later = "/v2/_catalog?n=100&last=team-050/app-0500";
        vec![
            one(
                "one manifest by tag, of 10 repositories",
                Place::Few,
                manifest,
            ),
            one(
                "one manifest by tag, of 1,020 repositories",
                Place::Main,
                manifest,
            ),
            one(
                "one manifest by tag, of 100,000 repositories",
                Place::Vast,
                manifest,
            ),
            one("one tags/list, n=100, of 5,000 tags", Place::Main, tags),
            one("one tags/list, n=100, of 100,000 tags", Place::Vast, tags),
            one(
                "one _catalog, n=100, of 1,020 repositories",
                Place::Main,
                catalog,
            ),
            one(
                "one _catalog, n=100, of 100,000 repositories",
                Place::Vast,
                catalog,
            ),
            one(
                "one _catalog, n=100, from the middle of 100,000 repositories",
                Place::Vast,
                later,
            ),
            Line {
                place: Place::Vast,
                ..line(
                    "start to the first answer, 100,000 repositories",
                    Unit::Time,
                    REGISTRIES,
                    Box::new(|server| figure(server, || server.start_another())),
                )
            },
        ]
    }
}

fn line<'a>(name: &'static str, unit: Unit, kinds: &'static [Kind], work: Work<'a>) -> Line<'a> {
    Line {
        name,
        unit,
        kinds,
        place: Place::Main,
        work,
    }
}
