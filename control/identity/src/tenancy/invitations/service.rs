//! Use cases of Invitations.

use std::sync::Arc;

use plexsphere_kernel::{Database, Fault, GrantRules, KekRing, ObjectRef, TupleWriter, Tx};
use plexsphere_wire::{DomainId, InvitationId, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::model::{Invitation, InvitationRefusal, InvitationStatus, NewInvitation, StagedObject};
use super::store::{self, Secret};
use crate::events::EventName;
use crate::groups::Groups;
use crate::journal::{Actor, Journal};
use crate::tenancy::subjects::Subjects;

/// How often a creation looks again when the one that was in its way is gone: each round means that somebody else ended
/// one in between.
const ROUNDS: usize = 8;

/// What the use cases need.
#[derive(Clone)]
pub(crate) struct Needs {
    pub(crate) db: Database,
    pub(crate) journal: Journal,
    pub(crate) subjects: Subjects,
    pub(crate) tuples: Arc<dyn TupleWriter>,
    pub(crate) grants: Arc<dyn GrantRules>,
    pub(crate) groups: Groups,
    /// Seals whom an Invitation is for.
    pub(crate) kek: Arc<KekRing>,
    /// The installation that sealed subjects are bound to.
    pub(crate) deployment: Uuid,
}

/// The use cases.
#[derive(Clone)]
pub struct Invitations {
    pub(super) needs: Needs,
}

/// `invitation:<id>`.
pub(super) fn object(id: InvitationId) -> ObjectRef {
    ObjectRef { kind: "invitation", id: id.to_string() }
}

/// The payload of an event about one Invitation.
pub(super) fn facts(domain: DomainId, id: InvitationId) -> Value {
    json!({ "invitation_id": id, "domain_id": domain })
}

impl Invitations {
    pub(crate) const fn new(needs: Needs) -> Self {
        Self { needs }
    }

    /// What may be granted, for judging a request before it is carried out.
    pub(super) fn grants(&self) -> &dyn GrantRules {
        self.needs.grants.as_ref()
    }

    /// Stages an Invitation.
    ///
    /// # Errors
    /// [`InvitationRefusal`].
    pub async fn create(
        &self,
        actor: &Actor,
        domain: DomainId,
        new: NewInvitation,
    ) -> Result<Invitation, InvitationRefusal> {
        let Needs { db, journal, subjects, .. } = &self.needs;
        let mut tx = db.begin().await?;
        if !store::hold_domain(&mut tx, domain).await? {
            return Err(InvitationRefusal::DomainNotFound);
        }
        let objects: Vec<StagedObject> = new.tuples.iter().map(|tuple| tuple.object).collect();
        let existing = store::existing(&mut tx, domain, &objects).await?;
        if let Some(index) = objects.iter().position(|object| !existing.contains(object)) {
            return Err(InvitationRefusal::OutOfScope(index));
        }
        let invitation = Invitation {
            id: InvitationId::mint(actor.now),
            domain,
            pseudonym: subjects.pseudonym(domain, &new.external_subject),
            status: InvitationStatus::Pending,
            tuples: new.tuples,
            created_at: actor.now,
            expires_at: actor.now.plus(new.ttl),
            accepted: None,
            revoked_at: None,
            expired_at: None,
        };
        let secret = self.seal(&invitation, &new.external_subject)?;
        self.insert(&mut tx, actor, &invitation, &secret).await?;
        let payload = facts(domain, invitation.id);
        journal.announce(&mut tx, actor, Some(domain), EventName::InvitationCreated, payload).await?;
        journal.record(&mut tx, actor.record(Some(domain), "invitation.create", object(invitation.id))).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(invitation)
    }

    fn seal(&self, invitation: &Invitation, external_subject: &str) -> Result<Secret, Fault> {
        let place =
            format!("plexsphere/invitation/v1|{}|{}|{}", self.needs.deployment, invitation.domain, invitation.id);
        let (wrap_key_version, sealed_subject) = self.needs.kek.seal(external_subject.as_bytes(), &place)?;
        let match_key = self.needs.subjects.match_key(invitation.domain, external_subject);
        Ok(Secret { sealed_subject, wrap_key_version, match_key })
    }

    /// Inserts; one for the same subject whose time is over makes room.
    async fn insert(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        invitation: &Invitation,
        secret: &Secret,
    ) -> Result<(), InvitationRefusal> {
        let domain = invitation.domain;
        for _ in 0..ROUNDS {
            if let Some(elapsed) = store::expire_elapsed(tx, domain, &secret.match_key, actor.now).await? {
                self.note_expired(tx, actor, domain, elapsed).await?;
            }
            if store::insert(tx, invitation, secret).await? {
                return Ok(());
            }
            if let Some(pending) = store::pending_id(tx, domain, &secret.match_key).await? {
                return Err(InvitationRefusal::AlreadyPending(pending));
            }
        }
        Err(Fault::Invariant("an invitation that is in the way is there or not").into())
    }

    /// Writes into both ledgers that an Invitation was found to be over.
    pub(super) async fn note_expired(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        domain: DomainId,
        id: InvitationId,
    ) -> Result<(), Fault> {
        let payload = facts(domain, id);
        let journal = &self.needs.journal;
        journal.announce(tx, actor, Some(domain), EventName::InvitationExpired, payload).await?;
        journal.record(tx, actor.record(Some(domain), "invitation.expire", object(id))).await
    }

    pub(super) async fn get(
        &self,
        actor: &Actor,
        domain: DomainId,
        id: InvitationId,
    ) -> Result<Invitation, InvitationRefusal> {
        let Needs { db, journal, .. } = &self.needs;
        let invitation = store::get(db.pool(), domain, id).await?.ok_or(InvitationRefusal::NotFound)?;
        journal.record_alone(actor.record(Some(domain), "invitation.read", object(id))).await?;
        Ok(invitation)
    }

    pub(super) async fn page(
        &self,
        actor: &Actor,
        (domain, status): (DomainId, Option<InvitationStatus>),
        before: Option<(Timestamp, Uuid)>,
        limit: i64,
    ) -> Result<Vec<Invitation>, InvitationRefusal> {
        let Needs { db, journal, .. } = &self.needs;
        let rows = store::list(db.pool(), domain, status, before, limit).await?;
        if rows.is_empty() && !store::knows_domain(db.pool(), domain).await? {
            return Err(InvitationRefusal::DomainNotFound);
        }
        journal.record_alone(actor.record(Some(domain), "invitation.list", ObjectRef::domain(domain))).await?;
        Ok(rows)
    }

    /// Takes an Invitation back. One that was taken back already stays so, without another event.
    ///
    /// # Errors
    /// [`InvitationRefusal`].
    pub async fn revoke(&self, actor: &Actor, domain: DomainId, id: InvitationId) -> Result<(), InvitationRefusal> {
        let Needs { db, journal, .. } = &self.needs;
        let mut tx = db.begin().await?;
        if store::revoke(&mut tx, domain, id, actor.now).await? {
            let payload = facts(domain, id);
            journal.announce(&mut tx, actor, Some(domain), EventName::InvitationRevoked, payload).await?;
        } else {
            tx = self.judge_unrevoked(tx, actor, (domain, id)).await?;
        }
        journal.record(&mut tx, actor.record(Some(domain), "invitation.revoke", object(id))).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(())
    }

    /// What is said of an Invitation that could not be revoked: how it ended. One whose time is over ends here, for good.
    async fn judge_unrevoked(
        &self,
        mut tx: Tx,
        actor: &Actor,
        (domain, id): (DomainId, InvitationId),
    ) -> Result<Tx, InvitationRefusal> {
        for _ in 0..ROUNDS {
            let found = store::get(&mut *tx, domain, id).await?.ok_or(InvitationRefusal::NotFound)?;
            match found.status {
                InvitationStatus::Revoked => return Ok(tx),
                InvitationStatus::Accepted => return Err(InvitationRefusal::AlreadyAccepted),
                InvitationStatus::Expired => return Err(InvitationRefusal::AlreadyExpired),
                InvitationStatus::Pending => {}
            }
            let elapsed = found.at_revocation(actor.now) == Some(InvitationStatus::Expired);
            if elapsed && store::expire(&mut tx, id, actor.now).await? {
                self.note_expired(&mut tx, actor, domain, id).await?;
                tx.commit().await.map_err(Fault::from)?;
                return Err(InvitationRefusal::AlreadyExpired);
            }
        }
        Err(Fault::Invariant("an invitation that is not pending has ended").into())
    }
}
