//! The server's options.

use http::{HeaderName, HeaderValue};
use wharfinger_config::{ClientIdentity, Config, Http};
use wharfinger_server::{ForwardedHeader, Limits, Network, Rate, TrustedProxies};

use super::{Unusable, access_controller, count, unusable};

pub(crate) fn server_options(config: &Config) -> Result<wharfinger_server::Options, Unusable> {
    let http = &config.http;
    let mut options = wharfinger_server::Options {
        relative_urls: http.relativeurls,
        access: access_controller(config)?,
        classes: config.policy.repository.classes.clone(),
        headers: headers(http)?,
        http2_cleartext: http.h2c.enabled,
        drain_timeout: http.draintimeout.get(),
        header_timeout: http.timeouts.header.get(),
        body_timeout: http.timeouts.body.get(),
        idle_timeout: http.timeouts.idle.get(),
        max_header_size: count(http.limits.headersize.get()),
        limits: limits(&http.limits),
        trusted_proxies: trusted_proxies(&http.trustedproxies),
        catalog_max: count(config.catalog.maxentries),
        tags_max: count(config.tags.maxtags),
        access_log: !config.log.accesslog.disabled,
        ..wharfinger_server::Options::default()
    };
    if !http.secret.is_empty() {
        options.secret = Some(http.secret.expose().to_owned());
    }
    if !http.prefix.is_empty() {
        options.prefix.clone_from(&http.prefix);
    }
    if !http.host.is_empty() {
        let host = http.host.parse();
        options.host =
            Some(host.map_err(|error: http::uri::InvalidUri| unusable("http.host")(&error))?);
    }
    Ok(options)
}

fn headers(http: &Http) -> Result<Vec<(HeaderName, HeaderValue)>, Unusable> {
    let wrong = unusable("http.headers");
    let mut headers = Vec::new();
    for (name, values) in &http.headers {
        let name: HeaderName = name
            .parse()
            .map_err(|error: http::header::InvalidHeaderName| wrong(&error))?;
        for value in values {
            let value = HeaderValue::from_str(value).map_err(|error| wrong(&error))?;
            headers.push((name.clone(), value));
        }
    }
    Ok(headers)
}

/// Nought is no limit.
fn limits(limits: &wharfinger_config::Limits) -> Limits {
    let number = |limit: u32| (limit > 0).then(|| count(limit));
    let bytes = |limit: wharfinger_config::ByteSize| (!limit.is_zero()).then(|| limit.get());
    let client = &limits.client;
    Limits {
        manifest_size: count(limits.manifestsize.get()),
        body_size: bytes(limits.bodysize),
        blob_size: bytes(limits.blobsize),
        connections: number(limits.connections),
        client_connections: number(client.connections),
        uploads: number(limits.uploads),
        client_uploads: number(client.uploads),
        upload_wait: limits.uploadwait.get(),
        client_rate: (client.requests > 0)
            .then(|| Rate::new(client.requests, client.per.get(), client.burst)),
        client_delay: client.delay.get(),
        by_user: client.by == ClientIdentity::User,
    }
}

fn trusted_proxies(proxies: &wharfinger_config::TrustedProxies) -> TrustedProxies {
    let networks = proxies.addresses.iter();
    TrustedProxies {
        networks: networks
            .map(|network| Network::new(network.address(), network.prefix()))
            .collect(),
        header: match proxies.header {
            wharfinger_config::ForwardedHeader::XForwardedFor => ForwardedHeader::XForwardedFor,
            wharfinger_config::ForwardedHeader::Forwarded => ForwardedHeader::Forwarded,
        },
    }
}
