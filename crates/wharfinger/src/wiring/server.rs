//! The server's options.

use http::{HeaderName, HeaderValue};
use wharfinger_config::{Config, Http};

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
