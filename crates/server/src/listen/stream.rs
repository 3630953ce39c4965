//! The bytes of a connection, whatever carries them.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::mapping::FilePart;

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
        let mut look = |socket: BorrowedFd<'_>| {
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

    /// Has the kernel send a part of a file, or the beginning of it. What is not in memory of the
    /// file, the kernel waits for.
    ///
    /// # Errors
    /// What the connection fails with; [`io::ErrorKind::UnexpectedEof`] for a file that has become
    /// shorter; [`io::ErrorKind::Unsupported`] over TLS, and where the filesystem cannot do it.
    pub(crate) fn poll_send_file(
        &self,
        context: &mut Context<'_>,
        part: &FilePart,
    ) -> Poll<io::Result<usize>> {
        let send = |socket: BorrowedFd<'_>| {
            let mut start = part.start;
            match sendfile(socket, &part.file, Some(&mut start), part.length) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => Ok(length),
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    Err(io::ErrorKind::Unsupported.into())
                }
                Err(error) => Err(error.into()),
            }
        };
        self.poll_send(context, send)
    }

    /// Sends slices, as far as the connection takes them, and has the kernel wait for what is sent
    /// next before it makes up a packet.
    ///
    /// # Errors
    /// What the connection fails with; [`io::ErrorKind::Unsupported`] over TLS.
    pub(crate) fn poll_write_more(
        &self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, |socket| {
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            let mut nothing = SendAncillaryBuffer::default();
            Ok(sendmsg(socket, slices, &mut nothing, flags)?)
        })
    }

    fn poll_send(
        &self,
        context: &mut Context<'_>,
        mut send: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let sent = match self {
                Self::Tcp(stream) => {
                    ready!(stream.poll_write_ready(context))?;
                    stream.try_io(Interest::WRITABLE, || send(stream.as_fd()))
                }
                Self::Unix(stream) => {
                    ready!(stream.poll_write_ready(context))?;
                    stream.try_io(Interest::WRITABLE, || send(stream.as_fd()))
                }
                Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return Poll::Ready(sent),
            }
        }
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
        // The kernel has less to do for one piece that does not come as a list.
        if let [bytes] = slices {
            return self.poll_write(context, bytes);
        }
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
