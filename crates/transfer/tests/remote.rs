//! Images from another registry, which misbehaves as the tests decide.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wharfinger_oci::{Digest, RepositoryName, Tag, media_type};
use wharfinger_registry::{Options, Registry, Validation};
use wharfinger_remote::testing::{Reply, TestUpstream};
use wharfinger_remote::{Metrics, Reach, Upstream};
use wharfinger_storage::MemoryDriver;
use wharfinger_transfer::{
    Deletion, Direction, Limits, Naming, Report, Selection, Step, SyncJob, sync,
};

mod support;

use support::{content, name, tag};

/// A registry that mirrors below `m/`, and the other one.
struct Mirroring {
    server: TestUpstream,
    registry: Registry,
}

impl Mirroring {
    async fn start() -> Self {
        let options = Options {
            delete: true,
            descriptor_cache: 0,
            validation: Validation {
                sparse_below: vec![name("m")],
                ..Validation::default()
            },
            ..Options::default()
        };
        Self {
            server: TestUpstream::start().await,
            registry: Registry::new(Arc::new(MemoryDriver::new()), options).unwrap(),
        }
    }

    fn job(&self, images: &[&str], limits: Limits) -> SyncJob {
        let upstream = Upstream::new(&self.server.url(), Reach::default(), &Metrics::default());
        SyncJob {
            name: "test".to_owned(),
            direction: Direction::From(Arc::new(upstream.unwrap())),
            selection: Selection::within(
                images.iter().map(|text| text.parse().unwrap()).collect(),
                limits,
            ),
            naming: Naming::of(["m/".parse().unwrap()]),
            deletion: Deletion::Tags,
            at_once: 3,
        }
    }

    async fn run(&self, images: &[&str], limits: Limits) -> Report {
        let job = self.job(images, limits);
        sync(&self.registry, &job, false, &|_| ()).await.unwrap()
    }

    async fn all(&self) -> Report {
        self.run(&["a"], limits()).await
    }

    /// Pushes an image, with one layer, under a tag there.
    fn image(&self, tag: &str, layer: &[u8], more: &str) -> Digest {
        let layer_digest = self.server.blob(layer);
        let config = self.server.blob(b"{}");
        let kind = media_type::OCI_IMAGE_MANIFEST;
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}",
            "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},
            "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer_digest}","size":{}}}]
            {more}}}"#,
            layer.len()
        );
        self.server.manifest(tag, kind, text.as_bytes())
    }

    fn index(&self, tag: &str, children: &[(Digest, &str)]) -> Digest {
        let kind = media_type::OCI_IMAGE_MANIFEST;
        let children: Vec<String> = children
            .iter()
            .map(|(digest, more)| {
                format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":1{more}}}"#)
            })
            .collect();
        let kind = media_type::OCI_IMAGE_INDEX;
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{}]}}"#,
            children.join(",")
        );
        self.server.manifest(tag, kind, text.as_bytes())
    }

    fn here(&self) -> wharfinger_registry::Repository {
        self.registry.repository(&name("m/a"))
    }

    async fn tags(&self) -> BTreeSet<String> {
        match self.here().tags().list(None, None).await {
            Ok(page) => page.items.iter().map(Tag::to_string).collect(),
            Err(wharfinger_registry::Error::NameUnknown(_)) => BTreeSet::new(),
            Err(error) => panic!("{error}"),
        }
    }

    async fn has(&self, digest: &Digest) -> bool {
        self.here().manifests().contains(digest).await.unwrap()
    }

    async fn blob(&self, digest: &Digest) -> bool {
        self.here().blobs().stat(digest).await.is_ok()
    }
}

fn limits() -> Limits {
    Limits {
        referrers: true,
        ..Limits::default()
    }
}

