//! The shards this replica works on: session advisory locks on one connection of their own.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::store::{self, DueRows};
use crate::{Database, Fault};

/// The class of the shards' advisory locks; the second key is the shard.
const LOCK_CLASS: i32 = 0x706c_786f;
const SHARDS: i32 = 64;
/// How often shards that another replica holds are asked for again.
const ASK_PERIOD: Duration = Duration::from_secs(1);

const TAKE: &str = "SELECT shard FROM unnest($2::int4[]) AS shard WHERE pg_try_advisory_lock($1, shard)";

/// What is held. A connection that breaks loses its locks at the server; they are then asked for anew.
#[derive(Default)]
pub(super) struct Shards {
    connection: Option<PgConnection>,
    held: BTreeSet<i32>,
    asked: Option<Duration>,
}

impl Shards {
    /// Reads the due rows of the held shards. It is read on the connection that holds the locks: when the locks are
    /// gone, so is the connection, and nothing is read without them.
    pub(super) async fn read(
        &mut self,
        db: &Database,
        now: Duration,
        blocked: &[Uuid],
        limit: i64,
    ) -> Result<DueRows, Fault> {
        let read = self.try_read(db, now, blocked, limit).await;
        if read.is_err() {
            *self = Self::default();
        }
        read
    }

    async fn try_read(&mut self, db: &Database, now: Duration, blocked: &[Uuid], limit: i64) -> Result<DueRows, Fault> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            // Detached from the pool: returned to it, the connection would keep its locks.
            None => self.connection.insert(db.pool().acquire().await?.detach()),
        };
        let missing: Vec<i32> = (0..SHARDS).filter(|shard| !self.held.contains(shard)).collect();
        let due = self.asked.is_none_or(|asked| now.saturating_sub(asked) >= ASK_PERIOD);
        if !missing.is_empty() && due {
            let taken: Vec<i32> =
                sqlx::query_scalar(TAKE).bind(LOCK_CLASS).bind(missing).fetch_all(&mut *connection).await?;
            if !taken.is_empty() {
                tracing::info!(shards = taken.len(), "the relay took shards of the outbox");
            }
            self.held.extend(taken);
            self.asked = Some(now);
        }
        let held: Vec<i32> = self.held.iter().copied().collect();
        store::due(connection, &held, blocked, limit).await
    }
}
