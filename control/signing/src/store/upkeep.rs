//! What background work asks of the key lines.

use plexsphere_kernel::{Database, Fault, Tx};
use plexsphere_wire::{DomainId, Timestamp};
use uuid::Uuid;

const EXPIRED: &str = "SELECT domain_id, kid FROM signing.keys \
     WHERE state = 'previous' AND transition_expires <= $1 ORDER BY transition_expires LIMIT $2 FOR UPDATE SKIP LOCKED";
const RETIRED: &str = "SELECT k.domain_id, k.kid, COALESCE(k.last_pinned_at, k.retired_at) <= $1 AS rested \
     FROM signing.keys k JOIN signing.domains d ON d.domain_id = k.domain_id AND d.announced_kid <> k.kid \
     WHERE k.state = 'retired' AND (k.pins_checked_at IS NULL OR k.pins_checked_at <= $2) \
     ORDER BY k.pins_checked_at NULLS FIRST LIMIT $3 FOR UPDATE OF k SKIP LOCKED";
const CHECKED: &str = "UPDATE signing.keys SET pins_checked_at = $2, \
     last_pinned_at = CASE WHEN kid = ANY($3) THEN $2 ELSE last_pinned_at END WHERE kid = ANY($1)";
/// Keys that may be destroyed while Nodes pin them.
const DESTROYED: &str = "SELECT domain_id, kid FROM signing.keys WHERE state = 'destroyed' \
     AND destroy_reason IN ('compromise', 'not_kept') AND kid > $1 ORDER BY kid LIMIT $2";
const UNTRIMMED: &str = "SELECT DISTINCT k.domain_id FROM signing.keys k \
     WHERE k.custody = 'transit' AND k.state = 'destroyed' AND k.trimmed_at IS NULL AND NOT EXISTS \
     (SELECT 1 FROM signing.keys older WHERE older.domain_id = k.domain_id AND older.state <> 'destroyed' \
     AND older.transit_version < k.transit_version) LIMIT $1";
const TRANSIT: &str = "SELECT transit_version, state = 'destroyed', trimmed_at IS NOT NULL FROM signing.keys \
     WHERE domain_id = $1 AND custody = 'transit' ORDER BY transit_version FOR UPDATE";
const TRIMMED: &str = "UPDATE signing.keys SET trimmed_at = $3 WHERE domain_id = $1 AND custody = 'transit' \
     AND state = 'destroyed' AND trimmed_at IS NULL AND transit_version < COALESCE($2, 2147483647)";
/// Any key with a private half: a retired one that does not open is missed by the Nodes that pin it.
const SAMPLE: &str = "SELECT domain_id, kid FROM signing.keys WHERE state <> 'destroyed' ORDER BY random() LIMIT $1";
const FOREIGN: &str = "SELECT wrap_key_version FROM signing.keys WHERE wrap_key_version <> ALL($1) LIMIT 1";
const OLD: &str = "SELECT k.domain_id FROM signing.keys k WHERE k.state = 'current' AND k.activated_at <= $1 \
     AND NOT EXISTS (SELECT 1 FROM signing.keys p WHERE p.domain_id = k.domain_id AND p.state = 'previous' \
     AND p.transition_expires > $2) ORDER BY k.activated_at LIMIT $3";
const MINTED_SINCE: &str =
    "SELECT count(*) FROM signing.keys WHERE created_by = $1 AND version > 1 AND created_at > $2";
const SEALED_BELOW: &str = "SELECT domain_id, kid, wrapped_seed, wrap_key_version FROM signing.keys \
     WHERE wrapped_seed IS NOT NULL AND wrap_key_version < $1 AND kid > $2 ORDER BY kid LIMIT $3 \
     FOR NO KEY UPDATE SKIP LOCKED";
const REWRAP: &str = "UPDATE signing.keys k SET wrapped_seed = n.seed, wrap_key_version = $1 \
     FROM unnest($2::text[], $3::bytea[]) AS n(kid, seed) WHERE k.kid = n.kid";

pub(super) const OWN: [&str; 13] = [
    EXPIRED,
    RETIRED,
    CHECKED,
    DESTROYED,
    UNTRIMMED,
    TRANSIT,
    TRIMMED,
    SAMPLE,
    FOREIGN,
    OLD,
    MINTED_SINCE,
    SEALED_BELOW,
    REWRAP,
];

/// A seed under an older wrap key.
#[derive(sqlx::FromRow)]
pub(crate) struct WrappedSeed {
    pub(crate) domain_id: Uuid,
    pub(crate) kid: String,
    pub(crate) wrapped_seed: Vec<u8>,
    pub(crate) wrap_key_version: i32,
}

/// A retired key whose pins are to be looked at.
#[derive(sqlx::FromRow)]
pub(crate) struct RetiredKey {
    pub(crate) domain_id: Uuid,
    pub(crate) kid: String,
    /// Whether it has been retired, and seen pinned last, long enough ago.
    pub(crate) rested: bool,
}

