//! What Docker's clients show to registries: their `config.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::sync::Mutex;
use tracing::error;

use super::{IDENTITY_TOKEN, Login, PATIENCE, run};

/// How long an answer holds: tools of clouds put a new password there every few hours.
const LIFE: Duration = Duration::from_secs(60);

/// Under what Docker's clients keep what they show to Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The hosts of Docker Hub.
const DOCKER_HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// What a helper says that knows nobody for a registry, and is not at fault.
pub(super) const NOT_FOUND: &str = "credentials not found in native keychain";

/// A file of Docker's clients, with passwords and the names of programs that know some. It is read
/// again when what it said is a minute old.
#[derive(Debug)]
pub struct DockerConfig {
    path: PathBuf,
    known: Mutex<Option<(Option<Login>, Instant)>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

impl DockerConfig {
    /// The file at `path`.
    ///
    /// # Errors
    /// What is wrong with it, without repeating what it says.
    pub fn new(path: PathBuf) -> Result<Self, String> {
        read(&path)?;
        Ok(Self {
            path,
            known: Mutex::default(),
        })
    }

    /// What is shown to a registry, and to the service that gives out its tokens.
    pub(super) async fn ask(&self, registry: &str) -> Option<Login> {
        let mut known = self.known.lock().await;
        if let Some((login, since)) = &*known
            && since.elapsed() < LIFE
        {
            return login.clone();
        }
        let login = match self.find(registry).await {
            Ok(login) => login,
            Err(reason) => {
                let path = self.path.display();
                error!(%path, registry, reason, "nobody is known for a registry");
                return None;
            }
        };
        *known = Some((login.clone(), Instant::now()));
        login
    }

    async fn find(&self, registry: &str) -> Result<Option<Login>, String> {
        let path = self.path.clone();
        let file = tokio::task::spawn_blocking(move || read(&path)).await;
        let file = file.map_err(|error| error.to_string())??;
        let names = names(registry);
        let helper = names.iter().find_map(|name| file.cred_helpers.get(name));
        let helper = helper.unwrap_or(&file.creds_store);
        if helper.is_empty() {
            return file.login(&names);
        }
        if helper.contains('/') {
            return Err("the name of a helper is no path".to_owned());
        }
        let command = format!("docker-credential-{helper}");
        let name = names.first().map_or(registry, String::as_str);
        let asked = tokio::time::timeout(PATIENCE, run(&command, name)).await;
        match asked.unwrap_or_else(|_| Err("it does not end".to_owned())) {
            Err(reason) if reason == NOT_FOUND => Ok(None),
            Err(reason) => Err(format!("{command}: {reason}")),
            Ok(login) => Ok(Some(login)),
        }
    }
}

impl File {
    fn login(&self, names: &[String]) -> Result<Option<Login>, String> {
        let exact = names.iter().find_map(|name| self.auths.get(name));
        let entry = exact.or_else(|| {
            let mut entries = self.auths.iter();
            let found = entries.find(|(key, _)| names.iter().any(|name| name == host(key)));
            found.map(|(_, entry)| entry)
        });
        entry.map_or(Ok(None), Entry::login)
    }
}

impl Entry {
    fn login(&self) -> Result<Option<Login>, String> {
        let (username, secret) = if !self.identitytoken.is_empty() {
            (IDENTITY_TOKEN.to_owned(), self.identitytoken.clone())
        } else if !self.auth.is_empty() {
            let wrong = || "an auth in it is not user:password in base64".to_owned();
            let bytes = STANDARD.decode(self.auth.trim()).map_err(|_| wrong())?;
            let text = String::from_utf8(bytes).map_err(|_| wrong())?;
            let (username, password) = text.split_once(':').ok_or_else(wrong)?;
            (username.to_owned(), password.trim_matches('\0').to_owned())
        } else if !self.username.is_empty() {
            (self.username.clone(), self.password.clone())
        } else {
            // A helper has it, or nobody.
            return Ok(None);
        };
        Ok(Some(Login { username, secret }))
    }
}

fn read(path: &Path) -> Result<File, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("it cannot be read: {error}"))?;
    // What it says may be a secret: only where it is wrong is told.
    serde_json::from_slice(&bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("it is no config.json of Docker's: see line {line}, column {column}")
    })
}

/// Under what a registry may stand in the file.
fn names(registry: &str) -> Vec<String> {
    match DOCKER_HUB_HOSTS.contains(&registry) {
        true => {
            let hosts = DOCKER_HUB_HOSTS.into_iter();
            std::iter::once(DOCKER_HUB)
                .chain(hosts)
                .map(str::to_owned)
                .collect()
        }
        false => vec![registry.to_owned()],
    }
}

/// The host of an address, with its port.
fn host(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn found(file: &str, registry: &str) -> Option<(String, String)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, file).unwrap();
        let config = DockerConfig::new(path).unwrap();
        let login = config.ask(registry).await?;
        Some((login.username, login.secret))
    }

    #[tokio::test]
    async fn a_registry_is_found_under_whatever_it_stands_in_the_file() {
        let who = Some(("u".to_owned(), "p:q".to_owned()));
        for (key, registry, is_found) in [
            ("r.example", "r.example", true),
            ("r.example:5000", "r.example:5000", true),
            ("r.example:5000", "r.example", false),
            ("https://r.example/v2/", "r.example", true),
            ("http://r.example", "r.example", true),
            ("other.example", "r.example", false),
            ("https://index.docker.io/v1/", "registry-1.docker.io", true),
            ("docker.io", "registry-1.docker.io", true),
        ] {
            // `u:p:q`
            let file = format!(r#"{{"auths":{{"{key}":{{"auth":"dTpwOnE="}}}},"other":1}}"#);
            let expected = who.clone().filter(|_| is_found);
            assert_eq!(found(&file, registry).await, expected, "{key} {registry}");
        }
        let token = r#"{"auths":{"r":{"auth":"dTpw","identitytoken":"t"}}}"#;
        let token = found(token, "r").await.unwrap();
        assert_eq!(token, (IDENTITY_TOKEN.to_owned(), "t".to_owned()));
    }

    #[tokio::test]
    async fn what_is_wrong_is_said_and_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        assert!(DockerConfig::new(path.clone()).is_err());
        for wrong in ["s-e-cret", r#"{"auths":{"r":{"auth":["s-e-cret"]}}}"#] {
            std::fs::write(&path, wrong).unwrap();
            let told = DockerConfig::new(path.clone()).unwrap_err();
            assert!(
                told.contains("line 1") && !told.contains("s-e-cret"),
                "{told}"
            );
        }
        for (file, said) in [
            (r#"{"auths":{"r":{"auth":"s-e-cret"}}}"#, "in base64"),
            (r#"{"credsStore":"../x"}"#, "no path"),
            (r#"{"credHelpers":{"r":"there-is-none"}}"#, "there-is-none"),
        ] {
            std::fs::write(&path, file).unwrap();
            let config = DockerConfig::new(path.clone()).unwrap();
            let told = config.find("r").await.unwrap_err();
            assert!(told.contains(said) && !told.contains("s-e-cret"), "{told}");
        }
    }
}
