//! What a crew and its workers say to each other: one JSON line each way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::identity::Identity;
use crate::histogram::Histogram;
use crate::transport::{BackoffPolicy, Protocol};

/// How the streams of a worker behave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Habits {
    /// `http` or `https` URLs; streams take them in turn.
    pub urls: Vec<String>,
    /// Believe these certificate authorities and no other.
    pub ca_cert: Option<PathBuf>,
    /// HTTP/1.1 or HTTP/2.
    pub http2: bool,
    /// Connections that one worker opens at the same time.
    pub connects_at_once: usize,
    /// The first wait after a broken or refused connection, and the longest; ±25 %.
    pub backoff_millis: (u64, u64),
    /// Cut every stream after this long and come back with the cursor, the moments spread.
    pub cut_after_millis: Option<u64>,
    /// Every so many-th stream of a worker has a small receive buffer, so that it can be stalled.
    pub stallable: Option<usize>,
}

impl Habits {
    /// An agent's habits on these URLs, its waits aside: a rig measures the platform, not how long an agent is patient.
    #[must_use]
    pub fn new(urls: Vec<String>, ca_cert: Option<PathBuf>, protocol: Protocol) -> Self {
        Self {
            urls,
            ca_cert,
            http2: protocol == Protocol::H2,
            connects_at_once: 128,
            backoff_millis: (100, 1_000),
            cut_after_millis: None,
            stallable: None,
        }
    }

    pub(super) const fn backoff(&self) -> BackoffPolicy {
        let (first, longest) = self.backoff_millis;
        BackoffPolicy {
            first: Duration::from_millis(first),
            longest: Duration::from_millis(longest),
            jitter_percent: 25,
        }
    }
}

/// What all streams of a worker are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    /// How often every stream was cut; a new number cuts them.
    pub cuts: u64,
    /// Whether stallable streams read nothing.
    pub stalled: bool,
}

/// An order to a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Open these streams; those before are dropped.
    Open { habits: Habits, identities: Vec<Identity>, number: usize },
    /// Behave like this from now on.
    Behave(Mode),
    /// Say what was seen.
    Report,
    /// Forget what was counted.
    Forget,
    /// Note when each stream is live and has seen this sequence.
    Watch(u64),
    /// Say those moments, in microseconds of UNIX time.
    Caught,
    /// Say what of these is missing.
    Missing(Vec<u64>),
    /// Accept bare connections, with TLS when a certificate and its key are given, and hold them.
    Serve { tls: Option<(PathBuf, PathBuf)> },
    /// Write these bytes to every bare connection, so many times, with a pause in between.
    Write { bytes: String, rounds: u32, pause_millis: u64 },
    /// Open so many bare connections and read them.
    Connect { address: SocketAddr, count: usize, number: usize, at_once: usize, ca_cert: Option<PathBuf> },
    /// Close every stream and every bare connection.
    Close,
}

/// A worker's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    Report(Box<Report>),
    Caught(Vec<u64>),
    Missing(Missing),
    Serving(SocketAddr),
    Written(Written),
    Failed(String),
}

/// One Domain-wide event and the streams that it reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// How many frames.
    pub frames: u64,
    /// When the first came, in microseconds of UNIX time.
    pub first_micros: u64,
    /// When the last came.
    pub last_micros: u64,
    /// When the event was written, if its payload says so.
    pub written_micros: Option<u64>,
}

impl Wave {
    pub(super) const fn new(now_micros: u64, written_micros: Option<u64>) -> Self {
        Self { frames: 0, first_micros: now_micros, last_micros: now_micros, written_micros }
    }

    fn merge(&mut self, other: &Self) {
        self.frames += other.frames;
        self.first_micros = self.first_micros.min(other.first_micros);
        self.last_micros = self.last_micros.max(other.last_micros);
    }
}

/// What streams saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// How many there are.
    pub streams: u64,
    /// Open now.
    pub live: u64,
    /// Ended for good by a 401, 403 or 404.
    pub ended: u64,
    /// Would come back with a cursor.
    pub with_cursor: u64,
    /// Times that a stream was opened.
    pub opened: u64,
    /// Refusals by status, and ends by cause.
    pub happened: BTreeMap<String, u64>,
    /// Frames.
    pub frames: u64,
    /// Comments: the opening ones and keep-alives.
    pub comments: u64,
    /// Frames of events that are for one Node alone.
    pub own: u64,
    /// Frames whose sequence was seen before on the same stream.
    pub repeated: u64,
    /// Frames whose sequence was below one seen before.
    pub backwards: u64,
    /// Frames that an agent does not believe.
    pub distrusted: u64,
    /// Domain-wide events by sequence.
    pub waves: BTreeMap<u64, Wave>,
    /// From the writing of an event to its frame.
    pub latency: Histogram,
    /// The largest frame, in bytes of the response's body.
    pub frame_bytes: usize,
    /// From the first packet of a connection to its 200.
    pub connect: Histogram,
}

impl Report {
    /// Adds another worker's.
    pub(super) fn merge(&mut self, other: &Self) {
        self.streams += other.streams;
        self.live += other.live;
        self.ended += other.ended;
        self.with_cursor += other.with_cursor;
        self.opened += other.opened;
        self.frames += other.frames;
        self.comments += other.comments;
        self.own += other.own;
        self.repeated += other.repeated;
        self.backwards += other.backwards;
        self.distrusted += other.distrusted;
        self.frame_bytes = self.frame_bytes.max(other.frame_bytes);
        for (word, count) in &other.happened {
            *self.happened.entry(word.clone()).or_default() += count;
        }
        for (sequence, wave) in &other.waves {
            self.waves.entry(*sequence).and_modify(|own| own.merge(wave)).or_insert(*wave);
        }
        self.latency.merge(&other.latency);
        self.connect.merge(&other.connect);
    }

    /// Whether every frame was believed and came once and in order.
    #[must_use]
    pub const fn in_order(&self) -> bool {
        self.repeated == 0 && self.backwards == 0 && self.distrusted == 0
    }
}

/// Events that streams did not see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Streams that lack at least one.
    pub streams: u64,
    /// How many, over all streams.
    pub events: u64,
}

/// What bare writing took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// Writes.
    pub writes: u64,
    /// Writes that the socket did not take whole.
    pub short: u64,
    /// Processor time of the writing process.
    pub cpu_nanos: u64,
}