/// Previous keys whose transition is over.
pub(crate) async fn expired(tx: &mut Tx, now: Timestamp, limit: i64) -> Result<Vec<(Uuid, String)>, Fault> {
    Ok(sqlx::query_as(EXPIRED).bind(now.inner()).bind(limit).fetch_all(&mut **tx).await?)
}

/// Retired keys of which nobody has asked since `checked` who pins them.
pub(crate) async fn retired(
    tx: &mut Tx,
    rested: Timestamp,
    checked: Timestamp,
    limit: i64,
) -> Result<Vec<RetiredKey>, Fault> {
    let query = sqlx::query_as(RETIRED).bind(rested.inner()).bind(checked.inner()).bind(limit);
    Ok(query.fetch_all(&mut **tx).await?)
}

/// Notes that `kids` were looked at, and that `pinned` of them are pinned.
pub(crate) async fn checked(tx: &mut Tx, kids: &[String], pinned: &[String], now: Timestamp) -> Result<(), Fault> {
    sqlx::query(CHECKED).bind(kids).bind(now.inner()).bind(pinned).execute(&mut **tx).await?;
    Ok(())
}

/// A page of the destroyed keys that Nodes may pin, behind `after`.
pub(crate) async fn destroyed(db: &Database, after: &str, limit: i64) -> Result<Vec<(Uuid, String)>, Fault> {
    Ok(sqlx::query_as(DESTROYED).bind(after).bind(limit).fetch_all(db.pool()).await?)
}

/// Domains of which OpenBao still holds versions that it could forget.
pub(crate) async fn untrimmed(db: &Database, limit: i64) -> Result<Vec<DomainId>, Fault> {
    let domains: Vec<Uuid> = sqlx::query_scalar(UNTRIMMED).bind(limit).fetch_all(db.pool()).await?;
    Ok(domains.into_iter().map(DomainId::from_uuid).collect())
}

/// All versions that a Domain has or had in OpenBao, locked: number, whether destroyed, whether trimmed.
pub(crate) async fn transit_versions(tx: &mut Tx, domain: DomainId) -> Result<Vec<(i32, bool, bool)>, Fault> {
    Ok(sqlx::query_as(TRANSIT).bind(domain.uuid()).fetch_all(&mut **tx).await?)
}

/// Notes that OpenBao has forgotten every destroyed version below `floor`, or all of them.
pub(crate) async fn trimmed(tx: &mut Tx, domain: DomainId, floor: Option<i32>, now: Timestamp) -> Result<u64, Fault> {
    let query = sqlx::query(TRIMMED).bind(domain.uuid()).bind(floor).bind(now.inner());
    Ok(query.execute(&mut **tx).await?.rows_affected())
}

pub(crate) async fn sample(db: &Database, limit: i64) -> Result<Vec<(Uuid, String)>, Fault> {
    Ok(sqlx::query_as(SAMPLE).bind(limit).fetch_all(db.pool()).await?)
}

/// The wrap key's version of some key that is none of these.
pub(crate) async fn foreign_version(db: &Database, held: &[i32]) -> Result<Option<i32>, Fault> {
    Ok(sqlx::query_scalar(FOREIGN).bind(held).fetch_optional(db.pool()).await?)
}

/// Domains whose current key has been active since `activated` or longer and whose last transition is over, the oldest
/// keys first.
pub(crate) async fn old(
    db: &Database,
    activated: Timestamp,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<DomainId>, Fault> {
    let domains: Vec<Uuid> =
        sqlx::query_scalar(OLD).bind(activated.inner()).bind(now.inner()).bind(limit).fetch_all(db.pool()).await?;
    Ok(domains.into_iter().map(DomainId::from_uuid).collect())
}

/// How many successors `creator` has made since then.
pub(crate) async fn minted_since(db: &Database, creator: Uuid, since: Timestamp) -> Result<i64, Fault> {
    Ok(sqlx::query_scalar(MINTED_SINCE).bind(creator).bind(since.inner()).fetch_one(db.pool()).await?)
}

/// Seeds under wrap keys below `version`, by key id, behind `after`; those that somebody holds are left out.
pub(crate) async fn sealed_below(
    tx: &mut Tx,
    version: i32,
    after: &str,
    limit: i64,
) -> Result<Vec<WrappedSeed>, Fault> {
    Ok(sqlx::query_as(SEALED_BELOW).bind(version).bind(after).bind(limit).fetch_all(&mut **tx).await?)
}

/// Writes seeds that were sealed anew.
pub(crate) async fn rewrap(tx: &mut Tx, version: i32, kids: &[String], seeds: &[Vec<u8>]) -> Result<(), Fault> {
    sqlx::query(REWRAP).bind(version).bind(kids).bind(seeds).execute(&mut **tx).await?;
    Ok(())
}
