//! Connections: to one server, to the master that sentinels name, to a cluster.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue,
    IntoConnectionInfo as _, ProtocolVersion, RedisConnectionInfo, RedisError, TlsCertificates,
};
use thiserror::Error;
use tokio::time::timeout;

use crate::tls::{self, TlsError};
use crate::{Address, Options, Servers};

/// Why Redis cannot be asked.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("{}", describe(.0))]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("no connection within {0:?}")]
    Unreachable(Duration),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

impl Failure {
    /// Whether Redis can be reached, but does not do what it is asked.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Redis(error) if !error.is_io_error() && !error.is_connection_dropped())
    }

    /// Whether it was just too late, which a busy machine can be now and then.
    pub(crate) fn is_late(&self) -> bool {
        match self {
            Self::Late(_) => true,
            Self::Redis(error) => error.is_timeout(),
            Self::Tls(_) | Self::Unreachable(_) => false,
        }
    }
}

/// What Redis says of a failure, on one line.
fn describe(error: &RedisError) -> String {
    let text = error.to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A connection; clones share it, and what they ask goes over it at the same time.
#[derive(Clone)]
pub(crate) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(options: &Options) -> Result<Self, Failure> {
        let certificates = options.tls.as_ref().map(tls::read).transpose()?;
        if certificates.is_some() {
            // The library uses the process's; where somebody has chosen one already, that one.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        // Sentinels are asked one after the other, and each can take as long.
        let servers = u32::try_from(options.servers.addresses().len()).unwrap_or(u32::MAX);
        let patience = options
            .connect_timeout
            .saturating_mul(servers.saturating_add(1));
        let opened = timeout(patience, Self::connect(options, certificates)).await;
        opened.map_err(|_| Failure::Unreachable(patience))?
    }

    async fn connect(
        options: &Options,
        certificates: Option<TlsCertificates>,
    ) -> Result<Self, Failure> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.connect_timeout))
            .set_response_timeout(Some(options.answer_timeout));
        let connection = match &options.servers {
            Servers::One(address) => {
                let info = connection_info(options, address)?;
                let client = match certificates {
                    Some(certificates) if matches!(address, Address::Tcp(..)) => {
                        Client::build_with_tls(info, certificates)?
                    }
                    _ => Client::open(info)?,
                };
                let connecting = client.get_multiplexed_async_connection_with_config(&config);
                Self::One(connecting.await?)
            }
            Servers::Sentinels {
                addresses,
                master,
                username,
                password,
            } => {
                let addresses = addresses.iter().map(|address| place(options, address));
                let kind = SentinelServerType::Master;
                let mut builder = SentinelClientBuilder::new(addresses, master, kind)?;
                if !username.is_empty() {
                    builder = builder.set_client_to_sentinel_username(username);
                }
                if !password.is_empty() {
                    builder = builder.set_client_to_sentinel_password(password);
                }
                // These are for looking whether the server that is named is a master.
                if !options.username.is_empty() {
                    builder = builder.set_client_to_redis_username(&options.username);
                }
                if !options.password.is_empty() {
                    builder = builder.set_client_to_redis_password(&options.password);
                }
                if let Some(certificates) = certificates {
                    builder = builder
                        .set_client_to_redis_tls_mode(redis::TlsMode::Secure)
                        .set_client_to_redis_certificates(certificates.clone())
                        .set_client_to_sentinel_certificates(certificates);
                }
                // A new one each time: it would go on using connections to sentinels that are gone.
                let named = builder.build()?.async_get_client().await?;
                let info = named.get_connection_info().clone();
                let client = Client::open(info.set_redis_settings(settings(options)))?;
                let connecting = client.get_multiplexed_async_connection_with_config(&config);
                Self::One(connecting.await?)
            }
            Servers::Cluster(addresses) => {
                let members: Result<Vec<_>, _> = addresses
                    .iter()
                    .map(|address| connection_info(options, address))
                    .collect();
                let mut builder = ClusterClientBuilder::new(members?)
                    .connection_timeout(options.connect_timeout)
                    .response_timeout(options.answer_timeout)
                    .retries(options.redirections)
                    .use_protocol(protocol(options));
                if let Some(certificates) = certificates {
                    builder = builder.certs(certificates);
                }
                Self::Cluster(builder.build()?.get_async_connection().await?)
            }
        };
        connection.introduce(options).await?;
        Ok(connection)
    }

    /// Gives the connection its name.
    async fn introduce(&self, options: &Options) -> Result<(), Failure> {
        if options.client_name.is_empty() || matches!(self, Self::Cluster(_)) {
            return Ok(());
        }
        let mut command = Cmd::new();
        command
            .arg("CLIENT")
            .arg("SETNAME")
            .arg(&options.client_name);
        self.ask::<()>(&command, options.answer_timeout).await
    }

    /// Asks, and waits for the answer for as long as `patience`.
    pub(crate) async fn ask<T: FromRedisValue>(
        &self,
        command: &Cmd,
        patience: Duration,
    ) -> Result<T, Failure> {
        let answer = match self.clone() {
            Self::One(mut connection) => timeout(patience, query(command, &mut connection)).await,
            Self::Cluster(mut connection) => {
                timeout(patience, query(command, &mut connection)).await
            }
        };
        Ok(answer.map_err(|_| Failure::Late(patience))??)
    }
}

async fn query<T: FromRedisValue>(
    command: &Cmd,
    connection: &mut impl ConnectionLike,
) -> Result<T, RedisError> {
    command.query_async(connection).await
}

fn protocol(options: &Options) -> ProtocolVersion {
    match options.protocol3 {
        true => ProtocolVersion::RESP3,
        false => ProtocolVersion::RESP2,
    }
}

/// An address as the library writes it.
fn place(options: &Options, address: &Address) -> ConnectionAddr {
    match address {
        Address::Tcp(host, port) if options.tls.is_some() => ConnectionAddr::TcpTls {
            host: host.clone(),
            port: *port,
            insecure: false,
            tls_params: None,
        },
        Address::Tcp(host, port) => ConnectionAddr::Tcp(host.clone(), *port),
        Address::Unix(path) => ConnectionAddr::Unix(path.clone()),
    }
}

fn connection_info(options: &Options, address: &Address) -> Result<ConnectionInfo, RedisError> {
    let info = place(options, address).into_connection_info()?;
    Ok(info.set_redis_settings(settings(options)))
}

/// What a connection begins with.
fn settings(options: &Options) -> RedisConnectionInfo {
    let mut settings = RedisConnectionInfo::default()
        .set_db(i64::from(options.database))
        .set_protocol(protocol(options));
    if !options.username.is_empty() {
        settings = settings.set_username(&options.username);
    }
    if !options.password.is_empty() {
        settings = settings.set_password(&options.password);
    }
    match options.anonymous {
        true => settings.set_skip_set_lib_name(),
        false => settings.set_lib_name(program(options), env!("CARGO_PKG_VERSION")),
    }
}

/// What Redis is told of the program that connects.
fn program(options: &Options) -> String {
    match options.identity_suffix.as_str() {
        "" => "wharfinger".to_owned(),
        suffix => format!("wharfinger({suffix})"),
    }
}
