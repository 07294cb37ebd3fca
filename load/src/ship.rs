//! Sends batches in order and does with refusals what an agent does.

use std::collections::VecDeque;

use plexsphere_wire::telemetry::Signal;
use tokio::time::Instant;

use crate::api::{Batch, EncodingChoice, NodeApi, Reaction};
use crate::clock;

/// A batch that is not settled yet.
#[derive(Clone, Debug)]
pub struct Pending {
    /// What is sent.
    pub batch: Batch,
    /// When it was due; latency is measured from here.
    pub due: Instant,
    /// How often it was sent.
    pub attempts: u32,
}

/// What came of one attempt, or of a batch that could not wait any longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 202.
    Accepted {
        /// The count of the receipt, when there was one.
        receipt_records: Option<u64>,
    },
    /// Dropped for good by what the platform said.
    Dropped {
        /// Why.
        code: String,
    },
    /// Too large: both halves are sent in its place.
    Halved {
        /// Why.
        code: String,
    },
    /// Kept for the next tick.
    Kept {
        /// Why.
        code: String,
    },
    /// Pushed out of a full buffer by newer batches.
    Evicted,
}

/// The buffer of one signal of one Node.
#[derive(Debug)]
pub struct Shipper {
    api: NodeApi,
    choice: EncodingChoice,
    queue: VecDeque<Pending>,
    capacity: usize,
}

impl Shipper {
    /// An empty buffer for at most `capacity` batches, at least one.
    #[must_use]
    pub fn new(api: NodeApi, choice: EncodingChoice, capacity: usize) -> Self {
        Self { api, choice, queue: VecDeque::new(), capacity: capacity.max(1) }
    }

    /// How many batches wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Puts a batch at the end; returns the oldest one when the buffer was full.
    pub fn push(&mut self, batch: Batch, due: Instant) -> Option<Pending> {
        let evicted = if self.queue.len() >= self.capacity { self.queue.pop_front() } else { None };
        self.queue.push_back(Pending { batch, due, attempts: 0 });
        evicted
    }

    /// Encodes records and puts them at the end, unless there are none.
    ///
    /// # Errors
    /// [`crate::api::EncodeError`].
    pub fn push_records(
        &mut self,
        signal: Signal,
        records: Vec<bytes::Bytes>,
        due: Instant,
    ) -> Result<Option<Pending>, crate::api::EncodeError> {
        if records.is_empty() {
            return Ok(None);
        }
        let batch = Batch::encode(signal, self.api.node(), records, self.choice)?;
        Ok(self.push(batch, due))
    }

    /// Sends what waits, oldest first, until the buffer is empty or a batch has to be kept. `seen` hears of every attempt.
    pub async fn flush(&mut self, mut seen: impl FnMut(&Pending, &Outcome)) {
        while let Some(mut pending) = self.queue.pop_front() {
            pending.attempts += 1;
            let outcome = match self.api.post(&pending.batch, clock::now()).await {
                Ok(receipt) => Outcome::Accepted { receipt_records: receipt.map(|receipt| receipt.records) },
                Err(error) => match error.reaction() {
                    Reaction::Drop => Outcome::Dropped { code: error.word() },
                    Reaction::Keep => Outcome::Kept { code: error.word() },
                    Reaction::Halve => self.halve(&pending, error.word()),
                },
            };
            seen(&pending, &outcome);
            if matches!(outcome, Outcome::Kept { .. }) {
                self.queue.push_front(pending);
                return;
            }
        }
    }

    fn halve(&mut self, pending: &Pending, code: String) -> Outcome {
        match pending.batch.clone().halve(self.api.node(), self.choice) {
            Ok(Some((first, second))) => {
                for half in [second, first] {
                    self.queue.push_front(Pending { batch: half, due: pending.due, attempts: 0 });
                }
                Outcome::Halved { code }
            }
            Ok(None) | Err(_) => Outcome::Dropped { code },
        }
    }

    /// Takes out what is left.
    pub fn into_waiting(self) -> VecDeque<Pending> {
        self.queue
    }
}
