//! The relay's SQL.

use plexsphere_wire::{EnvelopeId, NodeId, Timestamp};
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::plan::{Row, Step};
use super::publish::DomainWork;
use crate::{Database, Fault, Tx};

/// Rows of the given shards that are not published, in order; `ready` says that no open transaction can still come
/// before them. A Domain's shard is the low six bits of its id, which are random.
pub(super) const DUE: &str = "SELECT o.id, coalesce(o.domain_id, '00000000-0000-0000-0000-000000000000') AS domain_id, \
     o.context, o.event_name, o.wire_type, o.target_node_id, o.payload::text AS payload, o.created_at, \
     o.batch_id, b.payload AS sealed_payload, \
     o.txid < pg_snapshot_xmin(pg_current_snapshot()) AS ready \
     FROM kernel.outbox o LEFT JOIN kernel.outbox_batches b ON b.id = o.batch_id \
     WHERE o.published_at IS NULL AND o.state <> 'parked' \
     AND coalesce(get_byte(uuid_send(o.domain_id), 15) & 63, 0) = ANY($1) \
     AND coalesce(o.domain_id, '00000000-0000-0000-0000-000000000000') <> ALL($2) \
     ORDER BY o.txid, o.seq LIMIT $3";

pub(super) const OLDEST: &str =
    "SELECT min(created_at) FROM kernel.outbox WHERE published_at IS NULL AND state <> 'parked'";

pub(super) const SEAL_ROWS: &str = "UPDATE kernel.outbox o SET state = 'sealed', batch_id = s.batch \
     FROM unnest($1::uuid[], $2::uuid[]) AS s(id, batch) \
     WHERE o.id = s.id AND o.batch_id IS NULL AND o.published_at IS NULL";

pub(super) const SEAL_BATCHES: &str = "INSERT INTO kernel.outbox_batches \
     (id, domain_id, wire_type, target_node_id, payload, sealed_at) \
     SELECT s.id, s.domain, s.wire_type, s.target, s.payload, $6 \
     FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[]) AS s(id, domain, wire_type, target, payload)";

pub(super) const MARK: &str = "UPDATE kernel.outbox SET published_at = $3, last_error = NULL \
     WHERE (batch_id = ANY($1) OR id = ANY($2)) AND published_at IS NULL";

pub(super) const FAILED: &str = "UPDATE kernel.outbox SET attempts = attempts + 1, last_error = $2 \
     WHERE id = ANY($1) AND published_at IS NULL";

pub(super) const PARK: &str = "UPDATE kernel.outbox SET state = 'parked', last_error = $2 \
     WHERE id = ANY($1) AND published_at IS NULL";

pub(super) const REQUEUE: &str = "UPDATE kernel.outbox \
     SET state = 'pending', batch_id = NULL, attempts = 0, last_error = NULL \
     WHERE state = 'parked' AND published_at IS NULL AND (id = $1 OR batch_id = (SELECT batch_id FROM kernel.outbox WHERE id = $1))";

pub(super) const SWEEP_ROWS: &str = "DELETE FROM kernel.outbox WHERE id IN \
     (SELECT id FROM kernel.outbox WHERE published_at < $1 ORDER BY published_at LIMIT $2)";

pub(super) const SWEEP_BATCHES: &str = "DELETE FROM kernel.outbox_batches WHERE id IN \
     (SELECT b.id FROM kernel.outbox_batches b WHERE b.sealed_at < $1 \
      AND NOT EXISTS (SELECT 1 FROM kernel.outbox o WHERE o.batch_id = b.id) LIMIT $2)";

/// Every statement of the relay, for the test that prepares them.
pub const STATEMENTS: [&str; 10] =
    [DUE, OLDEST, SEAL_ROWS, SEAL_BATCHES, MARK, FAILED, PARK, REQUEUE, SWEEP_ROWS, SWEEP_BATCHES];

/// The due rows by Domain, each in order.
#[derive(Debug, Default)]
pub(super) struct DueRows {
    pub(super) domains: Vec<(Uuid, Vec<Row>)>,
    /// Rows read, also those that are not ready.
    pub(super) read: i64,
    /// Whether there are rows that an older open transaction holds back.
    pub(super) held_back: bool,
}

#[derive(sqlx::FromRow)]
struct DueRow {
    id: Uuid,
    domain_id: Uuid,
    context: String,
    event_name: String,
    wire_type: Option<String>,
    target_node_id: Option<Uuid>,
    payload: String,
    created_at: OffsetDateTime,
    batch_id: Option<Uuid>,
    sealed_payload: Option<String>,
    ready: bool,
}

