//! The event stream as an agent follows it: resume by cursor, believe nothing that is not signed.

mod cursor;
mod keyring;

pub use cursor::{Cursor, Order};
pub use keyring::{Distrust, KeyRing};

use std::time::Duration;

use plexsphere_wire::envelope::{Envelope, EventType};
use plexsphere_wire::sse::{Item, Parser};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::api::{ApiError, NodeApi};
use crate::clock;
use crate::transport::{Backoff, BackoffPolicy};

/// An agent reads lines through a buffer of 64 KiB; a longer line ends the stream.
pub const MAX_LINE_BYTES: usize = 65_535;
/// A stream that says nothing for this long is dropped.
pub const IDLE_LIMIT: Duration = Duration::from_secs(90);
/// How long to wait where the deployment has no bus.
const UNPROVISIONED_WAIT: Duration = Duration::from_secs(600);

/// One thing that happened on the stream.
#[derive(Debug)]
pub enum StreamEvent {
    /// The stream is open; an agent pulls its state now.
    Connected {
        /// The cursor that was sent.
        resumed_from: Option<u64>,
    },
    /// A comment, which only shows that the stream lives.
    Comment,
    /// A believed envelope.
    Event {
        /// Its sequence.
        sequence: Option<u64>,
        /// The envelope.
        envelope: Box<Envelope>,
        /// How the sequence stands to the ones before.
        order: Order,
    },
    /// A frame that is not believed; the cursor has moved past it.
    Distrusted {
        /// Its sequence.
        sequence: Option<u64>,
        /// Why.
        reason: Distrust,
    },
    /// The cursor was refused; the stream starts again at its end.
    CursorRefused,
    /// The stream ended or could not be opened; it is tried again.
    Interrupted {
        /// What happened, for people.
        reason: String,
        /// How long until the next attempt.
        wait: Duration,
    },
    /// The platform ended event delivery for this process: 401, 403 or 404.
    Ended {
        /// The refusal.
        reason: String,
    },
}

/// How a stream is followed.
#[derive(Clone, Copy, Debug)]
pub struct FollowOptions {
    /// Waits between attempts.
    pub backoff: BackoffPolicy,
    /// Silence after which the stream is dropped.
    pub idle: Duration,
    /// Cut every stream after this long and come back with the cursor; agents in the field do so after 30 s.
    pub cut_after: Option<Duration>,
}

impl Default for FollowOptions {
    fn default() -> Self {
        Self { backoff: BackoffPolicy::default(), idle: IDLE_LIMIT, cut_after: None }
    }
}

/// Follows one Node's stream.
#[derive(Debug)]
pub struct Follower {
    api: NodeApi,
    keys: KeyRing,
    cursor: Cursor,
    options: FollowOptions,
}

/// How one connection ended.
enum Ending {
    /// Cleanly, or cut by us: come back at once.
    Clean,
    /// Broken or silent: come back after a wait.
    Broken(String),
    /// Nobody listens to us any more.
    Unheard,
}

impl Follower {
    /// A follower that starts at the end of the stream.
    #[must_use]
    pub const fn new(api: NodeApi, keys: KeyRing, options: FollowOptions) -> Self {
        Self { api, keys, cursor: Cursor::new(), options }
    }

    /// Follows until the platform ends it or `out` is closed. Dropping the future closes the stream.
    pub async fn run(mut self, out: mpsc::Sender<StreamEvent>) {
        let mut backoff = Backoff::new(self.options.backoff);
        loop {
            let interrupted = match self.api.events(self.cursor.last()).await {
                Ok(stream) => {
                    let opened = StreamEvent::Connected { resumed_from: self.cursor.last() };
                    if out.send(opened).await.is_err() {
                        return;
                    }
                    backoff.reset();
                    match self.read(stream, &out).await {
                        Ending::Clean => (String::from("closed"), Duration::ZERO),
                        Ending::Broken(reason) => (reason, backoff.wait()),
                        Ending::Unheard => return,
                    }
                }
                Err(error) => match self.refused(&error, &mut backoff) {
                    Next::Wait(wait) => (error.to_string(), wait),
                    Next::Tail => {
                        self.cursor = Cursor::new();
                        if out.send(StreamEvent::CursorRefused).await.is_err() {
                            return;
                        }
                        continue;
                    }
                    Next::End => {
                        let _ = out.send(StreamEvent::Ended { reason: error.to_string() }).await;
                        return;
                    }
                },
            };
            let (reason, wait) = interrupted;
            if out.send(StreamEvent::Interrupted { reason, wait }).await.is_err() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn refused(&self, error: &ApiError, backoff: &mut Backoff) -> Next {
        match error.refused().map(|refused| (refused.status, refused.code.as_str())) {
            Some((400, "invalid_last_event_id")) if self.cursor.last().is_some() => Next::Tail,
            Some((401 | 403 | 404, _)) => Next::End,
            Some((501, _)) => Next::Wait(UNPROVISIONED_WAIT),
            Some(_) | None => Next::Wait(backoff.wait()),
        }
    }

    async fn read(&mut self, mut stream: crate::transport::Streaming, out: &mpsc::Sender<StreamEvent>) -> Ending {
        self.cursor.connected();
        let mut parser = Parser::default();
        let mut line_bytes = 0;
        let cut_at = self.options.cut_after.map(|after| Instant::now() + after);
        loop {
            let next = timeout(self.options.idle, stream.body.chunk());
            let next = match cut_at {
                Some(at) => match timeout_at(at, next).await {
                    Ok(next) => next,
                    Err(_) => return Ending::Clean,
                },
                None => next.await,
            };
            let bytes = match next {
                Err(_) => return Ending::Broken(format!("silent for {:?}", self.options.idle)),
                Ok(Err(error)) => return Ending::Broken(error.to_string()),
                Ok(Ok(None)) => return Ending::Clean,
                Ok(Ok(Some(bytes))) => bytes,
            };
            for byte in &bytes {
                line_bytes = if *byte == b'\n' { 0 } else { line_bytes + 1 };
                if line_bytes > MAX_LINE_BYTES {
                    return Ending::Broken("a line is longer than 64 KiB".to_owned());
                }
            }
            for item in parser.feed(&bytes) {
                let event = match item {
                    Item::Comment(_) => StreamEvent::Comment,
                    Item::Frame { id, event, data } => self.frame(&id, &event, &data),
                };
                if out.send(event).await.is_err() {
                    return Ending::Unheard;
                }
            }
        }
    }

    /// Moves the cursor, then judges the frame: a refused frame is not asked for again.
    fn frame(&mut self, id: &str, word: &str, data: &[u8]) -> StreamEvent {
        let sequence = id.parse::<u64>().ok();
        match self.keys.check(data, word, clock::now()) {
            Ok(envelope) => {
                let announcement = envelope.unsigned.event == EventType::SigningKeyRotated;
                let order = self.cursor.advance(sequence, announcement);
                StreamEvent::Event { sequence, envelope: Box::new(envelope), order }
            }
            Err(reason) => {
                self.cursor.advance(sequence, false);
                StreamEvent::Distrusted { sequence, reason }
            }
        }
    }
}

enum Next {
    Wait(Duration),
    Tail,
    End,
}
