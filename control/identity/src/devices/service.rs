//! Use cases of the device flow: ask, approve, poll. One transaction each.

use std::sync::Arc;

use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::{Assurance, Database, Fault, ObjectRef, Outcome, PrincipalScope, Subject, Tx};
use plexsphere_oidc::UserCode;
use plexsphere_wire::{DenialReason, DomainId, IdpBindingId, PrincipalId, Timestamp};
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::model::{
    ApproveRefusal, DeviceEvent, DeviceState, FIRST_INTERVAL, LIFE, PollRefusal, SLOWER_BY, is_too_fast,
};
use super::store::{self, DeviceSession, NewDevice};
use crate::bindings::Bindings;
use crate::events::EventName;
use crate::journal::{Actor, Journal};
use crate::sessions::{Bearer, NewAccess, SessionSecret, Sessions, lock_user};

/// How often a code is drawn again when it is another's; of 2^40 codes a few hundred wait at a time.
const DRAWS: usize = 3;

/// The action of audit rows about tokens that devices come for.
const ISSUE: &str = "device-token.issue";

/// What the use cases need.
#[derive(Clone)]
pub(crate) struct DevicesNeeds {
    /// The database.
    pub(crate) db: Database,
    /// The ledgers.
    pub(crate) journal: Journal,
    /// Makes the access token.
    pub(crate) sessions: Sessions,
    /// Says whether a device's binding may still be used.
    pub(crate) bindings: Bindings,
    /// Bounds how often a person may try a code.
    pub(crate) tries: Arc<Throttle>,
}

/// The use cases of the device flow.
#[derive(Clone)]
pub(crate) struct Devices {
    needs: DevicesNeeds,
}

/// A request just made; the only time that its codes are known.
pub(super) struct Asked {
    pub(super) device_code: Zeroizing<String>,
    pub(super) user_code: String,
    pub(super) expires_in: u64,
    pub(super) interval: i32,
}

/// What a person lends a device.
#[derive(Clone, Copy)]
pub(super) struct Approval<'a> {
    /// The cookie of the session that approves.
    pub(super) cookie: &'a str,
    /// What that session proved.
    pub(super) assurance: &'a Assurance,
}

/// A token for a device.
pub(super) struct Granted {
    pub(super) access_token: Zeroizing<String>,
    pub(super) expires_in: u64,
}

impl Devices {
    pub(crate) const fn new(needs: DevicesNeeds) -> Self {
        Self { needs }
    }

    pub(super) const fn tries(&self) -> &Arc<Throttle> {
        &self.needs.tries
    }

    /// Begins a flow through a binding that was found usable.
    pub(super) async fn ask(&self, binding: Uuid, domain: Option<DomainId>, now: Timestamp) -> Result<Asked, Fault> {
        let secret = SessionSecret::mint()?;
        for _ in 0..DRAWS {
            let code = UserCode::random();
            let mut tx = self.needs.db.begin().await?;
            let new = NewDevice {
                digest: secret.digest(),
                code: &code,
                binding,
                domain,
                interval: FIRST_INTERVAL,
                created_at: now,
                expires_at: now.plus(LIFE),
            };
            if store::insert(&mut tx, new).await? {
                tx.commit().await?;
                return Ok(Asked {
                    device_code: secret.render(),
                    user_code: code.shown(),
                    expires_in: LIFE.as_secs(),
                    interval: FIRST_INTERVAL,
                });
            }
        }
        Err(Fault::Invariant("a fresh user code is nobody's"))
    }

