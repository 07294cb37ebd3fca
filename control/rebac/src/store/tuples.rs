//! Writing and reading tuples.

use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, ProjectId, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgPool, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use super::rows::TupleRow;
use crate::model::graph::{Scope, Tuple};
use crate::model::refs::ObjectKey;
use crate::model::schema::{Class, Schema};

/// Takes away those whose triple is stored under another condition, so that they can be written anew.
pub(crate) const OUTDATE: &str = "DELETE FROM rebac.tuples t
    USING unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::jsonb[])
        AS w (object_kind, object_id, relation, subject_kind, subject_id, subject_name, caveat, caveat_context)
    WHERE t.object_id = w.object_id AND t.object_kind = w.object_kind AND t.relation = w.relation
        AND t.subject_id = w.subject_id AND t.subject_kind = w.subject_kind AND t.subject_name = w.subject_name
        AND (t.caveat IS DISTINCT FROM w.caveat OR t.caveat_context IS DISTINCT FROM w.caveat_context)";

/// Which of them, by their places from 1, are stored under another condition.
pub(crate) const DIFFERING: &str = "SELECT w.place
    FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::jsonb[])
        WITH ORDINALITY AS w (object_kind, object_id, relation, subject_kind, subject_id, subject_name, caveat,
        caveat_context, place)
    JOIN rebac.tuples t ON t.object_id = w.object_id AND t.object_kind = w.object_kind AND t.relation = w.relation
        AND t.subject_id = w.subject_id AND t.subject_kind = w.subject_kind AND t.subject_name = w.subject_name
    WHERE t.caveat IS DISTINCT FROM w.caveat OR t.caveat_context IS DISTINCT FROM w.caveat_context
    ORDER BY w.place";

/// Scopes, locked in one order before any of their tuples: whoever holds one knows its tuples until the transaction ends.
pub(crate) const HOLD: &str =
    "SELECT scope FROM rebac.generations WHERE scope = ANY($1) ORDER BY scope FOR NO KEY UPDATE";

/// The same of every scope in which a tuple names one of the objects.
pub(crate) const HOLD_OF: &str = "SELECT scope FROM rebac.generations WHERE scope IN (
        SELECT t.scope FROM rebac.tuples t JOIN unnest($1::text[], $2::uuid[]) AS gone (kind, id)
            ON (t.object_id = gone.id AND t.object_kind = gone.kind)
            OR (t.subject_id = gone.id AND t.subject_kind = gone.kind))
    ORDER BY scope FOR NO KEY UPDATE";

/// In the order of scopes, so that two writers of the same scopes do not wait for each other in a circle.
pub(crate) const WRITE: &str = "INSERT INTO rebac.tuples (id, scope, object_kind, object_id, relation, subject_kind,
        subject_id, subject_name, caveat, caveat_context, class, created_at)
    SELECT t.id, t.scope, t.object_kind, t.object_id, t.relation, t.subject_kind, t.subject_id, t.subject_name, t.caveat,
        t.caveat_context, t.class, $12
    FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::jsonb[],
        $9::uuid[], $10::text[], $11::uuid[]) AS t (object_kind, object_id, relation, subject_kind, subject_id,
        subject_name, caveat, caveat_context, id, class, scope)
    ORDER BY t.scope
    ON CONFLICT ON CONSTRAINT tuples_triple_key DO NOTHING";

pub(crate) const REVOKE: &str = "DELETE FROM rebac.tuples t
    USING unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::text[]) AS w (object_kind, object_id,
        relation, subject_kind, subject_id, subject_name)
    WHERE t.object_id = w.object_id AND t.object_kind = w.object_kind AND t.relation = w.relation
        AND t.subject_id = w.subject_id AND t.subject_kind = w.subject_kind AND t.subject_name = w.subject_name";

