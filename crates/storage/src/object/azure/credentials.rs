//! Who asks: where the keys come from.

use std::{env, fmt};

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use thiserror::Error;

/// Keys, or where to get them.
#[derive(Clone, PartialEq, Eq)]
pub enum AzureCredentials {
    /// One of the account's two keys.
    SharedKey(String),
    /// A shared access signature: a token that stands in addresses.
    Sas(String),
    /// An application with a secret of its own.
    ClientSecret {
        /// The directory that knows the application.
        tenant: String,
        /// The application.
        client: String,
        /// Its secret.
        secret: String,
        /// The server that gives tokens, where it is not that of the public cloud.
        authority: Option<String>,
    },
    /// A token in a file, for which the directory gives tokens: as Kubernetes gives one to a
    /// service account.
    WorkloadIdentity {
        /// The directory that knows the application.
        tenant: String,
        /// The application.
        client: String,
        /// The file.
        token_file: String,
        /// The server that gives tokens, where it is not that of the public cloud.
        authority: Option<String>,
    },
    /// The machine's own service of tokens.
    ManagedIdentity {
        /// Which of the machine's identities is meant, where it is not its own.
        client: Option<String>,
    },
}

impl fmt::Debug for AzureCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SharedKey(_) => "SharedKey",
            Self::Sas(_) => "Sas",
            Self::ClientSecret { .. } => "ClientSecret",
            Self::WorkloadIdentity { .. } => "WorkloadIdentity",
            Self::ManagedIdentity { .. } => "ManagedIdentity",
        })
    }
}

/// Why there are no credentials.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AzureCredentialsError {
    /// A variable of the environment is there without another that goes with it.
    #[error("{0} is set and {1} is not, which goes with it")]
    Half(&'static str, &'static str),
    /// The environment names a form that is not built.
    #[error("{0} is set, and applications are known by a secret or a token here, not by {1}")]
    Other(&'static str, &'static str),
}

impl AzureCredentials {
    /// The credentials that the process's surroundings give, looked for in this order: an
    /// application's secret in the environment, a workload's identity, the machine's.
    ///
    /// `authority` is the server that gives tokens, unless the environment names one.
    ///
    /// # Errors
    /// When the environment has half of what is needed, or a form that is not built.
    pub fn found(authority: Option<&str>) -> Result<Self, AzureCredentialsError> {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        Self::found_in(&variable, authority)
    }

    fn found_in(
        variable: &dyn Fn(&str) -> Option<String>,
        authority: Option<&str>,
    ) -> Result<Self, AzureCredentialsError> {
        const TENANT: &str = "AZURE_TENANT_ID";
        const CLIENT: &str = "AZURE_CLIENT_ID";
        const SECRET: &str = "AZURE_CLIENT_SECRET";
        const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
        let authority = variable("AZURE_AUTHORITY_HOST").or(authority.map(str::to_owned));
        let needed = |name: &'static str, by: &'static str| {
            variable(name).ok_or(AzureCredentialsError::Half(by, name))
        };
        if let Some(secret) = variable(SECRET) {
            return Ok(Self::ClientSecret {
                tenant: needed(TENANT, SECRET)?,
                client: needed(CLIENT, SECRET)?,
                secret,
                authority,
            });
        }
        for (name, form) in [
            ("AZURE_CLIENT_CERTIFICATE_PATH", "a certificate"),
            ("AZURE_USERNAME", "a user's password"),
        ] {
            if variable(name).is_some() {
                return Err(AzureCredentialsError::Other(name, form));
            }
        }
        if let Some(token_file) = variable(TOKEN_FILE) {
            return Ok(Self::WorkloadIdentity {
                tenant: needed(TENANT, TOKEN_FILE)?,
                client: needed(CLIENT, TOKEN_FILE)?,
                token_file,
                authority,
            });
        }
        Ok(Self::ManagedIdentity {
            client: variable(CLIENT),
        })
    }

    /// Whether they are a token that stands in addresses. With one, no address can be signed for
    /// others to use: the token would have to be given away.
    pub(super) fn are_a_token_in_addresses(&self) -> bool {
        matches!(self, Self::Sas(_))
    }

    pub(super) fn give(&self, builder: MicrosoftAzureBuilder) -> MicrosoftAzureBuilder {
        let of = |builder: MicrosoftAzureBuilder, authority: &Option<String>| match authority {
            Some(authority) => builder.with_authority_host(authority.trim_end_matches('/')),
            None => builder,
        };
        match self {
            Self::SharedKey(key) => builder
                .with_credential_type("access_key")
                .with_access_key(key),
            Self::Sas(token) => builder
                .with_credential_type("sas_token")
                .with_config(AzureConfigKey::SasKey, token),
            Self::ClientSecret {
                tenant,
                client,
                secret,
                authority,
            } => of(builder, authority)
                .with_credential_type("client_secret")
                .with_tenant_id(tenant)
                .with_client_id(client)
                .with_client_secret(secret),
            Self::WorkloadIdentity {
                tenant,
                client,
                token_file,
                authority,
            } => of(builder, authority)
                .with_credential_type("workload_identity")
                .with_tenant_id(tenant)
                .with_client_id(client)
                .with_federated_token_file(token_file),
            Self::ManagedIdentity { client } => {
                let builder = builder.with_credential_type("managed_identity");
                match client {
                    Some(client) => builder.with_client_id(client),
                    None => builder,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Result<AzureCredentials, AzureCredentialsError> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(found.1.to_owned())
        };
        AzureCredentials::found_in(&variable, Some("https://login.example"))
    }

    const APPLICATION: [(&str, &str); 2] = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c")];

    #[test]
    fn the_surroundings_are_looked_at_in_order() {
        let (tenant, client) = ("t".to_owned(), "c".to_owned());
        let authority = Some("https://login.example".to_owned());
        let token = ("AZURE_FEDERATED_TOKEN_FILE", "/token");
        let both = [("AZURE_CLIENT_SECRET", "s"), token];
        let all = [&APPLICATION[..], &both].concat();
        let secret = AzureCredentials::ClientSecret {
            tenant: tenant.clone(),
            client: client.clone(),
            secret: "s".to_owned(),
            authority,
        };
        assert_eq!(found(&all), Ok(secret));
        let elsewhere = ("AZURE_AUTHORITY_HOST", "https://other.example/");
        let workload = AzureCredentials::WorkloadIdentity {
            tenant,
            client: client.clone(),
            token_file: "/token".to_owned(),
            authority: Some("https://other.example/".to_owned()),
        };
        let variables = [&APPLICATION[..], &[token, elsewhere]].concat();
        assert_eq!(found(&variables), Ok(workload));
        let machine = |client| Ok(AzureCredentials::ManagedIdentity { client });
        assert_eq!(found(&[]), machine(None));
        assert_eq!(found(&APPLICATION[1..]), machine(Some(client)));
    }

    #[test]
    fn what_is_half_there_or_not_built_is_told() {
        let error = found(&[("AZURE_CLIENT_SECRET", "s"), APPLICATION[0]]).unwrap_err();
        let told = "AZURE_CLIENT_SECRET is set and AZURE_CLIENT_ID is not, which goes with it";
        assert_eq!(error.to_string(), told);
        let certificate = [&APPLICATION[..], &[("AZURE_CLIENT_CERTIFICATE_PATH", "p")]].concat();
        let error = found(&certificate).unwrap_err().to_string();
        assert!(error.contains("not by a certificate"), "{error}");
    }

    #[test]
    fn keys_are_not_told() {
        let sas = AzureCredentials::Sas("sig=secret".to_owned());
        assert_eq!(format!("{sas:?}"), "Sas");
    }
}
