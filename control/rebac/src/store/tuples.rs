//! Writing and reading tuples.

use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{ProjectId, Timestamp};
use sqlx::PgPool;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::rows::TupleRow;
use crate::model::graph::{Scope, Tuple};
use crate::model::schema::{Class, Schema};

/// In the order of scopes, so that two writers of the same scopes do not wait for each other in a circle.
pub(crate) const GRANT: &str = "INSERT INTO rebac.tuples (id, scope, object_kind, object_id, relation, subject_kind,
        subject_id, subject_name, class, created_at)
    SELECT t.*, $10 FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::uuid[],
        $8::text[], $9::text[]) AS t (id, scope, object_kind, object_id, relation, subject_kind, subject_id,
        subject_name, class)
    ORDER BY t.scope
    ON CONFLICT ON CONSTRAINT tuples_triple_key DO NOTHING";

pub(crate) const REVOKE: &str = "DELETE FROM rebac.tuples t
    USING unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::text[]) AS w (object_kind, object_id,
        relation, subject_kind, subject_id, subject_name)
    WHERE t.object_id = w.object_id AND t.object_kind = w.object_kind AND t.relation = w.relation
        AND t.subject_id = w.subject_id AND t.subject_kind = w.subject_kind AND t.subject_name = w.subject_name";

pub(crate) const FORGET: &str = "DELETE FROM rebac.tuples WHERE (object_id = $1 AND object_kind = $2)
    OR (subject_id = $1 AND subject_kind = $2)";

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

/// Every grant of `admin` on a Domain, locked, so that two cannot be taken away past each other.
pub(crate) const LOCK_ADMINS: &str = "SELECT id FROM rebac.tuples
    WHERE object_kind = 'domain' AND object_id = $1 AND relation = 'admin' ORDER BY id FOR UPDATE";

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

/// Writes tuples that are not there yet. Each comes with its scope, its class and an id.
pub(crate) async fn grant(
    tx: &mut Tx,
    schema: &Schema,
    tuples: &[(Uuid, Scope, Class, Tuple)],
    now: Timestamp,
) -> Result<(), Fault> {
    let columns: Vec<Columns<'_>> = tuples.iter().map(|(.., tuple)| Columns::of(schema, tuple)).collect();
    sqlx::query(GRANT)
        .bind(tuples.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
        .bind(tuples.iter().map(|(_, scope, ..)| scope.uuid()).collect::<Vec<_>>())
        .bind(columns.iter().map(|row| row.object_kind).collect::<Vec<_>>())
        .bind(columns.iter().map(|row| row.object_id).collect::<Vec<_>>())
        .bind(columns.iter().map(|row| row.relation).collect::<Vec<_>>())
        .bind(columns.iter().map(|row| row.subject_kind).collect::<Vec<_>>())
        .bind(columns.iter().map(|row| row.subject_id).collect::<Vec<_>>())
        .bind(columns.iter().map(|row| row.subject_name).collect::<Vec<_>>())
        .bind(tuples.iter().map(|(_, _, class, _)| class.as_str()).collect::<Vec<_>>())
        .bind(now.inner())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Takes tuples away by their triples.
pub(crate) async fn revoke(tx: &mut Tx, schema: &Schema, tuples: &[Tuple]) -> Result<(), Fault> {
    let columns: Vec<Columns<'_>> = tuples.iter().map(|tuple| Columns::of(schema, tuple)).collect();
    sqlx::query(REVOKE)
        .bind(columns.iter().map(|row| row.object_kind).collect::<Vec<_>>())
        .bind(columns.iter().map(|row| row.object_id).collect::<Vec<_>>())
        .bind(columns.iter().map(|row| row.relation).collect::<Vec<_>>())
        .bind(columns.iter().map(|row| row.subject_kind).collect::<Vec<_>>())
        .bind(columns.iter().map(|row| row.subject_id).collect::<Vec<_>>())
        .bind(columns.iter().map(|row| row.subject_name).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Takes away every tuple that names the object.
pub(crate) async fn forget(tx: &mut Tx, kind: &str, id: Uuid) -> Result<(), Fault> {
    sqlx::query(FORGET).bind(id).bind(kind).execute(&mut **tx).await?;
    Ok(())
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

pub(crate) async fn count_filed(tx: &mut Tx, project: ProjectId) -> Result<i64, Fault> {
    Ok(sqlx::query_scalar(COUNT_FILED).bind(project.uuid()).fetch_one(&mut **tx).await?)
}

/// The ids of a Domain's grants of `admin`, locked.
pub(crate) async fn lock_admins(tx: &mut Tx, domain: Uuid) -> Result<Vec<Uuid>, Fault> {
    Ok(sqlx::query_scalar(LOCK_ADMINS).bind(domain).fetch_all(&mut **tx).await?)
}
