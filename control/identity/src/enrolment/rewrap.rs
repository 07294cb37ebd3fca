//! Node Secret Keys under the newest wrap key. Revoked ones too: while a row names a wrap key, the key has to stay.

use async_trait::async_trait;
use plexsphere_kernel::custody::{Rewrappable, SealedRow};
use plexsphere_kernel::tasks::TaskKind;
use plexsphere_kernel::{Fault, Subject, Tx};
use uuid::Uuid;

use super::NskCustodian;
use super::store;

/// The rewrap as the subject of audit rows.
const REWRAP: Subject = Subject::System(Uuid::from_u128(0x706c_6578_0000_7000_8000_0000_0000_0006));

#[async_trait]
impl Rewrappable for NskCustodian {
    fn kind(&self) -> TaskKind {
        TaskKind::NskRewrap
    }

    fn subject(&self) -> Subject {
        REWRAP
    }

    fn action(&self) -> &'static str {
        "nsk.rewrap"
    }

    fn batch(&self) -> i64 {
        500
    }

    async fn sealed_below(&self, tx: &mut Tx, version: i32, after: &str, limit: i64) -> Result<Vec<SealedRow>, Fault> {
        let keys = store::wrapped_below(tx, version, after, limit).await?;
        let row = |key: store::WrappedKey| SealedRow {
            aad: self.place(key.node, &key.kid),
            key: key.kid,
            wrap_key_version: key.wrap_key_version,
            sealed: key.wrapped,
        };
        Ok(keys.into_iter().map(row).collect())
    }

    async fn write(
        &self,
        tx: &mut Tx,
        version: i32,
        (kids, wrapped): (Vec<String>, Vec<Vec<u8>>),
    ) -> Result<(), Fault> {
        store::rewrap(tx, version, &kids, &wrapped).await
    }
}
