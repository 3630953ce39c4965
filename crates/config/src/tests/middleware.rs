//! `middleware`.

use super::*;

/// A bucket, and middlewares around it.
fn with_middlewares(storage: &str, middlewares: &str) -> String {
    format!("version: 0.1\nstorage: {{{storage}}}\nmiddleware:\n  storage: [{middlewares}]\n")
}

const BUCKET: &str = "s3: {region: r, bucket: b}";

#[test]
fn middlewares_are_read_as_for_distribution() {
    let text = with_middlewares(
        BUCKET,
        "{name: cloudfront, options: {baseurl: d1.cloudfront.net, privatekey: /k.pem, keypairid: \
         K2JCJMDEHXQW5F, duration: 3000s, ipfilteredby: AWSRegion, awsregion: 'us-east-1, eu-west-1', \
         updatefrenquency: 1h}}, {name: rewrite, options: {scheme: http, host: 'h:80', \
         trimpathprefix: /b}}, {name: redirect, options: {baseurl: 'HTTPS://h:1/x'}}, {name: other, \
         disabled: true}",
    );
    let config = good(&text, &[]);
    let [cloudfront, rewrite, redirect, _] = &config.middleware.storage[..] else {
        panic!("there are four");
    };
    let options = &cloudfront.options;
    assert_eq!(options.ipfilteredby, "awsregion");
    assert_eq!(options.regions(), ["us-east-1", "eu-west-1"]);
    assert_eq!(options.duration, GoDuration::from_secs(3000));
    assert_eq!(options.updatefrequency, GoDuration::from_secs(3600));
    assert!(
        options
            .iprangesurl
            .starts_with("https://ip-ranges.amazonaws.com/")
    );
    assert_eq!(rewrite.options.host, "h:80");
    assert_eq!(redirect.options.baseurl, "HTTPS://h:1/x");

    // A number without a unit is passed over, as Distribution's documentation has it.
    let least = "{name: cloudfront, options: {baseurl: 'http://h/', privatekey: k, keypairid: K, \
                 duration: 60, updatefrequency: 5}}";
    let config = good(&with_middlewares(BUCKET, least), &[]);
    let options = &config.middleware.storage[0].options;
    assert_eq!(options.duration, GoDuration::from_secs(1200));
    assert_eq!(options.updatefrequency, GoDuration::from_secs(12 * 3600));
    assert_eq!(options.ipfilteredby, "none");
    let printed = config.to_yaml();
    assert!(
        printed.contains("duration: \"20m\"") || printed.contains("duration: 20m"),
        "{printed}"
    );
    let on_a_folder = "{name: redirect, options: {baseurl: 'http://h'}}";
    good(&with_middlewares("filesystem: {}", on_a_folder), &[]);
}

