//! How far each route is behind, sampled.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use plexsphere_wire::Timestamp;
use plexsphere_wire::subjects;

use crate::clock::Clock;
use crate::health::Vitals;
use crate::metrics::Metrics;
use crate::route::Route;

/// Time between two samples.
pub(crate) const INTERVAL: Duration = Duration::from_secs(15);

/// Samples every route once. A route that cannot be sampled keeps its last values.
pub(crate) async fn sample(jetstream: &jetstream::Context, clock: &Clock, metrics: &Metrics, vitals: &Arc<Vitals>) {
    for route in Route::ALL {
        match backlog(jetstream, clock.now(), route).await {
            Ok(backlog) => {
                metrics.route(route).backlog(backlog.pending, backlog.ack_pending, backlog.oldest_seconds);
                vitals.oldest(route, backlog.oldest_seconds);
            }
            Err(error) => tracing::debug!(consumer = %route, %error, "backlog not sampled"),
        }
    }
}

/// What a consumer has left to do.
struct Backlog {
    pending: u64,
    ack_pending: usize,
    oldest_seconds: u64,
}

async fn backlog(jetstream: &jetstream::Context, now: Timestamp, route: Route) -> Result<Backlog, async_nats::Error> {
    let stream = jetstream.get_stream_no_info(route.stream()).await?;
    let info = stream.consumer_info(route.durable()).await?;
    let mut backlog = Backlog { pending: info.num_pending, ack_pending: info.num_ack_pending, oldest_seconds: 0 };
    if backlog.pending > 0 || backlog.ack_pending > 0 {
        // The floor is contiguous: the first message behind it is the oldest that this consumer has not acknowledged.
        let first = info.ack_floor.stream_sequence + 1;
        let subject = subjects::telemetry_all(route.signal());
        if let Ok(oldest) = stream.raw_message_builder().sequence(first).next_by_subject(subject).send().await {
            backlog.oldest_seconds = now.since(Timestamp::new(oldest.time)).as_secs();
        }
    }
    Ok(backlog)
}