pub(crate) const FORGET: &str = "DELETE FROM rebac.tuples t
    USING unnest($1::text[], $2::uuid[]) AS gone (kind, id)
    WHERE (t.object_id = gone.id AND t.object_kind = gone.kind)
        OR (t.subject_id = gone.id AND t.subject_kind = gone.kind)";

pub(crate) const INSERT: &str = "INSERT INTO rebac.tuples (id, scope, project_id, object_kind, object_id, relation,
        subject_kind, subject_id, subject_name, class, caveat, caveat_context, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'assignable', $10, $11, $12)
    ON CONFLICT ON CONSTRAINT tuples_triple_key DO NOTHING";

pub(crate) const BY_TRIPLE: &str = "SELECT id, project_id, created_at, object_kind, object_id, relation,
        subject_kind, subject_id, subject_name, caveat, caveat_context
    FROM rebac.tuples WHERE object_id = $1 AND object_kind = $2 AND relation = $3 AND subject_id = $4
        AND subject_kind = $5 AND subject_name = $6";

pub(crate) const BY_ID: &str = "SELECT id, project_id, created_at, object_kind, object_id, relation,
        subject_kind, subject_id, subject_name, caveat, caveat_context
    FROM rebac.tuples WHERE id = $1 AND project_id IS NOT NULL";

pub(crate) const LOCK: &str = "SELECT id, project_id, created_at, object_kind, object_id, relation,
        subject_kind, subject_id, subject_name, caveat, caveat_context
    FROM rebac.tuples WHERE id = $1 AND project_id IS NOT NULL FOR UPDATE";

pub(crate) const DELETE: &str = "DELETE FROM rebac.tuples WHERE id = $1";

pub(crate) const FILED: &str = "SELECT id, project_id, created_at, object_kind, object_id, relation,
        subject_kind, subject_id, subject_name, caveat, caveat_context
    FROM rebac.tuples WHERE project_id = $1 AND (created_at, id) > ($2, $3) ORDER BY created_at, id LIMIT $4";

pub(crate) const COUNT_FILED: &str = "SELECT count(*) FROM rebac.tuples WHERE project_id = $1";

/// Whether somebody administers a Domain without a condition: a user, a service identity, or one in a Group.
pub(crate) const ADMINISTERED: &str = "WITH RECURSIVE administrators (kind, id) AS (
        SELECT subject_kind, subject_id FROM rebac.tuples
        WHERE object_id = $1 AND object_kind = 'domain' AND relation = 'admin' AND caveat IS NULL
        UNION
        SELECT t.subject_kind, t.subject_id FROM administrators a JOIN rebac.tuples t
            ON t.object_id = a.id AND t.object_kind = 'group' AND t.relation = 'member' WHERE a.kind = 'group')
    SELECT EXISTS (SELECT FROM administrators WHERE kind <> 'group')";

/// Which of some objects, by their places from 1, do not exist: nothing says where they belong.
pub(crate) const MISSING: &str = "SELECT w.place
    FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS w (kind, id, place)
    WHERE NOT EXISTS (SELECT FROM rebac.tuples t
        WHERE t.object_id = w.id AND t.object_kind = w.kind AND t.relation IN ('parent', 'scope', 'fleet'))
    ORDER BY w.place";

/// The scopes of the Domains that some administer, by themselves or in a Group; held as by [`HOLD`].
pub(crate) const HOLD_ADMINISTERED: &str = "SELECT scope FROM rebac.generations WHERE scope IN (
        WITH RECURSIVE held (kind, id) AS (
            SELECT object_kind, object_id FROM rebac.tuples
            WHERE subject_id = ANY($1) AND (object_kind, relation) IN (('domain', 'admin'), ('group', 'member'))
            UNION
            SELECT t.object_kind, t.object_id FROM held h JOIN rebac.tuples t
                ON t.subject_id = h.id AND t.subject_kind = h.kind
                AND (t.object_kind, t.relation) IN (('domain', 'admin'), ('group', 'member')) WHERE h.kind = 'group')
        SELECT id FROM held WHERE kind = 'domain')
    ORDER BY scope FOR NO KEY UPDATE";