fn failures(report: &Report) -> Vec<String> {
    report.failures.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_blob_that_breaks_off_is_resumed_where_it_did() {
    let mirror = Mirroring::start().await;
    let layer = content(1, 300_000);
    let digest = mirror.image("v1", &layer, "");
    let blob = Digest::canonical(&layer);
    let (bytes, asked) = (layer.clone(), Arc::new(AtomicUsize::new(0)));
    let times = Arc::clone(&asked);
    mirror.server.decide(move |request| {
        if request.method != "GET" || !request.path.ends_with(&blob.to_string()) {
            return None;
        }
        let cut = [100_000, 0, 150_000][times.fetch_add(1, Ordering::SeqCst).min(2)];
        let reply = wharfinger_remote::testing::part(&bytes, request);
        (times.load(Ordering::SeqCst) <= 3).then(|| reply.cut(cut))
    });
    let report = mirror.all().await;
    assert_eq!(failures(&report), Vec::<String>::new());
    assert_eq!(mirror.here().tags().get(&tag("v1")).await.unwrap(), digest);
    let requests = mirror.server.requests();
    let ranges: Vec<_> = requests
        .iter()
        .filter(|one| one.path.ends_with(&blob.to_string()))
        .map(|one| one.header("range"))
        .collect();
    let from = |at: u64| Some(format!("bytes={at}-"));
    assert_eq!(
        ranges,
        [None, from(100_000), from(100_000), from(250_000)],
        "nothing comes twice"
    );
}

#[tokio::test]
async fn a_second_run_fetches_nothing_that_is_there() {
    let mirror = Mirroring::start().await;
    mirror.image("v1", &content(1, 1000), "");
    let two = mirror.image("v2", &content(2, 1000), "");
    mirror.index("both", &[(two, "")]);
    let report = mirror.all().await;
    assert_eq!((report.tags, report.blobs), (3, 3), "{report:?}");
    mirror.server.requests();
    let report = mirror.all().await;
    assert_eq!((report.tags, report.blobs), (3, 0), "{report:?}");
    for line in mirror.server.asked() {
        let is_question = line.starts_with("HEAD /v2/a/manifests/")
            || line == "GET /v2/a/tags/list"
            || line.starts_with("GET /v2/a/referrers/")
            || line.starts_with("GET /v2/a/manifests/sha256-");
        assert!(is_question, "{line}");
    }
}

#[tokio::test]
async fn who_wants_to_be_left_alone_is_waited_for() {
    let mirror = Mirroring::start().await;
    mirror.image("v1", &content(1, 1000), "");
    let asked = AtomicUsize::new(0);
    mirror.server.decide(move |_| {
        let number = asked.fetch_add(1, Ordering::SeqCst);
        let busy = Reply::error(429, "TOOMANYREQUESTS", "slow down").header("retry-after", 0);
        number.is_multiple_of(2).then_some(busy)
    });
    let report = mirror.all().await;
    assert_eq!(failures(&report), Vec::<String>::new());
    assert_eq!(report.tags, 1);
}

#[tokio::test]
async fn what_is_refused_or_wrong_stops_nothing_else() {
    let mirror = Mirroring::start().await;
    mirror.image("good", &content(1, 1000), "");
    let denied = mirror.image("denied", &content(2, 1000), "");
    mirror.image("wrong", &content(3, 1000), "");
    mirror.image("missing", &content(4, 1000), "");
    let [wrong, missing] = [3, 4].map(|seed| Digest::canonical(&content(seed, 1000)));
    mirror.server.decide(move |request| {
        let about = |digest: &Digest| request.path.ends_with(&digest.to_string());
        if about(&denied) {
            return Some(Reply::error(403, "DENIED", "not for you"));
        }
        if about(&wrong) {
            return Some(Reply::new(200, content(9, 1000)));
        }
        about(&missing).then(|| Reply::error(404, "BLOB_UNKNOWN", "unknown"))
    });
    let report = mirror.all().await;
    assert_eq!(mirror.tags().await, BTreeSet::from(["good".to_owned()]));
    let failed = failures(&report).join("\n");
    assert_eq!(report.failures.len(), 3, "{failed}");
    assert!(failed.contains("403 Forbidden, DENIED"), "{failed}");
    assert!(failed.contains("its bytes have the digest"), "{failed}");
    assert!(
        failed.contains(&format!("{missing} is not there")),
        "{failed}"
    );

    mirror
        .server
        .decide(|_| Some(Reply::error(401, "UNAUTHORIZED", "who are you?")));
    let report = mirror.all().await;
    assert!(failures(&report)[0].contains("401 Unauthorized"));
    assert_eq!(mirror.tags().await.len(), 1, "nothing is removed");
}

#[tokio::test]
async fn of_an_index_the_chosen_platforms_come_and_it_stays_what_it_was() {
    let mirror = Mirroring::start().await;
    let platform = |architecture: &str| {
        format!(r#","platform":{{"os":"linux","architecture":"{architecture}"}}"#)
    };
    let amd = mirror.image("amd", &content(1, 1000), "");
    let arm = mirror.image("arm", &content(2, 1000), "");
    let index = mirror.index(
        "multi",
        &[(amd, &platform("amd64")), (arm, &platform("arm"))],
    );
    let only = |text: &str| Limits {
        platforms: vec![text.parse().unwrap()],
        ..limits()
    };
    let report = mirror.run(&["a:multi"], only("linux/amd64")).await;
    assert_eq!(failures(&report), Vec::<String>::new());
    let kept = mirror.here().tags().get(&tag("multi")).await.unwrap();
    assert_eq!(kept, index);
    assert!(mirror.has(&amd).await && !mirror.has(&arm).await);
    assert!(!mirror.blob(&Digest::canonical(&content(2, 1000))).await);
    // What was left away is added when it is chosen.
    let report = mirror.run(&["a:multi"], limits()).await;
    assert_eq!(failures(&report), Vec::<String>::new());
    assert!(mirror.has(&arm).await);
    let report = mirror.run(&["a:multi"], only("windows/amd64")).await;
    assert!(failures(&report)[0].contains("none of") || failures(&report)[0].contains("no image"));
}

#[tokio::test]
async fn signatures_come_along_however_they_are_found() {
    for listed in ["by the registry", "under a tag"] {
        let mirror = Mirroring::start().await;
        let image = mirror.image("v1", &content(1, 1000), "");
        let kind = media_type::OCI_IMAGE_MANIFEST;
        let subject = format!(
            r#","artifactType":"application/x-sig","subject":{{"mediaType":"{kind}","digest":"{image}","size":1}}"#
        );
        let signature = mirror.image("unlisted", &content(2, 100), &subject);
        let hex = image.to_string().replace("sha256:", "");
        mirror.image(&format!("sha256-{hex}.sig"), &content(3, 100), "");
        mirror.image(&format!("sha256-{}.sig", "0".repeat(64)), b"other", "");
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[
            {{"mediaType":"{kind}","digest":"{signature}","size":1}}]}}"#,
            media_type::OCI_IMAGE_INDEX
        );
        match listed {
            "under a tag" => {
                let tag = format!("sha256-{hex}");
                let kind = media_type::OCI_IMAGE_INDEX;
                mirror.server.manifest(&tag, kind, index.as_bytes());
            }
            _ => mirror.server.decide(move |request| {
                let path = &request.path;
                let (of, all) = path.split_once("/referrers/")?;
                assert_eq!(of, "/v2/a");
                Some(match all == image.to_string() {
                    true => Reply::new(200, &index),
                    false => Reply::new(200, r#"{"manifests":[]}"#),
                })
            }),
        }
        let report = mirror.run(&["a:v1"], limits()).await;
        assert_eq!(failures(&report), Vec::<String>::new(), "{listed}");
        let referrers = mirror.here().referrers().list(&image, None).await.unwrap();
        assert_eq!(referrers[0].digest, signature, "{listed}");
        let expected = ["v1".to_owned(), format!("sha256-{hex}.sig")];
        assert_eq!(mirror.tags().await, BTreeSet::from(expected), "{listed}");

        let without = Mirroring {
            registry: support::registry(),
            server: mirror.server.clone(),
        };
        let report = without.run(&["a:v1"], Limits::default()).await;
        assert_eq!(report.tags, 1);
        assert!(!without.has(&signature).await && without.tags().await.len() == 1);
    }
}

