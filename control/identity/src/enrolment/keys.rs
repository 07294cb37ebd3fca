//! Node Secret Keys: minted once, sealed at rest, opened for their owner's secrets only.

use std::sync::Arc;

use plexsphere_kernel::{Database, Fault, KekRing, SealError};
use plexsphere_wire::nsk::{CredentialDigest, NSK_BYTES};
use plexsphere_wire::{NodeId, Timestamp};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::store;

/// A key just minted; the only time that it is known in clear.
pub(crate) struct MintedKey {
    pub(crate) kid: String,
    pub(crate) key: Zeroizing<[u8; NSK_BYTES]>,
    pub(crate) digest: CredentialDigest,
    pub(crate) wrapped: Vec<u8>,
    pub(crate) wrap_key_version: i32,
}

/// Seals and opens Node Secret Keys. Each is bound to its deployment, its Node and its own id.
#[derive(Clone)]
pub struct NskCustodian {
    db: Database,
    ring: Arc<KekRing>,
    deployment: Uuid,
}

impl NskCustodian {
    pub(crate) const fn new(db: Database, ring: Arc<KekRing>, deployment: Uuid) -> Self {
        Self { db, ring, deployment }
    }

    /// Mints 32 random bytes from the operating system and seals them.
    pub(crate) fn mint(&self, node: NodeId, now: Timestamp) -> Result<MintedKey, Fault> {
        let mut key = Zeroizing::new([0u8; NSK_BYTES]);
        OsRng.try_fill_bytes(key.as_mut_slice()).map_err(|_| Fault::Invariant("the system's random source answers"))?;
        let kid = format!("nsk-{}", plexsphere_wire::TokenId::mint(now));
        let (wrap_key_version, wrapped) = self.ring.seal(key.as_slice(), &self.place(node, &kid))?;
        let digest = CredentialDigest::of(node, &key);
        Ok(MintedKey { kid, key, digest, wrapped, wrap_key_version })
    }

    /// Opens a key of a Node. The caller drops it on every path; it is cached and logged nowhere.
    ///
    /// # Errors
    /// [`Fault::Custody`] when the wrap key is missing, or the row was moved or changed.
    pub async fn open(&self, node: NodeId, kid: &str) -> Result<Option<Zeroizing<[u8; NSK_BYTES]>>, Fault> {
        let Some((version, wrapped)) = store::wrapped(self.db.pool(), node, kid).await? else { return Ok(None) };
        let opened = self.ring.open(version, &wrapped, &self.place(node, kid))?;
        let mut key = Zeroizing::new([0u8; NSK_BYTES]);
        if opened.len() != NSK_BYTES {
            return Err(SealError::DoesNotOpen.into());
        }
        key.copy_from_slice(&opened);
        Ok(Some(key))
    }

    pub(super) fn place(&self, node: NodeId, kid: &str) -> String {
        format!("plexsphere/nsk/v1|{}|{node}|{kid}", self.deployment)
    }
}
