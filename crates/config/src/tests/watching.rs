//! What watches the registry: `log.hooks`, `health`, `http.debug`.

use super::*;

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
