//! Metrics: under Distribution's names, so that its dashboards go on working, and true.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::SocketAddr;

use serde_json::{Value, json};
use wharfinger_e2e::distribution::{Distribution, free_address};
use wharfinger_e2e::http::{OCTETS, with_digest};
use wharfinger_e2e::image::{MANIFEST, manifest};
use wharfinger_e2e::{Config, Http, Wharfinger, digest, eventually, folder, noise};

/// A scrape in Prometheus's text format, version 0.0.4.
#[derive(Debug, Default)]
struct Scrape {
    /// The type of each family.
    types: BTreeMap<String, String>,
    /// Each series as it is written, with its value.
    series: BTreeMap<String, f64>,
}

impl Scrape {
    fn of(addr: SocketAddr) -> Self {
        let answer = Http(addr).send("GET", "/metrics", &[("Accept", "*/*")], b"");
        assert_eq!(answer.status, 200);
        let content_type = answer.header("content-type");
        assert_eq!(
            content_type,
            Some("text/plain; version=0.0.4; charset=utf-8")
        );
        let text = String::from_utf8(answer.body).unwrap();
        let mut scrape = Self::default();
        for line in text.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let (name, type_) = family.split_once(' ').unwrap();
                let before = scrape.types.insert(name.to_owned(), type_.to_owned());
                assert_eq!(before, None, "{name} is there twice");
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let value = value.parse().unwrap();
                let before = scrape.series.insert(series.to_owned(), value);
                assert_eq!(before, None, "{series} is there twice");
            }
        }
        scrape
    }

    fn value(&self, series: &str) -> f64 {
        *self
            .series
            .get(series)
            .unwrap_or_else(|| panic!("no {series} in {:#?}", self.series))
    }
}

fn scrape(server: &Wharfinger) -> Scrape {
    Scrape::of(server.debug().0)
}

/// A bit of everything that Distribution counts.
fn use_it(http: Http) {
    let layer = noise(1, 100_000);
    let location = http.open_upload("a/b");
    let chunk = http.send("PATCH", &location, &[OCTETS], &layer[..60_000]);
    assert_eq!(chunk.status, 202, "{chunk:?}");
    assert_eq!(http.get(&chunk.location()).status, 204);
    let last = with_digest(&chunk.location(), &digest(&layer));
    assert_eq!(
        http.send("PUT", &last, &[OCTETS], &layer[60_000..]).status,
        201
    );
    let cancelled = http.open_upload("a/b");
    assert_eq!(http.send("DELETE", &cancelled, &[], b"").status, 204);
    http.push_blob("a/b", b"{}");
    let unknown = manifest(b"{}", &[b"never pushed"]);
    let content = manifest(b"{}", &[&layer]);
    assert_eq!(
        http.push_manifest("a/b", "1", MANIFEST, &content).status,
        201
    );
    assert_eq!(
        http.push_manifest("a/b", "2", MANIFEST, &unknown).status,
        400
    );
    for path in [
        "/v2/".to_owned(),
        "/v2/_catalog".to_owned(),
        "/v2/a/b/tags/list".to_owned(),
        "/v2/a/b/manifests/1".to_owned(),
        format!("/v2/a/b/blobs/{}", digest(&layer)),
    ] {
        assert_eq!(http.get(&path).status, 200, "{path}");
        let head = http.head(&path).status;
        // Distribution 2 has no HEAD of lists.
        assert!(matches!(head, 200 | 405), "{path}: {head}");
    }
    assert_eq!(http.get("/v2/none/tags/list").status, 404);
    assert_eq!(http.get("/v2/a/b/manifests/none").status, 404);
    let manifest = format!("/v2/a/b/manifests/{}", digest(&content));
    assert_eq!(http.send("DELETE", &manifest, &[], b"").status, 202);
    let blob = format!("/v2/a/b/blobs/{}", digest(&layer));
    assert_eq!(http.send("DELETE", &blob, &[], b"").status, 202);
}

