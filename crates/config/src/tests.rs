mod buckets;
mod limits;
mod middleware;
mod notifications;
mod proxy;
mod sync;
mod watching;

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// A configuration that holds nothing but what must be there.
const LEAST: &str = "version: 0.1\nstorage:\n  inmemory:\n";

fn environment(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    variables.iter().map(owned).collect()
}

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Error> {
    parse("config.yml", text, environment(variables))
}

fn good(text: &str, variables: &[(&str, &str)]) -> Config {
    let loaded = read(text, variables).unwrap();
    assert_eq!(loaded.warnings, [], "{text}");
    assert_eq!(loaded.problems, [], "{text}");
    loaded.config
}

fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// The one line that says what is wrong with `text`.
fn wrong(text: &str, variables: &[(&str, &str)]) -> String {
    match read(text, variables) {
        Err(error) => error.to_string(),
        Ok(loaded) => {
            let lines = lines(&loaded.problems);
            assert_eq!(lines.len(), 1, "{text}\n{lines:?}");
            lines[0].clone()
        }
    }
}

#[test]
fn the_defaults_start() {
    let loaded = defaults([]).unwrap();
    assert_eq!((loaded.warnings, loaded.problems), (vec![], vec![]));
    let config = loaded.config;
    assert_eq!(config.http.addr, "127.0.0.1:5000");
    assert_eq!(
        config.storage.filesystem.unwrap().rootdirectory,
        "wharfinger-data"
    );
    assert!(config.storage.delete.enabled);
    assert_eq!(config.storage.cache.blobdescriptor, "inmemory");
}

#[test]
fn what_is_not_said_is_as_in_distribution() {
    let config = good(LEAST, &[]);
    let purging = &config.storage.maintenance.uploadpurging;
    assert!(purging.enabled && !purging.dryrun);
    assert_eq!(purging.age.get(), Duration::from_secs(7 * 24 * 3600));
    assert_eq!(purging.interval.get(), Duration::from_secs(24 * 3600));
    assert!(!config.storage.delete.enabled);
    assert!(!config.storage.redirect.disable);
    assert_eq!(config.storage.cache.blobdescriptor, "");
    assert_eq!(config.log.level, Some(Level::Info));
    assert_eq!(config.catalog.maxentries, 1000);
    let filesystem = good("version: 0.1\nstorage: filesystem", &[])
        .storage
        .filesystem
        .unwrap();
    assert_eq!(filesystem.rootdirectory, "/var/lib/registry");
    assert_eq!(filesystem.maxthreads, 100);
    assert!(filesystem.journal);
}

#[test]
fn the_files_that_users_have_start() {
    // The one of the registry:2 and registry:3 images.
    let image = "version: 0.1\nlog:\n  fields:\n    service: registry\nstorage:\n  cache:\n    \
                 blobdescriptor: inmemory\n  filesystem:\n    rootdirectory: /var/lib/registry\n  \
                 tag:\n    concurrencylimit: 8\nhttp:\n  addr: :5000\n  headers:\n    \
                 X-Content-Type-Options: [nosniff]\nhealth:\n  storagedriver:\n    enabled: \
                 true\n    interval: 10s\n    threshold: 3\n";
    let config = good(image, &[]);
    assert_eq!(config.http.addr, ":5000");
    assert_eq!(config.http.headers["X-Content-Type-Options"], ["nosniff"]);
    assert_eq!(config.health.storagedriver.threshold, 3);
    assert_eq!(config.storage.tag.concurrencylimit, 8);
    assert_eq!(config.log.fields["service"], "registry");
}

#[test]
fn an_argument_names_an_address_of_either_kind() {
    let net = |addr: &str| {
        let mut loaded = read(&format!("{LEAST}http: {{net: unix}}"), &[]).unwrap();
        assert_eq!(loaded.problems.len(), 1);
        loaded.listen_on(addr.to_owned(), "--addr");
        assert_eq!(loaded.problems, []);
        assert_eq!(loaded.config.http.addr, addr);
        loaded.config.http.net
    };
    assert_eq!(net("127.0.0.1:0"), "tcp");
    assert_eq!(net(":5000"), "tcp");
    assert_eq!(net("./socket"), "unix");
    assert_eq!(net("@name"), "unix");
}

