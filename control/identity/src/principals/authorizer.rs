//! What a caller may do, while grants on the platform are all the grants there are.

use std::sync::Arc;

use async_trait::async_trait;
use plexsphere_kernel::authz::AuthzUnavailable;
use plexsphere_kernel::{Authorizer, Clock, Database, Decision, ObjectRef, Principal, Subject};
use plexsphere_wire::{DenialReason, PrincipalId};

use super::cache::Cache;
use super::store;

/// Decides from the table of platform administrators: they may everything, a Node is `node-agent` on itself, and
/// everybody else is out of scope.
pub struct PlatformAuthorizer {
    pub(crate) db: Database,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) admins: Cache<PrincipalId, bool>,
}

impl PlatformAuthorizer {
    async fn is_admin(&self, user: PrincipalId) -> Result<bool, AuthzUnavailable> {
        let now = self.clock.now();
        if let Some(known) = self.admins.get(&user, now) {
            return Ok(known);
        }
        let epoch = self.admins.epoch();
        let admin = store::is_admin(self.db.pool(), user).await.map_err(|fault| {
            tracing::error!(cause = ?fault, "grants cannot be read");
            AuthzUnavailable
        })?;
        self.admins.put(epoch, user, admin, now);
        Ok(admin)
    }
}

#[async_trait]
impl Authorizer for PlatformAuthorizer {
    async fn check(
        &self,
        principal: &Principal,
        relation: &str,
        object: &ObjectRef,
    ) -> Result<Decision, AuthzUnavailable> {
        let denied = |reason| Ok(Decision::Denied { reason, relation_path: Vec::new() });
        match principal.subject {
            Subject::User(user) if self.is_admin(user).await? => {
                Ok(Decision::Allowed { relation_path: vec!["platform#admin".to_owned()] })
            }
            Subject::Node(node) if *object == ObjectRef::node(node) => {
                if relation == "node-agent" {
                    Ok(Decision::Allowed { relation_path: vec!["node#node-agent".to_owned()] })
                } else {
                    denied(DenialReason::InsufficientRelation)
                }
            }
            Subject::User(_) | Subject::Node(_) | Subject::Service(_) | Subject::System(_) => {
                denied(DenialReason::OutOfScope)
            }
        }
    }
}
