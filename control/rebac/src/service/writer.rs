//! Tuples of other contexts, written in their transactions, and what may be granted.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use plexsphere_kernel::{Clock, Fault, GrantRules, ObjectRef, RelationTuple, SubjectRef, TupleWriter, Tx};
use plexsphere_wire::{DomainId, EnvelopeId, ProjectId};
use serde_json::{Map, Value};

use crate::model::caveat::Caveat;
use crate::model::graph::{Scope, Tuple};
use crate::model::refs::{ObjectKey, SubjectKey};
use crate::model::schema::{Class, Schema, SubjectForm};
use crate::store::tuples::{self, Standing, SystemRow};

const REFUSED: Fault = Fault::Invariant("a tuple that code writes is one that the schema allows");

/// The writer over the tables of this context.
#[derive(Clone)]
pub struct PgTupleWriter {
    schema: &'static Schema,
    clock: Arc<dyn Clock>,
}

impl PgTupleWriter {
    /// A writer of tuples that the built-in schema allows.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { schema: Schema::built_in(), clock }
    }

    /// The tuple and its class, if the schema allows it.
    fn read(&self, tuple: &RelationTuple) -> Result<(Tuple, Class), Fault> {
        let object = self.object(&tuple.object)?;
        let SubjectRef { object: subject, relation } = &tuple.subject;
        let subject = match relation {
            None => SubjectKey::object(self.object(subject)?),
            Some(name) => SubjectKey::userset(self.object(subject)?, self.schema.name_id(name).ok_or(REFUSED)?),
        };
        let relation = self.schema.name_id(&tuple.relation).ok_or(REFUSED)?;
        let class = self.schema.definition(object.kind, relation).and_then(|definition| definition.class);
        let class = class.filter(|_| self.schema.admits(object.kind, relation, subject.form())).ok_or(REFUSED)?;
        let caveat = match &tuple.caveat {
            None => None,
            Some(_) if class != Class::Assignable => return Err(REFUSED),
            Some(stored) => {
                Some(Arc::new(Caveat::parse(&stored.name, &members(&stored.context)).map_err(|_| REFUSED)?))
            }
        };
        Ok((Tuple { object, relation, subject, caveat }, class))
    }

    async fn put(
        &self,
        tx: &mut Tx,
        domain: Option<DomainId>,
        tuples: &[RelationTuple],
        standing: Standing,
    ) -> Result<Vec<usize>, Fault> {
        let now = self.clock.now();
        let mut rows = Vec::with_capacity(tuples.len());
        for tuple in tuples {
            let (read, class) = self.read(tuple)?;
            let scope = scope(tuple, domain);
            rows.push(SystemRow { id: EnvelopeId::mint(now).uuid(), scope, class, tuple: read });
        }
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        tuples::write(tx, self.schema, &rows, (standing, now)).await
    }

    fn object(&self, object: &ObjectRef) -> Result<ObjectKey, Fault> {
        ObjectKey::of(self.schema, object.kind, &object.id).map_err(|_| REFUSED)
    }
}

/// What belongs to the platform stays there, whoever it is that comes to belong to it.
fn scope(tuple: &RelationTuple, domain: Option<DomainId>) -> Scope {
    Scope(domain.filter(|_| tuple.object.kind != "platform"))
}

fn members(context: &BTreeMap<String, Value>) -> Map<String, Value> {
    context.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[async_trait]
impl TupleWriter for PgTupleWriter {
    async fn write(
        &self,
        tx: &mut Tx,
        domain: Option<DomainId>,
        tuples: &[RelationTuple],
    ) -> Result<Vec<RelationTuple>, Fault> {
        let left = self.put(tx, domain, tuples, Standing::Stays).await?;
        Ok(left.into_iter().filter_map(|place| tuples.get(place).cloned()).collect())
    }

    async fn overwrite(&self, tx: &mut Tx, domain: Option<DomainId>, tuples: &[RelationTuple]) -> Result<(), Fault> {
        let scopes: Vec<Scope> = tuples.iter().map(|tuple| scope(tuple, domain)).collect();
        tuples::hold(tx, &scopes).await?;
        self.put(tx, domain, tuples, Standing::GoesFirst).await?;
        Ok(())
    }

    async fn has_administrator(&self, tx: &mut Tx, domain: DomainId) -> Result<bool, Fault> {
        tuples::is_administered(tx, domain.uuid()).await
    }

    async fn remove(&self, tx: &mut Tx, domain: Option<DomainId>, tuples: &[RelationTuple]) -> Result<(), Fault> {
        let scopes: Vec<Scope> = tuples.iter().map(|tuple| scope(tuple, domain)).collect();
        let tuples = tuples.iter().map(|tuple| Ok(self.read(tuple)?.0)).collect::<Result<Vec<_>, Fault>>()?;
        tuples::hold(tx, &scopes).await?;
        tuples::revoke(tx, self.schema, &tuples).await
    }

    async fn forget(&self, tx: &mut Tx, object: &ObjectRef) -> Result<(), Fault> {
        self.forget_many(tx, std::slice::from_ref(object)).await
    }

    async fn forget_many(&self, tx: &mut Tx, objects: &[ObjectRef]) -> Result<(), Fault> {
        let (mut kinds, mut ids) = (Vec::with_capacity(objects.len()), Vec::with_capacity(objects.len()));
        for object in objects {
            let object = self.object(object)?;
            kinds.push(self.schema.kind_name(object.kind).to_owned());
            ids.push(object.id.uuid());
        }
        tuples::forget(tx, kinds, ids).await
    }

    async fn administered_alone(&self, tx: &mut Tx, subjects: &[ObjectRef]) -> Result<Option<DomainId>, Fault> {
        let ids =
            subjects.iter().map(|subject| Ok(self.object(subject)?.id.uuid())).collect::<Result<Vec<_>, Fault>>()?;
        tuples::administered_alone(tx, &ids).await
    }

    async fn filed_under(&self, tx: &mut Tx, project: ProjectId) -> Result<i64, Fault> {
        tuples::hold_of(tx, &["project".to_owned()], &[project.uuid()]).await?;
        tuples::count_filed(tx, project).await
    }
}

impl GrantRules for PgTupleWriter {
    fn is_assignable(&self, kind: &str, relation: &str) -> bool {
        let Some((kind, relation)) = self.schema.kind_id(kind).zip(self.schema.name_id(relation)) else { return false };
        let Some(user) = self.schema.kind_id("user") else { return false };
        self.schema.definition(kind, relation).is_some_and(|definition| {
            definition.class == Some(Class::Assignable)
                && definition.subjects.contains(&SubjectForm { kind: user, name: None })
        })
    }

    fn caveat_fits(&self, name: &str, context: &BTreeMap<String, Value>) -> bool {
        Caveat::parse(name, &members(context)).is_ok()
    }
}

impl std::fmt::Debug for PgTupleWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PgTupleWriter")
    }
}
