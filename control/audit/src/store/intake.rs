//! Messages of edges that were written.

use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::Timestamp;

pub(super) const STATEMENTS: &[&str] = &[SEEN, FORGET];

const SEEN: &str = "INSERT INTO audit.intake_seen (message, seen_at) VALUES ($1, $2) ON CONFLICT (message) DO NOTHING";
pub(crate) const FORGET: &str = "DELETE FROM audit.intake_seen WHERE seen_at < $1";

/// Remembers a message; `false` when it was remembered before.
pub(crate) async fn first_seen(tx: &mut Tx, message: &str, now: Timestamp) -> Result<bool, Fault> {
    Ok(sqlx::query(SEEN).bind(message).bind(now.inner()).execute(&mut **tx).await?.rows_affected() == 1)
}
