//! Who asks: where tokens and signatures come from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs, io};

use object_store::gcp::{GoogleCloudStorageBuilder, ServiceAccountKey};
use serde::Deserialize;
use thiserror::Error;

/// A service account's key, or where tokens come from.
#[derive(Clone)]
pub enum GcsCredentials {
    /// A service account with its key.
    ServiceAccount(ServiceAccount),
    /// A user who has logged in, by the file that tells of that.
    User(PathBuf),
    /// The metadata service of the machine, the pod or the function.
    Instance,
    /// Nobody: requests are sent without a token.
    Nobody,
}

/// A service account with its key, as the file has it that Google gives.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its address.
    email: String,
    /// The key, as PEM.
    key: String,
    /// The key's name.
    key_name: String,
}

impl fmt::Debug for GcsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServiceAccount(_) => "ServiceAccount",
            Self::User(_) => "User",
            Self::Instance => "Instance",
            Self::Nobody => "Nobody",
        })
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceAccount")
    }
}

/// Why there are no credentials.
#[derive(Debug, Error)]
pub enum GcsCredentialsError {
    /// A file is wrong.
    #[error("{}: {fault}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: CredentialsFault,
    },
    /// What the configuration itself holds is wrong.
    #[error(transparent)]
    Inline(CredentialsFault),
}

/// What is wrong with credentials. None of it tells anything of what they are.
#[derive(Debug, Error)]
pub enum CredentialsFault {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// The file is no JSON.
    #[error("line {line}, column {column}: this is no JSON of credentials")]
    NoJson {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// Something that is needed is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A kind that cannot be used here.
    #[error("credentials of the type {0:?} cannot be used; those of the type service_account can")]
    Type(String),
    /// Credentials that are given by a service that is not known.
    #[error(
        "credentials of the type {0:?} cannot be used: workload identity federation and \
         impersonation are not built. Use a service account's key (service_account), a user's \
         credentials (authorized_user), or the metadata service, which needs no file"
    )]
    Federated(String),
    /// The key is none.
    #[error("private_key is not an RSA key in PEM")]
    Key,
}

/// What any file of credentials may hold, as far as it matters.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    r#type: String,
    client_email: String,
    private_key: String,
    private_key_id: String,
}

impl GcsCredentials {
    /// A service account's key in a file.
    ///
    /// # Errors
    /// When the file holds none.
    pub fn in_file(path: &Path) -> Result<Self, GcsCredentialsError> {
        let fields = Fields::read(path).map_err(in_file(path))?;
        let account = fields.service_account().map_err(in_file(path))?;
        Ok(Self::ServiceAccount(account))
    }

    /// A service account's key by what stands in its file.
    ///
    /// # Errors
    /// When something is missing or wrong.
    pub fn inline(values: &BTreeMap<&str, &str>) -> Result<Self, GcsCredentialsError> {
        let value = |name| {
            values
                .get(name)
                .map_or_else(String::new, ToString::to_string)
        };
        let fields = Fields {
            r#type: value("type"),
            client_email: value("client_email"),
            private_key: value("private_key"),
            private_key_id: value("private_key_id"),
        };
        let account = fields.service_account();
        Ok(Self::ServiceAccount(
            account.map_err(GcsCredentialsError::Inline)?,
        ))
    }

