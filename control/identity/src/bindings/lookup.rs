//! Bindings as sign-in looks for them: nothing is audited, for nobody is known yet.

use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, IdpBindingId};

use super::model::{BindingOwner, IdpBinding};
use super::service::Bindings;
use super::store;

impl Bindings {
    /// A binding, whatever its status.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn get(&self, id: IdpBindingId) -> Result<Option<IdpBinding>, Fault> {
        store::get(self.db.pool(), id).await
    }

    /// A binding, whatever its status, held as it is until the caller's transaction ends: whoever switches it off waits,
    /// and ends what the transaction made. It is held before anything that ends with it.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn hold(&self, tx: &mut Tx, id: IdpBindingId) -> Result<Option<IdpBinding>, Fault> {
        store::hold(tx, id).await
    }

    /// Every binding of a Domain, and every one of the platform.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn candidates(
        &self,
        domain: Option<DomainId>,
    ) -> Result<(Vec<IdpBinding>, Vec<IdpBinding>), Fault> {
        let own = match domain {
            Some(domain) => store::of(self.db.pool(), BindingOwner::Domain(domain)).await?,
            None => Vec::new(),
        };
        Ok((own, store::of(self.db.pool(), BindingOwner::Platform).await?))
    }
}
