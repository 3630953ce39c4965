//! Who asks: where the keys come from.

use std::path::{Path, PathBuf};
use std::{env, fmt, fs, io};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use thiserror::Error;

/// Keys, or where to get them.
#[derive(Clone)]
pub enum S3Credentials {
    /// Keys that are known.
    Keys {
        /// The name of the key.
        access_key: String,
        /// The key.
        secret_key: String,
        /// What goes with keys that end.
        session_token: Option<String>,
    },
    /// A token in a file, for which the token service gives keys that end: as Kubernetes gives
    /// one to a service account.
    WebIdentity {
        /// The file.
        token_file: String,
        /// The role to take.
        role: String,
        /// What the session is called.
        session: Option<String>,
        /// The token service, where it is not the region's.
        endpoint: Option<String>,
    },
    /// The container's own service of keys, by its path.
    Container(String),
    /// The container's own service of keys, by its address, and the file with the token for it.
    ContainerWithToken(String, String),
    /// The instance's own service of keys, where it is not at the usual address.
    Instance(Option<String>),
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys { .. } => "Keys",
            Self::WebIdentity { .. } => "WebIdentity",
            Self::Container(_) | Self::ContainerWithToken(..) => "Container",
            Self::Instance(_) => "Instance",
        })
    }
}

/// Why there are no credentials.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// One of the two keys is there.
    #[error("{0} is set and {1} is not; there must be both, or neither")]
    Half(&'static str, &'static str),
    /// The file cannot be read for the profile that `AWS_PROFILE` names.
    #[error("{}: it cannot be read for the profile {profile:?}: {source}", .path.display())]
    Unreadable {
        /// The profile.
        profile: String,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file has no such profile with keys.
    #[error("{}: there is no profile {profile:?} with aws_access_key_id and aws_secret_access_key", .path.display())]
    NoProfile {
        /// The profile.
        profile: String,
        /// The file.
        path: PathBuf,
    },
}