#[test]
fn old_spellings_are_understood() {
    let text = "version: 0.1\nloglevel: debug\nstorage:\n  inmemory: {}\n  cache: {layerinfo: \
                redis}\nredis:\n  addr: localhost:6379\n  pool: {maxidle: 16, maxactive: 64, \
                idletimeout: 300s}\ncompatibility:\n  schema1: {enabled: true, signingkeyfile: \
                /k.pem}\n";
    let loaded = read(text, &[]).unwrap();
    assert_eq!(loaded.problems, []);
    // Of the pool alone, which there is none of.
    assert_eq!(loaded.warnings.len(), 3, "{:?}", loaded.warnings);
    let config = loaded.config;
    assert_eq!(config.log.level, Some(Level::Debug));
    assert_eq!(config.storage.cache.blobdescriptor, "redis");
    assert_eq!(config.redis.addrs, ["localhost:6379"]);
    assert_eq!(
        config.redis.pool.idletimeout.get(),
        Duration::from_secs(300)
    );
    assert_eq!(config.compatibility.schema1.signingkeyfile, "/k.pem");
}

#[test]
fn values_are_what_their_keys_want() {
    let text = "version: '0.1'\nstorage:\n  filesystem: {rootdirectory: 5, maxthreads: \
                '50'}\n  delete: {enabled: yes}\nhttp: {relativeurls: 'on', draintimeout: \
                60000000000, secret: 12}\nlog: {level: WARN}\n";
    let config = good(text, &[]);
    let filesystem = config.storage.filesystem.unwrap();
    assert_eq!(
        (filesystem.rootdirectory.as_str(), filesystem.maxthreads),
        ("5", 50)
    );
    assert!(config.storage.delete.enabled && config.http.relativeurls);
    assert_eq!(config.http.draintimeout.get(), Duration::from_secs(60));
    assert_eq!(config.http.secret.expose(), "12");
    assert_eq!(config.log.level, Some(Level::Warn));
}

#[test]
fn anchors_and_merges_are_followed() {
    let text = "version: 0.1\nx: &base {enabled: true, interval: 1s}\nstorage: \
                inmemory\nhealth:\n  storagedriver: {<<: *base, interval: 2s}\n";
    let loaded = read(text, &[]).unwrap();
    let check = loaded.config.health.storagedriver;
    assert!(check.enabled);
    assert_eq!(check.interval.get(), Duration::from_secs(2));
}

#[test]
fn the_environment_overrides_the_file() {
    let text = "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /a\nhttp:\n  \
                headers:\n    X-One: [a]\n";
    let variables = [
        ("REGISTRY_HTTP_ADDR", "localhost:1"),
        ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/b"),
        ("REGISTRY_STORAGE_DELETE_ENABLED", "true"),
        ("REGISTRY_HTTP_HEADERS_X-ONE", "[b, c]"),
        ("REGISTRY_HTTP_HEADERS_X-TWO_0", "d"),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME", "first"),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_DISABLED", "true"),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_1_DISABLED", "true"),
        ("REGISTRY_CONFIGURATION_PATH", "/elsewhere"),
        ("OTHER", "x"),
    ];
    let config = good(text, &variables);
    assert_eq!(config.http.addr, "localhost:1");
    assert_eq!(config.storage.filesystem.unwrap().rootdirectory, "/b");
    assert!(config.storage.delete.enabled);
    assert_eq!(config.http.headers["X-One"], ["b", "c"]);
    assert_eq!(config.http.headers["x-two"], ["d"]);
    let endpoints = config.notifications.endpoints;
    assert_eq!(endpoints.len(), 2);
    assert_eq!(endpoints[0].name, "first");
}

#[test]
fn the_environment_picks_the_driver() {
    let file = "version: 0.1\nstorage: {filesystem: {rootdirectory: /a}, delete: {enabled: true}}";
    let config = good(file, &[("REGISTRY_STORAGE", "inmemory")]);
    assert!(config.storage.inmemory.is_some() && config.storage.filesystem.is_none());
    let variables = [
        ("REGISTRY_STORAGE", "filesystem"),
        ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/b"),
    ];
    let config = good(LEAST, &variables);
    assert_eq!(config.storage.filesystem.unwrap().rootdirectory, "/b");
}

