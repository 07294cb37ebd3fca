//! Whether batches are taken: only while their streams and consumers stand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_nats::connection::State;
use async_nats::jetstream::stream::{DiscardPolicy, RetentionPolicy, StorageType};
use plexsphere_wire::subjects;
use plexsphere_wire::telemetry::Signal;
use tokio_util::sync::CancellationToken;

use crate::config::{IngestConfig, seconds};
use crate::probe::Probe;

/// The least `max_payload` that a server must have, in bytes.
const MIN_MAX_PAYLOAD_BYTES: usize = 4 * 1024 * 1024;

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

/// Looks until everything stands, opens the surface, and keeps looking.
pub async fn watch_surface(
    client: async_nats::Client,
    surface: Arc<Surface>,
    probe: Arc<Probe>,
    config: IngestConfig,
    cancel: CancellationToken,
) {
    let jetstream = async_nats::jetstream::new(client.clone());
    let mut failures = 0u32;
    loop {
        match stands(&client, &jetstream, &config).await {
            Ok(()) => {
                failures = 0;
                if surface.state() != SurfaceState::Open {
                    tracing::info!("telemetry surface is open");
                }
                surface.set(SurfaceState::Open);
                probe.pass("streams and consumers stand");
            }
            Err(missing) => {
                failures = failures.saturating_add(1);
                // A lost connection alone answers 503 by itself; what is known to be missing closes the surface.
                if client.connection_state() == State::Connected && surface.state() != SurfaceState::Starting {
                    tracing::info!(missing, "telemetry surface is closed");
                    surface.set(SurfaceState::Starting);
                }
                if surface.state() == SurfaceState::Starting || failures > 30 {
                    probe.fail(&missing);
                }
            }
        }
        let pause =
            if failures == 0 { seconds(config.check_seconds) } else { seconds(2).min(seconds(config.check_seconds)) };
        let pause = if surface.state() == SurfaceState::Starting {
            pause.min(std::time::Duration::from_millis(250))
        } else {
            pause
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn stands(
    client: &async_nats::Client,
    jetstream: &async_nats::jetstream::Context,
    config: &IngestConfig,
) -> Result<(), String> {
    if client.connection_state() != State::Connected {
        return Err("no connection to the bus".into());
    }
    let max_payload = client.server_info().max_payload;
    if max_payload < MIN_MAX_PAYLOAD_BYTES {
        return Err(format!("server takes {max_payload} bytes a message, {MIN_MAX_PAYLOAD_BYTES} are needed"));
    }
    for signal in Signal::ALL {
        let name = subjects::telemetry_stream(signal);
        let stream = jetstream.get_stream(name).await.map_err(|error| format!("stream {name}: {error}"))?;
        let settings = &stream.cached_info().config;
        // What a 202 promises hangs on these: nothing is evicted, nothing lives in memory only, every route gets it.
        if settings.retention != RetentionPolicy::Interest
            || settings.discard != DiscardPolicy::New
            || settings.storage != StorageType::File
        {
            return Err(format!("stream {name} has other settings than a receipt promises"));
        }
        for (_, durable) in config.durables.iter().filter(|(of, _)| of == name) {
            stream.consumer_info(durable).await.map_err(|error| format!("consumer {durable}: {error}"))?;
        }
    }
    Ok(())
}