/// A Domain all of whose unconditional administrators, those in Groups too, are among some.
pub(crate) const ADMINISTERED_ALONE: &str = "WITH RECURSIVE administrators (domain, kind, id) AS (
        SELECT object_id, subject_kind, subject_id FROM rebac.tuples
        WHERE object_kind = 'domain' AND relation = 'admin' AND caveat IS NULL
        UNION
        SELECT a.domain, t.subject_kind, t.subject_id FROM administrators a JOIN rebac.tuples t
            ON t.object_id = a.id AND t.object_kind = 'group' AND t.relation = 'member' WHERE a.kind = 'group')
    SELECT domain FROM administrators WHERE kind <> 'group'
    GROUP BY domain HAVING bool_and(id = ANY($1)) ORDER BY domain LIMIT 1";

/// A tuple with what administration knows of it.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct FiledRow {
    pub(crate) id: Uuid,
    project_id: Option<Uuid>,
    created_at: OffsetDateTime,
    #[sqlx(flatten)]
    pub(crate) tuple: TupleRow,
}

impl FiledRow {
    pub(crate) fn created_at(&self) -> Timestamp {
        Timestamp::new(self.created_at)
    }

    pub(crate) fn project(&self) -> Option<ProjectId> {
        self.project_id.map(ProjectId::from_uuid)
    }
}

/// A tuple to be written.
pub(crate) struct NewTuple<'a> {
    pub(crate) id: Uuid,
    pub(crate) scope: Scope,
    pub(crate) project: ProjectId,
    pub(crate) tuple: &'a Tuple,
    pub(crate) now: Timestamp,
}

/// A triple as columns.
struct Columns<'a> {
    object_kind: &'a str,
    object_id: Uuid,
    relation: &'a str,
    subject_kind: &'a str,
    subject_id: Uuid,
    subject_name: &'a str,
}

impl<'a> Columns<'a> {
    fn of(schema: &'a Schema, tuple: &Tuple) -> Self {
        Self {
            object_kind: schema.kind_name(tuple.object.kind),
            object_id: tuple.object.id.uuid(),
            relation: schema.name(tuple.relation),
            subject_kind: schema.kind_name(tuple.subject.object.kind),
            subject_id: tuple.subject.object.id.uuid(),
            subject_name: tuple.subject.name.map_or("", |name| schema.name(name)),
        }
    }
}

/// Many triples as arrays of columns, bound in this order.
struct Arrays<'a> {
    object_kinds: Vec<&'a str>,
    object_ids: Vec<Uuid>,
    relations: Vec<&'a str>,
    subject_kinds: Vec<&'a str>,
    subject_ids: Vec<Uuid>,
    subject_names: Vec<&'a str>,
}

type Arguments = sqlx::postgres::PgArguments;
type Query = sqlx::query::Query<'static, sqlx::Postgres, Arguments>;

impl<'a> Arrays<'a> {
    fn of(schema: &'a Schema, tuples: impl Iterator<Item = &'a Tuple>) -> Self {
        let rows: Vec<Columns<'a>> = tuples.map(|tuple| Columns::of(schema, tuple)).collect();
        Self {
            object_kinds: rows.iter().map(|row| row.object_kind).collect(),
            object_ids: rows.iter().map(|row| row.object_id).collect(),
            relations: rows.iter().map(|row| row.relation).collect(),
            subject_kinds: rows.iter().map(|row| row.subject_kind).collect(),
            subject_ids: rows.iter().map(|row| row.subject_id).collect(),
            subject_names: rows.iter().map(|row| row.subject_name).collect(),
        }
    }

    fn bind(self, sql: &'static str) -> Query {
        let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<_>>();
        sqlx::query(sql)
            .bind(owned(self.object_kinds))
            .bind(self.object_ids)
            .bind(owned(self.relations))
            .bind(owned(self.subject_kinds))
            .bind(self.subject_ids)
            .bind(owned(self.subject_names))
    }
}