#[test]
fn errors_say_where_and_what_would_be_right() {
    let cases = [
        (
            "",
            "config.yml:1:1: nothing is no configuration: it must be a map",
        ),
        (
            "[a]",
            "config.yml:1:1: a list is no configuration: it must be a map",
        ),
        (
            "log: {}",
            "config.yml:1:1: version: the line `version: 0.1` is missing",
        ),
        (
            "version: 0.2",
            "config.yml:1:10: version: \"0.2\" is not a version that is known: 0.1 is",
        ),
        (
            "version: 0.1\nhttp: {}",
            "config.yml:1:1: storage: no driver is named; there are filesystem, inmemory, s3, gcs, \
             azure",
        ),
        (
            "version: 0.1\nstorage:\n  inmemory:\n  filesystem:\n    rootdirectory: /x\n",
            "config.yml:2:1: storage: there must be one driver, but there are filesystem and \
             inmemory",
        ),
        (
            "version: 0.1\nstorage: inmemory\nhttp:\n  draintimeout: 5 min\n",
            "config.yml:4:17: http.draintimeout: \"5 min\" is not a length of time; write it like \
             168h, 1m30s or 300ms",
        ),
        (
            "version: 0.1\nstorage: inmemory\nlog: {level: loud}",
            "config.yml:3:14: log.level: \"loud\" is not one of error, warn, info, debug",
        ),
        (
            "version: 0.1\nstorage: inmemory\nhttp: {relativeurls: maybe}",
            "config.yml:3:22: http.relativeurls: \"maybe\" is not true or false",
        ),
        (
            "version: 0.1\nstorage: inmemory\nhttp: [a]",
            "config.yml:3:7: http: a list is not a map of keys and values",
        ),
        (
            "version: 0.1\nstorage: inmemory\nnotifications:\n  endpoints:\n    - threshold: -1",
            "config.yml:5:18: notifications.endpoints[0].threshold: \"-1\" is not a whole number in \
             the range that makes sense here",
        ),
        (
            "version: 0.1\nstorage: inmemory\nvalidation: {manifests: {urls: {allow: [a, '(']}}}",
            "config.yml:3:44: validation.manifests.urls.allow[1]: this is no regular expression: ",
        ),
        (
            "version: 0.1\nstorage: inmemory\nhttp: {host: registry}",
            "config.yml:3:14: http.host: this is no URL like https://registry.example.org",
        ),
        (
            "version: 0.1\nstorage: inmemory\nhttp: {net: udp}",
            "config.yml:3:13: http.net: \"udp\" is no kind of network; there are tcp and unix",
        ),
        (
            "version: 0.1\nstorage: inmemory\nhttp: {net: unix, addr: 'localhost:5000'}",
            "config.yml:3:25: http.addr: \"localhost:5000\" is no path of a Unix socket, like ",
        ),
        (
            "version: 0.1\nstorage: inmemory\nhttp: {prefix: /a}",
            "config.yml:3:16: http.prefix: \"/a\" must begin and end with a slash, like /registry/",
        ),
        (
            "version: 0.1\nstorage: *x",
            "config.yml:2:10: this is not YAML: ",
        ),
        (
            "version: 0.1\n---\nversion: 0.1\n",
            "config.yml:3:1: only one document",
        ),
    ];
    for (text, message) in cases {
        let found = wrong(text, &[]);
        assert!(found.starts_with(message), "{text}\n{found}");
    }
    assert_eq!(
        wrong(LEAST, &[("REGISTRY_HTTP_DRAINTIMEOUT", "soon")]),
        "environment variable REGISTRY_HTTP_DRAINTIMEOUT: http.draintimeout: \"soon\" is not a \
         length of time; write it like 168h, 1m30s or 300ms"
    );
    let gap = wrong(LEAST, &[("REGISTRY_NOTIFICATIONS_ENDPOINTS_1_NAME", "x")]);
    assert!(gap.starts_with("environment variable"), "{gap}");
}

#[test]
fn what_is_not_built_is_refused() {
    let sections = [("reporting: {bugsnag: {apikey: x}}", "reporting.bugsnag")];
    for (section, key) in sections {
        let found = wrong(&format!("{LEAST}{section}\n"), &[]);
        assert!(found.starts_with("config.yml:4:"), "{found}");
        assert!(found.contains(&format!(" {key}: ")), "{found}");
    }
    for driver in ["oss", "swift"] {
        let found = wrong(&format!("version: 0.1\nstorage: {driver}"), &[]);
        assert!(found.contains(&format!("storage.{driver}: ")), "{found}");
    }
}