#[tokio::test]
async fn tags_go_that_are_gone_and_only_those() {
    let mirror = Mirroring::start().await;
    for text in ["v1", "v2", "edge"] {
        mirror.image(text, text.as_bytes(), "");
    }
    let report = mirror.run(&["a:v*"], limits()).await;
    assert_eq!((report.tags, report.removed), (2, 0));
    let target = mirror.here();
    let digest = target.tags().get(&tag("v1")).await.unwrap();
    let served = target.manifests().get(&digest).await.unwrap();
    let kind = served.descriptor.media_type.to_string();
    let manifest =
        wharfinger_oci::manifest::Manifest::parse(Some(&kind), served.bytes.clone()).unwrap();
    let mine = [tag("v3"), tag("mine")];
    target
        .manifests()
        .put(&manifest, &digest, &mine)
        .await
        .unwrap();

    // A list that is empty, or was cut short, is no reason.
    let empty = |body: &'static str| {
        move |request: &wharfinger_remote::testing::Request| {
            request
                .path
                .contains("/tags/list")
                .then(|| Reply::new(200, body))
        }
    };
    mirror.server.decide(empty(r#"{"tags":[]}"#));
    let report = mirror.run(&["a:v*"], limits()).await;
    assert!(
        !report.failures.is_empty() && report.removed == 0,
        "{report:?}"
    );
    mirror.server.decide(empty(r#"{"tags":["v1"]}"#));
    let report = mirror.run(&["a:v*"], limits()).await;
    let failed = failures(&report).join("\n");
    assert!(failed.contains("a:v2: the tag is not listed"), "{failed}");
    assert_eq!(report.removed, 1, "{failed}");
    let expected = ["mine", "v1", "v2"].map(str::to_owned);
    assert_eq!(mirror.tags().await, BTreeSet::from(expected));
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be_and_writes_nothing() {
    let mirror = Mirroring::start().await;
    mirror.image("v1", &content(1, 1000), "");
    mirror.run(&["a"], limits()).await;
    let two = mirror.image("v2", &content(2, 3000), "");
    let told = std::sync::Mutex::new(Vec::new());
    let told_of = |step: Step<'_>| {
        if let Step::WouldTag(name, tag, digest, blobs, bytes) = step {
            let line = format!("{name}:{tag} {digest} {blobs} {bytes}");
            told.lock().unwrap().push(line);
        }
    };
    let job = mirror.job(&["a"], limits());
    mirror.server.requests();
    let report = sync(&mirror.registry, &job, true, &told_of).await.unwrap();
    assert_eq!((report.tags, report.blobs, report.bytes), (1, 1, 3000));
    let line = format!("m/a:v2 {two} 1 3000");
    assert_eq!(*told.lock().unwrap(), [line]);
    assert_eq!(mirror.tags().await, BTreeSet::from(["v1".to_owned()]));
    assert!(!mirror.has(&two).await);
    let asked = mirror.server.asked();
    assert!(
        asked.iter().all(|line| !line.contains("/blobs/")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn repositories_are_found_in_the_catalog_where_patterns_name_them() {
    let mirror = Mirroring::start().await;
    mirror.image("v1", &content(1, 1000), "");
    mirror.server.decide(|request| {
        let query = request.path.strip_prefix("/v2/_catalog?")?;
        Some(match query.contains("last=") {
            false => Reply::new(200, r#"{"repositories":["t/a","x"]}"#)
                .header("link", "</v2/_catalog?n=2&last=x>; rel=\"next\""),
            true => Reply::new(200, r#"{"repositories":["t/b"]}"#),
        })
    });
    let report = mirror.run(&["t/*", "named"], limits()).await;
    assert_eq!(failures(&report), Vec::<String>::new());
    let catalog = mirror.registry.catalog(None, 10).await.unwrap();
    let names: Vec<&str> = catalog.items.iter().map(RepositoryName::as_str).collect();
    assert_eq!(names, ["m/named", "m/t/a", "m/t/b"]);
}
