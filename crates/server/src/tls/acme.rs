//! Certificates from an authority that speaks ACME (RFC 8555), such as Let's Encrypt: one for each
//! name, obtained before it is needed and renewed before it ends.
//!
//! What is proven to the authority is the hold over the name's port 443, by TLS-ALPN-01 (RFC
//! 8737): it connects, offers nothing but `acme-tls/1`, and is shown a certificate that holds the
//! answer to its challenge.

mod account;
mod cache;
mod challenge;
mod order;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::certificate::Certificate;
use super::date;
use super::error::TlsError;
use cache::Cache;
use order::OrderError;

pub(super) use challenge::challenged;

/// Certificates are renewed when a third of their life is left, or this much.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// No wait is longer: the machine's clock may be set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(12 * 3600);

/// How long to wait after a failure: three times as long after each further one, up to an hour.
/// That is five tries in the first hour, as many as Let's Encrypt takes.
const RETRY: Duration = Duration::from_secs(60);
const LONGEST_RETRY: Duration = Duration::from_secs(3600);

/// How long to wait for another process that asks for the same certificate.
const OTHERS_TURN: Duration = Duration::from_secs(10);

/// Where certificates come from (`http.tls.letsencrypt`).
#[derive(Clone, Debug)]
pub struct AcmeOptions {
    /// The folder of certificates and keys (`cachefile`), in the form of Go's autocert.
    pub cache: PathBuf,
    /// Where the authority may write to; empty is nowhere.
    pub email: String,
    /// The names to get certificates for, in lower case.
    pub hosts: Vec<String>,
    /// The authority's directory (`directoryurl`); empty is Let's Encrypt's.
    pub directory: String,
}

