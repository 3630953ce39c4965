//! What a token claims.

use serde::{Deserialize, Deserializer};

use crate::access::{Grant, Resource};

/// How far the clocks of two machines may differ, in seconds.
const LEEWAY: f64 = 60.0;

/// The claims (RFC 7519, section 4.1) and Docker's own, `access`. As in Distribution, what is null
/// or missing is empty or nought: without an `exp` a token expired in 1970.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Claims {
    #[serde(default, deserialize_with = "null_is_empty")]
    iss: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    sub: String,
    #[serde(default, deserialize_with = "one_or_more")]
    aud: Vec<String>,
    /// Seconds since 1970, with a fraction or not.
    #[serde(default, deserialize_with = "null_is_empty")]
    exp: f64,
    #[serde(default, deserialize_with = "null_is_empty")]
    nbf: f64,
    #[serde(default, deserialize_with = "null_is_empty")]
    access: Vec<Granted>,
}

#[derive(Clone, Debug, Deserialize)]
struct Granted {
    #[serde(default, rename = "type", deserialize_with = "null_is_empty")]
    kind: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    class: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    name: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    actions: Vec<Name>,
}

/// One of several names.
#[derive(Clone, Debug, Deserialize)]
struct Name(#[serde(deserialize_with = "null_is_empty")] String);

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        More(Vec<String>),
        None(()),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(one) => vec![one],
        Audience::More(more) => more,
        Audience::None(()) => Vec::new(),
    })
}

/// Go writes an empty list as null, and reads null as the empty value of any type.
fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Claims {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(payload)
            .map_err(|error| format!("its claims cannot be read: {error}"))
    }

    /// Whether they hold at `now`, in seconds since 1970.
    pub(super) fn check(&self, issuer: &str, service: &str, now: f64) -> Result<(), String> {
        if self.iss != issuer {
            return Err(format!("it was issued by {:?}", self.iss));
        }
        if !self.aud.iter().any(|audience| audience == service) {
            return Err(format!("it is for {:?}", self.aud));
        }
        if now > self.exp + LEEWAY {
            return Err(format!("it expired {:.0} s ago", now - self.exp));
        }
        if now < self.nbf - LEEWAY {
            return Err(format!("it is good in {:.0} s only", self.nbf - now));
        }
        Ok(())
    }

    pub(super) fn grant(&self) -> Grant {
        let resources = self.access.iter().map(|granted| {
            let resource = Resource {
                kind: granted.kind.clone(),
                class: granted.class.clone(),
                name: granted.name.clone(),
            };
            let actions = granted.actions.iter().map(|Name(action)| action.clone());
            (resource, actions.collect())
        });
        Grant {
            user: self.sub.clone(),
            resources: Some(resources.collect()),
        }
    }
}
