//! Seeds that are sealed anew.

use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::PeerId;
use uuid::Uuid;

use crate::store::peers::SealedSeed;

pub(crate) const SEALED_BELOW: &str = "
    SELECT kid, peer_id, sealed, wrap_key_version FROM mesh.psk_epochs
    WHERE wrap_key_version < $1 AND kid > $2 ORDER BY kid LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED";

/// Seeds under wrap keys below `version`, by name, behind `after`; those that somebody holds are left out.
pub(crate) async fn sealed_below(
    tx: &mut Tx,
    version: i32,
    after: &str,
    limit: i64,
) -> Result<Vec<(PeerId, SealedSeed)>, Fault> {
    let rows: Vec<(String, Uuid, Vec<u8>, i32)> =
        sqlx::query_as(SEALED_BELOW).bind(version).bind(after).bind(limit).fetch_all(&mut **tx).await?;
    let read =
        |(kid, peer, sealed, wrap_key_version)| (PeerId::from_uuid(peer), SealedSeed { kid, wrap_key_version, sealed });
    Ok(rows.into_iter().map(read).collect())
}

pub(crate) const REWRAP: &str = "
    UPDATE mesh.psk_epochs e SET sealed = anew.sealed, wrap_key_version = $1
    FROM unnest($2::text[], $3::bytea[]) AS anew (kid, sealed) WHERE e.kid = anew.kid";

/// Writes seeds that were sealed anew.
pub(crate) async fn rewrap(tx: &mut Tx, version: i32, kids: &[String], sealed: &[Vec<u8>]) -> Result<(), Fault> {
    sqlx::query(REWRAP).bind(version).bind(kids).bind(sealed).execute(&mut **tx).await?;
    Ok(())
}