/// A tuple that code writes.
pub(crate) struct SystemRow {
    pub(crate) id: Uuid,
    pub(crate) scope: Scope,
    pub(crate) class: Class,
    pub(crate) tuple: Tuple,
}

/// Whether what stands under another condition stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Stays,
    GoesFirst,
}

/// Writes tuples; a triple that is stored stays as [`Standing`] says. The places, from 0, of those whose triple is stored
/// under another condition.
pub(crate) async fn write(
    tx: &mut Tx,
    schema: &Schema,
    rows: &[SystemRow],
    (standing, now): (Standing, Timestamp),
) -> Result<Vec<usize>, Fault> {
    let arrays = || Arrays::of(schema, rows.iter().map(|row| &row.tuple));
    let caveats = || rows.iter().map(|row| row.tuple.caveat.as_ref());
    let names = || caveats().map(|caveat| Some(caveat?.name().to_owned())).collect::<Vec<_>>();
    let contexts = || caveats().map(|caveat| Some(Json(caveat?.context()))).collect::<Vec<_>>();
    if standing == Standing::GoesFirst {
        arrays().bind(OUTDATE).bind(names()).bind(contexts()).execute(&mut **tx).await?;
    }
    let written = arrays()
        .bind(WRITE)
        .bind(names())
        .bind(contexts())
        .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.class.as_str().to_owned()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.scope.uuid()).collect::<Vec<_>>())
        .bind(now.inner())
        .execute(&mut **tx)
        .await?;
    let conditional = rows.iter().any(|row| row.class == Class::Assignable);
    if !conditional || usize::try_from(written.rows_affected()) == Ok(rows.len()) {
        return Ok(Vec::new());
    }
    let differing = arrays().bind(DIFFERING).bind(names()).bind(contexts()).fetch_all(&mut **tx).await?;
    differing.iter().map(place).collect()
}

/// A place from 1 as one from 0.
fn place(row: &PgRow) -> Result<usize, Fault> {
    let place: i64 = row.try_get(0)?;
    usize::try_from(place - 1).map_err(|_| Fault::Invariant("places are counted from one"))
}

/// Locks scopes until the transaction ends. Every deletion begins with it, so that no two writers wait in a circle.
pub(crate) async fn hold(tx: &mut Tx, scopes: &[Scope]) -> Result<(), Fault> {
    let scopes: Vec<Uuid> = scopes.iter().map(|scope| scope.uuid()).collect();
    sqlx::query(HOLD).bind(scopes).execute(&mut **tx).await?;
    Ok(())
}

/// [`hold`] for every scope with a tuple that names one of the objects.
pub(crate) async fn hold_of(tx: &mut Tx, kinds: &[String], ids: &[Uuid]) -> Result<(), Fault> {
    sqlx::query(HOLD_OF).bind(kinds).bind(ids).execute(&mut **tx).await?;
    Ok(())
}

/// Takes tuples away by their triples.
pub(crate) async fn revoke(tx: &mut Tx, schema: &Schema, tuples: &[Tuple]) -> Result<(), Fault> {
    Arrays::of(schema, tuples.iter()).bind(REVOKE).execute(&mut **tx).await?;
    Ok(())
}

/// Takes away every tuple that names one of the objects, also one that is being written meanwhile.
pub(crate) async fn forget(tx: &mut Tx, kinds: Vec<String>, ids: Vec<Uuid>) -> Result<(), Fault> {
    hold_of(tx, &kinds, &ids).await?;
    sqlx::query(FORGET).bind(kinds).bind(ids).execute(&mut **tx).await?;
    Ok(())
}

