//! Use cases of memberships. A membership and its tuple commit together.

use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, GroupId, IdpBindingId, PrincipalId};
use serde_json::{Value, json};

use super::super::model::{Group, GroupRefusal, GroupSource, object};
use super::super::service::Groups;
use super::super::store as groups;
use super::model::{MemberKind, Membership, NewMember};
use super::store;
use crate::events::EventName;
use crate::journal::Actor;

/// What became of a membership.
#[derive(Clone, Copy)]
enum Change {
    Added,
    Removed,
}

fn ids(membership: &Membership, domain: DomainId) -> Value {
    json!({
        "group_id": membership.group,
        "domain_id": domain,
        "principal_kind": membership.kind.as_str(),
        "principal_id": membership.principal,
    })
}

impl Groups {
    pub(super) async fn members(&self, actor: &Actor, group: &Group) -> Result<Vec<Membership>, Fault> {
        let rows = store::list(self.db.pool(), group.id).await?;
        self.note_read(actor, group).await?;
        Ok(rows)
    }

    pub(super) async fn add(&self, actor: &Actor, group: &Group, new: NewMember) -> Result<Membership, GroupRefusal> {
        let mut tx = self.db.begin().await?;
        let membership = self.admit(&mut tx, actor, group, new).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(membership)
    }

    /// Makes a person a member of a Group that is filled by hand, in the caller's transaction, as an accepted Invitation
    /// does. `false` when the person is one already.
    ///
    /// # Errors
    /// [`GroupRefusal::NotFound`] when the Domain has no such Group, [`GroupRefusal::SourceDiffers`] when a provider
    /// fills it, [`GroupRefusal::Stranger`] when the Domain does not have the person, or a fault. After any of them but
    /// the last the transaction is still good.
    pub async fn enlist(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        (domain, group): (DomainId, GroupId),
        user: PrincipalId,
    ) -> Result<bool, GroupRefusal> {
        let group = groups::share(tx, group).await?.filter(|group| group.domain == domain);
        let group = group.ok_or(GroupRefusal::NotFound)?;
        if group.source != GroupSource::Manual {
            return Err(GroupRefusal::SourceDiffers);
        }
        match self.admit(tx, actor, &group, NewMember { kind: MemberKind::User, principal: user }).await {
            Ok(_) => Ok(true),
            Err(GroupRefusal::AlreadyMember) => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }

    async fn admit(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        group: &Group,
        new: NewMember,
    ) -> Result<Membership, GroupRefusal> {
        if new.kind == MemberKind::Group {
            store::lock_nesting(tx, group.domain).await?;
        }
        groups::share(tx, group.id).await?.ok_or(GroupRefusal::NotFound)?;
        if !store::is_of_domain(tx, group.domain, (new.kind, new.principal)).await? {
            return Err(GroupRefusal::Stranger);
        }
        if new.kind == MemberKind::Group {
            store::nesting(tx, group.id, new.principal).await?.check()?;
        }
        let membership =
            Membership { group: group.id, kind: new.kind, principal: new.principal, created_at: actor.now };
        if !store::insert(tx, &membership).await? {
            return Err(GroupRefusal::AlreadyMember);
        }
        self.note(tx, actor, (Change::Added, "group.member-add"), group.domain, &membership).await?;
        Ok(membership)
    }

    pub(super) async fn remove(
        &self,
        actor: &Actor,
        group: &Group,
        (kind, principal): (MemberKind, PrincipalId),
    ) -> Result<(), GroupRefusal> {
        let mut tx = self.db.begin().await?;
        let administered = self.tuples.has_administrator(&mut tx, group.domain).await?;
        if !store::delete(&mut tx, group.id, (kind, principal)).await? {
            return Err(GroupRefusal::NoMember);
        }
        let membership = Membership { group: group.id, kind, principal, created_at: actor.now };
        self.note(&mut tx, actor, (Change::Removed, "group.member-remove"), group.domain, &membership).await?;
        if administered && !self.tuples.has_administrator(&mut tx, group.domain).await? {
            return Err(GroupRefusal::LastAdministrator);
        }
        tx.commit().await.map_err(Fault::from)?;
        Ok(())
    }

    /// Brings a User's memberships in the Groups that a binding fills in line with what the provider says at sign-in, in
    /// the caller's transaction: a member is exactly who has the Group's value among `claims`. Nobody else's membership
    /// is touched. Whether a missing claim means none or nothing is the caller's to know. The provider has the last word,
    /// also about the last administrator of the Domain.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn sync(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        (domain, binding): (DomainId, IdpBindingId),
        user: PrincipalId,
        claims: &[String],
    ) -> Result<(), Fault> {
        for standing in store::standings(tx, domain, binding, user).await? {
            let group = standing.group;
            let membership = Membership { group, kind: MemberKind::User, principal: user, created_at: actor.now };
            let change = match (claims.contains(&standing.claim_value), standing.is_member) {
                (true, false) if store::insert(tx, &membership).await? => Change::Added,
                (false, true) if store::delete(tx, group, (MemberKind::User, user)).await? => Change::Removed,
                _ => continue,
            };
            self.note(tx, actor, (change, "group.member-sync"), domain, &membership).await?;
        }
        Ok(())
    }

    /// Tells the relation engine and both ledgers of a membership that came or went.
    async fn note(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        (change, action): (Change, &str),
        domain: DomainId,
        membership: &Membership,
    ) -> Result<(), Fault> {
        let tuple = [membership.tuple()];
        let event = match change {
            Change::Added => {
                self.tuples.write(tx, Some(domain), &tuple).await?;
                EventName::MembershipAdded
            }
            Change::Removed => {
                self.tuples.remove(tx, Some(domain), &tuple).await?;
                EventName::MembershipRemoved
            }
        };
        self.journal.announce(tx, actor, Some(domain), event, ids(membership, domain)).await?;
        self.journal.record(tx, actor.record(Some(domain), action, object(membership.group))).await
    }
}
