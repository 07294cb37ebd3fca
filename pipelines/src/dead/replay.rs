//! Sending dead letters round again.

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::stream::RawMessageErrorKind;
use plexsphere_wire::DomainId;
use plexsphere_wire::subjects::{self, Origin};
use plexsphere_wire::telemetry::Signal;

use super::{DEAD_HEADERS, without_server_headers};
use crate::route::Route;

/// Why a replay stopped. What was replayed before stays replayed; calling again goes on behind it.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
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
/// trusted are never selected, because they lie under no Domain.
///
/// # Errors
/// [`ReplayError`]; the count of what went before is in the log.
pub async fn replay_dead(jetstream: &jetstream::Context, route: Route, domain: DomainId) -> Result<u64, ReplayError> {
    let read = |error: Box<dyn std::error::Error + Send + Sync>| ReplayError::Read(error);
    let stream = jetstream.get_stream(subjects::DEAD_STREAM).await.map_err(|error| read(error.into()))?;
    let last = stream.cached_info().state.last_sequence;
    let subject = subjects::dead_letter(route.durable(), Some(domain));
    let (mut sequence, mut replayed) = (1, 0);
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
        replayed += 1;
    }
    tracing::info!(consumer = %route, %domain, replayed, "dead letters replayed");
    Ok(replayed)
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
