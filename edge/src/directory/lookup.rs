//! Asks control about a Node that the map does not know: coalesced, bounded, and remembered for a moment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use plexsphere_wire::directory::NodeEntry;
use plexsphere_wire::{NodeId, subjects};
use tokio::sync::{OnceCell, Semaphore};

use super::{Directory, NodeRecord};
use crate::clock::Clock;
use crate::config::{DirectoryConfig, millis, seconds};
use crate::metrics::{Metrics, OfReason};

/// The most answers remembered at a time.
const MAX_REMEMBERED: usize = 10_000;

/// The directory cannot say anything about a Node. Never a refusal of the Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("directory cannot answer")]
pub struct LookupFault;

type Answer = Result<Option<Arc<NodeRecord>>, LookupFault>;

struct Remembered {
    answer: Arc<OnceCell<Answer>>,
    until: Duration,
}

/// The directory with control behind it.
pub struct Lookup {
    directory: Arc<Directory>,
    nats: async_nats::Client,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    permits: Semaphore,
    timeout: Duration,
    keep: Duration,
    grace: Duration,
    answers: Mutex<HashMap<NodeId, Remembered>>,
}

impl Lookup {
    /// A directory that asks control over `nats` on a miss.
    #[must_use]
    pub fn new(
        directory: Arc<Directory>,
        nats: async_nats::Client,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        config: &DirectoryConfig,
    ) -> Self {
        Self {
            directory,
            nats,
            clock,
            metrics,
            permits: Semaphore::new(config.max_lookups),
            timeout: millis(config.lookup_timeout_millis),
            keep: millis(config.lookup_cache_millis),
            grace: seconds(config.grace_seconds),
            answers: Mutex::new(HashMap::new()),
        }
    }

    /// The map behind it.
    #[must_use]
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The Node, from the map or from control; `None` when control does not know it either.
    ///
    /// # Errors
    /// [`LookupFault`] when the map is older than its grace time, or control does not answer.
    pub async fn node(&self, node: NodeId) -> Answer {
        if let Some(record) = self.directory.node(node) {
            let believed = self.directory.believed(self.clock.monotonic(), self.grace);
            return if believed { Ok(Some(record)) } else { Err(LookupFault) };
        }
        let cell = self.cell(node);
        let answer = cell.get_or_init(|| self.ask(node)).await.clone();
        if answer.is_err() {
            // A fault is not remembered: the next request asks again.
            self.answers.lock().remove(&node);
        }
        // The feed may have overtaken the answer.
        match self.directory.node(node) {
            Some(record) => Ok(Some(record)),
            None => answer,
        }
    }

    fn cell(&self, node: NodeId) -> Arc<OnceCell<Answer>> {
        let now = self.clock.monotonic();
        let mut answers = self.answers.lock();
        if let Some(known) = answers.get(&node)
            && now < known.until
        {
            return Arc::clone(&known.answer);
        }
        if answers.len() >= MAX_REMEMBERED {
            answers.retain(|_, remembered| now < remembered.until);
            if answers.len() >= MAX_REMEMBERED {
                answers.clear();
            }
        }
        let answer = Arc::new(OnceCell::new());
        answers.insert(node, Remembered { answer: Arc::clone(&answer), until: now + self.keep });
        answer
    }

    async fn ask(&self, node: NodeId) -> Answer {
        let asked = tokio::time::timeout(self.timeout, async {
            let _permit = self.permits.acquire().await.map_err(|_| LookupFault)?;
            let body = node.to_string().into();
            let reply = self.nats.request(subjects::DIRECTORY_LOOKUP, body).await.map_err(|_| LookupFault)?;
            serde_json::from_slice::<Option<NodeEntry>>(&reply.payload).map_err(|_| LookupFault)
        });
        let answer = match asked.await {
            Ok(Ok(entry)) => Ok(entry.filter(|entry| entry.node == node)),
            Ok(Err(fault)) => Err(fault),
            Err(_) => Err(LookupFault),
        };
        let reason = match &answer {
            Ok(Some(_)) => "found",
            Ok(None) => "unknown",
            Err(_) => "fault",
        };
        self.metrics.directory_lookups.get_or_create(&OfReason { reason }).inc();
        answer.map(|entry| entry.map(|entry| Arc::new(NodeRecord::new(entry))))
    }
}
