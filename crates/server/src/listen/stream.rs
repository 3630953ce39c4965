//! The bytes of a connection, whatever carries them.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// A connection. HTTP is built on this one type, so that each kind of connection costs a branch
/// and not a copy of the whole HTTP machinery.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<Stream>>),
}

impl Stream {
    /// Says that what is written goes out at once. Answers are written whole; waiting for more to
    /// send would only delay them.
    ///
    /// # Errors
    /// When the connection has ended.
    pub(crate) fn do_not_delay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            Self::Unix(_) => Ok(()),
            Self::Tls(stream) => stream.get_ref().0.do_not_delay(),
        }
    }

    /// The first byte that comes, which stays to be read; `None` when the connection ends before.
    ///
    /// # Errors
    /// What the connection fails with; [`io::ErrorKind::Unsupported`] over TLS.
    pub(crate) async fn peek(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let mut look = |socket: rustix::fd::BorrowedFd<'_>| {
            let (length, _) = recv(socket, &mut first, RecvFlags::PEEK)?;
            Ok(length)
        };
        let length = match self {
            Self::Tcp(stream) => {
                let look = || look(stream.as_fd());
                stream.async_io(Interest::READABLE, look).await?
            }
            Self::Unix(stream) => {
                let look = || look(stream.as_fd());
                stream.async_io(Interest::READABLE, look).await?
            }
            Self::Tls(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok((length > 0).then_some(first[0]))
    }
}

macro_rules! forward {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Tcp($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Self::Unix($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Self::Tls($stream) => {
                let $stream = Pin::new(&mut **$stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        forward!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, stream => stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_shutdown(context))
    }
}