/// Those of some objects that do not exist, by their places from 0.
pub(crate) async fn missing(tx: &mut Tx, schema: &Schema, objects: &[ObjectKey]) -> Result<Vec<usize>, Fault> {
    let kinds: Vec<&str> = objects.iter().map(|object| schema.kind_name(object.kind)).collect();
    let ids: Vec<Uuid> = objects.iter().map(|object| object.id.uuid()).collect();
    let rows = sqlx::query(MISSING).bind(kinds).bind(ids).fetch_all(&mut **tx).await?;
    rows.iter().map(place).collect()
}

/// Whether somebody administers a Domain without a condition.
pub(crate) async fn is_administered(tx: &mut Tx, domain: Uuid) -> Result<bool, Fault> {
    Ok(sqlx::query_scalar(ADMINISTERED).bind(domain).fetch_one(&mut **tx).await?)
}

/// Writes an administered tuple; `false` when its triple is taken.
pub(crate) async fn insert(tx: &mut Tx, schema: &Schema, new: &NewTuple<'_>) -> Result<bool, Fault> {
    let row = Columns::of(schema, new.tuple);
    let caveat = new.tuple.caveat.as_ref();
    let done = sqlx::query(INSERT)
        .bind(new.id)
        .bind(new.scope.uuid())
        .bind(new.project.uuid())
        .bind(row.object_kind)
        .bind(row.object_id)
        .bind(row.relation)
        .bind(row.subject_kind)
        .bind(row.subject_id)
        .bind(row.subject_name)
        .bind(caveat.map(|caveat| caveat.name()))
        .bind(caveat.map(|caveat| Json(caveat.context())))
        .bind(new.now.inner())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// The stored tuple of a triple, whoever wrote it.
pub(crate) async fn by_triple(tx: &mut Tx, schema: &Schema, tuple: &Tuple) -> Result<Option<FiledRow>, Fault> {
    let row = Columns::of(schema, tuple);
    Ok(sqlx::query_as(BY_TRIPLE)
        .bind(row.object_id)
        .bind(row.object_kind)
        .bind(row.relation)
        .bind(row.subject_id)
        .bind(row.subject_kind)
        .bind(row.subject_name)
        .fetch_optional(&mut **tx)
        .await?)
}

/// An administered tuple.
pub(crate) async fn by_id(pool: &PgPool, id: Uuid) -> Result<Option<FiledRow>, Fault> {
    Ok(sqlx::query_as(BY_ID).bind(id).fetch_optional(pool).await?)
}

/// An administered tuple, locked until the transaction ends.
pub(crate) async fn lock(tx: &mut Tx, id: Uuid) -> Result<Option<FiledRow>, Fault> {
    Ok(sqlx::query_as(LOCK).bind(id).fetch_optional(&mut **tx).await?)
}

pub(crate) async fn delete(tx: &mut Tx, id: Uuid) -> Result<(), Fault> {
    sqlx::query(DELETE).bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// A page of the tuples that are filed under a Project.
pub(crate) async fn filed(
    pool: &PgPool,
    project: ProjectId,
    (after, id): (Timestamp, Uuid),
    limit: i64,
) -> Result<Vec<FiledRow>, Fault> {
    let rows = sqlx::query_as(FILED).bind(project.uuid()).bind(after.inner()).bind(id).bind(limit);
    Ok(rows.fetch_all(pool).await?)
}

/// A Domain that these administer and nobody else does; who does stays as it is until the transaction ends.
pub(crate) async fn administered_alone(tx: &mut Tx, subjects: &[Uuid]) -> Result<Option<DomainId>, Fault> {
    sqlx::query(HOLD_ADMINISTERED).bind(subjects).execute(&mut **tx).await?;
    let domain: Option<Uuid> = sqlx::query_scalar(ADMINISTERED_ALONE).bind(subjects).fetch_optional(&mut **tx).await?;
    Ok(domain.map(DomainId::from_uuid))
}

pub(crate) async fn count_filed(tx: &mut Tx, project: ProjectId) -> Result<i64, Fault> {
    Ok(sqlx::query_scalar(COUNT_FILED).bind(project.uuid()).fetch_one(&mut **tx).await?)
}
