//! Whether batches are taken: only while their streams and consumers stand.

mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_nats::connection::State;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{ConsumerInfoErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use plexsphere_wire::subjects;
use plexsphere_wire::telemetry::Signal;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::IngestConfig;
use crate::probe::Probe;
use watch::{Looked, Watch};

/// The least `max_payload` that a server must have, in bytes.
const MIN_MAX_PAYLOAD_BYTES: usize = 4 * 1024 * 1024;
/// The least `max_msg_size` that a stream must have, in bytes: 2 MiB of payload and 64 KiB of headers.
const MIN_MESSAGE_BYTES: i32 = 2_162_688;

/// The state of the front door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SurfaceState {
    /// This deployment takes no telemetry.
    Disabled,
    /// Streams or consumers are not known to stand.
    Starting,
    /// Batches are taken.
    Open,
}

/// The state, shared.
#[derive(Debug)]
pub struct Surface(AtomicU8);

impl Surface {
    /// A surface in this state.
    #[must_use]
    pub const fn new(state: SurfaceState) -> Self {
        Self(AtomicU8::new(state as u8))
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> SurfaceState {
        match self.0.load(Ordering::Acquire) {
            0 => SurfaceState::Disabled,
            1 => SurfaceState::Starting,
            _ => SurfaceState::Open,
        }
    }

    fn set(&self, state: SurfaceState) {
        self.0.store(state as u8, Ordering::Release);
    }
}

/// What [`watch_surface`] looks at and tells.
pub struct SurfaceDeps {
    /// The bus.
    pub client: async_nats::Client,
    /// The state that it sets.
    pub surface: Arc<Surface>,
    /// The probe that it answers for.
    pub probe: Arc<Probe>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
}

/// Looks until everything stands, opens the surface, and keeps looking.
pub async fn watch_surface(deps: SurfaceDeps, config: IngestConfig, cancel: CancellationToken) {
    let jetstream = async_nats::jetstream::new(deps.client.clone());
    let mut watch = Watch::new(config.check_seconds);
    loop {
        let looked = look(&deps.client, &jetstream, &config).await;
        let told = watch.note(&looked, deps.clock.monotonic());
        if told.state != deps.surface.state() {
            tracing::info!(found = looked.as_str(), state = ?told.state, "telemetry surface changed");
            deps.surface.set(told.state);
        }
        if told.ready {
            deps.probe.pass("streams and consumers stand");
        } else {
            deps.probe.fail(looked.as_str());
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(told.pause) => {}
        }
    }
}

async fn look(
    client: &async_nats::Client,
    jetstream: &async_nats::jetstream::Context,
    config: &IngestConfig,
) -> Looked {
    if client.connection_state() != State::Connected {
        return Looked::Unknown("no connection to the bus".into());
    }
    let max_payload = client.server_info().max_payload;
    if max_payload < MIN_MAX_PAYLOAD_BYTES {
        return Looked::Missing(format!(
            "server takes {max_payload} bytes a message, {MIN_MAX_PAYLOAD_BYTES} are needed"
        ));
    }
    for signal in Signal::ALL {
        let name = subjects::telemetry_stream(signal);
        let stream = match jetstream.get_stream(name).await {
            Ok(stream) => stream,
            Err(error) => return judge(stream_is_missing(&error.kind()), format!("stream {name}: {error}")),
        };
        if let Err(setting) = check_settings(&stream.cached_info().config) {
            return Looked::Missing(format!("stream {name} has another {setting} than a receipt promises"));
        }
        for (_, durable) in config.durables.iter().filter(|(of, _)| of == name) {
            if let Err(error) = stream.consumer_info(durable).await {
                return judge(consumer_is_missing(&error.kind()), format!("consumer {durable}: {error}"));
            }
        }
    }
    Looked::Stands
}

fn judge(missing: bool, found: String) -> Looked {
    if missing { Looked::Missing(found) } else { Looked::Unknown(found) }
}

/// Whether the server said that there is no such stream. Anything else says nothing about the stream.
fn stream_is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Whether the server said that there is no such consumer.
fn consumer_is_missing(kind: &ConsumerInfoErrorKind) -> bool {
    matches!(kind, ConsumerInfoErrorKind::NotFound | ConsumerInfoErrorKind::StreamNotFound)
}

/// What a 202 promises hangs on these: nothing is evicted, nothing lives in memory only, every route gets it, and the
/// largest batch fits.
///
/// # Errors
/// The name of the first setting that breaks the promise.
fn check_settings(settings: &Config) -> Result<(), &'static str> {
    if settings.retention != RetentionPolicy::Interest {
        return Err("retention");
    }
    if settings.discard != DiscardPolicy::New {
        return Err("discard");
    }
    if settings.storage != StorageType::File {
        return Err("storage");
    }
    // -1 is what a server says where no limit was set.
    if settings.max_message_size != -1 && settings.max_message_size < MIN_MESSAGE_BYTES {
        return Err("max_msg_size");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Config {
        Config {
            retention: RetentionPolicy::Interest,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            max_message_size: MIN_MESSAGE_BYTES,
            ..Config::default()
        }
    }

    #[test]
    fn every_setting_that_a_receipt_hangs_on_is_judged() {
        assert_eq!(check_settings(&good()), Ok(()));
        assert_eq!(check_settings(&Config { max_message_size: -1, ..good() }), Ok(()));
        for retention in [RetentionPolicy::Limits, RetentionPolicy::WorkQueue] {
            assert_eq!(check_settings(&Config { retention, ..good() }), Err("retention"));
        }
        assert_eq!(check_settings(&Config { discard: DiscardPolicy::Old, ..good() }), Err("discard"));
        assert_eq!(check_settings(&Config { storage: StorageType::Memory, ..good() }), Err("storage"));
        for max_message_size in [MIN_MESSAGE_BYTES - 1, 1_048_576, 0] {
            assert_eq!(check_settings(&Config { max_message_size, ..good() }), Err("max_msg_size"));
        }
    }

    #[test]
    fn only_the_servers_own_word_says_that_something_is_missing() {
        let refusal = |code: u64| {
            let text = format!(r#"{{"code":404,"err_code":{code},"description":"x"}}"#);
            GetStreamErrorKind::JetStream(serde_json::from_str(&text).unwrap())
        };
        assert!(stream_is_missing(&refusal(10_059)));
        for unsaid in [refusal(10_008), refusal(10_077), GetStreamErrorKind::Request] {
            assert!(!stream_is_missing(&unsaid), "{unsaid:?}");
        }
        assert!(consumer_is_missing(&ConsumerInfoErrorKind::NotFound));
        for unsaid in [
            ConsumerInfoErrorKind::TimedOut,
            ConsumerInfoErrorKind::Request,
            ConsumerInfoErrorKind::NoResponders,
            ConsumerInfoErrorKind::Offline,
        ] {
            assert!(!consumer_is_missing(&unsaid), "{unsaid:?}");
        }
    }
}
