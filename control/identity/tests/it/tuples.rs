//! The relation engine as this context sees it: what is written is kept in a table, in the writer's transaction.

use std::collections::BTreeMap;

use async_trait::async_trait;
use plexsphere_kernel::{Fault, GrantRules, ObjectRef, RelationTuple, SubjectRef, TupleWriter, Tx};
use plexsphere_wire::{DomainId, ProjectId};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

/// Keeps tuples as text: `object#relation@subject`.
pub(crate) struct RecordedTuples;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS public.recorded_tuples (
    object text NOT NULL, relation text NOT NULL, subject text NOT NULL, subject_relation text NOT NULL,
    domain_id uuid, project_id uuid, caveat text, UNIQUE (object, relation, subject, subject_relation))";

impl RecordedTuples {
    pub(crate) async fn over(pool: &PgPool) -> Self {
        sqlx::query(TABLE).execute(pool).await.unwrap();
        Self
    }
}

fn subject(subject: &SubjectRef) -> (String, String) {
    (subject.object.to_string(), subject.relation.clone().unwrap_or_default())
}

#[async_trait]
impl TupleWriter for RecordedTuples {
    async fn write(
        &self,
        tx: &mut Tx,
        domain: Option<DomainId>,
        tuples: &[RelationTuple],
    ) -> Result<Vec<RelationTuple>, Fault> {
        self.overwrite(tx, domain, tuples).await?;
        Ok(Vec::new())
    }

    async fn has_administrator(&self, _: &mut Tx, _: DomainId) -> Result<bool, Fault> {
        Ok(true)
    }

    async fn overwrite(&self, tx: &mut Tx, domain: Option<DomainId>, tuples: &[RelationTuple]) -> Result<(), Fault> {
        for tuple in tuples {
            let (object, relation) = subject(&tuple.subject);
            sqlx::query(
                "INSERT INTO public.recorded_tuples AS t (object, relation, subject, subject_relation, domain_id, caveat)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (object, relation, subject, subject_relation) DO UPDATE SET caveat = EXCLUDED.caveat",
            )
            .bind(tuple.object.to_string())
            .bind(&tuple.relation)
            .bind(object)
            .bind(relation)
            .bind(domain.map(|domain| domain.uuid()))
            .bind(tuple.caveat.as_ref().map(|caveat| caveat.name.clone()))
            .execute(&mut **tx)
            .await?;
        }
        Ok(())
    }

    async fn remove(&self, tx: &mut Tx, _domain: Option<DomainId>, tuples: &[RelationTuple]) -> Result<(), Fault> {
        for tuple in tuples {
            let (object, relation) = subject(&tuple.subject);
            sqlx::query(
                "DELETE FROM public.recorded_tuples
                 WHERE object = $1 AND relation = $2 AND subject = $3 AND subject_relation = $4",
            )
            .bind(tuple.object.to_string())
            .bind(&tuple.relation)
            .bind(object)
            .bind(relation)
            .execute(&mut **tx)
            .await?;
        }
        Ok(())
    }

    async fn forget(&self, tx: &mut Tx, object: &ObjectRef) -> Result<(), Fault> {
        sqlx::query("DELETE FROM public.recorded_tuples WHERE object = $1 OR subject = $1")
            .bind(object.to_string())
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    async fn forget_many(&self, tx: &mut Tx, objects: &[ObjectRef]) -> Result<(), Fault> {
        let objects: Vec<String> = objects.iter().map(ToString::to_string).collect();
        sqlx::query("DELETE FROM public.recorded_tuples WHERE object = ANY($1) OR subject = ANY($1)")
            .bind(objects)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    async fn administered_alone(&self, tx: &mut Tx, subjects: &[ObjectRef]) -> Result<Option<DomainId>, Fault> {
        let subjects: Vec<String> = subjects.iter().map(ToString::to_string).collect();
        let alone: Option<String> = sqlx::query_scalar(
            "SELECT object FROM public.recorded_tuples t WHERE subject = ANY($1) AND relation = 'admin'
             AND starts_with(object, 'domain:') AND NOT EXISTS (SELECT FROM public.recorded_tuples o
                 WHERE o.object = t.object AND o.relation = 'admin' AND o.subject <> ALL($1)) LIMIT 1",
        )
        .bind(subjects)
        .fetch_optional(&mut **tx)
        .await?;
        Ok(alone.and_then(|object| object.strip_prefix("domain:")?.parse().ok()))
    }

    async fn filed_under(&self, tx: &mut Tx, project: ProjectId) -> Result<i64, Fault> {
        let count = sqlx::query_scalar("SELECT count(*) FROM public.recorded_tuples WHERE project_id = $1");
        Ok(count.bind::<Uuid>(project.uuid()).fetch_one(&mut **tx).await?)
    }
}

/// The assignable relations of the tree, and caveats that are told apart by their parameters.
pub(crate) struct SomeGrants;

impl GrantRules for SomeGrants {
    fn is_assignable(&self, kind: &str, relation: &str) -> bool {
        matches!(
            (kind, relation),
            ("domain" | "project", "admin" | "maintainer" | "operator" | "member")
                | ("domain", "auditor")
                | ("project", "viewer")
        )
    }

    fn caveat_fits(&self, name: &str, context: &BTreeMap<String, Value>) -> bool {
        name == "from_cidr" && context.keys().eq(["allowed_cidrs"]) && context["allowed_cidrs"].is_array()
    }
}

/// Every tuple of an object, as `relation@subject`, in order.
pub(crate) async fn tuples_on(pool: &PgPool, object: &str) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT relation || '@' || subject || CASE subject_relation WHEN '' THEN '' ELSE '#' || subject_relation END
         FROM public.recorded_tuples WHERE object = $1 ORDER BY 1",
    )
    .bind(object)
    .fetch_all(pool)
    .await
    .unwrap()
}
