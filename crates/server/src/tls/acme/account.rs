//! The account with the authority, and the way there.

use std::error::Error as StdError;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use instant_acme::{Account, BodyWrapper, BytesResponse, Error, HttpClient, Key};
use p256::SecretKey;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tracing::{info, warn};

use super::Acme;
use super::order::OrderError;

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Where autocert keeps the account's key, and where its early versions did.
const KEY_FILES: [&str; 2] = ["acme_account+key", "acme_account.key"];

/// How long one answer of the authority may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The account, which is opened when there is none.
pub(super) async fn account(acme: &Acme) -> Result<Account, OrderError> {
    let directory = match acme.options.directory.as_str() {
        "" => LETS_ENCRYPT,
        url => url,
    };
    let key = key(acme)?;
    let key = || -> Result<_, Error> {
        let der = PrivateKeyDer::Pkcs8(key.clone_key());
        Ok((Key::from_pkcs8_der(key.clone_key())?, der))
    };
    let builder = || Ok::<_, OrderError>(Account::builder_with_http(Box::new(Client::new()?)));
    match builder()?.from_key(key()?, directory.to_owned()).await {
        // The authority does not know this key.
        Err(Error::Api(_)) => {}
        known => return Ok(known?.0),
    }
    let (account, _) = builder()?
        .create_from_key(key()?, directory.to_owned())
        .await?;
    info!(
        directory,
        "an account was opened, and the authority's terms were agreed to"
    );
    if !acme.options.email.is_empty() {
        let contact = format!("mailto:{}", acme.options.email);
        if let Err(error) = account.update_contacts(&[&contact]).await {
            warn!(%error, "the authority does not take the address of http.tls.letsencrypt.email");
        }
    }
    Ok(account)
}

/// The account's key, which is made when there is none.
fn key(acme: &Acme) -> Result<PrivatePkcs8KeyDer<'static>, OrderError> {
    for file in KEY_FILES {
        let Some(text) = acme.cache.read(file)? else {
            continue;
        };
        // Making another one would lose the account.
        let unusable = || OrderError::AccountKey(acme.options.cache.join(file));
        let key = match PrivateKeyDer::from_pem_slice(&text).map_err(|_| unusable())? {
            PrivateKeyDer::Sec1(key) => SecretKey::from_sec1_der(key.secret_sec1_der()).ok(),
            PrivateKeyDer::Pkcs8(key) => SecretKey::from_pkcs8_der(key.secret_pkcs8_der()).ok(),
            _ => None,
        };
        let key = key.and_then(|key| key.to_pkcs8_der().ok());
        return Ok(key.ok_or_else(unusable)?.as_bytes().to_vec().into());
    }
    let key = KeyPair::generate()?;
    let [file, _] = KEY_FILES;
    acme.cache.write(file, key.serialize_pem().as_bytes())?;
    Ok(key.serialize_der().into())
}

/// What connects to the authority.
struct Client(reqwest::Client);

impl Client {
    /// One that trusts whom this machine trusts, as it does now: it is used for one order only, and
    /// those are rare.
    fn new() -> Result<Self, OrderError> {
        let authorities = wharfinger_client::authorities();
        if authorities.is_empty() {
            return Err(OrderError::NoTrust);
        }
        let client = wharfinger_client::builder(authorities)
            .https_only(true)
            .timeout(TIMEOUT)
            .build();
        Ok(Self(client.map_err(other)?))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let request = Request::from_parts(parts, body).try_into().map_err(other)?;
            let response = client.execute(request).await.map_err(other)?;
            Ok(http::Response::from(response).into())
        })
    }
}

fn other(error: impl StdError + Send + Sync + 'static) -> Error {
    Error::Other(Box::new(error))
}
