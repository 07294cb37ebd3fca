//! A TCP or TLS stream that ends when the other side is too slow: with a request's head, with nothing at all, or with
//! taking what is written.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Activity;

/// How slow the other side may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From the first byte of a head to its last; `None` where heads are not told from other frames (HTTP/2).
    pub(super) head: Option<Duration>,
    /// Without any request.
    pub(super) idle: Duration,
    /// Without taking a byte of what is written.
    pub(super) write: Duration,
}

/// The guarded stream.
pub struct Guarded<S> {
    stream: S,
    patience: Patience,
    activity: Arc<Activity>,
    read_timer: Option<Pin<Box<Sleep>>>,
    head_begun: bool,
    requests_seen: usize,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, patience: Patience, activity: Arc<Activity>) -> Self {
        Self { stream, patience, activity, read_timer: None, head_begun: false, requests_seen: 0, write_timer: None }
    }

    fn watch_read(&mut self, cx: &mut Context<'_>, got_bytes: bool) -> Poll<io::Result<()>> {
        let begun = self.activity.begun();
        if begun != self.requests_seen {
            self.requests_seen = begun;
            self.read_timer = None;
            self.head_begun = false;
        }
        if !self.activity.idle() {
            self.read_timer = None;
            return Poll::Pending;
        }
        if got_bytes && !self.head_begun {
            if let Some(head) = self.patience.head {
                self.head_begun = true;
                self.read_timer = Some(Box::pin(tokio::time::sleep_until(Instant::now() + head)));
            }
            return Poll::Pending;
        }
        let idle = self.patience.idle;
        let timer = self.read_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
        timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn watch_write<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timer = None;
            return written;
        }
        let write = self.patience.write;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + write)));
        timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        match read {
            Poll::Ready(Ok(())) => {
                // A head that drips in is caught here, because each drip makes the read ready.
                match this.watch_read(cx, buffer.filled().len() > before) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
                }
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.watch_read(cx, false),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watch_write(cx, written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.watch_write(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.watch_write(cx, shut)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.watch_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
