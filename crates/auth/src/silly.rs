//! Everybody who shows anything: for trying out how clients log in.

use async_trait::async_trait;

use crate::access::{Access, AccessController, Asked, Grant, Refusal, Shown, quoted};

/// Lets in whoever sends an `Authorization` header.
#[derive(Clone, Debug)]
pub struct Silly {
    /// Where clients are told to get a token.
    pub realm: String,
    /// For which service.
    pub service: String,
}

#[async_trait]
impl AccessController for Silly {
    async fn authorize(&self, asked: Asked<'_>, access: &[Access]) -> Result<Grant, Refusal> {
        if asked.authorization.is_some_and(|shown| !shown.is_empty()) {
            return Ok(Grant::everything("silly"));
        }
        let mut challenge = format!(
            "Bearer realm={},service={}",
            quoted(&self.realm),
            quoted(&self.service)
        );
        if !access.is_empty() {
            // As in Distribution, one scope for each action.
            let scopes: Vec<_> = access
                .iter()
                .map(|one| format!("{}:{}:{}", one.kind, one.name, one.action.as_str()))
                .collect();
            challenge += &format!(",scope={}", quoted(&scopes.join(" ")));
        }
        Err(Refusal::Challenge {
            challenge,
            reason: "the request has no Authorization".to_owned(),
            shown: Shown::Nothing,
        })
    }
}
