//! `notifications`.

use super::*;

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