    /// Approves the device that waits with this code, for a person with a session of the same scope.
    pub(super) async fn approve(
        &self,
        actor: &Actor,
        scope: PrincipalScope,
        (code, approval): (&UserCode, Approval<'_>),
    ) -> Result<(), ApproveRefusal> {
        let (domain, user) = (domain_of(scope), actor.principal_id());
        let mut tx = self.needs.db.begin().await?;
        if !self.needs.sessions.hold(&mut tx, (approval.cookie, user), actor.now).await? {
            return Err(ApproveRefusal::SignedOut);
        }
        let device = store::lock_by_user_code(&mut tx, code).await?;
        // Of a device of another Domain nobody learns that it waits.
        let device = device.filter(|device| device.domain == domain).ok_or(ApproveRefusal::Unknown)?;
        if actor.now >= device.expires_at {
            return Err(ApproveRefusal::Expired);
        }
        match (device.state, device.state.transition(DeviceEvent::Approve)) {
            (_, Some(_)) => {}
            (DeviceState::Approved | DeviceState::Consumed, None) => return Err(ApproveRefusal::Approved),
            (DeviceState::Pending | DeviceState::Denied, None) => return Err(ApproveRefusal::Unknown),
        }
        store::approve(&mut tx, &device.digest, user, approval.assurance).await?;
        let payload = json!({ "user_id": user });
        self.needs.journal.announce(&mut tx, actor, domain, EventName::DeviceSessionApproved, payload).await?;
        self.needs.journal.record(&mut tx, actor.record(domain, "device.approve", person(user))).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(())
    }

    /// What a device gets that asks whether it was approved. `acting` makes the approver the actor of this request.
    pub(super) async fn poll(
        &self,
        device_code: &str,
        now: Timestamp,
        acting: impl FnOnce(Subject) -> Actor + Send,
    ) -> Result<Granted, PollRefusal> {
        let digest = SessionSecret::parse(device_code).ok_or(PollRefusal::Unknown)?.digest();
        let mut tx = self.needs.db.begin().await?;
        let seen = store::by_device(&mut tx, &digest).await?.ok_or(PollRefusal::Unknown)?;
        let approver = self.approver(&mut tx, &seen).await?;
        let device = store::lock_by_device(&mut tx, &digest).await?.ok_or(PollRefusal::Unknown)?;
        if let Some(refusal) = judge(&mut tx, &device, now).await? {
            tx.commit().await.map_err(Fault::from)?;
            return Err(refusal);
        }
        let outcome = match approver {
            // It was approved while we looked: what is to be held was not known, and the next poll gets the token.
            None => Err(PollRefusal::Pending),
            Some((user, true)) => Ok(self.grant(&mut tx, (&device, user), &acting(Subject::User(user)), now).await?),
            Some((user, false)) => {
                self.deny(&mut tx, &device, &acting(Subject::User(user))).await?;
                Err(PollRefusal::Denied)
            }
        };
        tx.commit().await.map_err(Fault::from)?;
        outcome
    }

    /// Who approved a device, and whether the binding still serves; both are held until the transaction ends. Whoever
    /// ends a binding or a person's sessions holds that first and the device after it, and so do we.
    async fn approver(&self, tx: &mut Tx, seen: &DeviceSession) -> Result<Option<(PrincipalId, bool)>, Fault> {
        let (DeviceState::Approved, Some(user)) = (seen.state, seen.user) else { return Ok(None) };
        let binding = self.needs.bindings.hold(tx, IdpBindingId::from_uuid(seen.binding)).await?;
        lock_user(tx, user).await?;
        Ok(Some((user, binding.is_some_and(|binding| binding.status.is_usable()))))
    }

    async fn deny(&self, tx: &mut Tx, device: &DeviceSession, actor: &Actor) -> Result<(), Fault> {
        let end = device.state.transition(DeviceEvent::Deny);
        let end = end.ok_or(Fault::Invariant("an approved device may be denied"))?;
        store::end(tx, &device.digest, end).await?;
        let mut record = actor.record(device.domain, ISSUE, person(actor.principal_id()));
        record.outcome = Outcome::Denied(DenialReason::InsufficientRelation);
        self.needs.journal.record(tx, record).await
    }

    async fn grant(
        &self,
        tx: &mut Tx,
        (device, user): (&DeviceSession, PrincipalId),
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Granted, Fault> {
        let end = device.state.transition(DeviceEvent::Consume);
        let end = end.ok_or(Fault::Invariant("an approved device may be served"))?;
        store::end(tx, &device.digest, end).await?;
        let (domain, assurance) = (device.domain, &device.assurance);
        let new = NewAccess { bearer: Bearer::User(user), domain, binding: Some(device.binding), assurance };
        let (access_token, expires_at) = self.needs.sessions.mint(tx, new, now).await?;
        self.needs.journal.record(tx, actor.record(domain, ISSUE, person(user))).await?;
        Ok(Granted { access_token, expires_in: expires_at.since(now).as_secs() })
    }

    /// Removes what ended. Returns how many rows went.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn sweep_once(&self, now: Timestamp) -> Result<u64, Fault> {
        let mut tx = self.needs.db.begin().await?;
        let count = store::sweep(&mut tx, now).await?;
        tx.commit().await?;
        Ok(count)
    }
}

/// Judges a poll of a locked device by what the device is; `None` when it is approved.
async fn judge(tx: &mut Tx, device: &DeviceSession, now: Timestamp) -> Result<Option<PollRefusal>, Fault> {
    Ok(match device.state {
        DeviceState::Consumed => Some(PollRefusal::Unknown),
        DeviceState::Denied => Some(PollRefusal::Denied),
        _ if now >= device.expires_at => Some(PollRefusal::Expired),
        _ if is_too_fast(device.last_poll_at, device.interval, now) => {
            store::slowed(tx, &device.digest, now, SLOWER_BY).await?;
            Some(PollRefusal::SlowDown)
        }
        DeviceState::Pending => {
            store::polled(tx, &device.digest, now).await?;
            Some(PollRefusal::Pending)
        }
        DeviceState::Approved => None,
    })
}

fn person(user: PrincipalId) -> ObjectRef {
    ObjectRef { kind: "user", id: user.to_string() }
}

fn domain_of(scope: PrincipalScope) -> Option<DomainId> {
    match scope {
        PrincipalScope::Platform => None,
        PrincipalScope::Domain(domain) => Some(domain),
    }
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Devices")
    }
}