#[test]
fn what_distribution_tells_is_told_under_the_same_names_labels_and_types() {
    let home = folder();
    let data = home.path().join("theirs");
    let distribution = Distribution::start_with(
        home.path(),
        &data,
        &json!({"storage": {"cache": {"blobdescriptor": "inmemory"}}}),
    );
    use_it(distribution.http());
    let server = Config::new(home.path())
        .watched()
        .set("storage.cache.blobdescriptor", "inmemory")
        .start();
    use_it(server.http());
    let theirs = Scrape::of(distribution.debug);
    let ours = scrape(&server);

    // Of Go, and of its library for scrapes, there is nothing to tell.
    let foreign = |name: &str| name.starts_with("go_") || name.starts_with("promhttp_");
    let types = theirs.types.iter().filter(|(name, _)| !foreign(name));
    let mut compared = 0;
    for (name, type_) in types {
        assert_eq!(ours.types.get(name), Some(type_), "{name}");
        compared += 1;
    }
    assert!(compared > 12, "{:?}", theirs.types);
    // 2.x calls the action by another name than 3.x; both methods of lists are known to us alone.
    let same = |series: &str| series.replace("URLFor", "RedirectURL");
    let mut missing = Vec::new();
    for series in theirs.series.keys().filter(|series| !foreign(series)) {
        let refused = series.contains("code=\"405\"");
        if !refused && !ours.series.contains_key(&same(series)) {
            missing.push(series);
        }
    }
    assert_eq!(missing, Vec::<&String>::new(), "{:#?}", ours.series.keys());
    // The same requests are counted the same way, and none is still under way.
    for (series, value) in &theirs.series {
        let counted = series.starts_with("registry_http_requests_total")
            || series.starts_with("registry_http_in_flight_requests");
        let lists = ["catalog", "tags", "base"]
            .iter()
            .any(|list| series.contains(&format!("handler=\"{list}\",method=\"head\"")));
        if counted && !lists {
            assert_eq!(ours.value(series), *value, "{series}");
        }
    }
    for handler in ["blob", "blob_upload_chunk", "manifest"] {
        // Distribution counts what it announces, which is what is sent when nobody leaves.
        let sum = format!("registry_http_response_size_bytes_sum{{handler=\"{handler}\"}}");
        if handler == "blob" {
            assert_eq!(ours.value(&sum), theirs.value(&sum), "{sum}");
        }
        let sum = format!("registry_http_request_size_bytes_sum{{handler=\"{handler}\"}}");
        let (our, their) = (ours.value(&sum), theirs.value(&sum));
        assert!(
            (our - their).abs() < their * 0.2,
            "{sum}: {our}, not {their}"
        );
    }
}

#[test]
fn the_numbers_are_true() {
    let home = folder();
    let server = Config::new(home.path())
        .watched()
        .set("storage.cache.blobdescriptor", "inmemory")
        .start();
    let http = server.http();
    let layer = noise(2, 300_000);
    let blob = http.push_blob("a", &layer);
    let path = format!("/v2/a/blobs/{blob}");
    for _ in 0..3 {
        assert!(http.get(&path).body == layer);
    }
    assert_eq!(http.get("/v2/a/blobs/nonsense").status, 400);
    assert_eq!(http.get("/nowhere").status, 404);
    let now = scrape(&server);
    for (series, value) in [
        (
            "registry_http_requests_total{code=\"200\",handler=\"blob\",method=\"get\"}",
            3.0,
        ),
        (
            "registry_http_requests_total{code=\"400\",handler=\"other\",method=\"get\"}",
            1.0,
        ),
        (
            "registry_http_requests_total{code=\"404\",handler=\"other\",method=\"get\"}",
            1.0,
        ),
        (
            "registry_http_sent_bytes_total{handler=\"blob\"}",
            900_000.0,
        ),
        (
            "registry_http_response_size_bytes_sum{handler=\"blob\"}",
            900_000.0,
        ),
        (
            "registry_http_received_bytes_total{handler=\"blob_upload_chunk\"}",
            300_000.0,
        ),
        (
            "registry_http_request_duration_seconds_count{handler=\"blob\",method=\"get\"}",
            3.0,
        ),
        (
            "registry_http_response_start_seconds_count{handler=\"blob\",method=\"get\"}",
            3.0,
        ),
        ("registry_uploads_begun_total", 1.0),
        ("registry_uploads_completed_total", 1.0),
        ("registry_uploads_open", 0.0),
        ("registry_storage_cache_entries", 1.0),
        ("registry_storage_cache_hits_total", 3.0),
        ("registry_storage_cache_errors_total", 0.0),
        (
            "registry_storage_action_seconds_count{action=\"Open\",driver=\"filesystem\"}",
            3.0,
        ),
        (
            "registry_storage_action_seconds_count{action=\"Commit\",driver=\"filesystem\"}",
            1.0,
        ),
    ] {
        assert_eq!(now.value(series), value, "{series}");
    }
    let began = now.value("process_start_time_seconds");
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let clock = clock.unwrap().as_secs_f64();
    assert!(began <= clock && began > clock - 600.0, "{began}, {clock}");
    assert!(now.value("process_resident_memory_bytes") > 1e6);
    assert!(now.value("process_open_fds") >= 8.0);
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("registry_build_info{{program=\"wharfinger\",version=\"{version}\"}}");
    assert_eq!(now.value(&build), 1.0);
}

