//! Answers edges that ask for an announcement.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use plexsphere_kernel::Fault;
use plexsphere_kernel::tasks::{Service, TaskKind};
use plexsphere_wire::signing::AnnouncementRequest;
use plexsphere_wire::subjects::{ANNOUNCE, CONTROL_QUEUE};
use tokio_util::sync::CancellationToken;

use crate::service::Signing;

/// Requests answered at the same time.
const AT_ONCE: usize = 64;
/// The largest request that is read.
const MAX_REQUEST_BYTES: usize = 1_024;

/// The responder of `plexsphere.signing.v1.announce`; the replicas share the requests.
pub struct SigningAnnouncer {
    bus: async_nats::Client,
    signing: Arc<Signing>,
}

impl SigningAnnouncer {
    /// A responder.
    #[must_use]
    pub const fn new(bus: async_nats::Client, signing: Arc<Signing>) -> Self {
        Self { bus, signing }
    }

    /// The envelope, or nothing when none is due. A fault is not answered.
    async fn answer(&self, request: async_nats::Message) {
        let Some(reply) = request.reply else { return };
        let asked = (request.payload.len() <= MAX_REQUEST_BYTES)
            .then(|| serde_json::from_slice::<AnnouncementRequest>(&request.payload).ok())
            .flatten();
        let body = match asked {
            Some(asked) => match self.signing.announce(asked.domain, &asked.pinned_kid).await {
                Ok(envelope) => envelope.map(|envelope| envelope.to_vec()).unwrap_or_default(),
                Err(cause) => {
                    tracing::warn!(domain = %asked.domain, %cause, "a key was not announced");
                    return;
                }
            },
            None => Vec::new(),
        };
        if let Err(error) = self.bus.publish(reply, body.into()).await {
            tracing::debug!(%error, "an announcement was not sent");
        }
    }
}

#[async_trait]
impl Service for SigningAnnouncer {
    fn kind(&self) -> TaskKind {
        TaskKind::SigningAnnouncer
    }

    async fn serve(&self, cancel: CancellationToken) -> Result<(), Fault> {
        let requests = self
            .bus
            .queue_subscribe(ANNOUNCE, CONTROL_QUEUE.to_owned())
            .await
            .map_err(|error| Fault::Bus(error.to_string()))?;
        requests.take_until(cancel.cancelled()).for_each_concurrent(AT_ONCE, |request| self.answer(request)).await;
        Ok(())
    }
}
