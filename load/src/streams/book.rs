//! What the streams of one worker saw.

mod sequences;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use plexsphere_wire::envelope::{EventType, parse_public_key};

use self::sequences::Sequences;
use super::identity::Identity;
use super::message::{Missing, Report, Wave};
use crate::clock;
use crate::events::{Cursor, KeyRing, Order};
use crate::histogram::Histogram;

/// Payloads may say when they were written, in microseconds of UNIX time, under this name.
pub const STAMP: &str = "written_at_micros";

/// What a frame of one line has besides its values: `id: `, `event: `, `data: ` and the ends of lines.
const FRAME_FIELDS: usize = 21;
/// How many events are kept to compare others with.
const KEPT_WAVES: usize = 4_096;

/// One stream.
#[derive(Debug, Default)]
struct Stream {
    cursor: Cursor,
    live: bool,
    ended: bool,
    /// Domain-wide events.
    seen: Sequences,
    /// Events for this Node alone.
    own: u64,
    /// When it was live and had seen what is watched for.
    caught_micros: Option<u64>,
}

/// A frame that was judged, so that the same bytes on another stream need no second signature check.
struct Judged {
    data: Box<[u8]>,
    believed: bool,
    written_micros: Option<u64>,
}

/// The streams of a worker and what they saw.
pub(super) struct Book {
    streams: Vec<Stream>,
    keys: Option<KeyRing>,
    judged: HashMap<u64, Judged>,
    waves: BTreeMap<u64, Wave>,
    watched: Option<u64>,
    /// Totals; waves and counts of streams are added when it is asked for.
    totals: Report,
    latency: Histogram,
    connect: Histogram,
}

impl Book {
    /// A book for Nodes of one Domain.
    pub(super) fn new(identities: &[Identity]) -> Self {
        let keys = identities
            .first()
            .and_then(|identity| parse_public_key(&identity.key).map(|key| KeyRing::new(identity.key_id.clone(), key)));
        Self {
            streams: identities.iter().map(|_| Stream::default()).collect(),
            keys,
            judged: HashMap::new(),
            waves: BTreeMap::new(),
            watched: None,
            totals: Report::default(),
            latency: Histogram::default(),
            connect: Histogram::default(),
        }
    }

    /// The cursor to come back with.
    pub(super) fn cursor(&self, index: usize) -> Option<u64> {
        self.streams.get(index).and_then(|stream| stream.cursor.last())
    }

    pub(super) fn opened(&mut self, index: usize, took: Duration) {
        self.connect.record(took);
        self.totals.opened += 1;
        let watched = self.watched;
        if let Some(stream) = self.streams.get_mut(index) {
            stream.live = true;
            stream.cursor.connected();
            stream.catch_up(watched);
        }
    }

    pub(super) fn closed(&mut self, index: usize, why: &str) {
        if let Some(stream) = self.streams.get_mut(index) {
            stream.live = false;
        }
        self.count(why);
    }

    /// The platform refused; the word is the status. 401, 403 and 404 end a stream, 400 drops its cursor.
    pub(super) fn refused(&mut self, index: usize, status: u16) -> bool {
        let ends = matches!(status, 401 | 403 | 404);
        if let Some(stream) = self.streams.get_mut(index) {
            stream.ended |= ends;
            if status == 400 {
                stream.cursor = Cursor::new();
            }
        }
        self.count(&format!("http_{status}"));
        ends
    }

    pub(super) fn count(&mut self, word: &str) {
        *self.totals.happened.entry(word.to_owned()).or_default() += 1;
    }

    pub(super) fn commented(&mut self) {
        self.totals.comments += 1;
    }

