//! Use cases of Groups.

use std::sync::Arc;

use plexsphere_kernel::{Database, Fault, ObjectRef, Outcome, RelationTuple, TupleWriter};
use plexsphere_wire::{DenialReason, DomainId, GroupId, IdpBindingId};
use serde_json::{Value, json};

use super::members;
use super::model::{Group, GroupRefusal, GroupSource, NewGroup};
use super::store;
use crate::events::EventName;
use crate::journal::{Actor, Journal};

/// The use cases of Groups and of their members.
#[derive(Clone)]
pub struct Groups {
    pub(super) db: Database,
    pub(super) journal: Journal,
    pub(super) tuples: Arc<dyn TupleWriter>,
}

fn ids(group: &Group) -> Value {
    json!({ "group_id": group.id, "domain_id": group.domain })
}

impl Groups {
    pub(crate) fn new(db: Database, journal: Journal, tuples: Arc<dyn TupleWriter>) -> Self {
        Self { db, journal, tuples }
    }

    /// Makes a Group and its edge to the Domain, in one transaction.
    pub(super) async fn create(&self, actor: &Actor, new: NewGroup) -> Result<Group, GroupRefusal> {
        let group = Group {
            id: GroupId::mint(actor.now),
            domain: new.domain,
            slug: new.slug,
            display_name: new.display_name,
            source: new.source,
            created_at: actor.now,
            updated_at: actor.now,
        };
        let mut tx = self.db.begin().await?;
        if let GroupSource::Idp { binding, .. } = &group.source
            && !store::is_in_reach(&mut tx, *binding, group.domain).await?
        {
            return Err(GroupRefusal::Invalid("idp_binding_id"));
        }
        store::insert(&mut tx, &group).await?;
        let domain = Some(group.domain);
        let edge = RelationTuple::parent(group.object(), ObjectRef::domain(group.domain));
        self.tuples.write(&mut tx, domain, &[edge]).await?;
        let mut payload = ids(&group);
        if let Some(members) = payload.as_object_mut() {
            members.insert("slug".to_owned(), json!(group.slug));
        }
        self.journal.announce(&mut tx, actor, domain, EventName::GroupCreated, payload).await?;
        self.journal.record(&mut tx, actor.record(domain, "group.create", group.object())).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(group)
    }

    /// The Group, not yet gated: it must be there for its Domain to answer for it.
    pub(super) async fn find(&self, id: GroupId) -> Result<Group, GroupRefusal> {
        store::get(self.db.pool(), id).await?.ok_or(GroupRefusal::NotFound)
    }

    pub(super) async fn note_read(&self, actor: &Actor, group: &Group) -> Result<(), Fault> {
        self.journal.record_alone(actor.record(Some(group.domain), "group.read", group.object())).await
    }

    pub(super) async fn page(
        &self,
        actor: &Actor,
        domain: DomainId,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Group>, Fault> {
        let rows = store::list(self.db.pool(), domain, after, limit).await?;
        self.journal.record_alone(actor.record(Some(domain), "group.list", ObjectRef::domain(domain))).await?;
        Ok(rows)
    }

    pub(super) async fn rename(&self, actor: &Actor, id: GroupId, name: &str) -> Result<Group, GroupRefusal> {
        let name = super::model::display_name(name)?;
        let mut tx = self.db.begin().await?;
        let group = store::rename(&mut tx, id, &name, actor.now).await?.ok_or(GroupRefusal::NotFound)?;
        self.journal.announce(&mut tx, actor, Some(group.domain), EventName::GroupUpdated, ids(&group)).await?;
        self.journal.record(&mut tx, actor.record(Some(group.domain), "group.update", group.object())).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(group)
    }

    /// Deletes a Group with its memberships, those in other Groups among them, and every tuple that names it. One through
    /// which the last administrator of the Domain is one stays.
    pub(super) async fn delete(&self, actor: &Actor, id: GroupId) -> Result<(), GroupRefusal> {
        let mut tx = self.db.begin().await?;
        let group = store::lock(&mut tx, id).await?.ok_or(GroupRefusal::NotFound)?;
        let administered = self.tuples.has_administrator(&mut tx, group.domain).await?;
        self.end(&mut tx, actor, &group).await?;
        if administered && !self.tuples.has_administrator(&mut tx, group.domain).await? {
            tx.rollback().await.map_err(Fault::from)?;
            let mut row = actor.record(Some(group.domain), "group.delete", group.object());
            row.outcome = Outcome::Denied(DenialReason::InsufficientRelation);
            self.journal.record_alone(row).await?;
            return Err(GroupRefusal::Administers);
        }
        tx.commit().await.map_err(Fault::from)?;
        Ok(())
    }

    /// [`Self::delete`] for every Group that a binding fills, in the caller's transaction, which holds the binding. No
    /// Group stays for the sake of an administrator: a door to a provider must close when it is told to.
    pub(crate) async fn end_all_of(
        &self,
        tx: &mut plexsphere_kernel::Tx,
        actor: &Actor,
        binding: IdpBindingId,
    ) -> Result<(), Fault> {
        for group in store::lock_of_binding(tx, binding).await? {
            self.end(tx, actor, &group).await?;
        }
        Ok(())
    }

    async fn end(&self, tx: &mut plexsphere_kernel::Tx, actor: &Actor, group: &Group) -> Result<(), Fault> {
        members::store::forget_group(tx, group.id).await?;
        self.tuples.forget(tx, &group.object()).await?;
        store::delete(tx, group.id).await?;
        self.journal.announce(tx, actor, Some(group.domain), EventName::GroupDeleted, ids(group)).await?;
        self.journal.record(tx, actor.record(Some(group.domain), "group.delete", group.object())).await
    }
}
