//! Tuples of other contexts, written in their transactions.

use async_trait::async_trait;
use plexsphere_kernel::authz::{SystemTuple, TupleWriter};
use plexsphere_kernel::{Fault, ObjectRef, Tx};
use plexsphere_wire::{EnvelopeId, Timestamp};

use crate::model::graph::{Scope, Tuple};
use crate::model::refs::{ObjectKey, SubjectKey};
use crate::model::schema::{Class, Schema};
use crate::store::tuples;

const REFUSED: Fault = Fault::Invariant("a tuple that code writes is one that the schema allows");

/// The writer over the tables of this context.
#[derive(Clone, Copy, Debug)]
pub struct PgTupleWriter {
    schema: &'static Schema,
}

impl Default for PgTupleWriter {
    fn default() -> Self {
        Self { schema: Schema::built_in() }
    }
}

impl PgTupleWriter {
    /// The tuple and its class, if the schema allows it.
    fn read(&self, tuple: &SystemTuple) -> Result<(Tuple, Class), Fault> {
        let object = self.object(&tuple.object)?;
        let subject = self.object(&tuple.subject)?;
        let subject = match tuple.userset {
            None => SubjectKey::object(subject),
            Some(name) => SubjectKey::userset(subject, self.schema.name_id(name).ok_or(REFUSED)?),
        };
        let relation = self.schema.name_id(tuple.relation).ok_or(REFUSED)?;
        let class = self.schema.definition(object.kind, relation).and_then(|definition| definition.class);
        let class = class.filter(|_| self.schema.admits(object.kind, relation, subject.form())).ok_or(REFUSED)?;
        Ok((Tuple { object, relation, subject, caveat: None }, class))
    }

    fn object(&self, object: &ObjectRef) -> Result<ObjectKey, Fault> {
        ObjectKey::of(self.schema, object.kind, &object.id).map_err(|_| REFUSED)
    }
}

#[async_trait]
impl TupleWriter for PgTupleWriter {
    async fn grant(&self, tx: &mut Tx, tuples: &[SystemTuple], now: Timestamp) -> Result<(), Fault> {
        let mut rows = Vec::with_capacity(tuples.len());
        for system in tuples {
            let (tuple, class) = self.read(system)?;
            rows.push((EnvelopeId::mint(now).uuid(), Scope(system.home), class, tuple));
        }
        tuples::grant(tx, self.schema, &rows, now).await
    }

    async fn revoke(&self, tx: &mut Tx, tuples: &[SystemTuple]) -> Result<(), Fault> {
        let tuples = tuples.iter().map(|system| Ok(self.read(system)?.0)).collect::<Result<Vec<_>, Fault>>()?;
        tuples::revoke(tx, self.schema, &tuples).await
    }

    async fn forget(&self, tx: &mut Tx, object: &ObjectRef) -> Result<(), Fault> {
        let object = self.object(object)?;
        tuples::forget(tx, self.schema.kind_name(object.kind), object.id.uuid()).await
    }
}
