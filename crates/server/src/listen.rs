//! Listening: on TCP, on a Unix socket, or on a socket that systemd hands over.

mod stream;
mod unix;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use listenfd::ListenFd;
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle};
use tokio::net::{TcpListener, UnixListener};

use crate::peer::Peer;
use crate::tls::Tls;

pub(crate) use stream::Stream;
use unix::SocketFile;

/// After how much silence the kernel asks whether the other end is still there: as Distribution
/// has it.
const KEEP_ALIVE: Duration = Duration::from_secs(180);

/// A socket that connections come in on, and what is spoken over them.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
    tls: Option<Tls>,
    /// Removed with the listener.
    _file: Option<SocketFile>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Where a listener can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// By address and port.
    Tcp(SocketAddr),
    /// The path of a Unix socket; an abstract one begins with `@`.
    Unix(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl Listener {
    /// Listens on `host:port`; no host is every address of the machine, of both IP versions. The
    /// port may be `http` or `https`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] when this is no host and port; what the operating system
    /// says.
    pub async fn tcp(addr: &str) -> io::Result<Self> {
        use io::ErrorKind::{AddrInUse, PermissionDenied};

        let (host, port) = addr.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
        let port = match port {
            "http" => "80",
            "https" => "443",
            port => port,
        };
        let listener = if host.is_empty() {
            match TcpListener::bind(format!("[::]:{port}")).await {
                // A machine without IPv6 says so in more than one way.
                Err(error) if !matches!(error.kind(), AddrInUse | PermissionDenied) => {
                    TcpListener::bind(format!("0.0.0.0:{port}")).await
                }
                result => result,
            }
        } else {
            TcpListener::bind(format!("{host}:{port}")).await
        };
        Self::try_from(listener?)
    }

    /// Listens on a Unix socket that the owner and the group of its file may connect to. The file
    /// of a listener that is gone is replaced; this one's is removed when it is dropped. A path
    /// that begins with `@` is an abstract name, which has no file.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] when another process listens there,
    /// [`io::ErrorKind::AlreadyExists`] for a file that is no socket; what the operating system
    /// says.
    pub fn unix(path: &str) -> io::Result<Self> {
        let (listener, file) = unix::listen(path)?;
        Ok(Self {
            socket: Socket::Unix(listener),
            address: Address::Unix(path.to_owned()),
            tls: None,
            _file: file,
        })
    }

    /// The socket that systemd, or who else started this process, hands over (`LISTEN_FDS`).
    ///
    /// # Errors
    /// When there is more than one, or one that is neither a TCP nor a Unix listener.
    pub fn inherited() -> io::Result<Option<Self>> {
        let mut handed = ListenFd::from_env();
        match handed.len() {
            0 => return Ok(None),
            1 => {}
            many => {
                return Err(io::Error::other(format!(
                    "{many} sockets were handed over, and only one can be used"
                )));
            }
        }
        if let Ok(Some(listener)) = handed.take_tcp_listener(0) {
            listener.set_nonblocking(true)?;
            return Self::try_from(TcpListener::from_std(listener)?).map(Some);
        }
        let listener = handed.take_unix_listener(0);
        let listener = listener.map_err(|error| {
            io::Error::other(format!("the socket that was handed over: {error}"))
        })?;
        listener.map(Self::handed_over).transpose()
    }

    /// A Unix socket whose file is somebody else's.
    fn handed_over(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let address = Address::Unix(unix::name(&listener.local_addr()?.into()));
        Ok(Self {
            socket: Socket::Unix(listener),
            address,
            tls: None,
            _file: None,
        })
    }

    /// The same socket, with TLS spoken over its connections.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Where it can be reached.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What is spoken over its connections, when it is not plain HTTP.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// The next connection, before a byte has come over it.
    ///
    /// # Errors
    /// What the operating system says; most of it passes.
    ///
    /// # Cancel safety
    /// Dropping this while it waits loses no connection.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // An address of IPv4 is told as one, also by a listener on both versions.
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                Ok((Stream::Tcp(stream), Peer::Tcp(peer)))
            }
            Socket::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::Unix))
            }
        }
    }
}

impl TryFrom<TcpListener> for Listener {
    type Error = io::Error;

    fn try_from(listener: TcpListener) -> io::Result<Self> {
        let socket = listener.as_fd();
        // Linux hands these on to the sockets of its connections: once is enough.
        set_socket_keepalive(socket, true)?;
        set_tcp_keepidle(socket, KEEP_ALIVE)?;
        Ok(Self {
            address: Address::Tcp(listener.local_addr()?),
            socket: Socket::Tcp(listener),
            tls: None,
            _file: None,
        })
    }
}