    /// Takes a frame: moves the cursor, judges, and notes the moment.
    pub(super) fn frame(&mut self, index: usize, id: &str, word: &str, data: &[u8]) {
        let (sequence, now_micros) = (id.parse::<u64>().ok(), clock::unix_micros());
        let event = EventType::parse(word);
        let Some(stream) = self.streams.get_mut(index) else { return };
        let order = stream.cursor.advance(sequence, event == Some(EventType::SigningKeyRotated));
        self.totals.frames += 1;
        self.totals.repeated += u64::from(order == Order::Repeated);
        self.totals.backwards += u64::from(matches!(order, Order::Backwards | Order::Missing));
        self.totals.frame_bytes = self.totals.frame_bytes.max(FRAME_FIELDS + id.len() + word.len() + data.len());
        let Some(sequence) = sequence else { return };
        if event.is_some_and(EventType::carries_peers) {
            stream.seen.insert(sequence);
        } else {
            stream.own += 1;
        }
        stream.catch_up(self.watched);
        let written = self.judge(sequence, word, data);
        if let Some(written) = written.filter(|_| order == Order::Next) {
            self.latency.record(Duration::from_micros(now_micros.saturating_sub(written)));
        }
        if event.is_some_and(EventType::carries_peers) {
            let wave = self.waves.entry(sequence).or_insert_with(|| Wave::new(now_micros, written));
            wave.frames += 1;
            wave.last_micros = now_micros;
        }
    }

    /// Checks the signature of what was not seen before; when it says that it was written.
    fn judge(&mut self, sequence: u64, word: &str, data: &[u8]) -> Option<u64> {
        let known = self.judged.get(&sequence).filter(|known| *known.data == *data);
        let (believed, written) = match known {
            Some(known) => (known.believed, known.written_micros),
            None => {
                let believed = self.keys.as_mut().is_some_and(|keys| keys.check(data, word, clock::now()).is_ok());
                let written_micros = stamp(data);
                if self.judged.len() >= KEPT_WAVES {
                    self.judged.clear();
                }
                self.judged.insert(sequence, Judged { data: data.into(), believed, written_micros });
                (believed, written_micros)
            }
        };
        self.totals.distrusted += u64::from(!believed);
        written
    }

    /// From now on the moment is noted at which each stream that opens, or hears something, has seen this sequence.
    pub(super) fn watch(&mut self, sequence: u64) {
        self.watched = Some(sequence);
        for stream in &mut self.streams {
            stream.caught_micros = None;
        }
    }

    /// The moments of [`Self::watch`], of those streams that have caught up.
    pub(super) fn caught(&self) -> Vec<u64> {
        self.streams.iter().filter_map(|stream| stream.caught_micros).collect()
    }

    /// Everything so far.
    pub(super) fn report(&self) -> Report {
        let count = |of: fn(&Stream) -> bool| self.streams.iter().filter(|stream| of(stream)).count() as u64;
        Report {
            streams: self.streams.len() as u64,
            live: count(|stream| stream.live),
            ended: count(|stream| stream.ended),
            with_cursor: count(|stream| stream.cursor.last().is_some()),
            own: self.streams.iter().map(|stream| stream.own).sum(),
            waves: self.waves.clone(),
            latency: self.latency.clone(),
            connect: self.connect.clone(),
            ..self.totals.clone()
        }
    }

    /// Forgets what was counted; cursors stay.
    pub(super) fn forget(&mut self) {
        self.waves.clear();
        self.judged.clear();
        self.totals = Report::default();
        self.latency = Histogram::default();
        self.connect = Histogram::default();
        for stream in &mut self.streams {
            stream.seen = Sequences::default();
            stream.own = 0;
        }
    }

    /// Which of these Domain-wide events are missing on streams that are not ended.
    pub(super) fn missing(&self, expected: &[u64]) -> Missing {
        let mut missing = Missing::default();
        for stream in self.streams.iter().filter(|stream| !stream.ended) {
            let lacking = expected.iter().filter(|sequence| !stream.seen.contains(**sequence)).count() as u64;
            missing.events += lacking;
            missing.streams += u64::from(lacking > 0);
        }
        missing
    }
}

impl Stream {
    fn catch_up(&mut self, watched: Option<u64>) {
        let there = watched.is_some_and(|watched| self.cursor.last().unwrap_or(0) >= watched);
        if self.live && there && self.caught_micros.is_none() {
            self.caught_micros = Some(clock::unix_micros());
        }
    }
}

/// The number behind `"written_at_micros":`, wherever it stands.
fn stamp(data: &[u8]) -> Option<u64> {
    let place = data.windows(STAMP.len()).position(|window| window == STAMP.as_bytes())?;
    let digits = data.get(place + STAMP.len()..)?.strip_prefix(b"\":")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}
