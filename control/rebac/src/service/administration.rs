//! The tuple administration of Projects: which tuples an administrator may write there, and writing them.

use std::sync::Arc;

use plexsphere_kernel::{AuditLog, AuditRecord, Database, Fault, Outbox, Tx};
use plexsphere_wire::{Code, DomainId, EnvelopeId, Problem, ProjectId, Timestamp};
use uuid::Uuid;

use crate::events::Happened;
use crate::model::graph::{Graph, Scope, Tuple};
use crate::model::home::{Home, home};
use crate::model::refs::{ObjectId, ObjectKey};
use crate::model::schema::{Class, Schema};
use crate::store::tuples::{self, FiledRow, NewTuple};

/// The most tuples that are filed under one Project.
pub(crate) const MAX_FILED: i64 = 10_000;

/// Kinds of objects inside a Project on which its administrators grant.
const INSIDE: [&str; 5] = ["project", "resource", "node", "policy", "secret"];

/// Why a tuple is not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TupleRefusal {
    /// The relation is not one that may be assigned on that kind.
    #[error("the relation cannot be assigned on this kind of object")]
    NotAssignable,
    /// The relation does not take such a subject.
    #[error("the relation does not take this form of subject")]
    SubjectForm,
    /// The object does not exist, or lies outside the Project and is not its Domain.
    #[error("the object is neither of this project nor its domain")]
    ObjectElsewhere,
    /// The subject does not exist, or lies in another Domain, or in another Project where it must be of this one.
    #[error("the subject is not one of this domain")]
    SubjectElsewhere,
    /// The triple is stored with another caveat.
    #[error("the same grant is stored with another caveat")]
    OtherCaveat,
    /// The triple is stored already.
    #[error("the same grant is stored already")]
    Taken,
    /// Too many tuples.
    #[error("the project has {MAX_FILED} tuples already")]
    TooMany,
    /// The Domain would be left without an administrator.
    #[error("the last administrator of a domain stays")]
    LastAdministrator,
    /// The Project is gone.
    #[error("there is no such project")]
    ProjectGone,
    /// The tuple is another than the one that was judged: somebody was faster. It is to be judged anew.
    #[error("the tuple is changed by many at once")]
    Overtaken,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl TupleRefusal {
    fn code(&self) -> Code {
        match self {
            Self::NotAssignable
            | Self::SubjectForm
            | Self::ObjectElsewhere
            | Self::SubjectElsewhere
            | Self::OtherCaveat
            | Self::Taken
            | Self::TooMany
            | Self::LastAdministrator => Code::InvalidRelationTuple,
            Self::ProjectGone => Code::ProjectNotFound,
            Self::Overtaken => Code::DatastoreUnavailable,
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl From<TupleRefusal> for Problem {
    fn from(refusal: TupleRefusal) -> Self {
        match refusal {
            TupleRefusal::Fault(fault) => fault.into(),
            refusal => {
                let text = refusal.to_string();
                let mut sentence: String = text.chars().take(1).flat_map(char::to_uppercase).collect();
                sentence.extend(text.chars().skip(1));
                Self::new(refusal.code(), sentence + ".")
            }
        }
    }
}

/// What else than `manage` on the Project a tuple's writer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authority {
    /// Nothing: the object lies inside the Project.
    Project,
    /// `manage` on the Domain: the tuple is about the Domain itself.
    Domain(DomainId),
}

/// A Project with its Domain, as administration needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filing {
    /// The Project that tuples are filed under.
    pub(crate) project: ProjectId,
    /// Its Domain.
    pub(crate) domain: DomainId,
}

/// A stored tuple as administration shows it.
#[derive(Clone, Debug)]
pub(crate) struct Filed {
    /// Its id.
    pub(crate) id: Uuid,
    /// The tuple.
    pub(crate) tuple: Tuple,
    /// When it was written last.
    pub(crate) created_at: Timestamp,
    /// What it is filed under; `None` for one that code wrote.
    pub(crate) project: Option<ProjectId>,
}

/// Writes administered tuples.
#[derive(Clone)]
pub(crate) struct Administration {
    pub(crate) db: Database,
    pub(crate) audit: Arc<dyn AuditLog>,
    pub(crate) schema: &'static Schema,
}

/// The Project's Domain, if the Project exists.
pub(crate) fn filing(graph: &Graph, project: ProjectId) -> Option<Filing> {
    let key = ObjectKey { kind: graph.schema().kind_id("project")?, id: ObjectId::new(project.uuid()) };
    let domain = home(graph, key)?.domain?;
    Some(Filing { project, domain: DomainId::from_uuid(domain.uuid()) })
}

/// Judges a tuple by the schema and by where its ends belong, and says what authority writing it needs.
pub(crate) fn judge(graph: &Graph, filing: Filing, tuple: &Tuple) -> Result<Authority, TupleRefusal> {
    let schema = graph.schema();
    let definition = schema.definition(tuple.object.kind, tuple.relation);
    let assignable = definition.filter(|definition| definition.class == Some(Class::Assignable));
    let definition = assignable.ok_or(TupleRefusal::NotAssignable)?;
    if !definition.subjects.contains(&tuple.subject.form()) {
        return Err(TupleRefusal::SubjectForm);
    }
    let (project, domain) = (ObjectId::new(filing.project.uuid()), ObjectId::new(filing.domain.uuid()));
    let authority = authority(graph, filing, tuple.object).ok_or(TupleRefusal::ObjectElsewhere)?;
    let subject: Home = home(graph, tuple.subject.object).ok_or(TupleRefusal::SubjectElsewhere)?;
    let machine = matches!(schema.kind_name(tuple.subject.object.kind), "node" | "project");
    if subject.domain != Some(domain) || (machine && subject.project != Some(project)) {
        return Err(TupleRefusal::SubjectElsewhere);
    }
    Ok(authority)
}

/// What authority a tuple on this object needs under this Project; `None` where it cannot be granted on at all.
pub(crate) fn authority(graph: &Graph, filing: Filing, object: ObjectKey) -> Option<Authority> {
    let (project, domain) = (ObjectId::new(filing.project.uuid()), ObjectId::new(filing.domain.uuid()));
    match graph.schema().kind_name(object.kind) {
        "domain" if object.id == domain => Some(Authority::Domain(filing.domain)),
        kind if INSIDE.contains(&kind) && home(graph, object)?.project == Some(project) => Some(Authority::Project),
        _ => None,
    }
}

impl Administration {
    /// Writes a tuple, or finds the identical one that is stored. One that code wrote is filed under the Project from then
    /// on, so that it can be listed and taken away.
    ///
    /// # Errors
    /// [`TupleRefusal`].
    pub(crate) async fn create(
        &self,
        filing: Filing,
        tuple: &Tuple,
        record: AuditRecord,
    ) -> Result<Filed, TupleRefusal> {
        let now = record.occurred_at;
        let mut tx = self.begin(filing).await?;
        let stored = match tuples::by_triple(&mut tx, self.schema, tuple).await? {
            Some(row) => self.found(&row, tuple)?,
            None => Filed { id: EnvelopeId::mint(now).uuid(), tuple: tuple.clone(), created_at: now, project: None },
        };
        let stored = match stored.project {
            Some(_) => stored,
            None => self.file(&mut tx, filing, stored, now).await?,
        };
        self.audit.record(&mut tx, record).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(stored)
    }

    /// The tuple that stands for the wanted one.
    fn found(&self, row: &FiledRow, wanted: &Tuple) -> Result<Filed, TupleRefusal> {
        let stored = self.filed(row)?;
        if stored.tuple.caveat == wanted.caveat { Ok(stored) } else { Err(TupleRefusal::OtherCaveat) }
    }

    /// Files a tuple under a Project, whether it stands already or not.
    async fn file(&self, tx: &mut Tx, filing: Filing, new: Filed, now: Timestamp) -> Result<Filed, TupleRefusal> {
        tuples::delete(tx, new.id).await?;
        self.insert(tx, filing, (new.id, &new.tuple), now).await?;
        if tuples::count_filed(tx, filing.project).await? > MAX_FILED {
            return Err(TupleRefusal::TooMany);
        }
        let event = Happened::Created.event(self.schema, (new.id, &new.tuple), (filing.project, filing.domain));
        Outbox.append(tx, event, now).await?;
        Ok(Filed { created_at: now, project: Some(filing.project), ..new })
    }

    /// Puts a tuple in the place of another, in one step for every reader.
    ///
    /// # Errors
    /// [`TupleRefusal`].
    pub(crate) async fn replace(
        &self,
        filing: Filing,
        old: &Filed,
        tuple: &Tuple,
        record: AuditRecord,
    ) -> Result<Filed, TupleRefusal> {
        let now = record.occurred_at;
        let mut tx = self.begin(filing).await?;
        self.take_away(&mut tx, old).await?;
        self.insert(&mut tx, filing, (old.id, tuple), now).await.map_err(|refusal| match refusal {
            TupleRefusal::ProjectGone => TupleRefusal::Overtaken,
            refusal => refusal,
        })?;
        self.keep_administered(&mut tx, old).await?;
        let event = Happened::Replaced.event(self.schema, (old.id, tuple), (filing.project, filing.domain));
        Outbox.append(&mut tx, event, now).await?;
        self.audit.record(&mut tx, record).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(Filed { id: old.id, tuple: tuple.clone(), created_at: now, project: Some(filing.project) })
    }

    /// Takes a tuple away.
    ///
    /// # Errors
    /// [`TupleRefusal`].
    pub(crate) async fn delete(&self, filing: Filing, old: &Filed, record: AuditRecord) -> Result<(), TupleRefusal> {
        let mut tx = self.begin(filing).await?;
        self.take_away(&mut tx, old).await?;
        self.keep_administered(&mut tx, old).await?;
        let event = Happened::Deleted.event(self.schema, (old.id, &old.tuple), (filing.project, filing.domain));
        Outbox.append(&mut tx, event, record.occurred_at).await?;
        self.audit.record(&mut tx, record).await?;
        tx.commit().await.map_err(Fault::from)?;
        Ok(())
    }

    /// An administered tuple.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn get(&self, id: Uuid) -> Result<Option<Filed>, Fault> {
        tuples::by_id(self.db.pool(), id).await?.map(|row| self.filed(&row)).transpose()
    }

    /// A page of the tuples filed under a Project, in the order of their writing.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn page(
        &self,
        project: ProjectId,
        after: Option<(Timestamp, Uuid)>,
        limit: i64,
    ) -> Result<Vec<Filed>, Fault> {
        let after = after.unwrap_or((Timestamp::UNIX_EPOCH, Uuid::nil()));
        let rows = tuples::filed(self.db.pool(), project, after, limit).await?;
        rows.iter().map(|row| self.filed(row)).collect()
    }

    /// A transaction that nobody writes tuples of the Domain past, so that what it reads of them stays true.
    async fn begin(&self, filing: Filing) -> Result<Tx, Fault> {
        let mut tx = self.db.begin().await?;
        tuples::hold(&mut tx, &[Scope(Some(filing.domain))]).await?;
        Ok(tx)
    }

    /// Inserts a tuple whose Project and both ends are still there: the graph that it was judged by may be older.
    async fn insert(
        &self,
        tx: &mut Tx,
        filing: Filing,
        (id, tuple): (Uuid, &Tuple),
        now: Timestamp,
    ) -> Result<(), TupleRefusal> {
        let new = NewTuple { id, scope: Scope(Some(filing.domain)), project: filing.project, tuple, now };
        if !tuples::insert(tx, self.schema, &new).await? {
            return Err(TupleRefusal::Taken);
        }
        let kind = self.schema.kind_id("project").ok_or(Fault::Invariant("the schema has projects"))?;
        let project = ObjectKey { kind, id: ObjectId::new(filing.project.uuid()) };
        let missing = tuples::missing(tx, self.schema, &[project, tuple.object, tuple.subject.object]).await?;
        match missing.first() {
            None => Ok(()),
            Some(0) => Err(TupleRefusal::ProjectGone),
            Some(1) => Err(TupleRefusal::ObjectElsewhere),
            Some(_) => Err(TupleRefusal::SubjectElsewhere),
        }
    }

    /// Deletes the tuple if it stands as it was judged.
    async fn take_away(&self, tx: &mut Tx, old: &Filed) -> Result<(), TupleRefusal> {
        let row = tuples::lock(tx, old.id).await?.ok_or(TupleRefusal::Overtaken)?;
        let stored = self.filed(&row)?;
        if (&stored.tuple, stored.project) != (&old.tuple, old.project) {
            return Err(TupleRefusal::Overtaken);
        }
        tuples::delete(tx, old.id).await?;
        Ok(())
    }

    /// After a grant of `admin` on a Domain went: there must be somebody who holds one.
    async fn keep_administered(&self, tx: &mut Tx, gone: &Filed) -> Result<(), TupleRefusal> {
        let Tuple { object, relation, .. } = gone.tuple;
        let admin = (self.schema.kind_name(object.kind), self.schema.name(relation)) == ("domain", "admin");
        if admin && !tuples::is_administered(tx, object.id.uuid()).await? {
            return Err(TupleRefusal::LastAdministrator);
        }
        Ok(())
    }

    fn filed(&self, row: &FiledRow) -> Result<Filed, Fault> {
        Ok(Filed {
            id: row.id,
            tuple: row.tuple.tuple(self.schema)?,
            created_at: row.created_at(),
            project: row.project(),
        })
    }
}