pub(super) async fn due(
    connection: &mut PgConnection,
    shards: &[i32],
    blocked: &[Uuid],
    limit: i64,
) -> Result<DueRows, Fault> {
    let rows: Vec<DueRow> = sqlx::query_as(DUE).bind(shards).bind(blocked).bind(limit).fetch_all(connection).await?;
    let mut due = DueRows { read: i64::try_from(rows.len()).unwrap_or(limit), ..DueRows::default() };
    let mut places = std::collections::HashMap::new();
    for row in rows {
        if !row.ready {
            due.held_back = true;
            continue;
        }
        let place = *places.entry(row.domain_id).or_insert_with(|| {
            due.domains.push((row.domain_id, Vec::new()));
            due.domains.len() - 1
        });
        if let Some((_, rows)) = due.domains.get_mut(place) {
            rows.push(row.into_row());
        }
    }
    Ok(due)
}

impl DueRow {
    fn into_row(self) -> Row {
        Row {
            id: self.id,
            context: self.context,
            name: self.event_name,
            wire_type: self.wire_type,
            target: self.target_node_id.map(NodeId::from_uuid),
            payload: self.payload,
            created_at: Timestamp::new(self.created_at),
            sealed: self.batch_id.map(EnvelopeId::from_uuid).zip(self.sealed_payload),
        }
    }
}

pub(super) async fn oldest(db: &Database) -> Result<Option<Timestamp>, Fault> {
    let oldest: Option<OffsetDateTime> = sqlx::query_scalar(OLDEST).fetch_one(db.pool()).await?;
    Ok(oldest.map(Timestamp::new))
}

/// Gives every draft without one an id and stores what is under it, all in one transaction.
pub(super) async fn seal(db: &Database, work: &mut [DomainWork], now: Timestamp) -> Result<(), Fault> {
    let mut batches = Batches::default();
    let (mut rows, mut row_batches) = (Vec::new(), Vec::new());
    for DomainWork { key, steps } in work.iter_mut() {
        for step in steps {
            let Step::Envelope(draft) = step else { continue };
            if draft.id.is_some() {
                continue;
            }
            let id = EnvelopeId::mint(now);
            draft.id = Some(id);
            row_batches.extend(std::iter::repeat_n(id.uuid(), draft.rows.len()));
            rows.extend(draft.rows.iter().copied());
            batches.ids.push(id.uuid());
            batches.domains.push(*key);
            batches.types.push(draft.event.as_str());
            batches.targets.push(draft.target.map(|node| node.uuid()));
            batches.payloads.push(draft.payload.as_str());
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let expected = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    let mut tx = db.begin().await?;
    let sealed = sqlx::query(SEAL_ROWS).bind(&rows).bind(&row_batches).execute(&mut *tx).await?.rows_affected();
    if sealed != expected {
        return Err(Fault::Invariant("another worker sealed rows of a shard that is held here"));
    }
    sqlx::query(SEAL_BATCHES)
        .bind(&batches.ids)
        .bind(&batches.domains)
        .bind(&batches.types)
        .bind(&batches.targets)
        .bind(&batches.payloads)
        .bind(now.inner())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

#[derive(Default)]
struct Batches<'a> {
    ids: Vec<Uuid>,
    domains: Vec<Uuid>,
    types: Vec<&'static str>,
    targets: Vec<Option<Uuid>>,
    payloads: Vec<&'a str>,
}

/// Marks envelopes and internal rows as published.
pub(super) async fn mark<'e>(
    executor: impl sqlx::PgExecutor<'e>,
    batches: &[Uuid],
    rows: &[Uuid],
    now: Timestamp,
) -> Result<(), Fault> {
    sqlx::query(MARK).bind(batches).bind(rows).bind(now.inner()).execute(executor).await?;
    Ok(())
}

pub(super) async fn failed(db: &Database, rows: &[Uuid], cause: &str) -> Result<(), Fault> {
    sqlx::query(FAILED).bind(rows).bind(cause).execute(db.pool()).await?;
    Ok(())
}

/// Parks what is not published meanwhile; how many rows that were.
pub(super) async fn park(tx: &mut Tx, rows: &[Uuid], cause: &str) -> Result<u64, Fault> {
    Ok(sqlx::query(PARK).bind(rows).bind(cause).execute(&mut **tx).await?.rows_affected())
}

/// Gives a parked row, with the others of its envelope, another chance. Returns how many rows that were.
///
/// # Errors
/// [`Fault`].
pub async fn requeue(tx: &mut Tx, row: Uuid) -> Result<u64, Fault> {
    Ok(sqlx::query(REQUEUE).bind(row).execute(&mut **tx).await?.rows_affected())
}
