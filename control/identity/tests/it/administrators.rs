//! An authoriser without an engine: whoever administers the platform may do everything, a Node is `node-agent` on itself,
//! and everybody else is out of scope. What the engine decides is tried where it stands in its place.

use async_trait::async_trait;
use plexsphere_kernel::authz::AuthzUnavailable;
use plexsphere_kernel::{Authorizer, Database, Decision, ObjectRef, Principal, Subject};
use plexsphere_wire::DenialReason;

pub(crate) struct Administrators(pub(crate) Database);

#[async_trait]
impl Authorizer for Administrators {
    async fn check(
        &self,
        principal: &Principal,
        relation: &str,
        object: &ObjectRef,
    ) -> Result<Decision, AuthzUnavailable> {
        let allowed = |path: &str| Decision::Allowed { relation_path: vec![path.to_owned()] };
        let denied = |reason| Decision::Denied { reason, relation_path: Vec::new() };
        Ok(match principal.subject {
            Subject::User(user) => {
                let query = "SELECT EXISTS (SELECT FROM identity.platform_admins WHERE user_id = $1)";
                let query = sqlx::query_scalar(query).bind(user.uuid());
                let administers: bool = query.fetch_one(self.0.pool()).await.map_err(|_| AuthzUnavailable)?;
                if administers { allowed("platform#admin") } else { denied(DenialReason::OutOfScope) }
            }
            Subject::Node(node) if *object == ObjectRef::node(node) => match relation {
                "node-agent" => allowed("node#node-agent"),
                _ => denied(DenialReason::InsufficientRelation),
            },
            Subject::Node(_) | Subject::Service(_) | Subject::System(_) => denied(DenialReason::OutOfScope),
        })
    }
}
