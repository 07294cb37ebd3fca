//! Answers an edge that does not find a Node in its directory.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use plexsphere_wire::NodeId;
use plexsphere_wire::subjects::{CONTROL_QUEUE, DIRECTORY_LOOKUP};
use tokio_util::sync::CancellationToken;

use crate::Fault;
use crate::seams::NodeEntries;
use crate::tasks::{Service, TaskKind};

/// Lookups answered at the same time.
const AT_ONCE: usize = 64;

/// The responder of `plexsphere.directory.v1.lookup`; the replicas share the requests.
pub struct DirectoryLookup {
    bus: async_nats::Client,
    nodes: Arc<dyn NodeEntries>,
}

impl DirectoryLookup {
    /// A responder.
    #[must_use]
    pub fn new(bus: async_nats::Client, nodes: Arc<dyn NodeEntries>) -> Self {
        Self { bus, nodes }
    }

    /// `NodeEntry` JSON, or `null` for what is no Node. A fault is not answered: the edge then says 503, never 401.
    async fn answer(&self, request: async_nats::Message) {
        let Some(reply) = request.reply else { return };
        let node = std::str::from_utf8(&request.payload).ok().and_then(|text| text.parse::<NodeId>().ok());
        let entry = match node {
            Some(node) => match self.nodes.node_entry(node).await {
                Ok(entry) => entry,
                Err(cause) => {
                    tracing::warn!(?cause, "a directory lookup failed");
                    return;
                }
            },
            None => None,
        };
        let Ok(body) = serde_json::to_vec(&entry) else { return };
        if let Err(error) = self.bus.publish(reply, body.into()).await {
            tracing::debug!(%error, "a directory lookup was not answered");
        }
    }
}

#[async_trait]
impl Service for DirectoryLookup {
    fn kind(&self) -> TaskKind {
        TaskKind::DirectoryLookup
    }

    async fn serve(&self, cancel: CancellationToken) -> Result<(), Fault> {
        let requests = self
            .bus
            .queue_subscribe(DIRECTORY_LOOKUP, CONTROL_QUEUE.to_owned())
            .await
            .map_err(|error| Fault::Bus(error.to_string()))?;
        requests.take_until(cancel.cancelled()).for_each_concurrent(AT_ONCE, |request| self.answer(request)).await;
        Ok(())
    }
}
