//! Walking a batch: the frame around the records, their count, and which problem comes first.

use std::marker::PhantomData;

use super::records::{AuditEvent, LogLine, MetricSample, Record};
use super::refusal::{Refusal, Rule};
use super::scanner::Scanner;
use super::{Limits, Shape, Signal};

/// What a valid batch holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Number of records, at least 1.
    pub records: usize,
    /// Labels that may not travel on, over all samples.
    pub labels_dropped: usize,
    /// Messages that are too long to travel on whole.
    pub messages_cut: usize,
}

impl Summary {
    /// Whether the batch must be re-encoded by [`rewrite`](super::rewrite) before it travels on.
    pub const fn must_rewrite(&self) -> bool {
        self.labels_dropped > 0 || self.messages_cut > 0
    }
}

/// Validates a batch without building anything.
///
/// # Errors
///
/// The first problem in record order, see [`Refusal`].
pub fn validate(signal: Signal, shape: Shape, inflated: &[u8], limits: &Limits) -> Result<Summary, Refusal> {
    match signal {
        Signal::Metrics => tally(Records::<MetricSample<'_>>::new(shape, inflated, limits)),
        Signal::Logs => tally(Records::<LogLine<'_>>::new(shape, inflated, limits)),
        Signal::Audit => tally(Records::<AuditEvent<'_>>::new(shape, inflated, limits)),
    }
}

fn tally<'a, R: Record<'a>>(records: Records<'a, R>) -> Result<Summary, Refusal> {
    let mut summary = Summary::default();
    for record in records {
        record?.tally(&mut summary);
        summary.records += 1;
    }
    Ok(summary)
}

/// The records of a batch in order, each checked as it is read. After the first refusal the iterator is at its end; a
/// batch is valid when none comes.
pub struct Records<'a, R> {
    scanner: Scanner<'a>,
    shape: Shape,
    cap: usize,
    read: usize,
    stage: Stage,
    /// Whether bytes that are not UTF-8 follow the scanner's text.
    followed_by_garbage: bool,
    record: PhantomData<fn() -> R>,
}

enum Stage {
    Start,
    Within,
    Done,
}

/// Why reading stopped, before the record's index is put to it.
enum Stop {
    TooMany,
    Broken(Rule),
}

impl From<Rule> for Stop {
    fn from(rule: Rule) -> Self {
        Self::Broken(rule)
    }
}

impl<'a, R: Record<'a>> Records<'a, R> {
    /// The records of the inflated bytes of a batch whose signal is [`Record::SIGNAL`].
    pub fn new(shape: Shape, inflated: &'a [u8], limits: &Limits) -> Self {
        // Records before the first bad byte are judged on their own, so that the first problem is the one reported.
        let text = match std::str::from_utf8(inflated) {
            Ok(text) => text,
            Err(error) => inflated
                .get(..error.valid_up_to())
                .and_then(|valid| std::str::from_utf8(valid).ok())
                .unwrap_or_default(),
        };
        Self {
            scanner: Scanner::new(text, matches!(shape, Shape::Array)),
            shape,
            cap: limits.records,
            read: 0,
            stage: Stage::Start,
            followed_by_garbage: text.len() < inflated.len(),
            record: PhantomData,
        }
    }

    fn advance(&mut self) -> Result<Option<R>, Stop> {
        if matches!(self.stage, Stage::Start) && self.scanner.is_at_byte_order_mark() {
            return Err(Rule::ByteOrderMark.into());
        }
        match self.shape {
            Shape::Array => self.next_element(),
            Shape::Ndjson => self.next_line(),
        }
    }

    fn next_element(&mut self) -> Result<Option<R>, Stop> {
        self.scanner.skip_space();
        match (&self.stage, self.scanner.peek()) {
            (Stage::Start, None) => return Err(Rule::NoRecords.into()),
            (Stage::Start, Some(b'[')) => {
                self.stage = Stage::Within;
                self.scanner.step();
                self.scanner.skip_space();
                if self.scanner.peek() == Some(b']') {
                    return self.end_of_array();
                }
            }
            (Stage::Start, Some(_)) => return Err(Rule::NotAnArray.into()),
            (Stage::Within | Stage::Done, Some(b']')) => return self.end_of_array(),
            (Stage::Within | Stage::Done, Some(b',')) => {
                self.scanner.step();
                self.scanner.skip_space();
                if self.scanner.peek() == Some(b']') {
                    return Err(Rule::Syntax.into());
                }
            }
            (Stage::Within | Stage::Done, _) => return Err(Rule::Syntax.into()),
        }
        self.record().map(Some)
    }

    fn end_of_array(&mut self) -> Result<Option<R>, Stop> {
        self.scanner.step();
        self.scanner.skip_space();
        if !self.scanner.is_at_end() || self.followed_by_garbage {
            return Err(Rule::TrailingData.into());
        }
        self.end()
    }

    fn next_line(&mut self) -> Result<Option<R>, Stop> {
        self.stage = Stage::Within;
        self.scanner.skip_blank_lines();
        if self.scanner.is_at_end() && !self.followed_by_garbage {
            return self.end();
        }
        let record = self.record()?;
        self.scanner.skip_space();
        match self.scanner.peek() {
            Some(b'\n') => Ok(Some(record)),
            None if !self.followed_by_garbage => Ok(Some(record)),
            _ => Err(Rule::TrailingData.into()),
        }
    }

    fn end(&self) -> Result<Option<R>, Stop> {
        if self.read == 0 { Err(Rule::NoRecords.into()) } else { Ok(None) }
    }

    /// Reads the record that starts under the cursor, unless it would be one too many.
    fn record(&mut self) -> Result<R, Stop> {
        match self.scanner.peek() {
            None if !self.followed_by_garbage => Err(Rule::Syntax.into()),
            _ if self.read == self.cap => Err(Stop::TooMany),
            Some(b'{') => Ok(R::read(&mut self.scanner)?),
            _ => Err(Rule::NotAnObject.into()),
        }
    }

    fn refusal(&self, stop: Stop) -> Refusal {
        match stop {
            Stop::TooMany => Refusal::TooManyRecords { cap: self.cap },
            Stop::Broken(_) if self.followed_by_garbage && self.scanner.is_at_end() => {
                Refusal::Malformed { record: self.read, rule: Rule::Utf8 }
            }
            Stop::Broken(rule) => Refusal::Malformed { record: self.read, rule },
        }
    }
}

impl<'a, R: Record<'a>> Iterator for Records<'a, R> {
    type Item = Result<R, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        if matches!(self.stage, Stage::Done) {
            return None;
        }
        match self.advance() {
            Ok(Some(record)) => {
                self.read += 1;
                Some(Ok(record))
            }
            Ok(None) => {
                self.stage = Stage::Done;
                None
            }
            Err(stop) => {
                self.stage = Stage::Done;
                Some(Err(self.refusal(stop)))
            }
        }
    }
}