#[test]
fn a_download_that_breaks_off_counts_with_the_bytes_that_were_sent() {
    let home = folder();
    let server = Config::new(home.path()).watched().start();
    let http = server.http();
    // More than the kernel takes for a client that does not read.
    let layer = noise(3, 64 << 20);
    let path = format!("/v2/a/blobs/{}", http.push_blob("a", &layer));
    let mut reader = http.begin("GET", &path, &[], 0).unwrap();
    let mut some = vec![0; 1 << 20];
    reader.read_exact(&mut some).unwrap();
    let in_flight = "registry_http_in_flight_requests{handler=\"blob\"}";
    assert_eq!(scrape(&server).value(in_flight), 1.0);
    drop(reader);
    eventually("the end is noticed", || {
        scrape(&server).value(in_flight) == 0.0
    });
    let now = scrape(&server);
    let sent = now.value("registry_http_sent_bytes_total{handler=\"blob\"}");
    assert!(
        sent >= (1 << 20) as f64 && sent < (32 << 20) as f64,
        "{sent}"
    );
    let size = "registry_http_response_size_bytes_sum{handler=\"blob\"}";
    assert_eq!(now.value(size), sent);
    let log = server.log();
    let line = log
        .lines()
        .find(|line| line.contains(&format!("GET {path} ")));
    let line = line.unwrap_or_else(|| panic!("no line in {log}"));
    assert!(line.contains(&format!(" 200 {sent} ")), "{line}");
}

#[test]
fn a_client_that_leaves_before_the_answer_is_counted() {
    let home = folder();
    let server = Config::new(home.path()).watched().start();
    let http = server.http();
    let path = http.open_upload("a");
    let mut writer = http.begin("PATCH", &path, &[OCTETS], 1_000_000).unwrap();
    writer.write_all(&noise(4, 1000)).unwrap();
    let in_flight = "registry_http_in_flight_requests{handler=\"blob_upload_chunk\"}";
    eventually("it is being received", || {
        scrape(&server).value(in_flight) == 1.0
    });
    drop(writer);
    let series =
        "registry_http_requests_total{code=\"499\",handler=\"blob_upload_chunk\",method=\"patch\"}";
    let answered =
        "registry_http_requests_total{code=\"400\",handler=\"blob_upload_chunk\",method=\"patch\"}";
    eventually("it is counted", || {
        let now = scrape(&server).series;
        // Whether the server sees the end of the body or that of the connection first is chance.
        now.contains_key(series) || now.contains_key(answered)
    });
    assert_eq!(scrape(&server).value(in_flight), 0.0);
    let received = "registry_http_received_bytes_total{handler=\"blob_upload_chunk\"}";
    assert_eq!(scrape(&server).value(received), 1000.0);
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let home = folder();
    let config = Config::new(home.path())
        .watched()
        .set("storage.cache.blobdescriptor", "redis")
        // Nobody listens there; what is counted of Redis is there all the same.
        .set("redis.addrs", json!([free_address().to_string()]));
    let server = config.start();
    use_it(server.http());
    let now = scrape(&server);
    let known: BTreeSet<&str> = now
        .series
        .keys()
        .map(|series| series.split('{').next().unwrap())
        .collect();
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../contrib/grafana/wharfinger.json"
    );
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut asked = BTreeSet::new();
    let mut labels = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let ours = |word: &&str| word.starts_with("registry_") || word.starts_with("process_");
            asked.extend(words.filter(ours).map(str::to_owned));
            for group in query.split("by (").skip(1) {
                let (names, _) = group.split_once(')').unwrap();
                labels.extend(names.split(", ").map(str::to_owned));
            }
        }
    }
    assert!(asked.len() > 20, "{asked:?}");
    for name in &asked {
        assert!(known.contains(name.as_str()), "{name}");
    }
    for label in labels.iter().filter(|label| *label != "instance") {
        let written = format!("{label}=\"");
        assert!(
            now.series.keys().any(|series| series.contains(&written)),
            "{label}"
        );
    }
}
