//! Use cases: suspend, resume, purge.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_kernel::{AuditLog, Database, Fault, ObjectRef, Subject, TupleWriter, Tx};
use plexsphere_wire::DomainId;
use uuid::Uuid;

use super::store::{self, Target};
use crate::journal::{Actor, Journal};
use crate::pepper::TokenPepper;
use crate::principals::CREDENTIAL_MEMORY;
use crate::tenancy::subjects::Subjects;

/// How much longer than processes believe a credential the requests that came by it may take.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// Takes an identity off the audit log.
#[async_trait]
pub trait ChainErasure: Send + Sync + 'static {
    /// Erases an identity from every chain on which it appears, from the platform's, and from the chain of its Domain.
    /// Entries and hashes stay. May be repeated.
    ///
    /// # Errors
    /// [`Fault`]; some chains may have been done.
    async fn erase(&self, actor: &Actor, identity: Subject, home: Option<DomainId>) -> Result<(), Fault>;
}

/// Why a principal is neither suspended nor purged.
#[derive(Debug, thiserror::Error)]
pub enum DepartureRefusal {
    /// There is no such person or service identity.
    #[error("there is no such user or service identity")]
    UnknownPrincipal,
    /// The platform would be left without an administrator.
    #[error("nobody else administers the platform; `plexsphere platform grant admin` another one first")]
    LastAdministrator,
    /// A Domain would be left without one.
    #[error("nobody else administers the domain {0}; `plexsphere platform grant-domain-admin` another one first")]
    LastDomainAdministrator(DomainId),
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Who was suspended, resumed or purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departed {
    /// The principals.
    pub principals: Vec<Subject>,
    /// Other Users whom the same issuer knows by the same subject; they stay as they are.
    pub others: Vec<Subject>,
}

/// What the use cases need.
#[derive(Clone)]
pub struct DeparturesNeeds {
    /// The database.
    pub db: Database,
    /// The audit log.
    pub audit: Arc<dyn AuditLog>,
    /// The relation tuples.
    pub tuples: Arc<dyn TupleWriter>,
    /// The key of token digests; by it Invitations are found.
    pub pepper: TokenPepper,
    /// The audit chains.
    pub chains: Arc<dyn ChainErasure>,
}

/// Suspends, resumes and purges principals.
#[derive(Clone)]
pub struct Departures {
    needs: DeparturesNeeds,
    journal: Journal,
    subjects: Subjects,
}

impl Departures {
    /// Over the database of an installation.
    #[must_use]
    pub fn new(needs: DeparturesNeeds) -> Self {
        let journal = Journal::new(Arc::clone(&needs.audit));
        let subjects = Subjects::new(needs.pepper.clone());
        Self { needs, journal, subjects }
    }

    /// Keeps a principal from authenticating by any credential, and ends those it has: sessions, access tokens, API
    /// tokens, devices that wait for their token. Other processes believe a credential for at most five seconds more.
    ///
    /// # Errors
    /// [`DepartureRefusal`]; nothing is changed then.
    pub async fn suspend(&self, actor: &Actor, whom: Subject) -> Result<Departed, DepartureRefusal> {
        let (targets, others) = self.begin(actor, whom, false).await?;
        Ok(Departed { principals: names(&targets), others })
    }

    /// Lets a suspended principal authenticate again. Credentials that ended stay ended; rights were never taken.
    ///
    /// # Errors
    /// [`DepartureRefusal::UnknownPrincipal`] or a fault; nothing is changed then.
    pub async fn resume(&self, actor: &Actor, whom: Subject) -> Result<Departed, DepartureRefusal> {
        let mut tx = self.needs.db.begin().await?;
        let (targets, others) = find(&mut tx, whom, false).await?;
        store::resume(&mut tx, &ids(&targets)).await?;
        self.note(&mut tx, actor, "identity.resume", &targets).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(Departed { principals: names(&targets), others })
    }

