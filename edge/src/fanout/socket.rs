//! A client's socket without a library above it: what can be done at once is done, and nothing waits.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::task::{Context, Poll};

use rustls::ServerConnection;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// A socket, plain or with TLS.
#[derive(Debug)]
pub enum Socket {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<Tls>),
}

/// A TLS session and the socket below it.
#[derive(Debug)]
pub struct Tls {
    io: TcpStream,
    session: ServerConnection,
}

impl From<TcpStream> for Socket {
    fn from(io: TcpStream) -> Self {
        Self::Plain(io)
    }
}

impl From<tokio_rustls::server::TlsStream<TcpStream>> for Socket {
    fn from(stream: tokio_rustls::server::TlsStream<TcpStream>) -> Self {
        let (io, session) = stream.into_inner();
        Self::Tls(Box::new(Tls { io, session }))
    }
}

/// Reads and writes what is possible at once.
struct AtOnce<'s>(&'s TcpStream);

impl io::Read for AtOnce<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(space)
    }
}

impl io::Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket {
    const fn io(&self) -> &TcpStream {
        match self {
            Self::Plain(io) => io,
            Self::Tls(tls) => &tls.io,
        }
    }

    /// Whether bytes that it has taken have not left yet.
    pub(super) fn holds_bytes(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.session.wants_write())
    }

    /// Takes bytes to send; how many.
    ///
    /// # Errors
    /// `WouldBlock` when it has no room, anything else when it is broken.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            // One piece is cheaper to pass than a list of one.
            Self::Plain(io) => match slices {
                [whole] => io.try_write(whole),
                pieces => io.try_write_vectored(pieces),
            },
            Self::Tls(tls) => tls.session.writer().write_vectored(slices),
        }
    }

    /// Lets leave what it has taken.
    ///
    /// # Errors
    /// As [`Socket::write`].
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if let Self::Tls(tls) = self {
            while tls.session.wants_write() {
                tls.session.write_tls(&mut AtOnce(&tls.io))?;
            }
        }
        Ok(())
    }

    /// Says that nothing more will be sent. Nothing is sent by it: flush.
    pub(super) fn finish(&mut self) {
        if let Self::Tls(tls) = self {
            tls.session.send_close_notify();
        }
    }

    /// Waits for room to write.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_write_ready(cx)
    }

    /// Throws away what the client has sent, some bytes at a time; `None` when it has left.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        loop {
            match self.io().poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(None),
            }
            match self.discard() {
                Ok(0) => return Poll::Ready(None),
                Ok(taken) => return Poll::Ready(Some(taken)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(None),
            }
        }
    }

    fn discard(&mut self) -> io::Result<usize> {
        let mut space = [0u8; 1024];
        match self {
            Self::Plain(io) => io.try_read(&mut space),
            Self::Tls(tls) => {
                let taken = tls.session.read_tls(&mut AtOnce(&tls.io))?;
                let state = tls.session.process_new_packets().map_err(io::Error::other)?;
                let mut left = state.plaintext_bytes_to_read();
                while left > 0 {
                    left = left.saturating_sub(tls.session.reader().read(&mut space)?.max(1));
                }
                Ok(if state.peer_has_closed() { 0 } else { taken })
            }
        }
    }

    /// Closes our side and waits until the client has closed its own. A close over bytes that still arrive would be
    /// answered with a reset, which may overtake what was sent last.
    pub(super) async fn close(mut self) {
        let closed = match &mut self {
            Self::Plain(io) => io.shutdown().await,
            Self::Tls(tls) => tls.io.shutdown().await,
        };
        if closed.is_ok() {
            while std::future::poll_fn(|cx| self.poll_discard(cx)).await.is_some() {}
        }
    }
}
