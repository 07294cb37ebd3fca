//! The streams that the relay publishes to.

use std::time::Duration;

use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, ErrorCode};
use plexsphere_wire::envelope::MAX_ENVELOPE_BYTES;
use plexsphere_wire::subjects::{DOMAIN_EVENTS_PREFIX, EVENTS_ALL, EVENTS_STREAM};

use crate::Fault;

/// The stream of internal domain events: at least once, to be deduplicated by `Nats-Msg-Id`, which is the row's id.
pub const DOMAIN_EVENTS_STREAM: &str = "PLEX_DOMAIN_EVENTS";

/// How long an acknowledgement may take.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
const HOUR: Duration = Duration::from_secs(3_600);
const DUPLICATE_WINDOW: Duration = Duration::from_secs(600);
/// 600 KiB: an envelope with its signature and its headers.
const MAX_MESSAGE_BYTES: i32 = 600 * 1_024;
const _: () = assert!(MAX_ENVELOPE_BYTES + 4_096 < 600 * 1_024);

pub(super) fn context(bus: async_nats::Client) -> jetstream::Context {
    ContextBuilder::new().timeout(ACK_TIMEOUT).build(bus)
}

/// Creates the streams that are missing. A stream that exists is left as its operator has set it.
pub(super) async fn ensure(jetstream: &jetstream::Context, replicas: usize) -> Result<(), Fault> {
    for config in [events(replicas), domain_events(replicas)] {
        let name = config.name.clone();
        match jetstream.get_stream(&name).await {
            Ok(_) => {}
            Err(error) if is_missing(&error) => {
                jetstream
                    .create_stream(config)
                    .await
                    .map_err(|error| Fault::Bus(format!("stream {name} cannot be created: {error}")))?;
            }
            Err(error) => return Err(Fault::Bus(format!("stream {name} cannot be read: {error}"))),
        }
    }
    Ok(())
}

fn is_missing(error: &jetstream::context::GetStreamError) -> bool {
    matches!(error.kind(), jetstream::context::GetStreamErrorKind::JetStream(error)
        if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn events(replicas: usize) -> Config {
    Config {
        name: EVENTS_STREAM.to_owned(),
        description: Some("signed event envelopes for Nodes".to_owned()),
        subjects: vec![EVENTS_ALL.to_owned()],
        max_age: 24 * HOUR,
        deny_delete: true,
        deny_purge: true,
        ..limits(replicas)
    }
}

fn domain_events(replicas: usize) -> Config {
    Config {
        name: DOMAIN_EVENTS_STREAM.to_owned(),
        description: Some("domain events between contexts".to_owned()),
        subjects: vec![format!("{DOMAIN_EVENTS_PREFIX}.>")],
        max_age: HOUR,
        ..limits(replicas)
    }
}

fn limits(replicas: usize) -> Config {
    Config {
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: replicas,
        max_message_size: MAX_MESSAGE_BYTES,
        duplicate_window: DUPLICATE_WINDOW,
        allow_direct: true,
        ..Config::default()
    }
}