/// The certificates of an authority.
#[derive(Debug)]
pub(super) struct Acme {
    options: AcmeOptions,
    provider: Arc<CryptoProvider>,
    cache: Cache,
    certificates: ArcSwap<HashMap<String, Arc<Certificate>>>,
    /// What the authority is shown, by name, while it checks.
    challenges: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

impl Acme {
    pub(super) fn new(
        options: &AcmeOptions,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            options: options.clone(),
            provider: Arc::clone(provider),
            cache: Cache::open(&options.cache)?,
            certificates: ArcSwap::default(),
            challenges: Mutex::default(),
        })
    }

    /// Takes over all certificates in the folder that are newer than those in use.
    pub(super) fn adopt_all(&self) {
        for name in &self.options.hosts {
            self.adopt(name);
        }
    }

    /// Takes over the certificate in the folder, when it is newer than the one in use. Another node
    /// may have put it there.
    fn adopt(&self, name: &str) {
        let read = self.cache.read(name).map_err(|error| error.to_string());
        let read = read.and_then(|text| {
            let parse = |text: Vec<u8>| Certificate::parse(&text, &self.provider);
            text.map(parse).transpose()
        });
        match read {
            Ok(Some(found)) => {
                let used = self.certificates.load().get(name).cloned();
                if used.is_none_or(|used| used.expires() < found.expires()) {
                    self.serve(name, found);
                }
            }
            Ok(None) => {}
            Err(reason) => warn!(
                file = %self.options.cache.join(name).display(),
                reason,
                "a certificate that was kept cannot be used"
            ),
        }
    }

    fn serve(&self, name: &str, certificate: Certificate) {
        let expires = certificate.expires().map(date);
        info!(name, expires, "a certificate is in use");
        let certificate = Arc::new(certificate);
        self.certificates.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.insert(name.to_owned(), Arc::clone(&certificate));
            all
        });
    }

    /// Obtains certificates and renews them. It never ends.
    pub(super) async fn maintain(self: &Arc<Self>) {
        let hosts = self.options.hosts.iter();
        let mut due: Vec<_> = hosts.map(|name| (Instant::now(), 0, name)).collect();
        // One after the other: an authority wants no crowd.
        while let Some((when, failures, name)) = due.iter_mut().min_by_key(|(when, ..)| *when) {
            sleep_until(*when).await;
            let wait = self.attend(name, failures).await;
            *when = Instant::now() + wait;
        }
    }

    /// Sees to it that a name has a certificate, and tells when to look again.
    async fn attend(self: &Arc<Self>, name: &str, failures: &mut u32) -> Duration {
        let (acme, of) = (Arc::clone(self), name.to_owned());
        let turn = spawn_blocking(move || {
            let turn = acme.cache.lock();
            acme.adopt(&of);
            turn
        });
        let turn = turn
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        let left = self.until_renewal(name);
        if !left.is_zero() {
            *failures = 0;
            // Nodes with one certificate do not all renew it in the same instant.
            return left.min(LONGEST_WAIT)
                + left.min(Duration::from_secs(3600)).mul_f64(random() / 10.0);
        }
        let outcome = match turn {
            Ok(Some(_turn)) => order::obtain(self, name).await,
            Ok(None) => return OTHERS_TURN,
            Err(error) => Err(error.into()),
        };
        let reason = match outcome {
            Ok(certificate) => {
                self.serve(name, certificate);
                let left = self.until_renewal(name);
                if !left.is_zero() {
                    *failures = 0;
                    return left.min(LONGEST_WAIT);
                }
                OrderError::TooOld
            }
            Err(reason) => reason,
        };
        let wait = RETRY
            .saturating_mul(3_u32.saturating_pow(*failures))
            .min(LONGEST_RETRY);
        *failures += 1;
        self.tell(name, &reason, wait);
        wait.mul_f64(1.0 + random() / 10.0)
    }

    fn tell(&self, name: &str, reason: &OrderError, wait: Duration) {
        let next_try = format!("in {} s", wait.as_secs());
        let used = self.certificates.load().get(name).cloned();
        let expires = used.and_then(|certificate| certificate.expires());
        match expires {
            Some(expires) if expires > SystemTime::now() => warn!(
                name,
                %reason,
                next_try,
                expires = date(expires),
                "the certificate cannot be renewed; the old one stays in use"
            ),
            Some(expired) => error!(
                name,
                %reason,
                next_try,
                expired = date(expired),
                "the certificate cannot be renewed, and the old one has expired"
            ),
            None => error!(name, %reason, next_try, "there is no certificate, and none can be had"),
        }
    }

    /// How long the certificate of a name can be used without a thought; nothing when there is
    /// none.
    fn until_renewal(&self, name: &str) -> Duration {
        let used = self.certificates.load().get(name).cloned();
        let Some((from, to)) = used.and_then(|certificate| certificate.validity) else {
            return Duration::ZERO;
        };
        let life = to.duration_since(from).unwrap_or_default();
        let renewal = to - RENEW_BEFORE.min(life / 3);
        let left = renewal.duration_since(SystemTime::now());
        left.unwrap_or_default()
    }

    /// What the authority is to be shown when it checks this name: what this process has prepared,
    /// or another one on the same folder.
    ///
    /// # Errors
    /// When there is no challenge for this name.
    pub(super) async fn challenge(self: &Arc<Self>, name: String) -> io::Result<Arc<ServerConfig>> {
        let challenges = || {
            self.challenges
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(config) = challenges().get(&name) {
            return Ok(Arc::clone(config));
        }
        let none =
            format!("the authority checks {name:?}, and no certificate for it was asked for");
        if !self.options.hosts.contains(&name) {
            return Err(io::Error::other(none));
        }
        let acme = Arc::clone(self);
        let found = spawn_blocking(move || acme.cache.read(&challenge::file(&name))).await??;
        let text = found.ok_or_else(|| io::Error::other(none))?;
        challenge::config(&text, &self.provider).map_err(io::Error::other)
    }

    /// Has the authority shown what it wants to see under this name, as long as what is returned
    /// is kept.
    fn show(self: &Arc<Self>, name: &str, text: &str) -> Result<Shown, OrderError> {
        let config = challenge::config(text.as_bytes(), &self.provider)?;
        let mut challenges = self
            .challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        challenges.insert(name.to_owned(), config);
        let shown = Shown {
            acme: Arc::clone(self),
            name: name.to_owned(),
        };
        self.cache.write(&challenge::file(name), text.as_bytes())?;
        Ok(shown)
    }
}

/// The answer to a challenge, while it is shown.
struct Shown {
    acme: Arc<Acme>,
    name: String,
}

impl Drop for Shown {
    fn drop(&mut self) {
        let acme = &self.acme;
        let mut challenges = acme
            .challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        challenges.remove(&self.name);
        acme.cache.remove(&challenge::file(&self.name));
    }
}

impl ResolvesServerCert for Acme {
    /// The certificate of the name that is asked for. Who asks for none, like a probe that knows an
    /// address only, is shown that of the first name.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let first = self.options.hosts.first().map(String::as_str);
        let name = hello.server_name().or(first)?.to_ascii_lowercase();
        let all = self.certificates.load();
        all.get(&name)
            .map(|certificate| Arc::clone(&certificate.key))
    }
}

/// A number from 0 to 1.
fn random() -> f64 {
    let (bits, _) = Uuid::new_v4().as_u64_pair();
    // 32 bits are a fraction that f64 holds exactly.
    f64::from((bits >> 32) as u32) / f64::from(u32::MAX)
}
