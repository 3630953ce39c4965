//! The cache that is shared by several registries.

use std::path::PathBuf;

use wharfinger_config::{Config, Redis};
use wharfinger_redis::{Address, Options, Servers, SharedCache, TlsError, TlsFiles, TlsPart};

use super::{Unusable, unusable};

/// The shared cache, where it is configured.
pub(crate) fn shared_cache(config: &Config) -> Result<Option<SharedCache>, Unusable> {
    if config.storage.cache.blobdescriptor != "redis" {
        return Ok(None);
    }
    let cache = SharedCache::new(options(&config.redis)).map_err(at_its_key)?;
    Ok(Some(cache))
}

fn options(redis: &Redis) -> Options {
    let addresses: Vec<Address> = redis.addrs.iter().map(|text| address(text)).collect();
    let servers = if !redis.mastername.is_empty() {
        Servers::Sentinels {
            addresses,
            master: redis.mastername.clone(),
            username: redis.sentinelusername.clone(),
            password: redis.sentinelpassword.expose().to_owned(),
        }
    } else if let [one] = addresses.as_slice() {
        Servers::One(one.clone())
    } else {
        Servers::Cluster(addresses)
    };
    let tls = &redis.tls;
    Options {
        database: redis.db,
        username: redis.username.clone(),
        password: redis.password.expose().to_owned(),
        protocol3: redis.protocol == 3,
        client_name: redis.clientname.clone(),
        anonymous: redis.disableidentity,
        identity_suffix: redis.identitysuffix.clone(),
        tls: redis.is_secure().then(|| TlsFiles {
            certificate: (!tls.certificate.is_empty())
                .then(|| (PathBuf::from(&tls.certificate), PathBuf::from(&tls.key))),
            authorities: tls.rootcas.iter().map(PathBuf::from).collect(),
        }),
        connect_timeout: redis.dialtimeout.get(),
        // An answer comes after the question was sent.
        answer_timeout: redis.writetimeout.get() + redis.readtimeout.get(),
        // Less than none is how Distribution's are switched off.
        redirections: redis.maxredirects.try_into().unwrap_or(0),
        prefix: redis.keyprefix.clone(),
        ..Options::new(servers)
    }
}

/// An address that the configuration's checks have passed.
fn address(text: &str) -> Address {
    let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.starts_with('/')) else {
        return Address::Unix(PathBuf::from(text));
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // Nothing in place of the host is this machine, as in Go.
    let host = if host.is_empty() { "localhost" } else { host };
    Address::Tcp(host.to_owned(), port.parse().unwrap_or_default())
}

fn at_its_key(error: TlsError) -> Unusable {
    let key = match error.part {
        TlsPart::Certificate => "redis.tls.certificate".into(),
        TlsPart::Key => "redis.tls.key".into(),
        TlsPart::Authorities(index) => format!("redis.tls.rootcas[{index}]"),
    };
    unusable(key)(&error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_go_reads_them() {
        for (text, read) in [
            ("10.0.0.1:6379", "10.0.0.1:6379"),
            (":6379", "localhost:6379"),
            ("[::1]:6379", "[::1]:6379"),
            ("redis.example.org:1", "redis.example.org:1"),
            ("/run/redis:a.sock", "/run/redis:a.sock"),
        ] {
            assert_eq!(address(text).to_string(), read);
        }
        assert_eq!(address("/a"), Address::Unix("/a".into()));
    }
}
