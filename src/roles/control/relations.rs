//! The relation tuples of the contexts, written into the relation engine's own tables.
//!
//! TO BE REPLACED by the engine's implementation of [`TupleWriter`] and [`GrantRules`] as soon as it offers them: until
//! then nothing that a context writes is lost, and the engine finds all of it. What may be granted is read once, from the
//! engine's table of forms; conditions are refused, because only the engine can judge them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use plexsphere_kernel::{Clock, Database, Fault, GrantRules, ObjectRef, RelationTuple, SubjectRef, TupleWriter, Tx};
use plexsphere_wire::{DomainId, EnvelopeId, ProjectId};
use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

/// The scope of platform objects.
const PLATFORM: Uuid = Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001);

const ASSIGNABLE: &str = "SELECT object_kind, relation FROM rebac.relations
    WHERE class = 'assignable' AND subject_kind = 'user'";
const REPLACE: &str = "DELETE FROM rebac.tuples WHERE object_kind = $1 AND object_id = $2 AND relation = $3
    AND subject_kind = $4 AND subject_id = $5 AND subject_name = $6
    AND (caveat IS DISTINCT FROM $7 OR caveat_context IS DISTINCT FROM $8)";
// A tuple whose form the schema does not have inserts nothing, as does one that is there already.
const WRITE: &str = "INSERT INTO rebac.tuples (id, scope, object_kind, object_id, relation, subject_kind, subject_id,
        subject_name, class, caveat, caveat_context, created_at)
    SELECT $9, $10, $1, $2, $3, $4, $5, $6, r.class, $7, $8, now() FROM rebac.relations r
    WHERE r.object_kind = $1 AND r.relation = $3 AND r.subject_kind = $4 AND r.subject_name = $6
    ON CONFLICT ON CONSTRAINT tuples_triple_key DO NOTHING";
const THERE: &str = "SELECT EXISTS (SELECT FROM rebac.tuples WHERE object_kind = $1 AND object_id = $2
    AND relation = $3 AND subject_kind = $4 AND subject_id = $5 AND subject_name = $6)";
const REMOVE: &str = "DELETE FROM rebac.tuples WHERE object_kind = $1 AND object_id = $2 AND relation = $3
    AND subject_kind = $4 AND subject_id = $5 AND subject_name = $6";
const FORGET: &str = "DELETE FROM rebac.tuples t USING unnest($1::text[], $2::uuid[]) AS o (kind, id)
    WHERE (t.object_id = o.id AND t.object_kind = o.kind) OR (t.subject_id = o.id AND t.subject_kind = o.kind)";
const FILED: &str = "SELECT count(*) FROM rebac.tuples WHERE project_id = $1";

/// The writer, and what may be granted.
pub(super) struct Relations {
    clock: Arc<dyn Clock>,
    assignable: HashSet<(String, String)>,
}

/// The six columns that name a tuple.
struct Triple<'t> {
    object: (&'static str, Uuid),
    relation: &'t str,
    subject: (&'static str, Uuid),
    name: &'t str,
}

impl Relations {
    /// Reads what may be granted.
    pub(super) async fn open(db: &Database, clock: Arc<dyn Clock>) -> Result<Self, Fault> {
        let assignable: Vec<(String, String)> = sqlx::query_as(ASSIGNABLE).fetch_all(db.pool()).await?;
        Ok(Self { clock, assignable: assignable.into_iter().collect() })
    }
}

impl<'t> Triple<'t> {
    fn of(tuple: &'t RelationTuple) -> Result<Self, Fault> {
        let SubjectRef { object, relation } = &tuple.subject;
        Ok(Self {
            object: key(&tuple.object)?,
            relation: &tuple.relation,
            subject: key(object)?,
            name: relation.as_deref().unwrap_or(""),
        })
    }
}

/// A kind's only object has the nil id in the tables.
fn key(object: &ObjectRef) -> Result<(&'static str, Uuid), Fault> {
    const BROKEN: Fault = Fault::Invariant("an object of the graph has an id");
    let id = match object.kind {
        "platform" | "managementfleet" => Uuid::nil(),
        _ => object.id.parse().map_err(|_| BROKEN)?,
    };
    Ok((object.kind, id))
}

/// Binds the columns that name a tuple, which are the first six of every statement about one.
macro_rules! about {
    ($query:expr, $triple:expr) => {
        $query
            .bind($triple.object.0)
            .bind($triple.object.1)
            .bind($triple.relation)
            .bind($triple.subject.0)
            .bind($triple.subject.1)
            .bind($triple.name)
    };
}

#[async_trait]
impl TupleWriter for Relations {
    async fn write(&self, tx: &mut Tx, domain: Option<DomainId>, tuples: &[RelationTuple]) -> Result<(), Fault> {
        let scope = domain.map_or(PLATFORM, |domain| domain.uuid());
        for tuple in tuples {
            let triple = Triple::of(tuple)?;
            let caveat = tuple.caveat.as_ref().map(|caveat| caveat.name.as_str());
            let context = tuple.caveat.as_ref().map(|caveat| Json(&caveat.context));
            about!(sqlx::query(REPLACE), triple).bind(caveat).bind(&context).execute(&mut **tx).await?;
            let query = about!(sqlx::query(WRITE), triple).bind(caveat).bind(&context);
            let query = query.bind(EnvelopeId::mint(self.clock.now()).uuid()).bind(scope);
            if query.execute(&mut **tx).await?.rows_affected() == 1 {
                continue;
            }
            let there: bool = about!(sqlx::query_scalar(THERE), triple).fetch_one(&mut **tx).await?;
            if !there {
                return Err(Fault::Invariant("a tuple that code writes is one that the schema allows"));
            }
        }
        Ok(())
    }

    async fn remove(&self, tx: &mut Tx, _: Option<DomainId>, tuples: &[RelationTuple]) -> Result<(), Fault> {
        for tuple in tuples {
            let triple = Triple::of(tuple)?;
            about!(sqlx::query(REMOVE), triple).execute(&mut **tx).await?;
        }
        Ok(())
    }

    async fn forget(&self, tx: &mut Tx, object: &ObjectRef) -> Result<(), Fault> {
        self.forget_many(tx, std::slice::from_ref(object)).await
    }

    async fn forget_many(&self, tx: &mut Tx, objects: &[ObjectRef]) -> Result<(), Fault> {
        let keys = objects.iter().map(key).collect::<Result<Vec<_>, _>>()?;
        let (kinds, ids): (Vec<&str>, Vec<Uuid>) = keys.into_iter().unzip();
        sqlx::query(FORGET).bind(kinds).bind(ids).execute(&mut **tx).await?;
        Ok(())
    }

    async fn filed_under(&self, tx: &mut Tx, project: ProjectId) -> Result<i64, Fault> {
        Ok(sqlx::query_scalar(FILED).bind(project.uuid()).fetch_one(&mut **tx).await?)
    }
}

impl GrantRules for Relations {
    fn is_assignable(&self, kind: &str, relation: &str) -> bool {
        self.assignable.contains(&(kind.to_owned(), relation.to_owned()))
    }

    fn caveat_fits(&self, _: &str, _: &BTreeMap<String, Value>) -> bool {
        false
    }
}
