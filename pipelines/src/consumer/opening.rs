//! Opening messages away from the network threads: a batch may inflate to megabytes, and decoding them in place would
//! hold up every other delivery, the acknowledgements and the probes of the process.

use std::sync::Arc;

use plexsphere_wire::subjects;
use plexsphere_wire::telemetry::{Encoding, Inflater, PayloadFormat};

use super::RouteContext;
use super::held::Held;
use crate::batch::{self, Batch, Poison};

/// A payload that was not compressed is opened in place up to this size: that takes less than a thread's wake-up.
const INLINE_BYTES: usize = 16 * 1_024;
/// So is a gzip payload of this size, which may become a thousand times as large.
const INLINE_GZIP_BYTES: usize = 1_024;

/// Opens messages one after the other, in the order in which it is asked.
pub(super) struct Opener<'a> {
    context: &'a RouteContext,
    inflater: Inflater,
}

impl<'a> Opener<'a> {
    pub(super) fn new(context: &'a RouteContext) -> Self {
        Self { context, inflater: Inflater::new() }
    }

    /// Opens a message.
    ///
    /// # Errors
    /// [`Poison`].
    pub(super) async fn open(&mut self, held: &Held) -> Result<Batch, Poison> {
        let limits = self.context.limits;
        if held.payload_bytes() <= inline_bytes(held) {
            return batch::open(held.subject(), held.headers(), held.payload(), &limits, &mut self.inflater);
        }
        // Closed never; without a permit there is merely no bound.
        let permit = Arc::clone(&self.context.decoding).acquire_owned().await.ok();
        let (subject, headers, payload) = (held.subject().to_owned(), held.headers().cloned(), held.payload().clone());
        let mut inflater = std::mem::take(&mut self.inflater);
        let work = tokio::task::spawn_blocking(move || {
            // Held by the work and not by the delivery, which may be aborted while the work goes on.
            let _permit = permit;
            let opened = batch::open(&subject, headers.as_ref(), &payload, &limits, &mut inflater);
            (opened, inflater)
        });
        match work.await {
            Ok((opened, inflater)) => {
                self.inflater = inflater;
                opened
            }
            // As if it had panicked here: the delivery ends and its messages return after `ack_wait`.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is being shut down, and this delivery with it.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Up to which size a message is opened in place. One that says nothing of its payload is refused before it is read.
fn inline_bytes(held: &Held) -> usize {
    let format = held.headers().and_then(|headers| headers.get(subjects::HEADER_PAYLOAD));
    match format.and_then(|format| PayloadFormat::parse(format.as_str()).ok()).map(|format| format.encoding) {
        Some(Encoding::Identity) => INLINE_BYTES,
        Some(Encoding::Gzip) => INLINE_GZIP_BYTES,
        // A few bytes of zstd may become as much as the cap allows.
        Some(Encoding::Zstd) => 0,
        None => usize::MAX,
    }
}
