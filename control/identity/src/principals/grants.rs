//! Rights that no operation grants: on the platform, and of an administrator in a Domain that has lost all of its own.
//! Whoever reaches the database with control's keys may give them; each grant is on the audit log.

use std::sync::Arc;

use plexsphere_kernel::{
    AuditLog, Database, Fault, ObjectRef, PrincipalScope, RelationTuple, Subject, SubjectRef, TupleWriter, Tx,
};
use plexsphere_wire::{DomainId, GroupId, PrincipalId};

use super::bootstrap::{EndedTokens, FirstAdministrator};
use super::cache::Cache;
use super::store;
use crate::journal::{Actor, Journal};
use crate::pepper::TokenPepper;

/// A right on the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformRight {
    /// Everything on the platform, and nothing inside Domains that others made.
    Admin,
    /// Running it.
    Operator,
    /// Reading its audit log; no other right implies it.
    Auditor,
    /// Reading it.
    Reader,
}

impl PlatformRight {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Admin, Self::Operator, Self::Auditor, Self::Reader];

    /// The relation that carries it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Reader => "reader",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.as_str() == word)
    }
}

/// Who is given a right on the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grantee {
    /// A person or a service identity.
    Principal(Subject),
    /// The members of a Group, which is always one of a Domain.
    Members(GroupId),
}

impl From<Subject> for Grantee {
    fn from(subject: Subject) -> Self {
        Self::Principal(subject)
    }
}

/// Why a right is not given or taken.
#[derive(Debug, thiserror::Error)]
pub enum GrantRefusal {
    /// There is no such person or service identity.
    #[error("there is no such user, service identity or group")]
    UnknownPrincipal,
    /// It belongs to a Domain, whose administrators can become it: by a token of its, or by its identity provider.
    #[error("a principal of a domain may read the platform at most")]
    OfADomain,
    /// It belongs to another Domain than the one that it would administer.
    #[error("a principal of another domain does not administer this one")]
    OfAnotherDomain,
    /// There is no such Domain.
    #[error("there is no such domain")]
    UnknownDomain,
    /// The platform would be left without an administrator.
    #[error("the last administrator of the platform stays")]
    LastAdministrator,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Gives and takes those rights.
#[derive(Clone)]
pub struct PlatformGrants {
    db: Database,
    journal: Journal,
    tuples: Arc<dyn TupleWriter>,
    first_administrator: FirstAdministrator,
}

impl PlatformGrants {
    /// Over the database of an installation, with the key of its token digests.
    #[must_use]
    pub fn new(db: Database, audit: Arc<dyn AuditLog>, tuples: Arc<dyn TupleWriter>, pepper: TokenPepper) -> Self {
        let journal = Journal::new(audit);
        let first_administrator = FirstAdministrator {
            db: db.clone(),
            journal: journal.clone(),
            pepper,
            cache: Arc::new(Cache::new()),
            tuples: Arc::clone(&tuples),
        };
        Self { db, journal, tuples, first_administrator }
    }

    /// Gives a right on the platform; one that is held already stays as it is. The first second administrator closes the
    /// door of the bootstrap token.
    ///
    /// # Errors
    /// [`GrantRefusal`].
    pub async fn grant(&self, actor: &Actor, right: PlatformRight, to: impl Into<Grantee>) -> Result<(), GrantRefusal> {
        let to = to.into();
        let mut tx = self.db.begin().await?;
        let (subject, scope) = grantee(&mut tx, to).await?;
        if right != PlatformRight::Reader && scope != PrincipalScope::Platform {
            return Err(GrantRefusal::OfADomain);
        }
        let tuple = RelationTuple::new(ObjectRef::platform(), right.as_str(), subject);
        let ended = match (right, to) {
            (PlatformRight::Admin, Grantee::Principal(Subject::User(user))) => {
                self.first_administrator.succeed(&mut tx, user, actor).await?
            }
            _ => {
                self.tuples.write(&mut tx, None, &[tuple]).await?;
                self.note(&mut tx, actor, None, "platform.grant").await?;
                EndedTokens::default()
            }
        };
        tx.commit().await.map_err(Fault::from)?;
        self.first_administrator.forget(&ended);
        Ok(())
    }

