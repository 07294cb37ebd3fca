//! The SQL of the audit context.

use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::Timestamp;
use uuid::Uuid;

use crate::model::Enlistment;

/// One round trip, by INSERT alone: other contexts may write here and not read (naming the columns of the conflict would
/// need SELECT). It writes the mapping unless it is there or erased, the erasable side, the row, and the nudge.
const ENLIST: &str = "WITH mapping AS (INSERT INTO audit.subject_pii (chain, pseudonym, subject_id) \
       VALUES ($2, $3, $4) ON CONFLICT DO NOTHING), \
     side AS (INSERT INTO audit.request_contexts (entry, chain, subject, salt, ip, user_agent) \
       VALUES ($1, $2, $3, $5, $6, $7)), \
     entry AS (INSERT INTO audit.pending (id, chain, subject, relation, object_type, object_id, reason, \
       correlation_id, ctx, occurred_at, repeated) VALUES ($1, $2, $3, $8, $9, $10, $11, $12, $13, $14, $15)) \
     SELECT pg_notify('plexsphere_audit', '')::text";
const SEEN: &str = "INSERT INTO audit.intake_seen (message, seen_at) VALUES ($1, $2) ON CONFLICT (message) DO NOTHING";
pub(crate) const FORGET: &str = "DELETE FROM audit.intake_seen WHERE seen_at < $1";

/// Every statement of the context, for the test that prepares them.
pub const STATEMENTS: [&str; 3] = [ENLIST, SEEN, FORGET];

/// What is secret about an enlistment.
pub(crate) struct Veil {
    pub(crate) pseudonym: [u8; 32],
    pub(crate) salt: [u8; 32],
    pub(crate) commitment: [u8; 32],
}

pub(crate) async fn enlist(tx: &mut Tx, id: Uuid, row: &Enlistment, veil: &Veil) -> Result<(), Fault> {
    sqlx::query(ENLIST)
        .bind(id)
        .bind(row.chain)
        .bind(veil.pseudonym.as_slice())
        .bind(row.subject)
        .bind(veil.salt.as_slice())
        .bind(row.context.ip.as_deref())
        .bind(row.context.user_agent.as_deref())
        .bind(&row.relation)
        .bind(&row.object_type)
        .bind(&row.object_id)
        .bind(row.reason)
        .bind(row.correlation_id.as_str())
        .bind(veil.commitment.as_slice())
        .bind(row.occurred_at.inner())
        .bind(i32::try_from(row.repeated).unwrap_or(i32::MAX))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Remembers a message; `false` when it was remembered before.
pub(crate) async fn first_seen(tx: &mut Tx, message: &str, now: Timestamp) -> Result<bool, Fault> {
    Ok(sqlx::query(SEEN).bind(message).bind(now.inner()).execute(&mut **tx).await?.rows_affected() == 1)
}
