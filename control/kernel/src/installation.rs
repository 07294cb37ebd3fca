//! Which installation a database belongs to.

use uuid::Uuid;

use crate::{Database, Fault};

const CLAIM: &str = "INSERT INTO kernel.installation (deployment_id) VALUES ($1) ON CONFLICT DO NOTHING";
const READ: &str = "SELECT deployment_id FROM kernel.installation";

/// Every statement of this module, for the test that prepares them.
#[doc(hidden)]
pub const STATEMENTS: [&str; 2] = [CLAIM, READ];

/// Records `deployment` as the database's owner unless one is recorded, and returns the recorded one.
///
/// # Errors
/// [`Fault`].
pub async fn claim(db: &Database, deployment: Uuid) -> Result<Uuid, Fault> {
    sqlx::query(CLAIM).bind(deployment).execute(db.pool()).await?;
    Ok(sqlx::query_scalar(READ).fetch_one(db.pool()).await?)
}
