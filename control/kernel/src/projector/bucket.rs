//! The bucket of the directory.

use async_nats::jetstream;
use async_nats::jetstream::kv::{Config, Operation, Store, UpdateErrorKind};
use async_nats::jetstream::stream::StorageType;
use bytes::Bytes;
use plexsphere_wire::subjects::DIRECTORY_BUCKET;

use crate::Fault;

pub(super) struct Bucket {
    jetstream: jetstream::Context,
    replicas: usize,
}

impl Bucket {
    pub(super) fn new(bus: async_nats::Client, replicas: usize) -> Self {
        Self { jetstream: jetstream::new(bus), replicas }
    }

    /// The bucket, created when it is missing, and the moment it was created.
    pub(super) async fn open(&self) -> Result<(Store, i128), Fault> {
        let store = match self.jetstream.get_key_value(DIRECTORY_BUCKET).await {
            Ok(store) => store,
            Err(error) => {
                tracing::debug!(%error, "the directory bucket is not there");
                self.jetstream.create_key_value(self.config()).await.map_err(bus)?
            }
        };
        let created = store.stream.cached_info().created.unix_timestamp_nanos();
        Ok((store, created))
    }

    fn config(&self) -> Config {
        Config {
            bucket: DIRECTORY_BUCKET.to_owned(),
            description: "nodes and domains as edges know them".to_owned(),
            history: 1,
            storage: StorageType::File,
            num_replicas: self.replicas,
            ..Config::default()
        }
    }
}

/// What the bucket holds of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The revision that a successor has to name; 0 where there never was one.
    pub(super) revision: u64,
    /// The value; `None` also for one that was deleted.
    pub(super) value: Option<Bytes>,
}

/// Looks a key up.
pub(super) async fn look(store: &Store, key: &str) -> Result<Seen, Fault> {
    Ok(match store.entry(key).await.map_err(bus)? {
        Some(entry) => {
            Seen { revision: entry.revision, value: (entry.operation == Operation::Put).then_some(entry.value) }
        }
        None => Seen::default(),
    })
}

/// Writes or deletes a key whose last revision is `revision`; `false`, and nothing done, when it is another by now.
pub(super) async fn replace(store: &Store, key: &str, value: Option<Bytes>, revision: u64) -> Result<bool, Fault> {
    let replaced = match value {
        Some(value) => store.update(key, value, revision).await.map(drop),
        None => store.delete_expect_revision(key, Some(revision)).await,
    };
    match replaced {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(false),
        Err(error) => Err(bus(error)),
    }
}

pub(super) fn bus(error: impl std::fmt::Display) -> Fault {
    Fault::Bus(error.to_string())
}