impl S3Credentials {
    /// The credentials that the process's surroundings give, looked for in this order: keys in the
    /// environment, the profile that the environment names, a web identity, the profile `default`,
    /// the container's service, the instance's service.
    ///
    /// # Errors
    /// When half of a pair of keys is there, or a profile that is named is not.
    pub fn found() -> Result<Self, CredentialsError> {
        Self::found_in(&|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn found_in(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, CredentialsError> {
        const KEY: &str = "AWS_ACCESS_KEY_ID";
        const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
        match (variable(KEY), variable(SECRET)) {
            (Some(access_key), Some(secret_key)) => {
                return Ok(Self::Keys {
                    access_key,
                    secret_key,
                    session_token: variable("AWS_SESSION_TOKEN"),
                });
            }
            (Some(_), None) => return Err(CredentialsError::Half(KEY, SECRET)),
            (None, Some(_)) => return Err(CredentialsError::Half(SECRET, KEY)),
            (None, None) => {}
        }
        let file = variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
        let file = file.or_else(|| Some(Path::new(&variable("HOME")?).join(".aws/credentials")));
        let file = file.unwrap_or_else(|| PathBuf::from("/.aws/credentials"));
        if let Some(profile) = variable("AWS_PROFILE") {
            let text = fs::read_to_string(&file);
            let text = text.map_err(|source| CredentialsError::Unreadable {
                profile: profile.clone(),
                path: file.clone(),
                source,
            })?;
            return in_profile(&text, &profile).ok_or(CredentialsError::NoProfile {
                profile,
                path: file,
            });
        }
        if let (Some(token_file), Some(role)) = (
            variable("AWS_WEB_IDENTITY_TOKEN_FILE"),
            variable("AWS_ROLE_ARN"),
        ) {
            return Ok(Self::WebIdentity {
                token_file,
                role,
                session: variable("AWS_ROLE_SESSION_NAME"),
                endpoint: variable("AWS_ENDPOINT_URL_STS"),
            });
        }
        let default = fs::read_to_string(&file).ok();
        if let Some(keys) = default.and_then(|text| in_profile(&text, "default")) {
            return Ok(keys);
        }
        if let Some(path) = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            return Ok(Self::Container(path));
        }
        if let (Some(address), Some(token_file)) = (
            variable("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
            variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        ) {
            return Ok(Self::ContainerWithToken(address, token_file));
        }
        let endpoint = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        Ok(Self::Instance(endpoint))
    }

    pub(super) fn give(&self, builder: AmazonS3Builder) -> AmazonS3Builder {
        use AmazonS3ConfigKey as Key;
        let set = |builder: AmazonS3Builder, key, value: &Option<String>| match value {
            Some(value) => builder.with_config(key, value),
            None => builder,
        };
        match self {
            Self::Keys {
                access_key,
                secret_key,
                session_token,
            } => {
                let builder = builder
                    .with_access_key_id(access_key)
                    .with_secret_access_key(secret_key);
                set(builder, Key::Token, session_token)
            }
            Self::WebIdentity {
                token_file,
                role,
                session,
                endpoint,
            } => {
                let builder = builder
                    .with_config(Key::WebIdentityTokenFile, token_file)
                    .with_config(Key::RoleArn, role);
                let builder = set(builder, Key::RoleSessionName, session);
                set(builder, Key::StsEndpoint, endpoint)
            }
            Self::Container(path) => {
                builder.with_config(Key::ContainerCredentialsRelativeUri, path)
            }
            Self::ContainerWithToken(address, token_file) => builder
                .with_config(Key::ContainerCredentialsFullUri, address)
                .with_config(Key::ContainerAuthorizationTokenFile, token_file),
            Self::Instance(endpoint) => set(builder, Key::MetadataEndpoint, endpoint),
        }
    }
}

/// The keys of a profile in a file of the form that Amazon's tools share: sections in brackets,
/// `name = value` on a line each, comments behind `#` or `;` at a line's beginning.
fn in_profile(text: &str, profile: &str) -> Option<S3Credentials> {
    let mut within = false;
    let (mut access_key, mut secret_key, mut session_token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(section) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            within = section.trim() == profile;
        } else if within
            && !line.starts_with(['#', ';'])
            && let Some((name, value)) = line.split_once('=')
        {
            let value = Some(value.trim().to_owned());
            match name.trim() {
                "aws_access_key_id" => access_key = value,
                "aws_secret_access_key" => secret_key = value,
                "aws_session_token" => session_token = value,
                _ => {}
            }
        }
    }
    Some(S3Credentials::Keys {
        access_key: access_key?,
        secret_key: secret_key?,
        session_token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Result<S3Credentials, CredentialsError> {
        S3Credentials::found_in(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(found.1.to_owned())
        })
    }

    #[test]
    fn the_environment_comes_first_and_must_be_whole() {
        let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
        let all = [&keys[..], &[("AWS_PROFILE", "none")]].concat();
        assert!(
            matches!(found(&all), Ok(S3Credentials::Keys { access_key, .. }) if access_key == "a")
        );
        let error = found(&keys[..1]).unwrap_err().to_string();
        assert!(error.contains("AWS_SECRET_ACCESS_KEY is not"), "{error}");
        let error = found(&keys[1..]).unwrap_err().to_string();
        assert!(error.contains("AWS_ACCESS_KEY_ID is not"), "{error}");
    }

    #[test]
    fn profiles_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        let text = "# [build]\n[default]\naws_access_key_id=d\naws_secret_access_key = e\n\
                    \n[ build ]\n; aws_access_key_id = x\naws_access_key_id = f\n\
                    aws_secret_access_key=g=h\naws_session_token = i\n[half]\naws_access_key_id=j\n";
        fs::write(&path, text).unwrap();
        let file = ("AWS_SHARED_CREDENTIALS_FILE", path.to_str().unwrap());
        let keys = |profile: Option<&str>| {
            let named = profile.map(|name| ("AWS_PROFILE", name));
            let variables: Vec<_> = [Some(file), named].into_iter().flatten().collect();
            match found(&variables)? {
                S3Credentials::Keys {
                    access_key,
                    secret_key,
                    session_token,
                } => Ok((access_key, secret_key, session_token)),
                other => panic!("{other:?}"),
            }
        };
        let owned = |text: &str| text.to_owned();
        assert_eq!(keys(None).unwrap(), (owned("d"), owned("e"), None));
        assert_eq!(
            keys(Some("build")).unwrap(),
            (owned("f"), owned("g=h"), Some(owned("i")))
        );
        for profile in ["half", "none"] {
            let error = keys(Some(profile)).unwrap_err();
            assert!(matches!(error, CredentialsError::NoProfile { .. }));
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(
            keys(Some("build")),
            Err(CredentialsError::Unreadable { .. })
        ));
        assert!(matches!(found(&[file]), Ok(S3Credentials::Instance(None))));
    }

    #[test]
    fn services_of_keys_are_found() {
        let web = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "r")];
        assert!(matches!(
            found(&web),
            Ok(S3Credentials::WebIdentity { session: None, .. })
        ));
        let container = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/c")];
        assert!(matches!(found(&container), Ok(S3Credentials::Container(_))));
    }

    #[test]
    fn keys_are_not_told() {
        let keys = found(&[("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")]);
        assert_eq!(format!("{:?}", keys.unwrap()), "Keys");
    }
}
