//! Other registries.

use wharfinger_client::ClientBuilder;
use wharfinger_config::Remote;
use wharfinger_remote::{Credentials, DockerConfig, Exec, Metrics, Reach, Upstream};

use super::{Unusable, unusable};

/// The registry that is reached as the keys below `key` say, under a name of its own where it is
/// given one.
pub(crate) fn upstream(
    key: &str,
    name: Option<&str>,
    remote: Remote<'_>,
    metrics: &Metrics,
) -> Result<Upstream, Unusable> {
    reached(key, remote, name, false, metrics)
}

/// The same for one that is pushed to.
pub(crate) fn upstream_to_push(
    key: &str,
    remote: Remote<'_>,
    metrics: &Metrics,
) -> Result<Upstream, Unusable> {
    reached(key, remote, None, true, metrics)
}

fn reached(
    key: &str,
    remote: Remote<'_>,
    name: Option<&str>,
    is_pushed_to: bool,
    metrics: &Metrics,
) -> Result<Upstream, Unusable> {
    let reach = Reach {
        name: name.map(str::to_owned),
        credentials: credentials(key, remote)?,
        client: client(key, remote)?,
        is_pushed_to,
    };
    Upstream::new(remote.remoteurl, reach, metrics)
        .map_err(|reason| unusable(format!("{key}.remoteurl"))(&reason))
}

fn credentials(key: &str, remote: Remote<'_>) -> Result<Credentials, Unusable> {
    if !remote.dockerconfig.is_empty() {
        let config = DockerConfig::new(remote.dockerconfig.into())
            .map_err(|reason| unusable(format!("{key}.dockerconfig"))(&reason))?;
        return Ok(Credentials::Docker(config));
    }
    Ok(match remote.exec {
        Some(exec) => {
            let lifetime = exec.lifetime.map(|lifetime| lifetime.get());
            Credentials::Exec(Exec::new(exec.command.clone(), lifetime))
        }
        None if remote.username.is_empty() => Credentials::Anonymous,
        None => Credentials::Static {
            username: remote.username.to_owned(),
            password: remote.password.expose().to_owned(),
        },
    })
}

/// Whom it trusts, and what it goes through.
fn client(key: &str, remote: Remote<'_>) -> Result<ClientBuilder, Unusable> {
    let authorities = match remote.ca {
        "" => wharfinger_client::authorities(),
        file => {
            let wrong = unusable(format!("{key}.ca"));
            let pem = std::fs::read(file).map_err(|error| wrong(&error))?;
            wharfinger_client::authorities_besides(&pem).map_err(|reason| wrong(&reason))?
        }
    };
    let client = wharfinger_client::builder(authorities);
    match remote.proxy.expose() {
        "" => Ok(client),
        "direct" => Ok(client.no_proxy()),
        proxy => wharfinger_client::through(client, proxy)
            .map_err(|reason| unusable(format!("{key}.proxy"))(&reason)),
    }
}