#[test]
fn what_is_switched_off_is_not_refused() {
    let text = format!(
        "{LEAST}auth: none\nnotifications: {{endpoints: [{{url: 'http://x', disabled: true}}]}}\n\
         log: {{hooks: [{{type: mail, disabled: true}}]}}\nmiddleware: {{storage: [{{name: r, \
         disabled: true}}]}}\n"
    );
    good(&text, &[]);
}

#[test]
fn unknown_keys_are_warned_of_with_the_nearest_known_one() {
    let text =
        "version: 0.1\nstorage:\n  inmemory:\n  delete:\n    enable: true\nhtp: {}\nzzz: 1\n";
    let loaded = read(text, &[("REGISTRY_HTTP_ADRR", ":1")]).unwrap();
    assert_eq!(loaded.problems, []);
    assert_eq!(
        lines(&loaded.warnings),
        [
            "config.yml:6:1: htp: this key is unknown and has no effect; did you mean \"http\"?",
            "config.yml:7:1: zzz: this key is unknown and has no effect",
            "config.yml:5:5: storage.delete.enable: this key is unknown and has no effect; did you \
             mean \"enabled\"?",
            "environment variable REGISTRY_HTTP_ADRR: http.adrr: this key is unknown and has no \
             effect; did you mean \"addr\"?",
        ]
    );
    let twice = read("version: 0.1\nstorage: inmemory\nstorage: filesystem", &[]).unwrap();
    assert!(twice.config.storage.filesystem.is_some());
    assert_eq!(
        lines(&twice.warnings),
        ["config.yml:3:1: storage: this key stands at config.yml:2:1 already; the last one counts"]
    );
}

#[test]
fn what_is_printed_is_read_as_the_same_and_holds_no_secret() {
    let text = "version: 0.1\nstorage:\n  s3: {bucket: b, secretkey: s-e-cret}\n  cache: {blobdescriptor: redis}\nhttp:\n  secret: \
                s-e-cret\n  headers: {X-A: ['yes', '- b', \"c\\n\"]}\nproxy: {remoteurl: \
                'https://u:s-e-cret@h', password: s-e-cret}\nredis: {addr: 'h:1', password: \
                s-e-cret, sentinelpassword: s-e-cret, mastername: m}\n\
                notifications: {endpoints: [{name: n, url: 'https://s-e-cret@h/s-e-cret?s-e-cret', \
                headers: {Authorization: [s-e-cret], X-Any: s-e-cret}}]}\nhealth: {http: \
                [{uri: 'https://s-e-cret@h/up?s-e-cret', headers: {X-Any: s-e-cret}}]}\n";
    let config = read(text, &[]).unwrap().config;
    let printed = config.to_yaml();
    assert!(!printed.contains("s-e-cret"), "{printed}");
    assert!(!format!("{:?}", config.http).contains("s-e-cret"));
    let endpoint = &config.notifications.endpoints[0];
    assert!(!format!("{:?}", endpoint.headers).contains("s-e-cret"));
    let again = read(&printed, &[]).unwrap();
    assert_eq!(lines(&again.warnings), Vec::<String>::new(), "{printed}");
    assert_eq!(again.config.to_yaml(), printed);
    assert_eq!(again.config.http.headers, config.http.headers);
}

#[test]
fn documents_cannot_grow_without_bound() {
    let mut bomb = "version: 0.1\na0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let list = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{list}]\n"));
    }
    assert!(wrong(&bomb, &[]).contains("deeper or larger"));
    let deep = format!("version: 0.1\na: {}{}", "[".repeat(5000), "]".repeat(5000));
    assert!(read(&deep, &[]).is_err());
}

proptest! {
    #[test]
    fn nothing_that_is_read_makes_it_panic(text in "[a-z{}\\[\\]:,&*<'\" \n0-9-]{0,200}") {
        let _ = read(&format!("version: 0.1\nstorage: inmemory\n{text}"), &[]);
        let _ = read(LEAST, &[("REGISTRY_HTTP_HEADERS_X", &text)]);
    }

    #[test]
    fn no_name_of_a_variable_makes_it_panic(name in "[A-Z0-9_]{0,30}") {
        let _ = read(LEAST, &[(&format!("REGISTRY_{name}"), "x")]);
    }
}