    /// Google's application default credentials: the file that `GOOGLE_APPLICATION_CREDENTIALS`
    /// names, the file that `gcloud` has made, the metadata service. An emulator gets only what
    /// was named for it: that file, or the metadata service of `GCE_METADATA_HOST`.
    ///
    /// # Errors
    /// When a file is wrong, or the one that is named not there.
    pub fn found() -> Result<Self, GcsCredentialsError> {
        Self::found_in(&|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn found_in(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, GcsCredentialsError> {
        const FILE: &str = "application_default_credentials.json";
        if let Some(path) = variable("GOOGLE_APPLICATION_CREDENTIALS") {
            return Self::of_any_type(Path::new(&path));
        }
        if variable("STORAGE_EMULATOR_HOST").is_some() {
            return Ok(match variable("GCE_METADATA_HOST") {
                Some(_) => Self::Instance,
                None => Self::Nobody,
            });
        }
        let own = variable("CLOUDSDK_CONFIG").map(PathBuf::from);
        let usual = variable("HOME").map(|home| Path::new(&home).join(".config/gcloud"));
        let files = own.into_iter().chain(usual).map(|folder| folder.join(FILE));
        match files.into_iter().find(|file| file.exists()) {
            Some(file) => Self::of_any_type(&file),
            None => Ok(Self::Instance),
        }
    }

    fn of_any_type(path: &Path) -> Result<Self, GcsCredentialsError> {
        let fields = Fields::read(path).map_err(in_file(path))?;
        match fields.r#type.as_str() {
            "authorized_user" => Ok(Self::User(path.to_owned())),
            "service_account" => {
                let account = fields.service_account().map_err(in_file(path))?;
                Ok(Self::ServiceAccount(account))
            }
            "" => Err(in_file(path)(CredentialsFault::Missing("type"))),
            other => Err(in_file(path)(CredentialsFault::Federated(other.to_owned()))),
        }
    }

    /// Whether there is somebody who can sign addresses.
    pub(super) fn can_sign(&self) -> bool {
        matches!(self, Self::ServiceAccount(_) | Self::Instance)
    }

    pub(super) fn give(&self, builder: GoogleCloudStorageBuilder) -> GoogleCloudStorageBuilder {
        match self {
            Self::ServiceAccount(account) => {
                // These alone: the library also takes words there that no file of Google's has.
                let key = serde_json::json!({
                    "client_email": account.email,
                    "private_key": account.key,
                    "private_key_id": account.key_name,
                });
                builder.with_service_account_key(key.to_string())
            }
            Self::User(path) => builder.with_application_credentials(path.to_string_lossy()),
            Self::Instance => builder,
            Self::Nobody => builder.with_bearer_token("").with_skip_signature(true),
        }
    }
}

fn in_file(path: &Path) -> impl Fn(CredentialsFault) -> GcsCredentialsError {
    move |fault| GcsCredentialsError::File {
        path: path.to_owned(),
        fault,
    }
}

impl Fields {
    fn read(path: &Path) -> Result<Self, CredentialsFault> {
        let text = fs::read(path).map_err(CredentialsFault::Unreadable)?;
        // What the library says of a mistake may quote a secret.
        serde_json::from_slice(&text).map_err(|error| CredentialsFault::NoJson {
            line: error.line(),
            column: error.column(),
        })
    }

    fn service_account(self) -> Result<ServiceAccount, CredentialsFault> {
        match self.r#type.as_str() {
            "service_account" => {}
            "" => return Err(CredentialsFault::Missing("type")),
            other => return Err(CredentialsFault::Type(other.to_owned())),
        }
        if self.client_email.is_empty() {
            return Err(CredentialsFault::Missing("client_email"));
        }
        if self.private_key.is_empty() {
            return Err(CredentialsFault::Missing("private_key"));
        }
        let key = ServiceAccountKey::from_pem(self.private_key.as_bytes());
        key.map_err(|_| CredentialsFault::Key)?;
        Ok(ServiceAccount {
            email: self.client_email,
            key: self.private_key,
            key_name: self.private_key_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Result<GcsCredentials, GcsCredentialsError> {
        GcsCredentials::found_in(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(found.1.to_owned())
        })
    }

    #[test]
    fn the_surroundings_are_looked_at_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            let user = r#"{"type": "authorized_user", "client_id": "a", "client_secret": "b"}"#;
            fs::write(&file, user).unwrap();
            file
        };
        let file = |variables: &[(&str, &str)]| match found(variables).unwrap() {
            GcsCredentials::User(file) => file,
            other => panic!("{other:?}"),
        };
        let home = ("HOME", folder.path().to_str().unwrap());
        assert!(matches!(found(&[home]), Ok(GcsCredentials::Instance)));
        assert!(matches!(found(&[]), Ok(GcsCredentials::Instance)));

        let usual = place(".config/gcloud/application_default_credentials.json");
        assert_eq!(file(&[home]), usual);
        let own = place("own/application_default_credentials.json");
        let config = ("CLOUDSDK_CONFIG", own.parent().unwrap().to_str().unwrap());
        assert_eq!(file(&[home, config]), own);
        let named = place("named.json");
        let named = ("GOOGLE_APPLICATION_CREDENTIALS", named.to_str().unwrap());
        assert_eq!(file(&[home, config, named]), Path::new(named.1));

        // An emulator is not told who the user is.
        let emulator = ("STORAGE_EMULATOR_HOST", "localhost:1");
        assert!(matches!(
            found(&[home, config, emulator]),
            Ok(GcsCredentials::Nobody)
        ));
        let metadata = ("GCE_METADATA_HOST", "localhost:1");
        assert!(matches!(
            found(&[emulator, metadata]),
            Ok(GcsCredentials::Instance)
        ));
        assert_eq!(file(&[emulator, named]), Path::new(named.1));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_and_nothing_that_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        let account = r#""type": "service_account""#;
        let cases = [
            ("no JSON\n", "line 1, column 2: this is no JSON"),
            (r#"{"private_key": 5e3}"#, "line 1, column 19: this is no"),
            ("{}", "type is missing"),
            (&format!("{{{account}}}"), "client_email is missing"),
            (
                &format!(r#"{{{account}, "client_email": "a"}}"#),
                "private_key is missing",
            ),
            (
                &format!(r#"{{{account}, "client_email": "a", "private_key": "s-e-cret"}}"#),
                "private_key is not an RSA key",
            ),
            (
                r#"{"type": "authorized_user"}"#,
                "the type \"authorized_user\" cannot",
            ),
        ];
        for (text, message) in cases {
            fs::write(&path, text).unwrap();
            let error = GcsCredentials::in_file(&path).unwrap_err().to_string();
            let told = format!("{}: ", path.display());
            assert!(
                error.starts_with(&told) && error.contains(message),
                "{error}"
            );
            assert!(!error.contains("s-e-cret"), "{error}");
        }
        fs::write(&path, r#"{"type": "external_account", "audience": "x"}"#).unwrap();
        let named = ("GOOGLE_APPLICATION_CREDENTIALS", path.to_str().unwrap());
        let error = found(&[named]).unwrap_err().to_string();
        assert!(error.contains("workload identity federation"), "{error}");
        fs::remove_file(&path).unwrap();
        let error = found(&[named]).unwrap_err().to_string();
        assert!(error.contains("it cannot be read: "), "{error}");
    }
}
