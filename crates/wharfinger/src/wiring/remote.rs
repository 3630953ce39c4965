//! Other registries.

use wharfinger_config::Remote;
use wharfinger_remote::{Credentials, Exec, Metrics, Upstream};

use super::{Unusable, unusable};

/// The registry that is reached as the keys below `key` say.
pub(crate) fn upstream(
    key: &str,
    remote: Remote<'_>,
    metrics: &Metrics,
) -> Result<Upstream, Unusable> {
    Upstream::new(remote.remoteurl, credentials(remote), metrics)
        .map_err(|reason| unusable(format!("{key}.remoteurl"))(&reason))
}

fn credentials(remote: Remote<'_>) -> Credentials {
    match remote.exec {
        Some(exec) => {
            let lifetime = exec.lifetime.map(|lifetime| lifetime.get());
            Credentials::Exec(Exec::new(exec.command.clone(), lifetime))
        }
        None if remote.username.is_empty() => Credentials::Anonymous,
        None => Credentials::Static {
            username: remote.username.to_owned(),
            password: remote.password.expose().to_owned(),
        },
    }
}
