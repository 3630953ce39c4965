//! What can be looked at.

use std::path::{Path, PathBuf};

use http::{HeaderMap, Method, StatusCode};
use reqwest::{Client, Url};
use thiserror::Error;
use tokio::net::TcpStream;
use wharfinger_registry::Registry;

/// Something to look at.
#[derive(Clone, Debug)]
pub enum Probe {
    /// A registry's store must answer.
    Store(Registry),
    /// A file must not be there: somebody makes it to take the registry out of service.
    File(PathBuf),
    /// A URL must answer to HEAD with a status.
    Http {
        /// What asks.
        client: Client,
        /// The URL.
        url: Url,
        /// Headers of the request.
        headers: HeaderMap,
        /// The status that is wanted.
        status: StatusCode,
    },
    /// An address, `host:port`, must accept connections.
    Tcp(String),
}

/// Why a probe cannot be made.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The URL cannot be read.
    #[error("it is no URL that can be asked for, like http://10.0.0.1:8080/status")]
    Url,
    /// TLS cannot be set up.
    #[error("{0}")]
    Client(reqwest::Error),
}

impl Probe {
    /// A URL that must answer to HEAD with `status`.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn http(url: &str, headers: HeaderMap, status: StatusCode) -> Result<Self, ProbeError> {
        let url: Url = url.parse().map_err(|_| ProbeError::Url)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ProbeError::Url);
        }
        let client = wharfinger_client::builder(wharfinger_client::authorities())
            // A connection that is kept would only tell that it was kept.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(ProbeError::Client)?;
        Ok(Self::Http {
            client,
            url,
            headers,
            status,
        })
    }

    /// Looks once.
    ///
    /// # Errors
    /// What is wrong, for the operator.
    pub(crate) async fn look(&self) -> Result<(), String> {
        match self {
            Self::Store(registry) => registry.check().await.map_err(|error| error.to_string()),
            Self::File(path) => is_absent(path).await,
            Self::Http {
                client,
                url,
                headers,
                status,
            } => {
                let request = client
                    .request(Method::HEAD, url.clone())
                    .headers(headers.clone());
                let answer = request.send().await.map_err(|error| reason(&error))?;
                if answer.status() == *status {
                    Ok(())
                } else {
                    Err(format!("it answers {}, not {status}", answer.status()))
                }
            }
            Self::Tcp(address) => {
                let connected = match address.strip_prefix(':') {
                    Some(_) => TcpStream::connect(format!("localhost{address}")).await,
                    None => TcpStream::connect(address).await,
                };
                connected
                    .map(drop)
                    .map_err(|error| format!("it cannot be connected to: {error}"))
            }
        }
    }
}

async fn is_absent(path: &Path) -> Result<(), String> {
    let path = path.to_owned();
    let looked = tokio::task::spawn_blocking(move || path.try_exists());
    match looked.await {
        Ok(Ok(false)) => Ok(()),
        Ok(Ok(true)) => Err("the file is there".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Why a request failed, down to the first cause, without the URL and the password that may stand
/// in it.
fn reason(error: &reqwest::Error) -> String {
    let cause = wharfinger_client::cause(error);
    match cause.downcast_ref::<reqwest::Error>() {
        Some(_) if error.is_redirect() => "it redirects without end".to_owned(),
        Some(_) => "it does not answer".to_owned(),
        None => format!("it cannot be asked: {cause}"),
    }
}
