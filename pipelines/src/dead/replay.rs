//! Sending dead letters round again.

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::RawMessageErrorKind;
use plexsphere_wire::intake::{COMMAND_LINE, SystemIntake};
use plexsphere_wire::subjects::{self, Origin};
use plexsphere_wire::telemetry::Signal;
use plexsphere_wire::{CorrelationId, DomainId};

use super::{DEAD_HEADERS, without_server_headers};
use crate::clock::Clock;
use crate::route::Route;

/// The action's name in the audit log.
const RELATION: &str = "telemetry.replay_dead";

/// Why a replay stopped. What was replayed before stays replayed, and is recorded; calling again goes on behind it.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The audit log cannot be reached, so nothing was replayed.
    #[error("cannot reach the audit intake")]
    Unrecordable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The letters went round again, but the audit log did not take the row that says so.
    #[error("{replayed} dead letters were replayed, but that could not be recorded")]
    Unrecorded {
        /// How many.
        replayed: u64,
        /// Why.
        #[source]
        source: jetstream::context::PublishError,
    },
    /// The dead-letter stream cannot be read.
    #[error("cannot read the dead-letter stream")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The buffer stream did not take a letter.
    #[error("cannot publish dead letter {sequence}")]
    Publish {
        /// Its sequence in the dead-letter stream.
        sequence: u64,
        /// Why.
        #[source]
        source: jetstream::context::PublishError,
    },
    /// A letter was published again but could not be removed.
    #[error("cannot remove dead letter {sequence}")]
    Remove {
        /// Its sequence in the dead-letter stream.
        sequence: u64,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Publishes the dead letters of a route and Domain to their origin subjects and removes them; returns how many.
///
/// The message id is new, because the duplicate window would swallow the old one, and is a function of the dead letter,
/// so that a replay interrupted between publishing and removing does not publish twice when it is run again within the
/// window. The batch id stays, so that sinks that have the batch recognise it: every route of the signal gets the
/// message again. Letters that arrive while the replay runs are left for the next one, and letters whose origin is not
/// trusted are never selected, because they lie under no Domain. Each replay is a row on the platform's audit chain,
/// one that stopped midway as well.
///
/// # Errors
/// [`ReplayError`]; the count of what went before is in the log and in the row.
pub async fn replay_dead(jetstream: &jetstream::Context, route: Route, domain: DomainId) -> Result<u64, ReplayError> {
    // Nothing is done that could not be recorded.
    let intake = jetstream.get_stream(subjects::AUDIT_INTAKE_STREAM).await;
    intake.map_err(|error| ReplayError::Unrecordable(error.into()))?;
    let mut replayed = 0;
    let ended = replay(jetstream, (route, domain), &mut replayed).await;
    tracing::info!(consumer = %route, %domain, replayed, "dead letters replayed");
    let recorded = record(jetstream, (route, domain), replayed).await;
    ended?;
    recorded.map_err(|source| ReplayError::Unrecorded { replayed, source })?;
    Ok(replayed)
}

/// The row: consumer, Domain and count stand in the object's id.
async fn record(
    jetstream: &jetstream::Context,
    (route, domain): (Route, DomainId),
    replayed: u64,
) -> Result<(), jetstream::context::PublishError> {
    let now = Clock::system().now();
    let correlation_id = CorrelationId::mint(now);
    let row = SystemIntake {
        domain: None,
        subject: COMMAND_LINE,
        relation: RELATION.to_owned(),
        object_type: "dead_letters".to_owned(),
        object_id: format!("{}/{domain}/{replayed}", route.durable()),
        denied: None,
        repeated: 0,
        correlation_id: correlation_id.clone(),
        occurred_at: now,
    };
    let body = serde_json::to_vec(&row).unwrap_or_default();
    // A repetition of the publication, after a lost acknowledgement, is the same row.
    let message = PublishMessage::build().payload(body.into()).message_id(format!("{RELATION}:{correlation_id}"));
    jetstream.send_publish(subjects::AUDIT_INTAKE, message).await?.await?;
    Ok(())
}

async fn replay(
    jetstream: &jetstream::Context,
    (route, domain): (Route, DomainId),
    replayed: &mut u64,
) -> Result<(), ReplayError> {
    let read = |error: Box<dyn std::error::Error + Send + Sync>| ReplayError::Read(error);
    let stream = jetstream.get_stream(subjects::DEAD_STREAM).await.map_err(|error| read(error.into()))?;
    let last = stream.cached_info().state.last_sequence;
    let subject = subjects::dead_letter(route.durable(), Some(domain));
    let mut sequence = 1;
    while sequence <= last {
        let letter = match stream.raw_message_builder().sequence(sequence).next_by_subject(&subject).send().await {
            Ok(letter) => letter,
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => break,
            Err(error) => return Err(read(error.into())),
        };
        let found = letter.sequence;
        if found > last {
            break;
        }
        sequence = found + 1;
        let Some((origin_subject, headers)) = original(&letter.headers, found) else {
            tracing::warn!(consumer = %route, %domain, sequence = found, "dead letter names no origin and stays");
            continue;
        };
        let publish = |source| ReplayError::Publish { sequence: found, source };
        jetstream
            .publish_with_headers(origin_subject, headers, letter.payload)
            .await
            .map_err(publish)?
            .await
            .map_err(publish)?;
        stream
            .delete_message(found)
            .await
            .map_err(|error| ReplayError::Remove { sequence: found, source: error.into() })?;
        *replayed += 1;
    }
    Ok(())
}

/// Subject and headers of the message that the letter was made from.
fn original(headers: &HeaderMap, sequence: u64) -> Option<(String, HeaderMap)> {
    let origin = Origin::parse_header(headers.get(subjects::HEADER_ORIGIN)?.as_str())?;
    let signal = Signal::parse(headers.get(subjects::HEADER_SIGNAL)?.as_str())?;
    let batch_id = headers.get(subjects::HEADER_BATCH_ID)?.as_str().to_owned();
    let mut restored = HeaderMap::new();
    for (name, values) in without_server_headers(headers).iter() {
        let text: &str = name.as_ref();
        if !DEAD_HEADERS.iter().any(|dead| dead.eq_ignore_ascii_case(text)) {
            for value in values {
                restored.append(name.clone(), value.clone());
            }
        }
    }
    restored.insert(subjects::HEADER_MSG_ID, format!("{batch_id}:replay:{sequence}"));
    Some((subjects::telemetry(signal, &origin), restored))
}