/// The text of a file of the repository.
fn repository_file(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(path)).unwrap()
}

#[test]
fn the_examples_start() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/config");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let loaded = load(&entry.unwrap().path(), []).unwrap();
        assert_eq!((loaded.warnings, loaded.problems), (vec![], vec![]));
        files += 1;
    }
    assert!(files >= 4);
}

#[test]
fn the_documentation_shows_the_defaults_and_names_every_key_that_works() {
    let page = repository_file("docs/configuration.md");
    assert!(page.contains(&format!("```yaml\n{DEFAULTS}```")));
    let mut keys = defaults([]).unwrap().config.leaves();
    keys.remove("notifications.endpoints");
    let endpoint = serde_json::to_value(Endpoint::default()).unwrap();
    changes::collect(endpoint, "notifications.endpoints[]".to_owned(), &mut keys);
    keys.remove("proxy.upstreams");
    let upstream = serde_json::to_value(Upstream::default()).unwrap();
    changes::collect(upstream, "proxy.upstreams[]".to_owned(), &mut keys);
    keys.remove("sync.jobs");
    let job = serde_json::to_value(SyncJob::default()).unwrap();
    changes::collect(job, "sync.jobs[]".to_owned(), &mut keys);
    let s3 = serde_json::to_value(S3::default()).unwrap();
    changes::collect(s3, "storage.s3".to_owned(), &mut keys);
    let azure = serde_json::to_value(Azure::default()).unwrap();
    changes::collect(azure, "storage.azure".to_owned(), &mut keys);
    let gcs = serde_json::to_value(Gcs::default()).unwrap();
    changes::collect(gcs, "storage.gcs".to_owned(), &mut keys);
    keys.remove("middleware.storage");
    let mut cloudfront = StorageMiddleware::default();
    // What is zero is not printed.
    for duration in [
        &mut cloudfront.duration,
        &mut cloudfront.updatefrequency,
        &mut cloudfront.updatefrenquency,
    ] {
        *duration = GoDuration::from_secs(1);
    }
    let options = serde_json::to_value(cloudfront).unwrap();
    for key in options.as_object().unwrap().keys() {
        assert!(page.contains(&format!("`options.{key}`")), "options.{key}");
    }
    assert!(keys.len() > 60, "{keys:?}");
    for key in keys.keys() {
        let other = key.starts_with("auth");
        assert!(other || page.contains(&format!("`{key}`")), "{key}");
    }
}

#[test]
fn every_key_that_changes_is_told_and_no_secret() {
    let text = "version: 0.1\nstorage: {inmemory: }\nhttp:\n  addr: ':1'\n  secret: one\n  \
                headers: {X-A: [a], X-B: [b]}\n";
    let config = good(text, &[]);
    assert_eq!(config.changed_keys(&config), Vec::<String>::new());
    let changed = |variables: &[(&str, &str)]| {
        let other = good(text, variables);
        let there = config.changed_keys(&other);
        assert_eq!(other.changed_keys(&config), there);
        there
    };
    type Variables<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Variables<'_>, &[&str]); 7] = [
        (&[("REGISTRY_HTTP_ADDR", ":2")], &["http.addr"]),
        (&[("REGISTRY_HTTP_SECRET", "two")], &["http.secret"]),
        (
            &[
                ("REGISTRY_HTTP_HEADERS_X-A", "[c]"),
                ("REGISTRY_HTTP_HEADERS_X-C", "[c]"),
            ],
            &["http.headers.X-A", "http.headers.x-c"],
        ),
        (
            &[("REGISTRY_AUTH", "{silly: {realm: r, service: s}}")],
            &["auth.silly.realm", "auth.silly.service"],
        ),
        (&[("REGISTRY_AUTH", "none")], &["auth.none"]),
        (
            &[("REGISTRY_STORAGE", "filesystem")],
            &[
                "storage.filesystem.journal",
                "storage.filesystem.maxthreads",
                "storage.filesystem.rootdirectory",
                "storage.inmemory",
            ],
        ),
        // The same in other words is no change.
        (&[("REGISTRY_LOGLEVEL", "info")], &[]),
    ];
    for (variables, keys) in cases {
        assert_eq!(changed(variables), keys, "{variables:?}");
    }
    let printed = config.to_yaml();
    assert!(printed.contains("(hidden)") && !printed.contains("one"));
}
