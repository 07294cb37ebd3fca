//! Bindings as sign-in looks for them: nothing is audited, for nobody is known yet.

use plexsphere_kernel::Fault;
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
