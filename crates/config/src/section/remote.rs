//! How another registry is reached. Sections that name one have these keys among their own, as
//! Distribution's `proxy` does.

use serde::{Deserialize, Serialize};

use super::proxy::{Proxy, Upstream};
use super::sync::SyncRegistry;
use crate::duration::GoDuration;
use crate::secret::{Secret, SecretUrl};

/// What a section says of how another registry is reached.
#[derive(Clone, Copy, Debug)]
pub struct Remote<'a> {
    /// Its address.
    pub remoteurl: &'a str,
    /// The user there.
    pub username: &'a str,
    /// The user's password.
    pub password: &'a Secret,
    /// A program that knows user and password.
    pub exec: Option<&'a Exec>,
    /// A file of Docker's clients with what they show to registries.
    pub dockerconfig: &'a str,
    /// A PEM file with certificate authorities that are trusted besides.
    pub ca: &'a str,
    /// The proxy through which it is asked, or `direct`; without one, what the environment says.
    pub proxy: &'a SecretUrl,
}

/// `exec`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Exec {
    /// The program.
    pub command: String,
    /// How long its answer holds.
    pub lifetime: Option<GoDuration>,
}

/// Gives a section that has these keys among its own the view of them.
macro_rules! has_remote {
    ($($section:ty),+) => {$(
        impl $section {
            /// How the registry is reached.
            pub fn remote(&self) -> Remote<'_> {
                Remote {
                    remoteurl: &self.remoteurl,
                    username: &self.username,
                    password: &self.password,
                    exec: self.exec.as_ref(),
                    dockerconfig: &self.dockerconfig,
                    ca: &self.ca,
                    proxy: &self.proxy,
                }
            }
        }
    )+};
}

has_remote!(Proxy, Upstream, SyncRegistry);