    /// Removes a principal, with `everywhere` every User whom the same issuer knows by the same subject: first it is
    /// suspended; when no process believes a credential of its any more, it is erased from the audit chains; then its rows
    /// go, and its relation tuples. Takes some six seconds. What fails in between leaves it suspended, to be purged again.
    ///
    /// # Errors
    /// [`DepartureRefusal`].
    pub async fn purge(&self, actor: &Actor, whom: Subject, everywhere: bool) -> Result<Departed, DepartureRefusal> {
        let (targets, _) = self.begin(actor, whom, everywhere).await?;
        tokio::time::sleep(CREDENTIAL_MEMORY + LAST_REQUESTS).await;
        for target in &targets {
            self.needs.chains.erase(actor, target.subject, target.home).await?;
        }
        let mut tx = self.needs.db.begin().await?;
        store::lock_administration(&mut tx).await?;
        let (found, mut others) = find(&mut tx, whom, everywhere).await?;
        // Who came by a new sign-in meanwhile was neither suspended nor erased, and is named with those that are left.
        let (targets, new): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|target| targets.iter().any(|known| known.subject == target.subject));
        others.extend(new.iter().map(|target| target.subject));
        self.check(&mut tx, &targets).await?;
        self.uninvite(&mut tx, &targets, everywhere).await?;
        let objects: Vec<_> = targets.iter().map(|target| object(target.subject)).collect();
        self.needs.tuples.forget_many(&mut tx, &objects).await?;
        store::delete(&mut tx, &ids(&targets)).await?;
        self.note(&mut tx, actor, "identity.purge", &targets).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(Departed { principals: names(&targets), others })
    }

    async fn begin(
        &self,
        actor: &Actor,
        whom: Subject,
        everywhere: bool,
    ) -> Result<(Vec<Target>, Vec<Subject>), DepartureRefusal> {
        let mut tx = self.needs.db.begin().await?;
        store::lock_administration(&mut tx).await?;
        let (targets, others) = find(&mut tx, whom, everywhere).await?;
        self.check(&mut tx, &targets).await?;
        store::suspend(&mut tx, &ids(&targets), actor.now).await?;
        self.note(&mut tx, actor, "identity.suspend", &targets).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok((targets, others))
    }

    /// Neither the platform nor a Domain is left without an administrator.
    async fn check(&self, tx: &mut Tx, targets: &[Target]) -> Result<(), DepartureRefusal> {
        if store::leaves_no_administrator(tx, &ids(targets)).await? {
            return Err(DepartureRefusal::LastAdministrator);
        }
        let subjects: Vec<_> = targets.iter().map(|target| object(target.subject)).collect();
        match self.needs.tuples.administered_alone(tx, &subjects).await? {
            Some(domain) => Err(DepartureRefusal::LastDomainAdministrator(domain)),
            None => Ok(()),
        }
    }

    /// Deletes the Invitations that were made out to these: in their own Domains, or in all.
    async fn uninvite(&self, tx: &mut Tx, targets: &[Target], everywhere: bool) -> Result<(), Fault> {
        let all = if everywhere { store::domains(tx).await? } else { Vec::new() };
        let mut keys = Vec::new();
        for target in targets {
            let subject = target.known_as.as_ref().map(|(_, subject)| subject);
            for text in subject.into_iter().chain(&target.email) {
                let own = target.home.iter().filter(|_| !everywhere);
                keys.extend(all.iter().chain(own).map(|domain| (*domain, self.subjects.match_key(*domain, text))));
            }
        }
        store::delete_addressed(tx, &keys).await
    }

    async fn note(&self, tx: &mut Tx, actor: &Actor, action: &str, targets: &[Target]) -> Result<(), Fault> {
        let rows = targets.iter().map(|target| actor.record(target.home, action, object(target.subject)));
        self.journal.record_many(tx, rows.collect()).await
    }
}

/// The principal, with `everywhere` all Users of the same person; and those of them who are not meant.
async fn find(tx: &mut Tx, whom: Subject, everywhere: bool) -> Result<(Vec<Target>, Vec<Subject>), DepartureRefusal> {
    let target = store::target(tx, whom).await?.ok_or(DepartureRefusal::UnknownPrincipal)?;
    let Some((issuer, subject)) = &target.known_as else { return Ok((vec![target], Vec::new())) };
    let same = store::same_person(tx, issuer, subject).await?;
    if everywhere {
        return Ok((same, Vec::new()));
    }
    let others = same.iter().map(|other| other.subject).filter(|other| *other != whom).collect();
    Ok((vec![target], others))
}

fn ids(targets: &[Target]) -> Vec<Uuid> {
    targets.iter().map(|target| target.subject.uuid()).collect()
}

fn names(targets: &[Target]) -> Vec<Subject> {
    targets.iter().map(|target| target.subject).collect()
}

/// The principal as the relation graph and the audit log name it.
fn object(subject: Subject) -> ObjectRef {
    let kind = if matches!(subject, Subject::Service(_)) { "serviceaccount" } else { "user" };
    ObjectRef { kind, id: subject.uuid().to_string() }
}

impl std::fmt::Debug for Departures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Departures")
    }
}
