//! Keeping the promise: what a sign-in does with the Invitations for whoever signs in.

use async_trait::async_trait;
use plexsphere_kernel::{AuditRecord, Fault, ObjectRef, Outcome, RelationTuple, StoredCaveat, Tx};
use plexsphere_wire::{DenialReason, DomainId, GroupId, InvitationId, PrincipalId, Timestamp};
use serde_json::json;

use super::model::{Invitation, InvitationStatus, StagedObject};
use super::service::{self, Invitations, Needs};
use super::store;
use crate::events::EventName;
use crate::groups::GroupRefusal;
use crate::journal::Actor;
use crate::tenancy::edges;

/// Who signs in to a Domain, as its identity provider says.
#[derive(Clone, Copy)]
pub struct Invitee<'i> {
    /// The Domain.
    pub domain: DomainId,
    /// The `sub` claim.
    pub subject: &'i str,
    /// The `email` claim.
    pub email: Option<&'i str>,
    /// Whether the provider vouches for the address; without that anybody could claim it.
    pub email_verified: bool,
}

/// Accepts Invitations inside a sign-in's transaction: all of it commits with the sign-in, or nothing does.
#[async_trait]
pub trait InvitationAcceptor: Send + Sync + 'static {
    /// Whether a pending Invitation is for this person, so that an unknown one may become a User.
    ///
    /// # Errors
    /// [`Fault`].
    async fn is_invited(&self, tx: &mut Tx, invitee: &Invitee<'_>, now: Timestamp) -> Result<bool, Fault>;

    /// Accepts every pending Invitation for this person and writes what they promise to `user`, who exists. Which were
    /// accepted.
    ///
    /// # Errors
    /// [`Fault`]; the sign-in fails with it.
    async fn accept(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        invitee: &Invitee<'_>,
        user: PrincipalId,
    ) -> Result<Vec<InvitationId>, Fault>;
}

#[async_trait]
impl InvitationAcceptor for Invitations {
    async fn is_invited(&self, tx: &mut Tx, invitee: &Invitee<'_>, now: Timestamp) -> Result<bool, Fault> {
        let pending = store::pending_for(tx, invitee.domain, &self.match_keys(invitee)).await?;
        Ok(pending.iter().any(|invitation| invitation.at_sign_in(now) == Some(InvitationStatus::Accepted)))
    }

    async fn accept(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        invitee: &Invitee<'_>,
        user: PrincipalId,
    ) -> Result<Vec<InvitationId>, Fault> {
        let mut accepted = Vec::new();
        for invitation in store::pending_for(tx, invitee.domain, &self.match_keys(invitee)).await? {
            let end = invitation.at_sign_in(actor.now);
            if end == Some(InvitationStatus::Expired) && store::expire(tx, invitation.id, actor.now).await? {
                self.note_expired(tx, actor, invitee.domain, invitation.id).await?;
            }
            // Whoever ended it meanwhile was first, and there is nothing to keep.
            if end == Some(InvitationStatus::Accepted) && store::accept(tx, invitation.id, user, actor.now).await? {
                self.keep(tx, actor, &invitation, user).await?;
                accepted.push(invitation.id);
            }
        }
        Ok(accepted)
    }
}

impl Invitations {
    /// The subjects that the person may have been invited by.
    fn match_keys(&self, invitee: &Invitee<'_>) -> Vec<[u8; 32]> {
        let subjects = &self.needs.subjects;
        let mut keys = vec![subjects.match_key(invitee.domain, invitee.subject)];
        // What is no address is not matched as one, or a provider's free text could stand for somebody's subject.
        let address = invitee.email.filter(|email| invitee.email_verified && email.contains('@'));
        keys.extend(address.map(|email| subjects.match_key(invitee.domain, email)));
        keys
    }

    /// Writes what an Invitation promises that was just accepted. What is gone meanwhile is left out, and so is a right
    /// that the User has under another condition: both are said.
    async fn keep(&self, tx: &mut Tx, actor: &Actor, invitation: &Invitation, user: PrincipalId) -> Result<(), Fault> {
        let Needs { journal, tuples, .. } = &self.needs;
        let domain = invitation.domain;
        let objects: Vec<StagedObject> = invitation.tuples.iter().map(|tuple| tuple.object).collect();
        let existing = store::existing(tx, domain, &objects).await?;
        let mut granted = Vec::with_capacity(objects.len());
        let mut rows = vec![actor.record(Some(domain), "invitation.accept", service::object(invitation.id))];
        let skipped = |object: ObjectRef, why: DenialReason| AuditRecord {
            outcome: Outcome::Denied(why),
            ..actor.record(Some(domain), "invitation.accept.skipped", object)
        };
        for staged in &invitation.tuples {
            let object = staged.object.object();
            if !existing.contains(&staged.object) {
                rows.push(skipped(object, DenialReason::OutOfScope));
                continue;
            }
            match staged.object {
                StagedObject::Group(group) => self.enlist(tx, actor, (domain, group), user).await?,
                StagedObject::Domain(_) | StagedObject::Project(_) => {
                    granted.push(tuple(object, &staged.relation, user, staged.caveat.clone()));
                }
            }
        }
        let left_alone = tuples.write(tx, Some(domain), &granted).await?;
        rows.extend(left_alone.into_iter().map(|tuple| skipped(tuple.object, DenialReason::CaveatViolation)));
        let payload = json!({ "invitation_id": invitation.id, "domain_id": domain, "user_id": user });
        journal.announce(tx, actor, Some(domain), EventName::InvitationAccepted, payload).await?;
        journal.record_many(tx, rows).await
    }

    async fn enlist(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        group: (DomainId, GroupId),
        user: PrincipalId,
    ) -> Result<(), Fault> {
        self.needs.groups.enlist(tx, actor, group, user).await.map(|_| ()).map_err(broken)
    }
}

/// What a Group says that was there a moment ago, under a lock, is a fault of ours.
fn broken(refusal: GroupRefusal) -> Fault {
    match refusal {
        GroupRefusal::Fault(fault) => fault,
        _ => Fault::Invariant("a manual group of the domain takes a user of the domain"),
    }
}

fn tuple(object: ObjectRef, relation: &str, user: PrincipalId, caveat: Option<StoredCaveat>) -> RelationTuple {
    RelationTuple { caveat, ..RelationTuple::new(object, relation, edges::user(user)) }
}
