//! The comparison of the whole bucket with the database.

use std::collections::HashMap;

use async_nats::jetstream::kv::{Operation, Store};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use plexsphere_wire::directory::{domain_key, node_key};
use sha2::{Digest as _, Sha256};

use super::bucket::{bus, replace};
use super::{DirectoryProjector, WRITES_AT_ONCE, encode};
use crate::Fault;

/// Entries read from a context in one page.
const PAGE: i64 = 1_000;

/// What the bucket holds of each key: the revision, and the value's digest, so that a large directory fits in memory.
type Held = HashMap<String, (u64, Option<[u8; 32]>)>;

impl DirectoryProjector {
    /// Writes what differs and deletes what should not be there; how many keys that were.
    pub(super) async fn reconcile(&self, store: &Store) -> Result<u64, Fault> {
        let mut held = held(store).await?;
        let mut changed = 0;
        let mut after = None;
        loop {
            let page = self.parts.nodes.node_entries(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.node);
            let entries = page.iter().map(|entry| Ok((node_key(entry.node), encode(entry)?)));
            changed += self.write(store, &mut held, entries.collect::<Result<Vec<_>, Fault>>()?).await?;
        }
        let mut after = None;
        loop {
            let page = self.parts.domains.domain_entries(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.domain);
            let entries = page.iter().map(|entry| Ok((domain_key(entry.domain), encode(entry)?)));
            changed += self.write(store, &mut held, entries.collect::<Result<Vec<_>, Fault>>()?).await?;
        }
        // A page may have been read before the key's owner came to be, so each is looked up.
        for key in held.into_iter().filter_map(|(key, (_, digest))| digest.map(|_| key)) {
            changed += u64::from(self.project(store, &key).await?);
        }
        if changed > 0 {
            tracing::info!(changed, "the directory bucket was brought in line with the database");
        }
        Ok(changed)
    }

    /// Writes the entries that differ and strikes all of them from what is left to explain. The bucket was read before
    /// the entries; a key that was written since is read anew.
    async fn write(&self, store: &Store, held: &mut Held, entries: Vec<(String, Bytes)>) -> Result<u64, Fault> {
        let differing = entries.into_iter().filter_map(|(key, value)| {
            let (revision, digest) = held.remove(&key).unwrap_or_default();
            (digest != Some(Sha256::digest(&value).into())).then_some((key, value, revision))
        });
        let differing: Vec<_> = differing.collect();
        let written = u64::try_from(differing.len()).unwrap_or(u64::MAX);
        futures_util::stream::iter(differing)
            .map(Ok)
            .try_for_each_concurrent(WRITES_AT_ONCE, |(key, value, revision)| async move {
                if !replace(store, &key, Some(value), revision).await? {
                    self.project(store, &key).await?;
                }
                Ok::<_, Fault>(())
            })
            .await?;
        Ok(written)
    }
}

async fn held(store: &Store) -> Result<Held, Fault> {
    let mut held = Held::new();
    if store.status().await.map_err(bus)?.values() == 0 {
        return Ok(held);
    }
    let mut entries = store.watch_many_with_history([">"]).await.map_err(bus)?;
    while let Some(entry) = entries.next().await {
        let entry = entry.map_err(bus)?;
        let digest = (entry.operation == Operation::Put).then(|| Sha256::digest(&entry.value).into());
        held.insert(entry.key, (entry.revision, digest));
        if entry.delta == 0 {
            break;
        }
    }
    Ok(held)
}
