//! TLS.

use std::path::PathBuf;

use wharfinger_config::{ClientAuth as Asked, Config};
use wharfinger_server::{
    AcmeOptions, CertificateFiles, Certificates, ClientAuth, FreshTls, Tls, TlsError, TlsOptions,
    TlsPart,
};

use super::{Unusable, unusable};

/// TLS, where it is configured.
pub(crate) fn tls(config: &Config) -> Result<Option<Tls>, Unusable> {
    match config.http.is_secure() {
        true => Tls::new(options(config)).map(Some).map_err(at_its_key),
        false => Ok(None),
    }
}

/// What `tls` can take on of a configuration that is read again: its files, if nothing else.
pub(crate) fn fresh_tls(tls: &Tls, config: &Config) -> Result<FreshTls, Unusable> {
    tls.read(options(config)).map_err(at_its_key)
}

fn options(config: &Config) -> TlsOptions {
    let http = &config.http;
    let lets_encrypt = &http.tls.letsencrypt;
    let certificates = if lets_encrypt.is_used() {
        Certificates::Acme(AcmeOptions {
            cache: PathBuf::from(&lets_encrypt.cachefile),
            email: lets_encrypt.email.clone(),
            hosts: lets_encrypt
                .hosts
                .iter()
                .map(|host| host.to_ascii_lowercase())
                .collect(),
            directory: lets_encrypt.directoryurl.clone(),
        })
    } else {
        Certificates::Files(CertificateFiles {
            certificate: PathBuf::from(&http.tls.certificate),
            key: PathBuf::from(&http.tls.key),
        })
    };
    TlsOptions {
        certificates,
        client_authorities: http.tls.clientcas.iter().map(PathBuf::from).collect(),
        client_auth: match http.tls.clientauth {
            None | Some(Asked::RequireAndVerifyClientCert) => ClientAuth::RequireAndVerify,
            Some(Asked::RequestClientCert) => ClientAuth::Request,
            Some(Asked::RequireAnyClientCert) => ClientAuth::RequireAny,
            Some(Asked::VerifyClientCertIfGiven) => ClientAuth::VerifyIfGiven,
        },
        tls13_only: http.tls.minimumtls == "tls1.3",
        cipher_suites: http.tls.ciphersuites.clone(),
        http2: !http.http2.disabled,
    }
}

fn at_its_key(error: TlsError) -> Unusable {
    let key = match error.part {
        TlsPart::Certificate => "http.tls.certificate".into(),
        TlsPart::Key => "http.tls.key".into(),
        TlsPart::ClientAuthority(index) => format!("http.tls.clientcas[{index}]"),
        TlsPart::Cache => "http.tls.letsencrypt.cachefile".into(),
    };
    unusable(key)(&error)
}
