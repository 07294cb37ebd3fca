//! Mesh addresses in use, and the lock under which they are handed out.

use std::net::IpAddr;

use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, NodeId, Timestamp};
use uuid::Uuid;

use crate::model::addresses::{AddressPlan, successor};

/// The SQLSTATE of a lock that was not to be had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

pub(crate) const BUDGET: &str = "SELECT set_config('lock_timeout', '2s', true)";
pub(crate) const UNBUDGET: &str = "SET LOCAL lock_timeout TO DEFAULT";
pub(crate) const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('mesh.allocations/' || $1::text, 0))";

/// Takes the Domain's allocation lock to the end of the transaction, waiting at most 2 s. Whoever changes the peers of
/// a Domain takes it first, so that joins and leaves of one Domain cannot wait for each other in a circle.
pub(crate) async fn lock(tx: &mut Tx, domain: DomainId) -> Result<(), sqlx::Error> {
    sqlx::query(BUDGET).execute(&mut **tx).await?;
    sqlx::query(LOCK).bind(domain.uuid()).execute(&mut **tx).await?;
    sqlx::query(UNBUDGET).execute(&mut **tx).await?;
    Ok(())
}

/// Whether a statement failed because a lock was not to be had in time.
pub(crate) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(inner) if inner.code().as_deref() == Some(LOCK_NOT_AVAILABLE))
}

pub(crate) const FLOOR: &str =
    "SELECT floor FROM mesh.allocation_floors WHERE domain_id = $1 AND range = $2 AND reserved = $3";

/// The lowest free address of some spans: the span's first if nobody has it, else the first that follows one in use
/// and is not in use itself. Walks the primary key from the span's start to the first gap, inside the server.
pub(crate) const LOWEST_FREE: &str = "
    SELECT free.ip
    FROM unnest($2::inet[], $3::inet[]) WITH ORDINALITY AS span (first, last, position)
    CROSS JOIN LATERAL (
        (SELECT span.first AS ip
         WHERE NOT EXISTS (SELECT FROM mesh.allocations a WHERE a.domain_id = $1 AND a.ip = span.first))
        UNION ALL
        (SELECT a.ip + 1
         FROM mesh.allocations a
         WHERE a.domain_id = $1 AND a.ip >= span.first AND a.ip < span.last
           AND NOT EXISTS (SELECT FROM mesh.allocations b WHERE b.domain_id = $1 AND b.ip = a.ip + 1)
         ORDER BY a.ip LIMIT 1)
        ORDER BY 1 LIMIT 1
    ) AS free
    ORDER BY span.position LIMIT 1";

pub(crate) const INSERT: &str =
    "INSERT INTO mesh.allocations (domain_id, ip, node_id, allocated_at) VALUES ($1, $2, $3, $4)";

pub(crate) const RAISE_FLOOR: &str = "
    INSERT INTO mesh.allocation_floors (domain_id, range, reserved, floor) VALUES ($1, $2, $3, $4)
    ON CONFLICT (domain_id, range) DO UPDATE SET reserved = EXCLUDED.reserved, floor = EXCLUDED.floor";

/// Hands out the lowest free address of the plan; `None` when there is none. The caller holds the Domain's lock.
pub(crate) async fn allocate(
    tx: &mut Tx,
    domain: DomainId,
    node: NodeId,
    plan: &AddressPlan,
    now: Timestamp,
) -> Result<Option<IpAddr>, Fault> {
    let (range, reserved) = (plan.range(), plan.reserved_text());
    let floor: Option<IpAddr> =
        sqlx::query_scalar(FLOOR).bind(domain.uuid()).bind(range).bind(&reserved).fetch_optional(&mut **tx).await?;
    let spans = plan.spans_from(floor);
    let (first, last): (Vec<IpAddr>, Vec<IpAddr>) = spans.iter().map(|span| (span.first, span.last)).unzip();
    let found: Option<IpAddr> =
        sqlx::query_scalar(LOWEST_FREE).bind(domain.uuid()).bind(first).bind(last).fetch_optional(&mut **tx).await?;
    let Some(ip) = found else { return Ok(None) };
    sqlx::query(INSERT).bind(domain.uuid()).bind(ip).bind(node.uuid()).bind(now.inner()).execute(&mut **tx).await?;
    sqlx::query(RAISE_FLOOR)
        .bind(domain.uuid())
        .bind(range)
        .bind(&reserved)
        .bind(successor(ip))
        .execute(&mut **tx)
        .await?;
    Ok(Some(ip))
}

// By address, which is the key: Nodes have no index here.
pub(crate) const COOL: &str = "
    UPDATE mesh.allocations SET cooling_until = $3
    WHERE domain_id = $1 AND ip = ANY($2) AND cooling_until IS NULL";

/// Lets addresses cool: nobody gets them before `until`.
pub(crate) async fn cool(tx: &mut Tx, domain: DomainId, addresses: Vec<IpAddr>, until: Timestamp) -> Result<(), Fault> {
    sqlx::query(COOL).bind(domain.uuid()).bind(addresses).bind(until.inner()).execute(&mut **tx).await?;
    Ok(())
}

pub(crate) const DUE: &str = "
    SELECT domain_id FROM mesh.allocations WHERE cooling_until <= $1 AND domain_id <> ALL($2)
    ORDER BY cooling_until LIMIT 1";

/// A Domain with an address whose cooling is over, other than those `passed` over.
pub(crate) async fn due(tx: &mut Tx, now: Timestamp, passed: &[DomainId]) -> Result<Option<DomainId>, Fault> {
    let passed: Vec<Uuid> = passed.iter().map(|domain| domain.uuid()).collect();
    let due: Option<Uuid> = sqlx::query_scalar(DUE).bind(now.inner()).bind(passed).fetch_optional(&mut **tx).await?;
    Ok(due.map(DomainId::from_uuid))
}

pub(crate) const FREE: &str = "
    WITH due AS (
        SELECT ip FROM mesh.allocations WHERE domain_id = $1 AND cooling_until <= $2
        ORDER BY cooling_until LIMIT $3
    ), freed AS (
        DELETE FROM mesh.allocations a USING due WHERE a.domain_id = $1 AND a.ip = due.ip
        RETURNING a.ip
    ), lowest AS (
        SELECT f.range, (array_agg(freed.ip ORDER BY freed.ip))[1] AS ip
        FROM mesh.allocation_floors f JOIN freed ON freed.ip <<= f.range
        WHERE f.domain_id = $1
        GROUP BY f.range
    ), lowered AS (
        UPDATE mesh.allocation_floors f SET floor = LEAST(f.floor, lowest.ip)
        FROM lowest WHERE f.domain_id = $1 AND f.range = lowest.range
    )
    SELECT count(*) FROM freed";

/// Frees at most `limit` addresses of a Domain whose cooling is over, and lowers its floors under them. Returns how
/// many. The caller holds the Domain's lock: a search that goes on meanwhile would raise a floor over what it still saw
/// in use.
pub(crate) async fn free(tx: &mut Tx, domain: DomainId, now: Timestamp, limit: i64) -> Result<u64, Fault> {
    let query = sqlx::query_scalar(FREE).bind(domain.uuid()).bind(now.inner()).bind(limit);
    let freed: i64 = query.fetch_one(&mut **tx).await?;
    Ok(u64::try_from(freed).unwrap_or(0))
}
