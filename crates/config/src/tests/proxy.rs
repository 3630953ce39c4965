//! `proxy`.

use super::*;

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
