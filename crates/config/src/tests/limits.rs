//! `http.limits`.

use super::*;

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
