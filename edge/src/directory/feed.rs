//! Follows the directory's bucket.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv::{Entry, Operation, Store};
use futures_util::StreamExt as _;
use plexsphere_wire::directory::DirectoryKey;
use plexsphere_wire::{NodeId, subjects};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::Directory;
use crate::clock::Clock;

/// How often the bucket's head is compared with what was read.
const CHECK: Duration = Duration::from_secs(2);
/// How long the feed may lag behind the bucket's head before it is opened anew.
const STUCK: Duration = Duration::from_secs(10);
/// How long to wait before the feed is opened anew.
const RETRY: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error("bucket cannot be opened: {0}")]
    Bucket(String),
    #[error("feed ended: {0}")]
    Ended(String),
    #[error("feed is stuck behind the bucket")]
    Stuck,
    #[error("bucket was made anew")]
    Recreated,
}

/// Follows the bucket until `cancel`; `changed` hears of every Node whose entry changed.
pub async fn follow(
    jetstream: async_nats::jetstream::Context,
    directory: Arc<Directory>,
    clock: Arc<dyn Clock>,
    changed: Arc<dyn Fn(NodeId) + Send + Sync>,
    cancel: CancellationToken,
) {
    let mut warned = false;
    loop {
        let run = follow_once(&jetstream, &directory, clock.as_ref(), changed.as_ref());
        let ended = tokio::select! {
            () = cancel.cancelled() => return,
            ended = run => ended,
        };
        if let Err(error) = ended {
            if warned {
                tracing::debug!(%error, "directory feed lost");
            } else {
                tracing::info!(%error, "directory feed lost");
            }
            warned = true;
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn follow_once(
    jetstream: &async_nats::jetstream::Context,
    directory: &Directory,
    clock: &dyn Clock,
    changed: &(dyn Fn(NodeId) + Send + Sync),
) -> Result<(), FeedError> {
    let store = jetstream
        .get_key_value(subjects::DIRECTORY_BUCKET)
        .await
        .map_err(|error| FeedError::Bucket(error.to_string()))?;
    let Head { revision: head, entries, created } = head(&store).await?;
    let mut watch = store.watch_with_history(">").await.map_err(|error| FeedError::Bucket(error.to_string()))?;
    let mut seen = HashSet::new();
    let mut scanning = entries > 0;
    let mut applied = if scanning { 0 } else { head };
    if !scanning {
        directory.retain(|_| false, |_| false).into_iter().for_each(changed);
        directory.mark_fresh(clock.monotonic());
    }
    let mut check = tokio::time::interval(CHECK);
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut behind_since = None;
    loop {
        tokio::select! {
            entry = watch.next() => {
                let entry = entry
                    .ok_or_else(|| FeedError::Ended("closed".into()))?
                    .map_err(|error| FeedError::Ended(error.to_string()))?;
                applied = entry.revision;
                apply(directory, &entry, scanning.then_some(&mut seen), changed);
                if scanning && entry.seen_current {
                    scanning = false;
                    let gone = directory.retain(
                        |node| seen.contains(&DirectoryKey::Node(node)),
                        |domain| seen.contains(&DirectoryKey::Domain(domain)),
                    );
                    // What was deleted while nobody listened is a change like any other.
                    gone.into_iter().for_each(changed);
                    seen = HashSet::new();
                    directory.mark_fresh(clock.monotonic());
                    tracing::info!(nodes = directory.len(), "directory is in step with its feed");
                }
            }
            _ = check.tick() => {
                let now = clock.monotonic();
                let head = self::head(&store).await?;
                // Another bucket of the same name counts from one again, and would look as if all of it were read.
                if head.created != created || head.revision < applied {
                    return Err(FeedError::Recreated);
                }
                if applied >= head.revision {
                    behind_since = None;
                    directory.mark_fresh(now);
                } else if now.saturating_sub(*behind_since.get_or_insert(now)) > STUCK && !scanning {
                    return Err(FeedError::Stuck);
                }
            }
        }
    }
}

/// What a bucket says of itself.
struct Head {
    /// Its last revision.
    revision: u64,
    /// How many entries it holds.
    entries: u64,
    created: OffsetDateTime,
}

async fn head(store: &Store) -> Result<Head, FeedError> {
    let info = store.stream.get_info().await.map_err(|error| FeedError::Ended(error.to_string()))?;
    Ok(Head { revision: info.state.last_sequence, entries: info.state.messages, created: info.created })
}

fn apply(
    directory: &Directory,
    entry: &Entry,
    seen: Option<&mut HashSet<DirectoryKey>>,
    changed: &(dyn Fn(NodeId) + Send + Sync),
) {
    let Some(key) = DirectoryKey::parse(&entry.key) else { return };
    if entry.operation != Operation::Put {
        match key {
            DirectoryKey::Node(node) => {
                directory.remove_node(node);
                changed(node);
            }
            DirectoryKey::Domain(domain) => directory.remove_domain(domain),
        }
        if let Some(seen) = seen {
            seen.remove(&key);
        }
        return;
    }
    let read = match key {
        DirectoryKey::Node(_) => serde_json::from_slice(&entry.value).map(|node| directory.put_node(node)),
        DirectoryKey::Domain(_) => serde_json::from_slice(&entry.value).map(|domain| directory.put_domain(domain)),
    };
    match (read, key) {
        (Ok(()), DirectoryKey::Node(node)) => changed(node),
        (Ok(()), DirectoryKey::Domain(_)) => {}
        (Err(error), _) => tracing::error!(%error, key = entry.key, "directory entry cannot be read"),
    }
    if let Some(seen) = seen {
        seen.insert(key);
    }
}
