//! TLS for a listener: certificates from files or from an authority, and what clients must show.
//!
//! [`Tls::new`] reads everything once, so that what is wrong is known at the start. Later,
//! [`Tls::reload`] reads it again, and [`Tls::maintain`] does so by itself when a file changes.

mod acme;
mod certificate;
mod clients;
mod error;
mod plain_http;
mod policy;
mod stamp;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{Acceptor, NoServerSessionStorage, ResolvesServerCert};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{error, info, warn};

use crate::listen::Stream;
use acme::Acme;
use certificate::{Certificate, Fixed};
use stamp::Stamp;

pub use acme::AcmeOptions;
pub use certificate::CertificateFiles;
pub use clients::ClientAuth;
pub use error::{TlsError, TlsPart};

/// How often files are looked at. A change counts when it is there at two looks: certificate and
/// key are two files, which nobody replaces in the same instant.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// How long before its end a certificate from a file is warned of, and how often.
const WARN_BEFORE: Duration = Duration::from_secs(7 * 24 * 3600);
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// How much of what was encrypted may wait for the socket: what one piece of a file becomes. It then
/// goes out at once, at two thirds of the processor time that rustls's own 64 KiB take.
const SEND_BUFFER: usize = 256 * 1024;

/// How TLS is spoken (`http.tls`).
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// What the server shows.
    pub certificates: Certificates,
    /// The files of the authorities of clients' certificates (`clientcas`). Without one, clients
    /// are not asked for any.
    pub client_authorities: Vec<PathBuf>,
    /// What is asked of clients (`clientauth`).
    pub client_auth: ClientAuth,
    /// Whether TLS 1.2 is refused (`minimumtls`).
    pub tls13_only: bool,
    /// The cipher suites of TLS 1.2 by their IANA names (`ciphersuites`); none is all that there
    /// are. Those of TLS 1.3 cannot be chosen.
    pub cipher_suites: Vec<String>,
    /// Whether HTTP/2 is offered (`http.http2.disabled` turns it off).
    pub http2: bool,
}

impl TlsOptions {
    /// All files that are read.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = self.client_authorities.clone();
        if let Certificates::Files(of_server) = &self.certificates {
            files.push(of_server.certificate.clone());
            files.push(of_server.key.clone());
        }
        files
    }
}

/// Where a server's certificates come from.
#[derive(Clone, Debug)]
pub enum Certificates {
    /// One from files, which is shown whatever name is asked for.
    Files(CertificateFiles),
    /// One for each name, from an authority that is asked when there is need.
    Acme(AcmeOptions),
}

/// TLS for a listener. Clones are one.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    current: ArcSwap<Current>,
    reloading: Mutex<()>,
    acme: Option<Arc<Acme>>,
}

/// Other options, whose files have been read: good for [`Tls::take_on`].
#[derive(Debug)]
pub struct FreshTls(Current);

/// What new connections use.
#[derive(Debug)]
struct Current {
    options: TlsOptions,
    config: Arc<ServerConfig>,
    /// What the files were like just before they were read.
    stamp: Stamp,
    /// The end of the certificate from a file.
    expires: Option<SystemTime>,
}

impl Tls {
    /// Reads all files.
    ///
    /// # Errors
    /// The first that cannot be used. An authority is not asked for anything yet.
    pub fn new(options: TlsOptions) -> Result<Self, TlsError> {
        let provider = Arc::new(policy::provider(&options.cipher_suites));
        let acme = match &options.certificates {
            Certificates::Files(_) => None,
            Certificates::Acme(acme) => Some(Arc::new(Acme::new(acme, &provider)?)),
        };
        let current = Current::read(options, &provider, acme.as_ref())?;
        Ok(Self(Arc::new(Shared {
            current: ArcSwap::from_pointee(current),
            reloading: Mutex::new(()),
            acme,
        })))
    }

    /// Reads all files again, for connections from now on. It blocks for as long as that takes.
    ///
    /// # Errors
    /// The first that cannot be used; all stays as it is then. The error has been logged.
    pub fn reload(&self) -> Result<(), TlsError> {
        let shared = &*self.0;
        let _one_by_one = shared
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match self.read(shared.current.load().options.clone()) {
            Ok(FreshTls(current)) => {
                shared.current.store(Arc::new(current));
                Ok(())
            }
            Err(refused) => {
                error!(
                    file = %refused.file.display(),
                    reason = refused.reason,
                    "a file of TLS cannot be used; what was read before stays"
                );
                Err(refused)
            }
        }
    }