#[test]
fn middlewares_that_cannot_be_are_refused() {
    for (one, message) in [
        (
            "{name: cloudflare}",
            "name: \"cloudflare\" is no middleware of the store; there are cloudfront, redirect, rewrite",
        ),
        (
            "{name: redirect}",
            "options.baseurl: it is missing: where clients are sent",
        ),
        (
            "{name: redirect, options: {baseurl: 'h/s-e-cret'}}",
            "options.baseurl: this is no URL",
        ),
        (
            "{name: rewrite, options: {scheme: ftp}}",
            "options.scheme: \"ftp\" is not one of http, https",
        ),
        (
            "{name: rewrite, options: {host: 'h/x'}}",
            "options.host: \"h/x\" is no host",
        ),
    ] {
        let found = wrong(&with_middlewares(BUCKET, one), &[]);
        let (place, found) = found.split_once(": ").unwrap();
        assert!(place.starts_with("config.yml:4:"), "{place}: {found}");
        let message = format!("middleware.storage[0].{message}");
        assert!(found.starts_with(&message), "{found}");
        assert!(!found.contains("s-e-cret"), "{found}");
    }
    let good_one = "baseurl: h, privatekey: k, keypairid: K1";
    for (options, message) in [
        (
            "privatekey: k, keypairid: K",
            "baseurl: it is missing: where CloudFront is",
        ),
        (
            "baseurl: 'ftp://h', privatekey: k, keypairid: K",
            "baseurl: this is no URL",
        ),
        (
            "baseurl: 'http://h/?a=s-e-cret', privatekey: k, keypairid: K",
            "baseurl: this is no URL",
        ),
        (
            "baseurl: h, keypairid: K",
            "privatekey: it is missing: the PEM file",
        ),
        (
            "baseurl: h, privatekey: '-----BEGIN RSA PRIVATE KEY----- s-e-cret', keypairid: K",
            "privatekey: this is a key itself",
        ),
        (
            "baseurl: h, privatekey: k",
            "keypairid: it is missing: the id",
        ),
        (
            "baseurl: h, privatekey: k, keypairid: 'K&x'",
            "keypairid: \"K&x\" cannot be",
        ),
        (
            &format!("{good_one}, ipfilteredby: all"),
            "ipfilteredby: \"all\" is not one of none, aws, awsregion",
        ),
        (
            &format!("{good_one}, ipfilteredby: awsregion"),
            "awsregion: it is missing",
        ),
        (
            &format!("{good_one}, ipfilteredby: aws, iprangesurl: x"),
            "iprangesurl: this is no URL",
        ),
        (
            &format!("{good_one}, duration: soon"),
            "duration: \"soon\" is not a length of time",
        ),
    ] {
        let one = format!("{{name: cloudfront, options: {{{options}}}}}");
        let found = wrong(&with_middlewares(BUCKET, &one), &[]);
        let message = format!("middleware.storage[0].options.{message}");
        assert!(found.contains(&message), "{found}");
        assert!(!found.contains("s-e-cret"), "{found}");
    }
    let one = format!("{{name: cloudfront, options: {{{good_one}}}}}");
    let found = wrong(&with_middlewares("filesystem: {}", &one), &[]);
    assert!(
        found.contains("storage[0].name: cloudfront needs the driver s3"),
        "{found}"
    );
    let odd = "s3: {region: r, bucket: b, rootdirectory: 'a b'}";
    let found = wrong(&with_middlewares(odd, &one), &[]);
    assert!(
        found.contains("storage.s3.rootdirectory: the middleware cloudfront"),
        "{found}"
    );
    for kind in ["registry", "repository"] {
        let text = format!("{LEAST}middleware: {{{kind}: [{{name: x, options: {{a: b}}}}]}}\n");
        let found = wrong(&text, &[]);
        let message = format!(
            "config.yml:4:{}: middleware.{kind}[0].name: \"x\" is no",
            24 + kind.len()
        );
        assert!(found.starts_with(&message), "{found}");
    }
}

#[test]
fn middlewares_without_an_effect_are_warned_of() {
    let redirect = "{name: redirect, options: {baseurl: 'http://u:p@h'}}";
    let cloudfront = "{name: cloudfront, options: {baseurl: h, privatekey: k, keypairid: K, \
                      awsregion: x}}";
    for (storage, middlewares, messages) in [
        (
            BUCKET,
            format!("{redirect}, {cloudfront}"),
            &[
                "[0].options.baseurl: only scheme, host, port",
                "[1]: it has no effect: only the one directly around the driver",
                "[1].options.awsregion: it has no effect without",
            ][..],
        ),
        (
            "filesystem: {}",
            "{name: rewrite, options: {host: h, baseurl: x}}".to_owned(),
            &[
                "[0].options.baseurl: it has no effect: rewrite has no such option",
                "[0]: it has no effect: it changes the addresses",
            ],
        ),
        (
            "filesystem: {}, redirect: {disable: true}",
            "{name: redirect, options: {baseurl: 'http://h'}}".to_owned(),
            &["[0]: it has no effect while storage.redirect.disable"],
        ),
    ] {
        let loaded = read(&with_middlewares(storage, &middlewares), &[]).unwrap();
        assert_eq!(loaded.problems, []);
        let warnings = lines(&loaded.warnings);
        assert_eq!(warnings.len(), messages.len(), "{warnings:?}");
        for (warning, message) in warnings.iter().zip(messages) {
            let message = format!(": middleware.storage{message}");
            assert!(warning.contains(&message), "{warning}");
        }
    }
}
