//! The relation tuples that follow from the tree: what belongs to what, and who made it.

use plexsphere_kernel::{ObjectRef, RelationTuple, Subject, SubjectRef};
use plexsphere_wire::{DomainId, NodeId, PrincipalId, ProjectId, ResourceId};

/// What a new Domain brings: its place on the platform, and its creator as its administrator.
pub(crate) fn domain(id: DomainId, creator: &Subject) -> Vec<RelationTuple> {
    let mut tuples = vec![place(id)];
    tuples.extend(operator(creator).map(|creator| RelationTuple::new(ObjectRef::domain(id), "admin", creator)));
    tuples
}

/// A Domain's place on the platform.
pub(crate) fn place(id: DomainId) -> RelationTuple {
    RelationTuple::parent(ObjectRef::domain(id), ObjectRef::platform())
}

/// What a new Domain brings to the platform: everybody with a right in it may browse what is shared.
pub(crate) fn tenant(id: DomainId) -> RelationTuple {
    RelationTuple::new(ObjectRef::platform(), "tenant", SubjectRef::userset(ObjectRef::domain(id), "read"))
}

pub(crate) fn project(id: ProjectId, domain: DomainId) -> RelationTuple {
    RelationTuple::parent(ObjectRef::project(id), ObjectRef::domain(domain))
}

pub(crate) fn resource(id: ResourceId, project: ProjectId) -> RelationTuple {
    RelationTuple::parent(ObjectRef::resource(id), ObjectRef::project(project))
}

/// What a new Node brings: its place, and its membership in its Project's Nodes.
pub(crate) fn node(id: NodeId, resource: ResourceId, project: ProjectId) -> [RelationTuple; 2] {
    [
        RelationTuple::parent(ObjectRef::node(id), ObjectRef::resource(resource)),
        RelationTuple::new(ObjectRef::project(project), "node", ObjectRef::node(id)),
    ]
}

pub(crate) fn service_identity(id: PrincipalId, domain: DomainId) -> RelationTuple {
    RelationTuple::parent(service_account(id), ObjectRef::domain(domain))
}

/// `user:<id>`.
pub(crate) fn user(id: PrincipalId) -> ObjectRef {
    ObjectRef { kind: "user", id: id.to_string() }
}

/// `serviceaccount:<id>`.
pub(crate) fn service_account(id: PrincipalId) -> ObjectRef {
    ObjectRef { kind: "serviceaccount", id: id.to_string() }
}

/// A subject that can hold rights in the tree; a Node and a part of this system cannot.
fn operator(subject: &Subject) -> Option<ObjectRef> {
    match subject {
        Subject::User(id) => Some(user(*id)),
        Subject::Service(id) => Some(service_account(*id)),
        Subject::Node(_) | Subject::System(_) => None,
    }
}
