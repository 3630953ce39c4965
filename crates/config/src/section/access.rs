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
    pub silly: Option<Parameters>,
    /// Users and passwords from a file.
    pub htpasswd: Option<Parameters>,
    /// Bearer tokens that another service gives out.
    pub token: Option<Parameters>,
}
