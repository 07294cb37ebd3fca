//! What of this context rests sealed under the ring of wrap keys.

use std::sync::Arc;

use async_trait::async_trait;
use plexsphere_kernel::custody::SealedRows;
use plexsphere_kernel::{Database, Fault, KekRing};

pub(crate) const STATEMENTS: &[&str] = &[FOREIGN];

// Each half walks its table until the first row of another version, of which there is none in good times: these are a
// Node's one key and the invitations that wait.
const FOREIGN: &str =
    "(SELECT wrap_key_version FROM identity.node_secret_keys WHERE wrap_key_version <> ALL($1) LIMIT 1)
    UNION ALL (SELECT wrap_key_version FROM identity.invitations
        WHERE status = 'pending' AND wrap_key_version <> ALL($1) LIMIT 1) LIMIT 1";

/// Node Secret Keys and the subjects of pending Invitations.
pub(crate) struct SealedSecrets {
    pub(crate) db: Database,
    pub(crate) kek: Arc<KekRing>,
}

#[async_trait]
impl SealedRows for SealedSecrets {
    fn what(&self) -> &'static str {
        "node secret keys and invitations"
    }

    async fn foreign_version(&self) -> Result<Option<i32>, Fault> {
        let query = sqlx::query_scalar(FOREIGN).bind(self.kek.versions());
        Ok(query.fetch_optional(self.db.pool()).await?)
    }
}
