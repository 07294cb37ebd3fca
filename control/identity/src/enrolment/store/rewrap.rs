//! SQL of Node Secret Keys that are sealed anew.

use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::NodeId;
use uuid::Uuid;

pub(super) const STATEMENTS: &[&str] = &[WRAPPED_BELOW, REWRAP];

const WRAPPED_BELOW: &str = "SELECT kid, node_id, wrapped, wrap_key_version FROM identity.node_secret_keys
    WHERE wrap_key_version < $1 AND kid > $2 ORDER BY kid LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED";
const REWRAP: &str = "UPDATE identity.node_secret_keys k SET wrapped = anew.wrapped, wrap_key_version = $1
    FROM unnest($2::text[], $3::bytea[]) AS anew (kid, wrapped) WHERE k.kid = anew.kid";

/// A key as it rests.
pub(in crate::enrolment) struct WrappedKey {
    pub(in crate::enrolment) kid: String,
    pub(in crate::enrolment) node: NodeId,
    pub(in crate::enrolment) wrapped: Vec<u8>,
    pub(in crate::enrolment) wrap_key_version: i32,
}

/// Keys under wrap keys below `version`, by id, behind `after`; those that somebody holds are left out.
pub(in crate::enrolment) async fn wrapped_below(
    tx: &mut Tx,
    version: i32,
    after: &str,
    limit: i64,
) -> Result<Vec<WrappedKey>, Fault> {
    let rows: Vec<(String, Uuid, Vec<u8>, i32)> =
        sqlx::query_as(WRAPPED_BELOW).bind(version).bind(after).bind(limit).fetch_all(&mut **tx).await?;
    let read = |(kid, node, wrapped, wrap_key_version)| WrappedKey {
        kid,
        node: NodeId::from_uuid(node),
        wrapped,
        wrap_key_version,
    };
    Ok(rows.into_iter().map(read).collect())
}

/// Writes keys that were sealed anew.
pub(in crate::enrolment) async fn rewrap(
    tx: &mut Tx,
    version: i32,
    kids: &[String],
    wrapped: &[Vec<u8>],
) -> Result<(), Fault> {
    sqlx::query(REWRAP).bind(version).bind(kids).bind(wrapped).execute(&mut **tx).await?;
    Ok(())
}
