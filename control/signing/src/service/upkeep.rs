//! What ages: keys that are retired, destroyed and forgotten.

use std::time::Duration;

use plexsphere_kernel::directory::mark_domain;
use plexsphere_kernel::{Event, EventAudience, Fault, Outbox, SignerFault, Tx};
use plexsphere_wire::{DomainId, Timestamp};
use serde_json::json;

use super::Signing;
use super::keys::Act;
use crate::model::{DestroyReason, KeyState, transit_name};
use crate::store::{self, upkeep};

/// Keys that one transaction takes.
const BATCH: i64 = 200;
/// Domains of which one run has OpenBao forget keys.
const TRIMS: i64 = 50;
/// How long a retired key rests after a Node last pinned it.
const REST: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How often it is asked who pins a retired key.
const PIN_CHECK: Duration = Duration::from_secs(24 * 3_600);

impl Signing {
    /// Retires previous keys whose transition is over, at most [`BATCH`]; how many there were, and whether there may be
    /// more.
    pub(crate) async fn retire_expired(&self) -> Result<(u64, bool), Fault> {
        let now = self.now();
        let mut tx = self.parts.db.begin().await?;
        let expired = upkeep::expired(&mut tx, now, BATCH).await?;
        let done = expired.len();
        for (domain, kid) in expired {
            let domain = DomainId::from_uuid(domain);
            store::retire(&mut tx, domain, &kid, now).await?;
            mark_domain(&mut tx, domain).await?;
            self.tell(&mut tx, domain, "SigningKeyRetired", &kid, now).await?;
            self.record(&mut tx, domain, Act::of_ours("signing_key.retire", kid, now)).await?;
        }
        tx.commit().await?;
        Ok(counted(done))
    }

    /// Destroys retired keys that no Node has pinned for [`REST`], or all of them where none are kept; how many keys were
    /// looked at, and whether there may be more. Each is looked at once in [`PIN_CHECK`].
    pub(crate) async fn destroy_unpinned(&self) -> Result<(u64, bool), Fault> {
        let now = self.now();
        let keeps = self.config.keep_retired;
        let mut tx = self.parts.db.begin().await?;
        let since = if keeps { now.minus(PIN_CHECK) } else { now };
        let keys = upkeep::retired(&mut tx, now.minus(REST), since, BATCH).await?;
        let named: Vec<_> = keys.iter().map(|key| (DomainId::from_uuid(key.domain_id), key.kid.clone())).collect();
        let pinned = self.parts.pins.pinned(&named).await?;
        let (mut kids, mut held) = (Vec::new(), Vec::new());
        for key in &keys {
            let is_pinned = pinned.get(&key.kid).is_some_and(|nodes| *nodes > 0);
            if !keeps || (key.rested && !is_pinned) {
                let reason = if keeps { DestroyReason::Unpinned } else { DestroyReason::NotKept };
                self.end(&mut tx, DomainId::from_uuid(key.domain_id), &key.kid, reason, now).await?;
            } else {
                kids.push(key.kid.clone());
                held.extend(is_pinned.then(|| key.kid.clone()));
            }
        }
        upkeep::checked(&mut tx, &kids, &held, now).await?;
        tx.commit().await?;
        Ok(counted(keys.len()))
    }

    /// Destroys a key on nobody's request, with its event and its audit row.
    async fn end(
        &self,
        tx: &mut Tx,
        domain: DomainId,
        kid: &str,
        reason: DestroyReason,
        now: Timestamp,
    ) -> Result<(), Fault> {
        store::destroy(tx, domain, kid, reason, now).await?;
        self.hands.invalidate(kid);
        self.tell(tx, domain, "SigningKeyDestroyed", kid, now).await?;
        self.record(tx, domain, Act::of_ours("signing_key.destroy", kid.to_owned(), now)).await
    }

    /// Destroys all keys of a Domain that is deleted in this transaction; whoever deletes it marks it for the directory.
    pub(super) async fn forget_keys(&self, tx: &mut Tx, domain: DomainId, now: Timestamp) -> Result<(), Fault> {
        if !store::lock(tx, domain).await? {
            return Ok(());
        }
        let line = store::line(&mut **tx, domain).await?;
        for key in line.iter().flat_map(|line| &line.keys).filter(|key| key.state != KeyState::Destroyed) {
            self.end(tx, domain, &key.kid, DestroyReason::DomainDeleted, now).await?;
        }
        store::forget(tx, domain).await?;
        self.lines.invalidate(&domain);
        Ok(())
    }

    pub(super) async fn tell(
        &self,
        tx: &mut Tx,
        domain: DomainId,
        name: &'static str,
        kid: &str,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let (payload, audience) = (json!({ "key_id": kid }), EventAudience::Internal);
        Outbox.append(tx, Event { domain: Some(domain), context: "signing", name, audience, payload }, now).await?;
        Ok(())
    }

    /// Has OpenBao forget destroyed keys of some Domains. A Domain whose turn fails waits for the next run.
    pub(crate) async fn trim_destroyed(&self) -> Result<u64, Fault> {
        let mut done = 0;
        for domain in upkeep::untrimmed(&self.parts.db, TRIMS).await? {
            match self.trim(domain).await {
                Ok(trimmed) => done += trimmed,
                Err(Fault::Signer(cause)) => tracing::info!(%domain, %cause, "openbao keeps destroyed keys for now"),
                Err(fault) => return Err(fault),
            }
        }
        Ok(done)
    }

    /// Has OpenBao forget what it can of a Domain's destroyed keys: versions go in their order only, so one waits until
    /// every older one is destroyed too. How many it has forgotten.
    pub(super) async fn trim(&self, domain: DomainId) -> Result<u64, Fault> {
        let mut tx = self.parts.db.begin().await?;
        // Where there is a row, whoever holds it is the only one who makes versions.
        store::lock(&mut tx, domain).await?;
        let versions = upkeep::transit_versions(&mut tx, domain).await?;
        let floor = versions.iter().find(|(_, destroyed, _)| !destroyed).map(|(version, ..)| *version);
        let forgettable =
            |(version, _, trimmed): &&(i32, bool, bool)| !trimmed && floor.is_none_or(|floor| *version < floor);
        if !versions.iter().any(|version| forgettable(&version)) {
            return Ok(0);
        }
        self.at_home().map_err(Fault::Signer)?;
        let trimmed = self.transit().map_err(Fault::Signer)?.trim(&transit_name(domain), floor).await;
        trimmed.map_err(|fault| Fault::Signer(SignerFault::Unavailable(fault.to_string())))?;
        let done = upkeep::trimmed(&mut tx, domain, floor, self.now()).await?;
        tx.commit().await?;
        Ok(done)
    }

    /// Live Nodes that pin a destroyed key: nothing that their streams carry is believed until they enrol again.
    pub(crate) async fn unannounceable(&self) -> Result<u64, Fault> {
        let (mut count, mut after) = (0, String::new());
        loop {
            let page = upkeep::destroyed(&self.parts.db, &after, BATCH).await?;
            let named: Vec<_> = page.into_iter().map(|(domain, kid)| (DomainId::from_uuid(domain), kid)).collect();
            let Some((_, last)) = named.last() else { return Ok(count) };
            after.clone_from(last);
            count += self.parts.pins.pinned(&named).await?.values().sum::<u64>();
        }
    }
}

/// How many there were, and whether they filled the batch.
fn counted(count: usize) -> (u64, bool) {
    (u64::try_from(count).unwrap_or(u64::MAX), i64::try_from(count).is_ok_and(|count| count == BATCH))
}
