//! Obtaining one certificate.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    AuthorizationStatus, ChallengeType, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use thiserror::Error;

use super::super::certificate::Certificate;
use super::{Acme, Shown, account, challenge};

/// How often the authority is asked whether it is done, and for how long.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(180));

/// Why there is no certificate.
#[derive(Debug, Error)]
pub(super) enum OrderError {
    #[error("{}", wharfinger_client::chain(.0))]
    Authority(#[from] instant_acme::Error),
    #[error("the authority does not accept that this is {name}: {reason}")]
    NotProven { name: String, reason: String },
    #[error("the authority does not offer the challenge tls-alpn-01")]
    NoChallenge,
    #[error("what the authority gave cannot be used: {0}")]
    Certificate(String),
    #[error("the new certificate is to be renewed already; is this machine's clock right?")]
    TooOld,
    #[error("the account's key {} cannot be used: it must be one over P-256 as PEM", .0.display())]
    AccountKey(PathBuf),
    #[error("there is nobody this machine trusts; install ca-certificates")]
    NoTrust,
    #[error("the folder http.tls.letsencrypt.cachefile: {0}")]
    Cache(#[from] io::Error),
    #[error(transparent)]
    Request(#[from] rcgen::Error),
}

impl From<String> for OrderError {
    fn from(reason: String) -> Self {
        Self::Certificate(reason)
    }
}

/// Obtains a certificate for a name and keeps it in the folder.
pub(super) async fn obtain(acme: &Arc<Acme>, name: &str) -> Result<Certificate, OrderError> {
    let account = account::account(acme).await?;
    let identifiers = [Identifier::Dns(name.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    prove(acme, name, &mut order).await?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    order.finalize_csr(request.der()).await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    let text = format!("{}{chain}", key.serialize_pem());
    let certificate = Certificate::parse(text.as_bytes(), &acme.provider)?;
    if certificate.validity.is_none() {
        return Err("it cannot be told how long it is valid".to_owned().into());
    }
    acme.cache.write(name, text.as_bytes())?;
    Ok(certificate)
}

/// Shows the authority that the name is ours.
async fn prove(acme: &Arc<Acme>, name: &str, order: &mut Order) -> Result<(), OrderError> {
    let mut shown: Vec<Shown> = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            // It was shown lately.
            continue;
        }
        let challenge = authorization.challenge(ChallengeType::TlsAlpn01);
        let mut challenge = challenge.ok_or(OrderError::NoChallenge)?;
        let digest = challenge.key_authorization().digest();
        let answer = challenge::answer(name, digest.as_ref())?;
        shown.push(acme.show(name, &answer)?);
        challenge.set_ready().await?;
    }
    let reason = match order.poll_ready(&PATIENCE).await {
        Ok(OrderStatus::Invalid) => why_not(order).await,
        Err(instant_acme::Error::Api(problem)) => problem.to_string(),
        polled => return polled.map(drop).map_err(OrderError::from),
    };
    Err(OrderError::NotProven {
        name: name.to_owned(),
        reason,
    })
}

/// What the authority says against it.
async fn why_not(order: &mut Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let mut problems = state.challenges.iter().filter_map(|c| c.error.as_ref());
        if let Some(problem) = problems.next() {
            return problem.to_string();
        }
    }
    "it does not say why".to_owned()
}
