//! The seeds of pre-shared keys under the newest wrap key.

use async_trait::async_trait;
use plexsphere_kernel::custody::{Rewrappable, SealedRow};
use plexsphere_kernel::tasks::TaskKind;
use plexsphere_kernel::{Fault, Subject, Tx};
use uuid::Uuid;

use crate::service::membership::psk_aad;
use crate::store::epochs;
use crate::store::peers::SealedSeed;

/// The rewrap as the subject of audit rows.
const REWRAP: Subject = Subject::System(Uuid::from_u128(0x706c_6578_0000_7000_8000_0000_0000_0201));

/// All seeds of this installation.
pub(crate) struct SeedRows {
    pub(crate) deployment: Uuid,
}

#[async_trait]
impl Rewrappable for SeedRows {
    fn kind(&self) -> TaskKind {
        TaskKind::PskRewrap
    }

    fn subject(&self) -> Subject {
        REWRAP
    }

    fn action(&self) -> &'static str {
        "psk.rewrap"
    }

    fn batch(&self) -> i64 {
        500
    }

    async fn sealed_below(&self, tx: &mut Tx, version: i32, after: &str, limit: i64) -> Result<Vec<SealedRow>, Fault> {
        let epochs = epochs::sealed_below(tx, version, after, limit).await?;
        let row = |(peer, seed): (_, SealedSeed)| SealedRow {
            aad: psk_aad(self.deployment, peer, &seed.kid),
            key: seed.kid,
            wrap_key_version: seed.wrap_key_version,
            sealed: seed.sealed,
        };
        Ok(epochs.into_iter().map(row).collect())
    }

    async fn write(&self, tx: &mut Tx, version: i32, (kids, sealed): (Vec<String>, Vec<Vec<u8>>)) -> Result<(), Fault> {
        epochs::rewrap(tx, version, &kids, &sealed).await
    }
}
