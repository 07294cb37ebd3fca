//! The buffer streams, the dead-letter stream and the five durable consumers: created when missing, verified when there.
//!
//! Only this tier creates them. The edge opens its ingest surface when it *sees* the three streams and the five
//! durables: with interest retention, a message published while no consumer exists vanishes.
//!
//! Streams are requested as JSON rather than through the client's own type, because that type leaves out settings of
//! newer servers (`allow_atomic`) unless the client is compiled for them.

mod api;
mod settings;

use std::collections::BTreeSet;

use async_nats::jetstream;
use plexsphere_wire::subjects;
use plexsphere_wire::telemetry::Signal;

pub use api::TopologyError;
use api::{Reply, create_stream, stream_config, update_stream};
use settings::{Difference, StreamSettings, compare};

use crate::config::TopologyConfig;
use crate::route::Route;

/// Largest message of a buffer stream: 2 MiB of payload and 64 KiB of headers.
pub const MAX_MESSAGE_BYTES: i64 = 2_162_688;
/// Unacknowledged messages that one consumer may hold.
pub const MAX_ACK_PENDING: i64 = 4_096;
/// No stream is scaled below this: it would refuse batches before a sink has had time to answer.
pub const MIN_STREAM_BYTES: i64 = 16 << 20;

/// What [`ensure`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ensured {
    /// Streams that did not exist.
    pub created_streams: Vec<String>,
    /// Routes whose durable was missing on a stream that existed. What was published meanwhile never reaches that sink.
    pub recreated: Vec<Route>,
    /// How often every configured size had to be halved to fit the server; 0 when nothing was.
    pub halvings: u32,
}

/// Creates what is missing and verifies what is there. Idempotent; safe to run in several replicas at once.
///
/// # Errors
/// [`TopologyError`] when the bus does not answer, offers too little, or holds a stream or consumer of the same name
/// whose settings cannot be brought in line.
pub async fn ensure(jetstream: &jetstream::Context, config: &TopologyConfig) -> Result<Ensured, TopologyError> {
    check_payload_limit(jetstream)?;
    let mut ensured = Ensured::default();
    let mut created = BTreeSet::new();
    loop {
        match ensure_streams(jetstream, config, ensured.halvings, &mut created).await {
            Ok(()) => break,
            Err(TopologyError::Storage { .. }) if can_halve(config, ensured.halvings) => ensured.halvings += 1,
            Err(error) => return Err(error),
        }
    }
    for route in Route::ALL {
        let is_new = ensure_consumer(jetstream, config, route).await?;
        if is_new && !created.contains(route.stream()) {
            ensured.recreated.push(route);
        }
    }
    ensured.created_streams = created.into_iter().collect();
    Ok(ensured)
}

fn check_payload_limit(jetstream: &jetstream::Context) -> Result<(), TopologyError> {
    let offered = jetstream.client().server_info().max_payload;
    let needed = usize::try_from(MAX_MESSAGE_BYTES).unwrap_or(usize::MAX);
    // Zero is what the client knows before its first connection.
    if offered != 0 && offered < needed { Err(TopologyError::Payload { offered, needed }) } else { Ok(()) }
}

/// Whether another halving leaves the largest stream above the floor.
fn can_halve(config: &TopologyConfig, halvings: u32) -> bool {
    let largest = Signal::ALL.into_iter().map(|signal| config.max_bytes(signal)).fold(config.dead_max_bytes, i64::max);
    largest.checked_shr(halvings).unwrap_or(0) > MIN_STREAM_BYTES
}

async fn ensure_streams(
    jetstream: &jetstream::Context,
    config: &TopologyConfig,
    halvings: u32,
    created: &mut BTreeSet<String>,
) -> Result<(), TopologyError> {
    for settings in settings::all(config, halvings) {
        if ensure_stream(jetstream, &settings).await? {
            created.insert(settings.name.to_owned());
        }
    }
    Ok(())
}

/// Whether the stream was created.
async fn ensure_stream(jetstream: &jetstream::Context, wanted: &StreamSettings) -> Result<bool, TopologyError> {
    let existing = match stream_config(jetstream, wanted.name).await? {
        Some(existing) => existing,
        None => match create_stream(jetstream, wanted).await? {
            Reply::Done => return Ok(true),
            // Another replica was faster; its stream is verified like any other.
            Reply::Exists => stream_config(jetstream, wanted.name)
                .await?
                .ok_or_else(|| TopologyError::unexpected(wanted.name, "stream vanished while it was verified"))?,
        },
    };
    match compare(wanted, &existing) {
        Difference::None => {}
        Difference::Adjustable(merged) => update_stream(jetstream, wanted.name, &merged).await?,
        Difference::Fixed { setting, wanted: expected, found } => {
            return Err(TopologyError::Settings { what: wanted.name.to_owned(), setting, wanted: expected, found });
        }
    }
    Ok(false)
}

/// Whether the consumer was created.
async fn ensure_consumer(
    jetstream: &jetstream::Context,
    config: &TopologyConfig,
    route: Route,
) -> Result<bool, TopologyError> {
    let wanted = settings::consumer(config, route);
    let stream = jetstream
        .get_stream_no_info(route.stream())
        .await
        .map_err(|error| TopologyError::unexpected(route.stream(), &error))?;
    let found = match api::consumer_config(jetstream, route).await? {
        Some(found) => found,
        None => {
            stream.create_consumer(wanted).await.map_err(|error| TopologyError::unexpected(route.durable(), &error))?;
            return Ok(true);
        }
    };
    if let Some(error) = settings::consumer_mismatch(&wanted, &found, route) {
        return Err(error);
    }
    if found.ack_wait != wanted.ack_wait || found.max_ack_pending != wanted.max_ack_pending {
        stream.update_consumer(wanted).await.map_err(|error| TopologyError::unexpected(route.durable(), &error))?;
    }
    Ok(false)
}

/// Every stream that [`ensure`] keeps, for whoever checks that they exist.
#[must_use]
pub fn stream_names() -> [&'static str; 4] {
    let [metrics, logs, audit] = Signal::ALL.map(subjects::telemetry_stream);
    [metrics, logs, audit, subjects::DEAD_STREAM]
}