    /// Takes a right on the platform away.
    ///
    /// # Errors
    /// [`GrantRefusal`]; the last person who administers the platform keeps that right.
    pub async fn revoke(
        &self,
        actor: &Actor,
        right: PlatformRight,
        from: impl Into<Grantee>,
    ) -> Result<(), GrantRefusal> {
        let from = from.into();
        let mut tx = self.db.begin().await?;
        let (subject, _) = grantee(&mut tx, from).await?;
        if right != PlatformRight::Reader && matches!(from, Grantee::Members(_)) {
            return Err(GrantRefusal::OfADomain);
        }
        let tuple = RelationTuple::new(ObjectRef::platform(), right.as_str(), subject);
        if let (PlatformRight::Admin, Grantee::Principal(Subject::User(user))) = (right, from)
            && !store::revoke_admin(&mut tx, user).await?
        {
            return Err(GrantRefusal::LastAdministrator);
        }
        self.tuples.remove(&mut tx, None, &[tuple]).await?;
        self.note(&mut tx, actor, None, "platform.revoke").await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(())
    }

    /// Makes an administrator of a Domain, for one that has lost all of its own.
    ///
    /// # Errors
    /// [`GrantRefusal`].
    pub async fn grant_domain_admin(&self, actor: &Actor, domain: DomainId, to: Subject) -> Result<(), GrantRefusal> {
        let mut tx = self.db.begin().await?;
        let (to, scope) = principal(&mut tx, to).await?;
        if !store::lock_domain(&mut tx, domain).await? {
            return Err(GrantRefusal::UnknownDomain);
        }
        if scope != PrincipalScope::Platform && scope != PrincipalScope::Domain(domain) {
            return Err(GrantRefusal::OfAnotherDomain);
        }
        // Without a condition, whatever one the principal has been given `admin` under before.
        let tuple = RelationTuple::new(ObjectRef::domain(domain), "admin", to);
        self.tuples.overwrite(&mut tx, Some(domain), &[tuple]).await?;
        // It concerns the Domain, and who runs the platform must be able to show that it was done.
        for chain in [None, Some(domain)] {
            self.note(&mut tx, actor, chain, "domain.grant-admin").await?;
        }
        tx.commit().await.map_err(Fault::from)?;
        Ok(())
    }

    async fn note(&self, tx: &mut Tx, actor: &Actor, domain: Option<DomainId>, action: &str) -> Result<(), Fault> {
        let object = domain.map_or_else(ObjectRef::platform, ObjectRef::domain);
        self.journal.record(tx, actor.record(domain, action, object)).await
    }
}

/// Whoever is to have the right as a subject of tuples, and where it belongs.
async fn grantee(tx: &mut Tx, grantee: Grantee) -> Result<(SubjectRef, PrincipalScope), GrantRefusal> {
    match grantee {
        Grantee::Principal(subject) => {
            let (object, scope) = principal(tx, subject).await?;
            Ok((object.into(), scope))
        }
        Grantee::Members(group) => {
            let domain = store::domain_of_group(tx, group).await?.ok_or(GrantRefusal::UnknownPrincipal)?;
            let object = ObjectRef { kind: "group", id: group.to_string() };
            Ok((SubjectRef::userset(object, "member"), PrincipalScope::Domain(domain)))
        }
    }
}

/// The principal as a subject of tuples, and where it belongs.
async fn principal(tx: &mut Tx, subject: Subject) -> Result<(ObjectRef, PrincipalScope), GrantRefusal> {
    let (kind, id): (&'static str, PrincipalId) = match subject {
        Subject::User(id) => ("user", id),
        Subject::Service(id) => ("serviceaccount", id),
        Subject::Node(_) | Subject::System(_) => return Err(GrantRefusal::UnknownPrincipal),
    };
    let scope = store::scope_of(tx, subject).await?.ok_or(GrantRefusal::UnknownPrincipal)?;
    Ok((ObjectRef { kind, id: id.to_string() }, scope))
}

impl std::fmt::Debug for PlatformGrants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PlatformGrants")
    }
}
