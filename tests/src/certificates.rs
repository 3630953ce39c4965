//! Authorities and certificates, made for one test.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use crate::network;

/// An address that leads to this machine and is none of those of which a client knows that: what is
/// said of proxies holds for it.
pub const ANYWHERE: &str = "0.0.0.0";

/// The names that registries under test have.
pub const NAMES: [&str; 4] = ["127.0.0.1", "localhost", ANYWHERE, network::ADDRESS];

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate, as PEM.
    pub certificate: PathBuf,
    /// Its key, as PEM.
    pub key: PathBuf,
}

/// A path as a value of a configuration.
pub fn path(file: &Path) -> Value {
    file.to_str().expect("a path in UTF-8").into()
}

/// An authority of its own, which signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, as PEM.
    pub certificate: PathBuf,
}

impl Authority {
    /// Makes one, with its certificate in a file of its name.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn new(home: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = params.self_signed(&key).expect("it is well formed");
        let file = home.join(format!("{name}.pem"));
        fs::write(&file, certificate.pem()).expect("it can be written");
        Self {
            issuer: Issuer::new(params, key),
            certificate: file,
        }
    }

    /// A server's certificate for [`NAMES`], in files called `name`; made again, it is another one.
    ///
    /// # Panics
    /// When the files cannot be written.
    pub fn server(&self, home: &Path, name: &str) -> Pair {
        let mut params = CertificateParams::new(NAMES.map(str::to_owned)).expect("good names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, home, name)
    }

    /// A certificate for [`NAMES`] of one that is a server and a client of its like, in files called
    /// `name`.
    ///
    /// # Panics
    /// When the files cannot be written.
    pub fn peer(&self, home: &Path, name: &str) -> Pair {
        let mut params = CertificateParams::new(NAMES.map(str::to_owned)).expect("good names");
        let both = [
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.extended_key_usages = both.to_vec();
        self.sign(params, home, name)
    }

    /// A client's certificate, in files called `name`.
    ///
    /// # Panics
    /// When the files cannot be written.
    pub fn client(&self, home: &Path, name: &str) -> Pair {
        self.sign(client(name), home, name)
    }

    /// A client's certificate that was good until yesterday, in files called `name`.
    ///
    /// # Panics
    /// When the files cannot be written.
    pub fn expired_client(&self, home: &Path, name: &str) -> Pair {
        let mut params = client(name);
        params.not_after = OffsetDateTime::now_utc() - Duration::days(1);
        self.sign(params, home, name)
    }

    /// A server's certificate for one name that ends in `days`, and its key, in one PEM text.
    ///
    /// # Panics
    /// For a name that cannot be in a certificate.
    pub fn server_until(&self, name: &str, days: i64) -> String {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a good name");
        params.not_before = OffsetDateTime::now_utc() - Duration::days(90);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(days);
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = params.signed_by(&key, &self.issuer);
        key.serialize_pem() + &certificate.expect("it is well formed").pem()
    }

    fn sign(&self, mut params: CertificateParams, home: &Path, name: &str) -> Pair {
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = params.signed_by(&key, &self.issuer);
        let pair = Pair {
            certificate: home.join(format!("{name}.crt")),
            key: home.join(format!("{name}.key")),
        };
        let certificate = certificate.expect("it is well formed").pem();
        fs::write(&pair.certificate, certificate).expect("it can be written");
        fs::write(&pair.key, key.serialize_pem()).expect("it can be written");
        pair
    }
}

fn client(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([format!("{name}.example")]).expect("a good name");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// A folder of certificates as Docker, podman, buildah and skopeo read it (certs.d(5)): whom to
/// trust, and what to show.
///
/// # Panics
/// When it cannot be made.
pub fn client_folder(folder: &Path, authority: &Authority, shown: Option<&Pair>) -> PathBuf {
    fs::create_dir_all(folder).expect("a folder can be made");
    let put = |from: &Path, name: &str| {
        fs::copy(from, folder.join(name)).expect("it can be copied");
    };
    put(&authority.certificate, "ca.crt");
    if let Some(pair) = shown {
        put(&pair.certificate, "client.cert");
        put(&pair.key, "client.key");
    }
    folder.to_owned()
}
