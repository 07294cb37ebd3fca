//! The bucket of the directory.

use async_nats::jetstream;
use async_nats::jetstream::kv::{Config, Store};
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

pub(super) async fn put(store: &Store, key: &str, value: Bytes) -> Result<(), Fault> {
    store.put(key, value).await.map(drop).map_err(bus)
}

pub(super) async fn delete(store: &Store, key: &str) -> Result<(), Fault> {
    store.delete(key).await.map_err(bus)
}

pub(super) fn bus(error: impl std::fmt::Display) -> Fault {
    Fault::Bus(error.to_string())
}
