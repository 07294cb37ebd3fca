//! Seeds under the newest wrap key.

use std::sync::Arc;

use async_trait::async_trait;
use plexsphere_kernel::custody::{Rewrap, RewrapParts, Rewrappable, SealedRow};
use plexsphere_kernel::tasks::TaskKind;
use plexsphere_kernel::{Fault, Subject, Tx};
use plexsphere_wire::DomainId;

use super::{SIGNING_SUBJECT, Signing};
use crate::store::upkeep::{self, WrappedSeed};

impl Signing {
    /// The task that seals the seeds under the newest wrap key, on [`Rewrap::SCHEDULE`].
    #[must_use]
    pub fn rewrap(self: &Arc<Self>) -> Rewrap {
        let parts = RewrapParts {
            db: self.parts.db.clone(),
            clock: Arc::clone(&self.parts.clock),
            audit: Arc::clone(&self.parts.audit),
            ring: Arc::clone(&self.parts.ring),
        };
        Rewrap::new(Arc::clone(self) as Arc<dyn Rewrappable>, parts)
    }
}

#[async_trait]
impl Rewrappable for Signing {
    fn kind(&self) -> TaskKind {
        TaskKind::SigningRewrap
    }

    fn subject(&self) -> Subject {
        Subject::System(SIGNING_SUBJECT)
    }

    fn action(&self) -> &'static str {
        "signing_key.rewrap"
    }

    fn batch(&self) -> i64 {
        200
    }

    async fn sealed_below(&self, tx: &mut Tx, version: i32, after: &str, limit: i64) -> Result<Vec<SealedRow>, Fault> {
        // In a copy of the database no seed opens, and each would be complained of.
        self.at_home().map_err(Fault::Signer)?;
        let seeds = upkeep::sealed_below(tx, version, after, limit).await?;
        let row = |seed: WrappedSeed| SealedRow {
            aad: self.aad(DomainId::from_uuid(seed.domain_id), &seed.kid),
            key: seed.kid,
            wrap_key_version: seed.wrap_key_version,
            sealed: seed.wrapped_seed,
        };
        Ok(seeds.into_iter().map(row).collect())
    }

    async fn write(&self, tx: &mut Tx, version: i32, (kids, seeds): (Vec<String>, Vec<Vec<u8>>)) -> Result<(), Fault> {
        upkeep::rewrap(tx, version, &kids, &seeds).await
    }
}
