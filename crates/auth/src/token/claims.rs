//! What a token claims.

use serde::{Deserialize, Deserializer};

use crate::access::{Grant, Resource};

/// How far the clocks of two machines may differ, in seconds.
const LEEWAY: f64 = 60.0;

/// The claims (RFC 7519, section 4.1) and Docker's own, `access`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Claims {
    #[serde(default)]
    iss: String,
    #[serde(default)]
    sub: String,
    #[serde(default, deserialize_with = "one_or_more")]
    aud: Vec<String>,
    /// Seconds since 1970, with a fraction or not.
    #[serde(default)]
    exp: f64,
    #[serde(default)]
    nbf: f64,
    #[serde(default, deserialize_with = "null_is_none")]
    access: Vec<Granted>,
}

#[derive(Clone, Debug, Deserialize)]
struct Granted {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    class: String,
    name: String,
    #[serde(default, deserialize_with = "null_is_none")]
    actions: Vec<String>,
}

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

/// Go writes an empty list as null.
fn null_is_none<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
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
            (resource, granted.actions.clone())
        });
        Grant {
            user: self.sub.clone(),
            resources: Some(resources.collect()),
        }
    }
}
