mod middleware;

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
fn what_watches_the_registry_is_looked_at() {
    let mail = |hook: &str| format!("log: {{hooks: [{{type: mail, {hook}}}]}}");
    let to = "options: {smtp: {addr: 'mail:25'}, from: a@b, to: [c@d]}";
    let cases = [
        (
            "http: {debug: {addr: localhost}}".to_owned(),
            "http.debug.addr: \"localhost\" is not host and port, like 127.0.0.1:5001",
        ),
        (
            "http: {debug: {addr: ':5001', prometheus: {enabled: true, path: metrics}}}".to_owned(),
            "http.debug.prometheus.path: \"metrics\" is no path: it must begin with a slash, like \
             /metrics",
        ),
        (
            "http: {debug: {addr: ':5001', prometheus: {path: /livez}}}".to_owned(),
            "http.debug.prometheus.path: /livez is something else there; /metrics is free",
        ),
        (
            "health: {storagedriver: {interval: 10}}".to_owned(),
            "health.storagedriver.interval: 10ns is too short; is a unit missing, as in 10s?",
        ),
        (
            "health: {file: [{interval: 1s}]}".to_owned(),
            "health.file[0].file: it is missing: the file that takes the registry out of service",
        ),
        (
            "health: {file: [{file: /x}, {file: /x}]}".to_owned(),
            "health.file[1]: health.file[0] looks at the same already",
        ),
        (
            "health: {http: [{uri: 'localhost:80'}]}".to_owned(),
            "health.http[0].uri: this is no URL like http://10.0.0.1:8080/up",
        ),
        (
            "health: {http: [{uri: 'http://x', statuscode: 20}]}".to_owned(),
            "health.http[0].statuscode: 20 is no status of HTTP, like 200",
        ),
        (
            "health: {http: [{uri: 'http://x', headers: {'a b': [c]}}]}".to_owned(),
            "health.http[0].headers.a b: \"a b\" cannot be the name of a header",
        ),
        (
            "health: {http: [{uri: 'http://x', timeout: 5}]}".to_owned(),
            "health.http[0].timeout: 5ns is too short; is a unit missing, as in 10s?",
        ),
        (
            "health: {tcp: [{addr: redis}]}".to_owned(),
            "health.tcp[0].addr: \"redis\" is not host and port, like 10.0.0.1:6379",
        ),
        (
            "log: {levels: {'a b': debug}}".to_owned(),
            "log.levels.a b: this is no module, like wharfinger_storage or hyper::proto",
        ),
        (
            "log: {levels: {hyper: loud}}".to_owned(),
            "log.levels.hyper: \"loud\" is not one of error, warn, info, debug",
        ),
        (
            "log: {hooks: [{type: pager}]}".to_owned(),
            "log.hooks[0].type: \"pager\" is no kind of hook; there is mail",
        ),
        (
            mail(to),
            "log.hooks[0].levels: it is missing: what a mail is sent about, some of panic, fatal, \
             error, warn, warning, info, debug",
        ),
        (
            mail(&format!("levels: [panic, loud], {to}")),
            "log.hooks[0].levels[1]: \"loud\" is not one of panic, fatal, error, warn, warning, \
             info, debug",
        ),
        (
            mail("levels: [panic], options: {smtp: {addr: mail}, from: a@b, to: [c@d]}"),
            "log.hooks[0].options.smtp.addr: \"mail\" is not host and port of a mail server, like \
             mail.example.org:587",
        ),
        (
            mail("levels: [panic], options: {smtp: {addr: 'mail:25'}, to: [c@d]}"),
            "log.hooks[0].options.from: \"\" is no address like registry@example.org",
        ),
        (
            mail("levels: [panic], options: {smtp: {addr: 'mail:25'}, from: a@b}"),
            "log.hooks[0].options.to: it is missing: who gets the mails",
        ),
        (
            mail("levels: [panic], options: {smtp: {addr: 'mail:25'}, from: a@b, to: [c]}"),
            "log.hooks[0].options.to[0]: \"c\" is no address like admin@example.org",
        ),
    ];
    for (section, message) in cases {
        let found = wrong(&format!("{LEAST}{section}\n"), &[]);
        let (place, found) = found.split_once(": ").unwrap();
        assert!(place.starts_with("config.yml:4:"), "{place}: {found}");
        assert_eq!(found, message);
    }
    let text = format!(
        "{LEAST}health:\n  file: [{{file: /x, threshold: 2}}]\n  http: [{{uri: 'https://u:p@x/', \
         statuscode: 401, headers: {{A: [b]}}}}]\n  tcp: [{{addr: ':80'}}, {{addr: '[::1]:80', \
         timeout: 1s}}]\nhttp: {{debug: {{addr: ':5001', prometheus: {{enabled: yes}}}}}}\nlog: \
         {{levels: {{a::b_c: debug}}, hooks: [{{type: mail, levels: [Panic, WARN, fatal], {to}}}]}}\n"
    );
    let config = good(&text, &[]);
    assert_eq!(config.log.hooks[0].levels(), [Level::Error, Level::Warn]);
    let text = format!("{LEAST}http: {{debug: {{prometheus: {{enabled: true}}}}}}\n");
    let loaded = read(&text, &[]).unwrap();
    assert_eq!(loaded.problems, []);
    assert_eq!(
        lines(&loaded.warnings),
        [
            "config.yml:4:38: http.debug.prometheus.enabled: it has no effect: metrics are served at \
             http.debug.addr, which is not set"
        ]
    );
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
fn endpoints_are_checked_where_they_stand() {
    let good_ones = "version: 0.1\nstorage: inmemory\nnotifications:\n  endpoints:\n    - {name: \
                     a, url: 'http://h/', ignoredmediatypes: [x], ignore: {mediatypes: y, actions: \
                     [pull]}}\n    - name: b\n      url: https://u:p@h:1/x?y=z\n      headers: \
                     {Authorization: Bearer x}\n      queue: {folder: /q}\n      format: V2\n";
    let config = good(good_ones, &[]);
    let [a, b] = &config.notifications.endpoints[..] else {
        panic!("there are two");
    };
    assert_eq!(a.timeout.get(), Duration::from_secs(1));
    assert_eq!((a.threshold, a.backoff.get()), (10, Duration::from_secs(1)));
    assert_eq!(a.ignore.mediatypes, ["y", "x"]);
    assert_eq!(
        (a.format, a.queue.size),
        (EventFormat::V1, ByteSize::mebibytes(16))
    );
    assert_eq!(
        (b.format, b.queue.size),
        (EventFormat::V2, ByteSize::mebibytes(256))
    );
    assert_eq!(b.headers["Authorization"][0].expose(), "Bearer x");

    let cases = [
        (
            "url: 'http://h'",
            "name: it is missing: what the endpoint is called",
        ),
        (
            "name: a",
            "url: it is missing: where events are sent, like https://",
        ),
        (
            "name: a, url: 'ftp://u:s-e-cret@h/'",
            "url: this is no URL of http or https",
        ),
        (
            "name: a, url: h/events",
            "url: this is no URL of http or https",
        ),
        (
            "name: a, url: 'http://h', timeout: 5",
            "timeout: 5ns is too short; write it with a unit, like 5s",
        ),
        (
            "name: a, url: 'http://h', backoff: 10us",
            "backoff: 10us is too short",
        ),
        (
            "name: a, url: 'http://h', ignore: {actions: [pull, pulled]}",
            "ignore.actions[1]: \"pulled\" is no action; there are push, pull, mount, delete",
        ),
        (
            "name: a, url: 'http://h', headers: {A B: [s-e-cret]}",
            "headers.A B: \"A B\" cannot be the name of a header",
        ),
        (
            "name: a, url: 'http://h', headers: {A: [\"s-e-cret\\n\"]}",
            "headers.A: a header cannot have control characters",
        ),
        (
            "name: a, url: 'http://h', headers: {Content-Length: 1}",
            "headers.Content-Length: this header cannot be set",
        ),
        (
            "name: a, url: 'http://h', queue: {size: 1000}",
            "queue.size: 1000 is too little; the least is 1MiB",
        ),
    ];
    for (endpoint, message) in cases {
        let text = format!("{LEAST}notifications:\n  endpoints:\n    - {{{endpoint}}}\n");
        let found = wrong(&text, &[]);
        assert!(found.starts_with("config.yml:6:"), "{found}");
        let message = format!("notifications.endpoints[0].{message}");
        assert!(found.contains(&message), "{found}");
        assert!(!found.contains("s-e-cret"), "{found}");
    }
    for (format, message) in [
        ("format: v3", "format: \"v3\" is not one of v1, v2"),
        (
            "queue: {size: 1 potato}",
            "queue.size: \"1 potato\" is not a number of bytes",
        ),
    ] {
        let text = format!("{LEAST}notifications: {{endpoints: [{{{format}}}]}}\n");
        let found = wrong(&text, &[]);
        assert!(found.contains(message), "{found}");
    }
    let one = "{name: a, url: 'http://h', queue: {folder: /q}}";
    let other = "{name: a, url: 'http://h', queue: {folder: /q/}}";
    let off = "{name: a, disabled: true}";
    let text = format!("{LEAST}notifications: {{endpoints: [{off}, {one}, {other}]}}\n");
    let loaded = read(&text, &[]).unwrap();
    let problems = lines(&loaded.problems);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("endpoints[2].name: notifications.endpoints[1] is called \"a\""));
    assert!(problems[1].contains("endpoints[2].queue.folder: notifications.endpoints[1] keeps"));
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
fn an_upstream_that_cannot_be_is_named_without_its_secrets() {
    let url = "remoteurl: 'https://r.example.org/x'";
    let good = good(
        &format!("{LEAST}proxy: {{{url}, ttl: 0, tagttl: 5m}}\n"),
        &[],
    );
    assert!(good.proxy.is_used());
    let cases = [
        (
            "remoteurl: r.example.org",
            "proxy.remoteurl: this is no URL like",
        ),
        (
            "remoteurl: 'https://u:s-e-cret@h'",
            "proxy.remoteurl: a user and a password belong to",
        ),
        (
            "remoteurl: 'https://h/?s-e-cret'",
            "proxy.remoteurl: nothing may follow the path",
        ),
        (
            &format!("{url}, username: u"),
            "proxy.username: proxy.username and proxy.password go",
        ),
        (
            &format!("{url}, password: s-e-cret"),
            "proxy.username: proxy.username and",
        ),
        (
            &format!("{url}, exec: {{}}"),
            "proxy.exec.command: it is missing",
        ),
    ];
    for (section, said) in cases {
        let found = wrong(&format!("{LEAST}proxy: {{{section}}}\n"), &[]);
        assert!(found.contains(said), "{found}");
        assert!(!found.contains("s-e-cret"), "{found}");
    }
    for section in [
        "username: u".to_owned(),
        format!("{url}, exec: {{command: c}}, username: u"),
    ] {
        let loaded = read(&format!("{LEAST}proxy: {{{section}}}\n"), &[]).unwrap();
        assert_eq!((loaded.warnings.len(), loaded.problems.len()), (1, 0));
    }
}

#[test]
fn upstreams_that_cannot_be_told_apart_or_reached_are_named() {
    let url = "remoteurl: 'https://r.example.org'";
    let a = format!("{{name: a, {url}}}");
    let config = good(
        &format!(
            "{LEAST}proxy: {{upstreams: [{a}, {{name: docker.io, {url}}}, {{name: m/hub, {url}, \
             ns: [x.test], library: true}}]}}\n"
        ),
        &[],
    );
    let told = config.proxy.upstreams.iter();
    let told: Vec<_> = told.map(|one| (one.ns.join(" "), one.library)).collect();
    let expected = [("a", false), ("docker.io", true), ("x.test", true)];
    let expected = expected.map(|(ns, library)| (ns.to_owned(), Some(library)));
    assert_eq!(told, expected);
    assert!(!config.proxy.is_used());
    let cases = [
        (format!("{{{url}}}"), "[1].name: it is missing"),
        (
            format!("{{name: B, {url}}}"),
            "[1].name: each part of a repository name",
        ),
        (
            format!("{{name: a, {url}}}"),
            "[1].name: proxy.upstreams[0] is called \"a\"",
        ),
        (
            format!("{{name: a/b, {url}}}"),
            "[1].name: proxy.upstreams[0] is called",
        ),
        ("{name: b}".to_owned(), "[1].remoteurl: it is missing"),
        (
            "{name: b, remoteurl: 'https://u:s-e-cret@h'}".to_owned(),
            "[1].remoteurl: a user",
        ),
        (
            format!("{{name: b, {url}, password: s-e-cret}}"),
            "[1].username: ",
        ),
        (
            format!("{{name: b, {url}, ns: [A]}}"),
            "[1].ns[0]: proxy.upstreams[0] is asked for",
        ),
        (
            format!("{{name: b, {url}, ns: [c, 'c ']}}"),
            "[1].ns[1]: \"c \" is no host",
        ),
        (
            format!("{{name: b, {url}, hosts: ['http://h']}}"),
            "[1].hosts[0]: \"http://h\" is",
        ),
        (
            format!("{{name: b, {url}, hosts: [h, H]}}"),
            "[1].hosts[1]: proxy.upstreams[1] is",
        ),
        (
            format!("{{name: b, {url}, allow: ['^a$']}}"),
            "[1].allow[0]: \"^a$\" is no name",
        ),
        (
            format!("{{name: b, {url}, deny: [a, B]}}"),
            "[1].deny[1]: \"B\" is no name",
        ),
        (
            format!("{{name: b, {url}, proxy: 's-e-cret'}}"),
            "[1].proxy: this is neither",
        ),
        (
            format!("{{name: b, {url}, dockerconfig: /x, exec: {{command: c}}}}"),
            "[1].dockerconfig: ",
        ),
    ];
    for (upstream, said) in cases {
        let text = format!("{LEAST}proxy: {{upstreams: [{a}, {upstream}]}}\n");
        let found = wrong(&text, &[]);
        let said = format!("proxy.upstreams{said}");
        assert!(found.contains(&said), "{said}: {found}");
        assert!(!found.contains("s-e-cret"), "{found}");
    }
    let text = format!("{LEAST}proxy: {{upstreams: [{a}], ns: [a]}}\n");
    let found = wrong(&text, &[]);
    assert!(found.contains("proxy.ns[0]: proxy.upstreams[0]"), "{found}");
    for (section, warned) in [
        ("ns: [a]".to_owned(), "without proxy.upstreams"),
        (format!("{url}, upstreams: [{a}]"), "like docker.io"),
    ] {
        let loaded = read(&format!("{LEAST}proxy: {{{section}}}\n"), &[]).unwrap();
        let warnings = lines(&loaded.warnings);
        assert_eq!((warnings.len(), loaded.problems), (1, vec![]));
        assert!(warnings[0].contains(warned), "{warnings:?}");
    }
    // As of other lists, the environment can say one part of one that stands in the file.
    let from = ("REGISTRY_PROXY_UPSTREAMS_0_PASSWORD", "s-e-cret");
    let user = ("REGISTRY_PROXY_UPSTREAMS_0_USERNAME", "u");
    let config = good(
        &format!("{LEAST}proxy: {{upstreams: [{a}]}}\n"),
        &[from, user],
    );
    assert_eq!(config.proxy.upstreams[0].password.expose(), "s-e-cret");
    assert!(!config.to_yaml().contains("s-e-cret"));
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

#[test]
fn limits_are_read_and_what_is_not_said_is_as_before() {
    let limits = good(LEAST, &[]).http.limits;
    assert_eq!(limits.headersize, ByteSize::new(64 << 10));
    assert_eq!(limits.manifestsize, ByteSize::new(4 << 20));
    assert!(limits.blobsize.is_zero() && limits.bodysize.is_zero());
    let none = (limits.connections, limits.uploads, limits.client.requests);
    assert_eq!(none, (0, 0, 0));
    let text = format!(
        "{LEAST}http:\n  limits: {{headersize: 0, blobsize: 10GiB, client: {{requests: 50, per: \
         0}}}}\n  timeouts: {{idle: 0, body: 1m}}\n  trustedproxies: {{addresses: [10.0.0.0/8, \
         '::1'], header: Forwarded}}\n"
    );
    let http = good(&text, &[]).http;
    assert_eq!(http.limits.headersize, ByteSize::new(64 << 10));
    assert_eq!(http.limits.blobsize, ByteSize::new(10 << 30));
    let client = http.limits.client;
    assert_eq!((client.requests, client.burst), (50, 50));
    assert_eq!(client.per, GoDuration::from_secs(1));
    assert_eq!(http.timeouts.idle, GoDuration::from_secs(900));
    assert_eq!(http.timeouts.body, GoDuration::from_secs(60));
    assert_eq!(http.trustedproxies.header, ForwardedHeader::Forwarded);
    assert_eq!(http.trustedproxies.addresses.len(), 2);
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let cases = [
        (
            "limits: {blobsize: 10 gigs}",
            "4:27: http.limits.blobsize: \"10 gigs\" is not a number of bytes; write it like 64KiB, \
             4MiB, 10GB or 1000",
        ),
        (
            "limits: {headersize: 1KiB}",
            "4:29: http.limits.headersize: 1KiB is not from 8KiB to 1MiB",
        ),
        (
            "limits: {manifestsize: 5MiB}",
            "4:31: http.limits.manifestsize: 5MiB is more than a manifest can have, 4MiB",
        ),
        (
            "limits: {client: {burst: 5}}",
            "4:33: http.limits.client.burst: there is no limit that it belongs to; set \
             http.limits.client.requests",
        ),
        (
            "limits: {client: {by: name}}",
            "4:30: http.limits.client.by: \"name\" is not one of address, user",
        ),
        (
            "limits: {client: {by: user}}",
            "4:30: http.limits.client.by: no user is known without auth.htpasswd or auth.token; \
             address is right",
        ),
        (
            "limits: {connections: many}",
            "4:30: http.limits.connections: \"many\" is not a whole number in the range that makes \
             sense here",
        ),
        (
            "timeouts: {idle: -1s}",
            "4:25: http.timeouts.idle: \"-1s\" is not a length of time; write it like 168h, 1m30s or \
             300ms",
        ),
        (
            "trustedproxies: {addresses: [10.0.0.0/8, proxy]}",
            "4:49: http.trustedproxies.addresses[1]: \"proxy\" is no network; write it like \
             10.0.0.0/8, 2001:db8::/32 or 192.0.2.1",
        ),
        (
            "trustedproxies: {header: via}",
            "4:33: http.trustedproxies.header: \"via\" is not one of x-forwarded-for, forwarded",
        ),
    ];
    for (section, message) in cases {
        let found = wrong(&format!("{LEAST}http: {{{section}}}\n"), &[]);
        assert_eq!(found, format!("config.yml:{message}"));
    }
}

#[test]
fn buckets_are_read() {
    let s3 = |text: &str| {
        let file = format!("version: 0.1\nstorage:\n  s3: {{{text}}}\n");
        let config = good(&file, &[]);
        config.storage.s3.unwrap()
    };
    let least = s3("region: eu-central-1, bucket: b");
    assert!(least.secure && least.v4auth && !least.forcepathstyle && !least.logs_requests());
    assert_eq!(least.chunksize, ByteSize::new(10_485_760));
    assert_eq!(least.multipartcopychunksize, ByteSize::new(33_554_432));
    assert_eq!(least.multipartcopymaxconcurrency, 100);
    // As people have it in files for Distribution.
    let usual = s3(
        "accesskey: a, secretkey: b, regionendpoint: 'http://minio:9000', bucket: b, \
                    chunksize: '5242880', secure: no, forcepathstyle: true, encrypt: true, keyid: \
                    k, storageclass: reduced_redundancy, loglevel: debug, rootdirectory: /a/b/",
    );
    assert_eq!(usual.accesskey.expose(), "a");
    assert_eq!(usual.chunksize, ByteSize::mebibytes(5));
    assert!(!usual.secure && usual.forcepathstyle && usual.logs_requests());
    assert!(!s3("region: r, bucket: b, loglevel: off").logs_requests());
    let other_name = "version: 0.1\nstorage: {s3aws: {region: r, bucket: c}}\n";
    assert_eq!(good(other_name, &[]).storage.s3.unwrap().bucket, "c");
}

#[test]
fn buckets_that_cannot_be_are_refused() {
    let cases = [
        ("region: r", "storage.s3.bucket: the bucket is missing"),
        ("bucket: b", "storage.s3.region: the region is missing"),
        (
            "bucket: a/b, region: r",
            "storage.s3.bucket: \"a/b\" cannot be",
        ),
        (
            "bucket: b, region: r/s",
            "storage.s3.region: \"r/s\" cannot be",
        ),
        (
            "bucket: b, region: r, accesskey: a",
            "storage.s3.accesskey: storage.s3.secretkey is",
        ),
        (
            "bucket: b, region: r, secretkey: a",
            "storage.s3.secretkey: storage.s3.accesskey is",
        ),
        (
            "bucket: b, region: r, sessiontoken: a",
            "storage.s3.sessiontoken: storage.s3.accesskey",
        ),
        (
            "bucket: b, region: r, v4auth: false",
            "storage.s3.v4auth: requests are signed by",
        ),
        (
            "bucket: b, region: r, chunksize: 1000",
            "storage.s3.chunksize: 1000 is not from 5MiB to",
        ),
        (
            "bucket: b, region: r, chunksize: ten",
            "storage.s3.chunksize: \"ten\" is not a number of",
        ),
        (
            "bucket: b, region: r, multipartcopychunksize: 6GiB",
            "storage.s3.multipartcopychunksize: 6GiB is not",
        ),
        (
            "bucket: b, region: r, multipartcopythresholdsize: 6GiB",
            "storage.s3.multipartcopythresholdsize: 6GiB is more",
        ),
        (
            "bucket: b, region: r, multipartcopymaxconcurrency: 0",
            "storage.s3.multipartcopymaxconcurrency: there must",
        ),
        (
            "bucket: b, region: r, storageclass: cold",
            "storage.s3.storageclass: \"cold\" is not one",
        ),
        (
            "bucket: b, region: r, storageclass: outposts",
            "storage.s3.storageclass: buckets of the",
        ),
        (
            "bucket: b, region: r, objectacl: mine",
            "storage.s3.objectacl: \"mine\" is not one of",
        ),
        (
            "bucket: b, regionendpoint: 'http://h/x'",
            "storage.s3.regionendpoint: \"http://h/x\" is no",
        ),
        (
            "bucket: b, regionendpoint: h, accelerate: true",
            "storage.s3.accelerate: only Amazon's",
        ),
        (
            "bucket: b.c, region: r, accelerate: true",
            "storage.s3.accelerate: Amazon's servers at",
        ),
        (
            "bucket: b, region: r, rootdirectory: a//b",
            "storage.s3.rootdirectory: \"a//b\" cannot",
        ),
        (
            "bucket: b, region: r, loglevel: loud",
            "storage.s3.loglevel: \"loud\" is not one of off,",
        ),
        (
            "bucket: b, region: r, encrypt: maybe",
            "storage.s3.encrypt: \"maybe\" is not true or",
        ),
    ];
    for (text, message) in cases {
        let found = wrong(&format!("version: 0.1\nstorage:\n  s3: {{{text}}}\n"), &[]);
        assert!(found.contains(&format!(": {message}")), "{text}: {found}");
        assert!(found.starts_with("config.yml:3:"), "{found}");
    }
}

#[test]
fn containers_are_read() {
    let azure = |text: &str| {
        let file = format!("version: 0.1\nstorage:\n  azure: {{{text}}}\n");
        good(&file, &[]).storage.azure.unwrap()
    };
    // As Distribution's page has it.
    let usual = azure(
        "accountname: a, accountkey: a2V5, container: c, rootdirectory: /x/, realm: \
         core.chinacloudapi.cn, max_retries: 7, retry_delay: 1s, credentials: {type: shared_key}",
    );
    let account = usual.account().unwrap();
    assert_eq!(account.service, "https://a.blob.core.chinacloudapi.cn");
    assert_eq!(usual.form(&account), Some(AzureForm::SharedKey));
    assert_eq!(
        (usual.max_retries, usual.retry_delay),
        (7, GoDuration::from_secs(1))
    );
    let application = azure(
        "accountname: a, container: c, credentials: {type: client_secret, clientid: i, tenantid: \
         t, secret: s}",
    );
    let account = application.account().unwrap();
    assert_eq!(application.form(&account), Some(AzureForm::ClientSecret));
    assert_eq!(application.credentials.secret.expose(), "s");
    // What is there tells the form.
    for (text, form) in [
        ("accountname: a, container: c", AzureForm::Default),
        (
            "accountname: a, container: c, accountkey: a2V5",
            AzureForm::SharedKey,
        ),
        (
            "accountname: a, container: c, sastoken: '?sv=1&sig=x'",
            AzureForm::SasToken,
        ),
    ] {
        let azure = azure(text);
        assert_eq!(azure.form(&azure.account().unwrap()), Some(form), "{text}");
    }
}

#[test]
fn connection_strings_tell_of_an_account() {
    let cases = [
        (
            "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=a2V5;EndpointSuffix=core.x",
            ("a", "https://a.blob.core.x", "a2V5", ""),
        ),
        (
            "AccountName=a;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:10000/a/;QueueEndpoint=q",
            ("a", "http://127.0.0.1:10000/a", "a2V5", ""),
        ),
        (
            "BlobEndpoint=https://b.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=x",
            ("b", "https://b.blob.core.windows.net", "", "sv=1&sig=x"),
        ),
    ];
    for (text, expected) in cases {
        let file = format!(
            "version: 0.1\nstorage:\n  azure: {{container: c, connectionstring: '{text}'}}\n"
        );
        let azure = good(&file, &[]).storage.azure.unwrap();
        let account = azure.account().unwrap();
        let (key, signature) = (account.key.expose(), account.signature.expose());
        let found = (
            account.name.as_str(),
            account.service.as_str(),
            key,
            signature,
        );
        assert_eq!(found, expected);
    }
}

#[test]
fn containers_that_cannot_be_are_refused() {
    let cases = [
        ("accountname: a", "container: the container is missing"),
        ("container: c", "accountname: the account is missing"),
        (
            "accountname: a, container: C",
            "container: \"C\" cannot be the name of",
        ),
        (
            "accountname: a.b, container: c",
            "accountname: \"a.b\" cannot be the",
        ),
        (
            "accountname: a, container: c, credentials: {type: default}",
            "credentials.type: \"default\" is not one of shared_key, client_secret, \
             default_credentials, sas_token",
        ),
        (
            "accountname: a, container: c, credentials: {type: shared_key}",
            "accountkey: it is missing, which credentials of the type shared_key need",
        ),
        (
            "accountname: a, container: c, credentials: {type: client_secret, clientid: i, \
             tenantid: t}",
            "credentials.secret: it is missing",
        ),
        (
            "accountname: a, container: c, accountkey: hunter2",
            "accountkey: this is no key",
        ),
        (
            "accountname: a, container: c, sastoken: hunter2",
            "sastoken: this is no shared",
        ),
        (
            "container: c, connectionstring: hunter2",
            "connectionstring: it is no list of NAME=VALUE",
        ),
        (
            "container: c, connectionstring: AccountName=a;AccountKey=hunter2",
            "connectionstring: this is no key of",
        ),
        (
            "container: c, connectionstring: AccountName=a",
            "connectionstring: it has neither an",
        ),
        (
            "container: c, accountname: a, connectionstring: AccountName=a;AccountKey=a2V5",
            "accountname: storage.azure.connectionstring says this",
        ),
        (
            "accountname: a, container: c, realm: 'a/b'",
            "realm: \"a/b\" is no domain",
        ),
        (
            "accountname: a, container: c, serviceurl: x.y",
            "serviceurl: \"x.y\" is no server",
        ),
        (
            "accountname: a, container: c, rootdirectory: 'a//b'",
            "rootdirectory: \"a//b\" cannot be a folder in a container",
        ),
        (
            "accountname: a, container: c, chunksize: 1MiB",
            "chunksize: 1MiB is not from 5MiB",
        ),
        (
            "accountname: a, container: c, max_retries: -2",
            "max_retries: -2 is not from -1",
        ),
        (
            "accountname: a, container: c, retry_delay: soon",
            "retry_delay: \"soon\" is not a",
        ),
    ];
    for (text, message) in cases {
        let found = wrong(
            &format!("version: 0.1\nstorage:\n  azure: {{{text}}}\n"),
            &[],
        );
        let expected = format!(": storage.azure.{message}");
        assert!(found.contains(&expected), "{text}: {found}");
        assert!(found.starts_with("config.yml:3:"), "{found}");
        assert!(!found.contains("hunter2"), "{found}");
    }
}

#[test]
fn buckets_of_google_are_read() {
    let gcs = |text: &str| {
        let file = format!("version: 0.1\nstorage:\n  gcs: {{{text}}}\n");
        read(&file, &[]).unwrap()
    };
    let least = gcs("bucket: b");
    assert_eq!(lines(&least.warnings), Vec::<String>::new());
    assert_eq!(least.problems, []);
    let least = least.config.storage.gcs.unwrap();
    assert_eq!((least.part(), least.concurrency()), (16 << 20, 50));
    // As people have it in files for Distribution, whose page names a default of 5 MiB.
    let key = "{type: service_account, project_id: p, private_key_id: 12e3, private_key: s-e-cret, \
               client_email: a@b}";
    let usual = gcs(&format!(
        "bucket: b, credentials: {key}, rootdirectory: /a/b, chunksize: 5242880, \
         maxconcurrency: '60', useragent: x"
    ));
    assert_eq!(lines(&usual.warnings), Vec::<String>::new());
    assert_eq!(usual.problems, []);
    assert!(!usual.config.to_yaml().contains("s-e-cret"));
    let usual = usual.config.storage.gcs.unwrap();
    assert!(!format!("{usual:?}").contains("s-e-cret"));
    assert_eq!(usual.credentials["private_key"].expose(), "s-e-cret");
    assert_eq!(usual.credentials["private_key_id"].expose(), "12e3");
    assert_eq!((usual.part(), usual.concurrency()), (5 << 20, 60));
    let small = gcs("bucket: b, chunksize: 256KiB, maxconcurrency: -1");
    assert_eq!(
        lines(&small.warnings),
        [
            "config.yml:3:31: storage.gcs.chunksize: 256KiB is less than a part can be, so that \
             parts have 5MiB",
            "config.yml:3:55: storage.gcs.maxconcurrency: -1 is less than there can be, and counts \
             as 25",
        ]
    );
    let small = small.config.storage.gcs.unwrap();
    assert_eq!((small.part(), small.concurrency()), (5 << 20, 25));
    let both = gcs(&format!("bucket: b, keyfile: k, credentials: {key}"));
    assert!(lines(&both.warnings)[0].contains("storage.gcs.keyfile is there too"));
}

#[test]
fn buckets_of_google_that_cannot_be_are_refused() {
    let cases = [
        ("keyfile: k", "storage.gcs.bucket: the bucket is missing"),
        ("bucket: a/b", "storage.gcs.bucket: \"a/b\" cannot be"),
        (
            "bucket: b, credentials: {type: service_account, private_key: x}",
            "storage.gcs.credentials: client_email is missing",
        ),
        (
            "bucket: b, credentials: {type: external_account, private_key: x, client_email: y}",
            "storage.gcs.credentials.type: only the key",
        ),
        (
            "bucket: b, chunksize: 300000",
            "storage.gcs.chunksize: 300000 is no multiple",
        ),
        (
            "bucket: b, chunksize: 0",
            "storage.gcs.chunksize: 0 is no multiple",
        ),
        (
            "bucket: b, chunksize: 6GiB",
            "storage.gcs.chunksize: 6GiB is no multiple",
        ),
        (
            "bucket: b, maxconcurrency: many",
            "storage.gcs.maxconcurrency: \"many\" is",
        ),
        (
            "bucket: b, rootdirectory: 'a#b'",
            "storage.gcs.rootdirectory: \"a#b\" cannot",
        ),
    ];
    for (text, message) in cases {
        let found = wrong(&format!("version: 0.1\nstorage:\n  gcs: {{{text}}}\n"), &[]);
        assert!(found.contains(&format!(": {message}")), "{text}: {found}");
        assert!(found.starts_with("config.yml:3:"), "{found}");
    }
}

#[test]
fn a_job_that_cannot_be_done_is_named_with_its_place() {
    let from = "from: {remoteurl: 'https://r.example.org'}";
    let job = format!("name: a, images: [x], {from}");
    let config = good(&format!("{LEAST}sync: {{jobs: [{{{job}}}]}}\n"), &[]);
    let read = &config.sync.jobs[0];
    assert!(read.referrers && read.parallelism == 4 && read.interval.is_zero());
    for (jobs, said) in [
        (
            format!("{{images: [x], {from}}}"),
            "sync.jobs[0].name: it is missing",
        ),
        (
            format!("{{name: 'a/b', images: [x], {from}}}"),
            "sync.jobs[0].name: a name is made",
        ),
        (
            format!("{{{job}}}, {{{job}}}"),
            "sync.jobs[1].name: sync.jobs[0] is called",
        ),
        (
            "{name: a, images: [x]}".to_owned(),
            "sync.jobs[0]: it needs either from",
        ),
        (
            format!("{{{job}, to: {{remoteurl: 'http://h'}}}}"),
            "sync.jobs[0]: it needs either from",
        ),
        (
            "{name: a, images: [x], to: {remoteurl: h}}".to_owned(),
            "sync.jobs[0].to.remoteurl: this is no URL",
        ),
        (
            "{name: a, images: [x], from: {remoteurl: 'http://h', password: s-e-cret}}".to_owned(),
            "sync.jobs[0].from.username: ",
        ),
        (
            format!("{{name: a, {from}}}"),
            "sync.jobs[0].images: it is missing",
        ),
        (
            format!("{{{job}, interval: 6}}"),
            "sync.jobs[0].interval: it is shorter",
        ),
        (
            format!("{{{job}, parallelism: 0}}"),
            "sync.jobs[0].parallelism: it must be",
        ),
        (
            format!("{{{job}, platforms: [linux/amd64]}}"),
            "sync.jobs[0].platforms: an index is kept",
        ),
        (
            format!("{{{job}, delete: tags}}"),
            "sync.jobs[0].delete: nothing can be deleted",
        ),
    ] {
        let found = wrong(&format!("{LEAST}sync: {{jobs: [{jobs}]}}\n"), &[]);
        assert!(found.contains(said), "{found}");
        assert!(!found.contains("s-e-cret"), "{found}");
    }
}
