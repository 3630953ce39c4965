//! Tokens that another service gives out (Docker's token authentication): JSON Web Tokens
//! (RFC 7519) that name what their bearer may do.

mod claims;
mod jws;
mod keys;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::access::{Access, AccessController, Asked, Grant, Refusal, Shown, quoted, scope};
use claims::Claims;
use jws::Parsed;
use keys::{Found, TrustedKeys};

/// The algorithms that tokens may be signed by (RFC 7518, section 3.1; RFC 8037, section 3.1).
pub const ALGORITHMS: [&str; 13] = [
    "EdDSA", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512",
    "PS256", "PS384", "PS512",
];

/// How many tokens are remembered as verified.
const REMEMBERED: usize = 4096;

/// Which tokens are accepted, and where clients are told to get them.
#[derive(Clone, Debug, Default)]
pub struct TokenOptions {
    /// The address of the service that gives out tokens.
    pub realm: String,
    /// Whether that service is asked for below the registry's own address, in place of `realm`.
    pub autoredirect: bool,
    /// The path of the service there; nothing is `/auth/token`.
    pub autoredirectpath: String,
    /// What the service calls this registry: one of a token's audiences.
    pub service: String,
    /// What the service calls itself.
    pub issuer: String,
    /// The PEM file of the certificates whose keys are trusted, and which may sign others.
    pub rootcertbundle: Option<PathBuf>,
    /// The file of a JSON Web Key Set (RFC 7517, section 5).
    pub jwks: Option<PathBuf>,
    /// The algorithms that are accepted; none is all.
    pub signingalgorithms: Vec<String>,
}

/// Why tokens cannot be verified as configured. The text begins with the key of the configuration.
#[derive(Debug, Error)]
#[error("{key}: {reason}")]
pub struct TokenError {
    /// The key's name, like `rootcertbundle`.
    pub key: &'static str,
    /// What is wrong.
    pub reason: String,
}

/// Trusts the tokens of one service.
#[derive(Debug)]
pub struct Token {
    options: TokenOptions,
    keys: TrustedKeys,
    /// By the hash of the token. When what was verified holds is looked at every time.
    verified: Cache<[u8; 32], Arc<Verified>>,
}

/// What the signature of a token was good for.
#[derive(Debug)]
struct Verified {
    claims: Claims,
    /// When the certificates that vouch for the key expire, in seconds since 1970.
    until: Option<f64>,
}

impl Token {
    /// Reads the keys.
    ///
    /// # Errors
    /// When a file cannot be read or understood, when there is no key at all, or when an algorithm
    /// is not known.
    pub fn new(mut options: TokenOptions) -> Result<Self, TokenError> {
        for algorithm in &options.signingalgorithms {
            if !ALGORITHMS.contains(&algorithm.as_str()) {
                return Err(TokenError {
                    key: "signingalgorithms",
                    reason: format!(
                        "{algorithm:?} is not known; there are {}",
                        ALGORITHMS.join(", ")
                    ),
                });
            }
        }
        if options.autoredirectpath.is_empty() {
            "/auth/token".clone_into(&mut options.autoredirectpath);
        }
        let keys = TrustedKeys::load(&options)?;
        Ok(Self {
            options,
            keys,
            verified: Cache::new(REMEMBERED),
        })
    }

    /// What a token says that somebody trusted has made.
    fn verify(&self, token: &str) -> Result<Arc<Verified>, String> {
        let name: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(verified) = self.verified.get(&name) {
            return Ok(verified);
        }
        let verified = Arc::new(self.verify_signature(token)?);
        self.verified.insert(name, Arc::clone(&verified));
        Ok(verified)
    }

    /// What it grants here and now.
    fn grant(&self, verified: &Verified) -> Result<Grant, String> {
        let now = now();
        if let Some(until) = verified.until.filter(|until| now > *until) {
            let ago = now - until;
            return Err(format!("its certificate expired {ago:.0} s ago"));
        }
        let Verified { claims, .. } = verified;
        claims.check(&self.options.issuer, &self.options.service, now)?;
        Ok(claims.grant())
    }

    fn verify_signature(&self, token: &str) -> Result<Verified, String> {
        let parsed = Parsed::new(token)?;
        let alg = parsed.header.alg.as_str();
        let accepted = &self.options.signingalgorithms;
        let known = ALGORITHMS.contains(&alg);
        if !known || (!accepted.is_empty() && !accepted.iter().any(|one| one == alg)) {
            return Err(format!("it is signed by {alg:?}, which is not accepted"));
        }
        let Found { key, until } = self.keys.find(&parsed.header, now())?;
        key.verify(alg, parsed.signed.as_bytes(), &parsed.signature)?;
        let claims = Claims::parse(&parsed.payload)?;
        Ok(Verified { claims, until })
    }

    fn challenge(&self, asked: Asked<'_>, access: &[Access], error: Option<&str>) -> String {
        let options = &self.options;
        let realm = match (options.autoredirect, asked.host) {
            (true, Some(host)) => {
                let scheme = asked.forwarded_scheme.unwrap_or("https");
                format!("{scheme}://{host}{}", options.autoredirectpath)
            }
            _ => options.realm.clone(),
        };
        let mut challenge = format!(
            "Bearer realm={},service={}",
            quoted(&realm),
            quoted(&options.service)
        );
        let scope = scope(access);
        if !scope.is_empty() {
            challenge += &format!(",scope={}", quoted(&scope));
        }
        if let Some(error) = error {
            challenge += &format!(",error={}", quoted(error));
        }
        challenge
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

#[async_trait]
impl AccessController for Token {
    async fn authorize(&self, asked: Asked<'_>, access: &[Access]) -> Result<Grant, Refusal> {
        let refused = |error, reason, shown| Refusal::Challenge {
            challenge: self.challenge(asked, access, error),
            reason,
            shown,
        };
        let bearer = asked.authorization.and_then(|shown| {
            let (scheme, token) = shown.split_once(' ')?;
            let token = token.trim();
            (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
        });
        let Some(token) = bearer else {
            let shown = match asked.authorization {
                Some(_) => Shown::Unfit,
                None => Shown::Nothing,
            };
            return Err(refused(None, "the request has no token".to_owned(), shown));
        };
        let invalid = |reason, shown| {
            let reason = format!("the token: {reason}");
            refused(Some("invalid_token"), reason, shown)
        };
        let verified = self
            .verify(token)
            .map_err(|reason| invalid(reason, Shown::Guess))?;
        let grant = self
            .grant(&verified)
            .map_err(|reason| invalid(reason, Shown::Unfit))?;
        match access.iter().find(|one| !grant.allows(one)) {
            None => Ok(grant),
            Some(missing) => {
                let missing = scope(std::slice::from_ref(missing));
                let reason = format!("the token of {:?} does not allow {missing}", grant.user);
                let shown = Shown::User(grant.user);
                Err(refused(Some("insufficient_scope"), reason, shown))
            }
        }
    }
}

#[cfg(test)]
mod tests;