    /// Reads the files of other options. Where certificates come from cannot be among what is other:
    /// an authority stays the one that it was.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn read(&self, options: TlsOptions) -> Result<FreshTls, TlsError> {
        let provider = Arc::new(policy::provider(&options.cipher_suites));
        Current::read(options, &provider, self.0.acme.as_ref()).map(FreshTls)
    }

    /// Uses other options for connections from now on.
    pub fn take_on(&self, fresh: FreshTls) {
        let _one_by_one = self.0.reloading.lock();
        self.0.current.store(Arc::new(fresh.0));
    }

    /// Watches the files, and gets certificates from the authority in time. It never ends.
    pub async fn maintain(self) {
        match &self.0.acme {
            Some(acme) => {
                tokio::join!(self.watch(), acme.maintain());
            }
            None => self.watch().await,
        }
    }

    async fn watch(&self) {
        let mut refused = None;
        let mut changed = None;
        let mut warned = None;
        loop {
            self.warn_of_the_end(&mut warned);
            sleep(LOOK_EVERY).await;
            let current = self.0.current.load_full();
            let files = current.options.files();
            let Ok(now) = spawn_blocking(move || Stamp::of(&files)).await else {
                continue;
            };
            if now == current.stamp || refused.as_ref() == Some(&now) {
                changed = None;
            } else if changed.as_ref() == Some(&now) {
                let tls = self.clone();
                let reloaded = spawn_blocking(move || tls.reload()).await;
                // What went wrong has been logged, and once is enough.
                refused = matches!(reloaded, Ok(Err(_))).then_some(now);
                warned = None;
            } else {
                changed = Some(now);
            }
        }
    }

    /// Warns of a certificate from a file that has expired or soon will, unless it did so lately.
    fn warn_of_the_end(&self, warned: &mut Option<Instant>) {
        let Some(expires) = self.0.current.load().expires else {
            return;
        };
        if SystemTime::now() + WARN_BEFORE < expires
            || warned.is_some_and(|at: Instant| at.elapsed() < WARN_EVERY)
        {
            return;
        }
        *warned = Some(Instant::now());
        let date = date(expires);
        if expires <= SystemTime::now() {
            warn!(expired = date, "the certificate of http.tls has expired");
        } else {
            warn!(expires = date, "the certificate of http.tls expires soon");
        }
    }

    /// Agrees on keys with a client. `None` when that was all the client came for.
    ///
    /// # Errors
    /// When the client breaks off, does not show what it must, or speaks plain HTTP; it has been
    /// told, if possible.
    pub(crate) async fn accept(&self, stream: Stream) -> io::Result<Option<TlsStream<Stream>>> {
        match stream.peek().await? {
            None => return Ok(None),
            Some(b'A'..=b'Z') => {
                plain_http::refuse(stream).await?;
                return Err(io::Error::other("plain HTTP came"));
            }
            Some(_) => {}
        }
        let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        if let Some(acme) = &self.0.acme
            && let Some(name) = acme::challenged(&begun.client_hello())
        {
            let config = acme.challenge(name).await?;
            begun.into_stream(config).await?;
            return Ok(None);
        }
        let config = Arc::clone(&self.0.current.load().config);
        let limit = |connection: &mut rustls::ServerConnection| {
            connection.set_buffer_limit(Some(SEND_BUFFER));
        };
        begun.into_stream_with(config, limit).await.map(Some)
    }
}

impl Current {
    fn read(
        options: TlsOptions,
        provider: &Arc<CryptoProvider>,
        acme: Option<&Arc<Acme>>,
    ) -> Result<Self, TlsError> {
        let stamp = Stamp::of(&options.files());
        let mut expires = None;
        let resolver: Arc<dyn ResolvesServerCert> = match (&options.certificates, acme) {
            (Certificates::Files(files), _) => {
                let certificate = Certificate::read(files, provider)?;
                expires = certificate.expires();
                info!(
                    file = %files.certificate.display(),
                    expires = expires.map(date),
                    "the certificate was read"
                );
                Arc::new(Fixed(certificate.key))
            }
            (Certificates::Acme(_), Some(acme)) => {
                acme.adopt_all();
                Arc::clone(acme) as _
            }
            (Certificates::Acme(_), None) => unreachable!("it was made with the options"),
        };
        let clients = clients::verifier(&options, provider)?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(policy::versions(options.tls13_only, provider))
            .expect("the provider has suites for these versions")
            .with_client_cert_verifier(clients)
            .with_cert_resolver(resolver);
        config.alpn_protocols = policy::application_protocols(options.http2);
        if options.client_authorities.is_empty() {
            // Without randomness there is no TLS at all; without tickets there is.
            if let Ok(ticketer) = rustls::crypto::ring::Ticketer::new() {
                config.ticketer = ticketer;
            }
        } else {
            // A resumed session would go on trusting a certificate that may have expired since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self {
            options,
            config: Arc::new(config),
            stamp,
            expires,
        })
    }
}

/// A time for people.
fn date(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "never".to_owned(), |time| time.to_string())
}
