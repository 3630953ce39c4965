//! What is asked for, and what is granted.

use std::fmt;
use std::net::IpAddr;

use async_trait::async_trait;
use serde::{Serialize, Serializer};
use thiserror::Error;

/// What is done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Reading.
    Pull,
    /// Writing.
    Push,
    /// Deleting.
    Delete,
    /// Everything there is: reading the catalog.
    All,
}

impl Action {
    /// The action as it stands in scopes and tokens.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::All => "*",
        }
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One thing that a request needs to be allowed. It serializes as Distribution tells it in the
/// detail of an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Access {
    /// `repository` or `registry`.
    #[serde(rename = "Type")]
    pub kind: &'static str,
    /// Always empty: the class is what tokens may tell, not what requests ask for.
    class: &'static str,
    /// The repository's name, or `catalog`.
    pub name: String,
    /// What is to be done.
    pub action: Action,
}

impl Access {
    /// Doing something to a repository.
    pub fn repository(name: impl Into<String>, action: Action) -> Self {
        Self {
            kind: "repository",
            class: "",
            name: name.into(),
            action,
        }
    }

    /// Reading the catalog.
    pub fn catalog() -> Self {
        Self {
            kind: "registry",
            class: "",
            name: "catalog".to_owned(),
            action: Action::All,
        }
    }
}

/// What a request shows of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The host that the client sees, with its port.
    pub host: Option<&'a str>,
    /// The scheme that the client sees, where a proxy told it.
    pub forwarded_scheme: Option<&'a str>,
    /// Where the request comes from: the same for all addresses that are likely one client's.
    pub client: Option<IpAddr>,
}

/// A resource that a grant tells of, whatever may be done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `repository` or `registry`.
    pub kind: String,
    /// What the repository may hold, such as `plugin`; often empty, which is `image`.
    pub class: String,
    /// Its name.
    pub name: String,
}

/// What a client may do, and who it is. By default that is nothing, and nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The user's name; empty when it is not known.
    pub user: String,
    /// Each resource with the actions on it; `None` is all there are.
    pub(crate) resources: Option<Vec<(Resource, Vec<String>)>>,
}

impl Default for Grant {
    fn default() -> Self {
        Self {
            user: String::new(),
            resources: Some(Vec::new()),
        }
    }
}

impl Grant {
    /// Everything, for a user.
    pub fn everything(user: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            resources: None,
        }
    }

    /// Whether something is allowed.
    pub fn allows(&self, access: &Access) -> bool {
        let Some(resources) = &self.resources else {
            return true;
        };
        let action = access.action.as_str();
        resources
            .iter()
            .filter(|(resource, _)| resource.kind == access.kind && resource.name == access.name)
            .any(|(_, actions)| actions.iter().any(|granted| granted == action))
    }

    /// The classes that are told for a repository; `None` when the grant does not tell resources.
    pub fn classes(&self, repository: &str) -> Option<Vec<&str>> {
        let resources = self.resources.as_ref()?.iter();
        let told = resources.filter(|(resource, _)| resource.name == repository);
        Some(told.map(|(resource, _)| &*resource.class).collect())
    }
}

/// What a request that is refused showed of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Nothing.
    Nothing,
    /// What lets nobody in here, and does not try to: credentials of another kind, of another
    /// service, or out of date.
    Unfit,
    /// A wrong password, or a token that nobody trusted has made: it may be a guess.
    Guess,
    /// The credentials of this user, who may not do this. The name is empty when it is not known.
    User(String),
}

/// Why a request is refused.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The client must show something else.
    #[error("{reason}")]
    Challenge {
        /// The value of `WWW-Authenticate` (RFC 9110, section 11.6.1).
        challenge: String,
        /// Why, for the log: it tells nothing secret.
        reason: String,
        /// What the client showed.
        shown: Shown,
    },
    /// So many others are to be let in that this one was not looked at: it may come again soon.
    #[error("too many passwords wait to be compared")]
    Busy,
    /// Nobody can be let in now, for a reason of the registry's own.
    #[error("{0}")]
    Unavailable(String),
}

/// Decides who may do what.
#[async_trait]
pub trait AccessController: fmt::Debug + Send + Sync + 'static {
    /// Allows all of `access` or nothing.
    ///
    /// # Errors
    /// The refusal.
    async fn authorize(&self, asked: Asked<'_>, access: &[Access]) -> Result<Grant, Refusal>;
}

/// A quoted string (RFC 9110, section 5.6.4) of what an operator or a client wrote. What no header
/// can hold is left out.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// The accesses as a scope: each resource once, with its actions, in the order asked for.
pub(crate) fn scope(access: &[Access]) -> String {
    let mut scopes: Vec<(&Access, Vec<&str>)> = Vec::new();
    for one in access {
        let known = scopes
            .iter_mut()
            .find(|(first, _)| first.kind == one.kind && first.name == one.name);
        let action = one.action.as_str();
        match known {
            Some((_, actions)) if actions.contains(&action) => {}
            Some((_, actions)) => actions.push(action),
            None => scopes.push((one, vec![action])),
        }
    }
    let scopes = scopes
        .iter()
        .map(|(first, actions)| format!("{}:{}:{}", first.kind, first.name, actions.join(",")));
    scopes.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_granted_unless_it_is_said() {
        for access in [Access::repository("a", Action::Pull), Access::catalog()] {
            assert!(!Grant::default().allows(&access), "{access:?}");
            assert!(Grant::everything("ada").allows(&access), "{access:?}");
        }
        assert_eq!(Grant::default().classes("a"), Some(Vec::new()));
    }

    #[test]
    fn a_scope_has_each_resource_once() {
        let a = |action| Access::repository("a/b", action);
        let all = [
            a(Action::Pull),
            a(Action::Push),
            Access::repository("c", Action::Pull),
            a(Action::Pull),
        ];
        assert_eq!(scope(&all), "repository:a/b:pull,push repository:c:pull");
        assert_eq!(scope(&[Access::catalog()]), "registry:catalog:*");
        assert_eq!(scope(&[]), "");
    }

    #[test]
    fn a_quoted_string_stays_one() {
        assert_eq!(quoted(r#"a "b" \c"#), r#""a \"b\" \\c""#);
        assert_eq!(quoted("a\r\nb"), r#""ab""#);
    }
}
