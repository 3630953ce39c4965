//! `auth`.

use serde::{Deserialize, Serialize};

use super::Parameters;

/// Who may do what. At most one of these.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Auth {
    /// Anyone may do anything.
    pub none: Option<Parameters>,
    /// Anyone who sends an `Authorization` header may do anything.
    pub silly: Option<SillyAuth>,
    /// Users and passwords from a file.
    pub htpasswd: Option<HtpasswdAuth>,
    /// Bearer tokens that another service gives out.
    pub token: Option<TokenAuth>,
}

/// `auth.silly`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SillyAuth {
    /// Where clients are told to get a token.
    pub realm: String,
    /// For which service.
    pub service: String,
}

/// `auth.htpasswd`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HtpasswdAuth {
    /// What clients show to people who are asked for a password.
    pub realm: String,
    /// The file.
    pub path: String,
}

/// `auth.token`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenAuth {
    /// The URL where clients get tokens.
    pub realm: String,
    /// The audience that tokens must have.
    pub service: String,
    /// The issuer that tokens must have.
    pub issuer: String,
    /// The PEM file of the certificates that are trusted.
    pub rootcertbundle: String,
    /// The file of a JSON Web Key Set.
    pub jwks: String,
    /// The algorithms that tokens may be signed by; none is all.
    pub signingalgorithms: Vec<String>,
    /// Whether clients get tokens below the registry's own address, in place of `realm`.
    pub autoredirect: bool,
    /// The path there; nothing is `/auth/token`.
    pub autoredirectpath: String,
}
