//! `http`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Headers, Limits, Timeouts, TrustedProxies};
use crate::duration::GoDuration;
use crate::secret::Secret;

/// Listening, and what is told to clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Http {
    /// Host and port to listen on; no host is every address of the machine. Or the path of a Unix
    /// socket.
    pub addr: String,
    /// `tcp` (or nothing), or `unix`.
    pub net: String,
    /// What all paths begin with.
    pub prefix: String,
    /// The URL that clients are told, in place of what their requests say.
    pub host: String,
    /// Signs the state of uploads that clients carry; nodes behind one load balancer share it.
    pub secret: Secret,
    /// Whether locations are told without scheme and host.
    pub relativeurls: bool,
    /// How long requests under way may take to finish at a stop.
    pub draintimeout: GoDuration,
    /// Certificates.
    pub tls: Tls,
    /// Headers of every answer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: Headers,
    /// The second listener, for metrics and health.
    pub debug: Debug,
    /// HTTP/2 over TLS.
    pub http2: Http2,
    /// HTTP/2 without TLS.
    pub h2c: H2c,
    /// What clients may take.
    pub limits: Limits,
    /// How long they may take.
    pub timeouts: Timeouts,
    /// Proxies that are believed whose requests they pass on.
    pub trustedproxies: TrustedProxies,
}

impl Http {
    /// Whether TLS is spoken.
    pub fn is_secure(&self) -> bool {
        !self.tls.certificate.is_empty() || self.tls.letsencrypt.is_used()
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            addr: "127.0.0.1:5000".to_owned(),
            net: String::new(),
            prefix: String::new(),
            host: String::new(),
            secret: Secret::default(),
            relativeurls: false,
            draintimeout: GoDuration::default(),
            tls: Tls::default(),
            headers: Headers::default(),
            debug: Debug::default(),
            http2: Http2::default(),
            h2c: H2c::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            trustedproxies: TrustedProxies::default(),
        }
    }
}

/// `http.tls`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tls {
    /// The file of the certificate.
    pub certificate: String,
    /// The file of its key.
    pub key: String,
    /// The files of the authorities that sign clients' certificates.
    pub clientcas: Vec<String>,
    /// What is asked of clients.
    pub clientauth: Option<ClientAuth>,
    /// The oldest version that is spoken: `tls1.2`, which is also what nothing and older ones
    /// mean, or `tls1.3`.
    pub minimumtls: String,
    /// The cipher suites of TLS 1.2.
    pub ciphersuites: Vec<String>,
    /// Certificates by ACME.
    pub letsencrypt: LetsEncrypt,
}

/// `http.tls.clientauth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// A certificate is asked for, and none is checked.
    RequestClientCert,
    /// There must be a certificate, which is not checked.
    RequireAnyClientCert,
    /// A certificate is checked when there is one.
    VerifyClientCertIfGiven,
    /// There must be a good certificate.
    RequireAndVerifyClientCert,
}

/// `http.tls.letsencrypt`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LetsEncrypt {
    /// Where certificates and keys are kept.
    pub cachefile: String,
    /// The address that the authority may write to.
    pub email: String,
    /// The names to get certificates for.
    pub hosts: Vec<String>,
    /// The authority's directory.
    pub directoryurl: String,
}

impl LetsEncrypt {
    /// Whether certificates are to be obtained.
    pub fn is_used(&self) -> bool {
        !self.cachefile.is_empty() || !self.hosts.is_empty()
    }
}

/// `http.debug`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Debug {
    /// Host and port.
    pub addr: String,
    /// Metrics.
    pub prometheus: Prometheus,
}

/// `http.debug.prometheus`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Prometheus {
    /// Whether metrics are served.
    pub enabled: bool,
    /// Where; nothing is `/metrics`.
    pub path: String,
}

/// `http.http2`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Http2 {
    /// Whether HTTP/2 over TLS is switched off.
    pub disabled: bool,
}

/// `http.h2c`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct H2c {
    /// Whether HTTP/2 is spoken without TLS.
    pub enabled: bool,
}
