//! Health checks.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use wharfinger_config::{Config, HttpCheck, without_secrets};
use wharfinger_health::{Check, Probe};
use wharfinger_registry::Registry;

use super::{Unusable, unusable};

/// The checks; the store is called `store` in the configuration file.
pub(crate) fn health_checks(
    config: &Config,
    registry: &Registry,
    store: &str,
) -> Result<Vec<Check>, Unusable> {
    let health = &config.health;
    let mut checks = Vec::new();
    let driver = &health.storagedriver;
    if driver.enabled {
        checks.push(Check {
            name: format!("storagedriver_{store}"),
            probe: Probe::Store(registry.clone()),
            interval: driver.interval.get(),
            timeout: driver.interval.get().max(Check::TIMEOUT),
            threshold: driver.threshold,
        });
    }
    for of in &health.file {
        checks.push(Check {
            name: of.file.clone(),
            probe: Probe::File(of.file.clone().into()),
            interval: of.interval.get(),
            timeout: of.interval.get().max(Check::TIMEOUT),
            threshold: of.threshold,
        });
    }
    for (index, of) in health.http.iter().enumerate() {
        checks.push(Check {
            name: without_secrets(&of.uri),
            probe: http_probe(&format!("health.http[{index}]"), of)?,
            interval: of.interval.get(),
            timeout: of.timeout.get(),
            threshold: of.threshold,
        });
    }
    for of in &health.tcp {
        checks.push(Check {
            name: of.addr.clone(),
            probe: Probe::Tcp(of.addr.clone()),
            interval: of.interval.get(),
            timeout: of.timeout.get(),
            threshold: of.threshold,
        });
    }
    Ok(checks)
}

fn http_probe(key: &str, check: &HttpCheck) -> Result<Probe, Unusable> {
    let wrong = unusable(format!("{key}.headers"));
    let mut headers = HeaderMap::new();
    for (name, values) in &check.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| wrong(&error))?;
        for value in values {
            let mut value = HeaderValue::from_str(value.expose()).map_err(|error| wrong(&error))?;
            value.set_sensitive(true);
            headers.append(name.clone(), value);
        }
    }
    let status = u16::try_from(check.statuscode).unwrap_or_default();
    let status = StatusCode::from_u16(status)
        .map_err(|error| unusable(format!("{key}.statuscode"))(&error))?;
    Probe::http(&check.uri, headers, status).map_err(|error| unusable(format!("{key}.uri"))(&error))
}
