//! By what an upstream lets the registry in.

use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use reqwest::Url;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::error;

mod docker;

pub use docker::DockerConfig;

/// What a helper calls a user whose secret is a token to be exchanged for others, as Docker's
/// clients know it.
const IDENTITY_TOKEN: &str = "<token>";

/// How long a credential helper may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// By what an upstream, and the service that gives out tokens for it, let the registry in.
#[derive(derive_more::Debug, Default)]
pub enum Credentials {
    /// Nothing.
    #[default]
    Anonymous,
    /// A user and a password.
    Static {
        /// The user.
        username: String,
        /// The user's password.
        #[debug(skip)]
        password: String,
    },
    /// A program that is asked.
    Exec(Exec),
    /// What Docker's clients show.
    Docker(DockerConfig),
}

/// A user and a password that were found.
#[derive(Clone, derive_more::Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Login {
    pub(super) username: String,
    #[debug(skip)]
    secret: String,
}

impl Login {
    /// The token that tokens are given out for (Docker's token authentication, "OAuth 2"), where
    /// there is one in place of a user and a password.
    pub(super) fn identity_token(&self) -> Option<&str> {
        (self.username == IDENTITY_TOKEN).then_some(&self.secret)
    }

    /// The value of `Authorization` (RFC 7617).
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let text = STANDARD.encode(format!("{}:{}", self.username, self.secret));
        let mut value = HeaderValue::from_str(&format!("Basic {text}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl Credentials {
    /// What is to be shown to `host`, which is `registry` or gives out tokens for it; nothing where
    /// there is nothing, or where the program that should know fails, which is told in the log.
    pub(super) async fn for_host(&self, registry: &str, host: &str) -> Option<Login> {
        match self {
            Self::Anonymous => None,
            Self::Static { username, password } => Some(Login {
                username: username.clone(),
                secret: password.clone(),
            }),
            Self::Exec(exec) => exec.ask(host).await,
            Self::Docker(config) => config.ask(registry).await,
        }
    }
}

/// A credential helper as Docker knows them: run with the argument `get`, it reads a host from its
/// standard input and writes JSON with `Username` and `Secret`.
#[derive(Debug)]
pub struct Exec {
    command: String,
    lifetime: Option<Duration>,
    known: Mutex<Option<(Login, Instant)>>,
}

impl Exec {
    /// A helper whose answer holds for `lifetime`; without one, for ever.
    pub fn new(command: String, lifetime: Option<Duration>) -> Self {
        Self {
            command,
            lifetime,
            known: Mutex::default(),
        }
    }

    async fn ask(&self, host: &str) -> Option<Login> {
        let mut known = self.known.lock().await;
        if let Some((login, since)) = &*known
            && self
                .lifetime
                .is_none_or(|lifetime| since.elapsed() < lifetime)
        {
            return Some(login.clone());
        }
        let run = timeout(PATIENCE, run(&self.command, host)).await;
        match run.unwrap_or_else(|_| Err("it does not end".to_owned())) {
            Ok(login) => {
                *known = Some((login.clone(), Instant::now()));
                Some(login)
            }
            Err(reason) => {
                error!(
                    command = self.command,
                    reason, "the credential helper fails"
                );
                None
            }
        }
    }
}

/// Asks a credential helper.
async fn run(command: &str, host: &str) -> Result<Login, String> {
    let mut child = Command::new(command)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("it cannot be run: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        // A helper that knows without reading has closed it.
        let _ = input.write_all(host.as_bytes()).await;
    }
    let output = child.wait_with_output().await;
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        return Err(match said.trim() == docker::NOT_FOUND {
            true => docker::NOT_FOUND.to_owned(),
            false => format!("it ends with {}", output.status),
        });
    }
    // What it wrote may be a secret in another form: it is not repeated.
    serde_json::from_slice(&output.stdout)
        .map_err(|_| "it does not write JSON with Username and Secret".to_owned())
}

/// Whether the service at `realm` may see what `upstream` may: whoever answers for an upstream
/// could name any. It must be on the same host or in the same domain, and not reached in the clear
/// where the upstream is not.
pub(super) fn may_know(upstream: &Url, realm: &Url) -> bool {
    if upstream.scheme() == "https" && realm.scheme() != "https" {
        return false;
    }
    let (Some(here), Some(there)) = (upstream.host_str(), realm.host_str()) else {
        return false;
    };
    here == there
        || matches!((domain(upstream), domain(realm)), (Some(here), Some(there)) if here == there)
}

/// The domain that a host's owner has, as far as can be told without a list of all that are given
/// out: two labels, or three where the second last is as short as in `co.uk`.
fn domain(url: &Url) -> Option<String> {
    let host = url.domain()?;
    let labels: Vec<&str> = host.trim_end_matches('.').split('.').collect();
    let [.., second, last] = labels[..] else {
        return None;
    };
    let length = if last.len() == 2 && second.len() <= 3 {
        3
    } else {
        2
    };
    let start = labels.len().checked_sub(length)?;
    Some(labels[start..].join("."))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_the_upstreams_own_services_may_know_its_passwords() {
        let allowed = [
            (
                "https://registry-1.example.org",
                "https://auth.example.org/token",
            ),
            (
                "https://registry.example.net",
                "https://example.net/jwt/auth",
            ),
            ("https://one.example", "https://one.example/token"),
            ("http://10.0.0.1:5000", "http://10.0.0.1:5001/auth"),
            ("http://10.0.0.1:5000", "https://10.0.0.1/auth"),
            ("https://r.example.co.uk", "https://auth.example.co.uk/"),
        ];
        let refused = [
            ("https://one.example", "http://one.example/token"),
            (
                "https://registry-1.example.org",
                "https://example.org.example.com/",
            ),
            ("https://r.example.co.uk", "https://auth.other.co.uk/"),
            ("http://10.0.0.1", "http://10.0.0.2/"),
            ("http://10.0.0.1", "http://1.0.0.1/"),
            ("http://localhost", "http://127.0.0.1/"),
            ("https://one.io", "https://two.io/"),
        ];
        let url = |text: &str| text.parse::<Url>().unwrap();
        for (upstream, realm) in allowed {
            assert!(may_know(&url(upstream), &url(realm)), "{upstream} {realm}");
        }
        for (upstream, realm) in refused {
            assert!(!may_know(&url(upstream), &url(realm)), "{upstream} {realm}");
        }
    }

    /// A helper that appends to a file what it is told, and then does as `script` says.
    fn helper(folder: &std::path::Path, script: &str) -> String {
        let path = folder.join("helper");
        let asked = folder.join("asked");
        let text = format!(
            "#!/bin/sh\necho \"$1 $(cat)\" >> {}\n{script}\n",
            asked.display()
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path.display().to_string()
    }

    const ANSWER: &str = r#"echo '{"ServerURL":"x","Username":"u","Secret":"p"}'"#;

    #[tokio::test]
    async fn a_helper_is_asked_once_or_as_often_as_its_answers_hold() {
        for (lifetime, times) in [
            (None, 1),
            (Some(Duration::from_secs(60)), 1),
            (Some(Duration::ZERO), 3),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let exec = Exec::new(helper(folder.path(), ANSWER), lifetime);
            let credentials = Credentials::Exec(exec);
            for _ in 0..3 {
                let login = credentials
                    .for_host("r.example", "r.example:5000")
                    .await
                    .unwrap();
                assert_eq!(login.basic().unwrap(), "Basic dTpw");
                assert!(!format!("{login:?} {credentials:?}").contains("\"p\""));
            }
            let asked = fs::read_to_string(folder.path().join("asked")).unwrap();
            assert_eq!(asked, "get r.example:5000\n".repeat(times));
        }
    }

    #[tokio::test]
    async fn a_helper_that_fails_is_none() {
        for script in ["exit 1", "echo nothing", "echo '{\"Username\":\"u\"}'"] {
            let folder = tempfile::tempdir().unwrap();
            let exec = Exec::new(helper(folder.path(), script), None);
            assert!(exec.ask("h").await.is_none(), "{script}");
        }
        assert!(Exec::new("/nowhere".into(), None).ask("h").await.is_none());
    }
}
