//! A TCP or TLS stream that ends when the other side is too slow: with a request's head, with nothing at all, or with
//! taking what is written.
//!
//! It lingers at its end when a body was refused unread. Closing over bytes that still arrive makes the system answer
//! them with a reset, and a reset may overtake the refusal or break off a client that is still writing.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::Activity;

/// The most bytes of a refused body that are taken in and thrown away: as much as a careless agent sends in one go.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// How slow the other side may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From the first byte of a head to its last; `None` where heads are not told from other frames (HTTP/2).
    pub(super) head: Option<Duration>,
    /// Without any request.
    pub(super) idle: Duration,
    /// Without taking a byte of what is written.
    pub(super) write: Duration,
    /// With the rest of a body that was refused.
    pub(super) linger: Duration,
}

/// The end of a connection whose client may still be sending.
struct Linger {
    timer: Pin<Box<Sleep>>,
    left: usize,
    _place: OwnedSemaphorePermit,
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
    lingering: Option<Arc<Semaphore>>,
    shut: bool,
    linger: Option<Linger>,
}

impl<S> Guarded<S> {
    /// The stream, no longer guarded.
    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// Guards `stream`; with places in `lingering` it takes in the rest of a refused body before it closes.
    pub(super) fn new(
        stream: S,
        patience: Patience,
        activity: Arc<Activity>,
        lingering: Option<Arc<Semaphore>>,
    ) -> Self {
        Self {
            stream,
            patience,
            activity,
            read_timer: None,
            head_begun: false,
            requests_seen: 0,
            write_timer: None,
            lingering,
            shut: false,
            linger: None,
        }
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

impl<S: AsyncRead + Unpin> Guarded<S> {
    /// Takes in what the client still sends, until it has read the refusal and closes, or until it has had enough of our
    /// time.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(places) = self.lingering.take()
            && self.activity.unread()
            && let Ok(place) = places.try_acquire_owned()
        {
            let timer = Box::pin(tokio::time::sleep_until(Instant::now() + self.patience.linger));
            self.linger = Some(Linger { timer, left: LINGER_BYTES, _place: place });
        }
        let Some(linger) = &mut self.linger else { return Poll::Ready(()) };
        let mut space = [0u8; 8 * 1024];
        while linger.left > 0 && linger.timer.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    linger.left = linger.left.saturating_sub(buffer.filled().len());
                }
                Poll::Ready(_) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        self.linger = None;
        Poll::Ready(())
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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watch_write(cx, written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            this.activity.handover.note_written();
        }
        this.watch_write(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.shut {
            let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.watch_write(cx, shut))?;
            this.shut = true;
        }
        this.poll_linger(cx).map(Ok)
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    fn guarded(unread: bool, places: &Arc<Semaphore>) -> (Guarded<DuplexStream>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let patience = Patience {
            head: None,
            idle: Duration::from_secs(60),
            write: Duration::from_secs(60),
            linger: Duration::from_millis(100),
        };
        let activity = Arc::new(Activity::default());
        if unread {
            activity.leave_unread();
        }
        (Guarded::new(ours, patience, activity, Some(Arc::clone(places))), theirs)
    }

    #[tokio::test]
    async fn a_close_takes_in_so_many_bytes_of_a_refused_body_and_no_more() {
        let places = Arc::new(Semaphore::new(1));
        let (mut ours, mut theirs) = guarded(true, &places);
        ours.patience.linger = Duration::from_secs(60);
        let (closed, sent) = tokio::join!(
            async {
                let closed = ours.shutdown().await;
                drop(ours);
                closed
            },
            async {
                let mut sent = 0;
                while theirs.write_all(&[0; 16 * 1024]).await.is_ok() {
                    sent += 16 * 1024;
                }
                sent
            }
        );
        assert!(closed.is_ok());
        assert!((LINGER_BYTES..=LINGER_BYTES + 128 * 1024).contains(&sent), "{sent}");
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_close_waits_so_long_for_a_silent_client_and_for_so_many_clients_at_a_time() {
        let places = Arc::new(Semaphore::new(1));
        let (mut first, mut other_end) = guarded(true, &places);
        let (mut second, _silent) = guarded(true, &places);
        second.patience.linger = Duration::from_secs(600);
        let begun = Instant::now();
        let lingers = tokio::spawn(async move { first.shutdown().await.map(|()| begun.elapsed()) });
        assert_eq!(other_end.read(&mut [0; 1]).await.unwrap(), 0, "its own end is closed at once");
        assert_eq!(places.available_permits(), 0);
        second.shutdown().await.expect("it found no place and does not wait");
        assert!(lingers.await.unwrap().unwrap() >= Duration::from_millis(100));
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_close_after_a_body_that_was_read_waits_for_nothing() {
        let places = Arc::new(Semaphore::new(1));
        let (mut ours, _silent) = guarded(false, &places);
        ours.patience.linger = Duration::from_secs(600);
        ours.shutdown().await.unwrap();
    }
}
