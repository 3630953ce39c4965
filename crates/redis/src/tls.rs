//! Certificates: read from files, and checked before they are used.

use std::path::Path;
use std::sync::Arc;

use redis::{ClientTlsConfig, TlsCertificates};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

use crate::TlsFiles;

/// A file of TLS that cannot be used.
#[derive(Debug, Error)]
#[error("{reason}")]
pub struct TlsError {
    /// Which.
    pub part: TlsPart,
    /// Why.
    pub reason: String,
}

/// What a file of TLS is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPart {
    /// The certificate that is shown.
    Certificate,
    /// Its key.
    Key,
    /// The authorities in the file with this index.
    Authorities(usize),
}

/// Reads the files.
///
/// # Errors
/// The first that cannot be used.
pub(crate) fn read(files: &TlsFiles) -> Result<TlsCertificates, TlsError> {
    let mut roots = RootCertStore::empty();
    let mut root_pem = Vec::new();
    for (index, file) in files.authorities.iter().enumerate() {
        let part = TlsPart::Authorities(index);
        let pem = content(part, file)?;
        for certificate in certificates(part, file, &pem)? {
            roots
                .add(certificate)
                .map_err(|error| unusable(part, file, &error))?;
        }
        root_pem.extend_from_slice(&pem);
        root_pem.push(b'\n');
    }
    let client_tls = match &files.certificate {
        None => None,
        Some((certificate, key)) => Some(client(certificate, key)?),
    };
    Ok(TlsCertificates {
        client_tls,
        root_cert: (!files.authorities.is_empty()).then_some(root_pem),
    })
}

fn client(certificate: &Path, key: &Path) -> Result<ClientTlsConfig, TlsError> {
    let client_cert = content(TlsPart::Certificate, certificate)?;
    let chain = certificates(TlsPart::Certificate, certificate, &client_cert)?;
    let client_key = content(TlsPart::Key, key)?;
    let parsed = PrivateKeyDer::from_pem_slice(&client_key)
        .map_err(|error| unusable(TlsPart::Key, key, &error))?;
    // Only to find out whether the two belong together.
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for every version")
        .with_root_certificates(RootCertStore::empty())
        .with_client_auth_cert(chain, parsed)
        .map_err(|error| unusable(TlsPart::Key, key, &error))?;
    Ok(ClientTlsConfig {
        client_cert,
        client_key,
    })
}

fn content(part: TlsPart, file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|error| unusable(part, file, &error))
}

fn certificates(
    part: TlsPart,
    file: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|error| unusable(part, file, &error))?;
    match certificates.is_empty() {
        true => Err(unusable(part, file, &"there is no certificate in it")),
        false => Ok(certificates),
    }
}

fn unusable(part: TlsPart, file: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError {
        part,
        reason: format!("{}: {reason}", file.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use rcgen::generate_simple_self_signed;

    use super::*;

    fn refused(files: &TlsFiles) -> (TlsPart, String) {
        let error = read(files).unwrap_err();
        (error.part, error.reason)
    }

    #[test]
    fn each_file_that_cannot_be_used_is_told_by_its_part_and_name() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| -> PathBuf {
            let file = folder.path().join(name);
            fs::write(&file, text).unwrap();
            file
        };
        let pair = |name: &str| {
            let made = generate_simple_self_signed(vec![name.to_owned()]).unwrap();
            let certificate = write(&format!("{name}.crt"), &made.cert.pem());
            let key = made.signing_key.serialize_pem();
            (certificate, write(&format!("{name}.key"), &key))
        };
        let (one, two) = (pair("one"), pair("two"));
        let empty = write("empty", "");
        let with = |certificate: Option<(PathBuf, PathBuf)>, authorities: &[&PathBuf]| TlsFiles {
            certificate,
            authorities: authorities.iter().map(|&file| file.clone()).collect(),
        };

        let good = read(&with(Some(one.clone()), &[&one.0, &two.0])).unwrap();
        let roots = String::from_utf8(good.root_cert.unwrap()).unwrap();
        assert_eq!(roots.matches("BEGIN CERTIFICATE").count(), 2);
        assert!(good.client_tls.is_some());
        let none = read(&TlsFiles::default()).unwrap();
        assert!(none.root_cert.is_none() && none.client_tls.is_none());

        let (part, reason) = refused(&with(None, &[&one.0, &empty]));
        assert_eq!(part, TlsPart::Authorities(1));
        assert!(reason.ends_with("empty: there is no certificate in it"));
        let (part, reason) = refused(&with(Some((one.0.clone(), two.1.clone())), &[]));
        assert_eq!(part, TlsPart::Key);
        assert!(reason.contains("two.key: "), "{reason}");
        let (part, _) = refused(&with(Some((folder.path().join("no"), one.1.clone())), &[]));
        assert_eq!(part, TlsPart::Certificate);
        let (part, _) = refused(&with(Some((one.0.clone(), empty)), &[]));
        assert_eq!(part, TlsPart::Key);
    }
}
