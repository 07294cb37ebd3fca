//! SQL of bootstrap tokens.

mod nodes;
mod rewrap;

use plexsphere_kernel::database::violated_constraint;
use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, NodeId, PrincipalId, ProjectId, Timestamp, TokenId};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

pub(super) use nodes::{
    Ended, NewNode, Place, Target, end_nodes, insert_node, live_nodes_of, lock_project, lock_resource, mark_nodes,
    node_entries, node_entry, pinned, purge_revoked_keys, reserved, revoke_keys, wrapped,
};
pub(super) use rewrap::{WrappedKey, rewrap, wrapped_below};

use super::token::{StoredToken, TokenKind};
use crate::pages;

/// The pages and look-ups that grow with the fleet, each with the index that it walks.
pub(crate) const PAGES: &[&[(&str, &str)]] =
    &[&[(LIST, "bootstrap_tokens_by_issue"), (BY_TAG, "bootstrap_tokens_lookup_tag_key")], nodes::PAGES];

pub(crate) const STATEMENTS: &[&[&str]] = &[
    &[PARENT, KNOWS_PROJECT, INSERT, GET, BY_TAG, LOCK, LIST, REVOKE, CONSUME, SWEEP],
    nodes::STATEMENTS,
    rewrap::STATEMENTS,
];

const PARENT: &str = "SELECT domain_id FROM identity.projects WHERE id = $1 FOR KEY SHARE";
const KNOWS_PROJECT: &str = "SELECT EXISTS (SELECT FROM identity.projects WHERE id = $1)";
const INSERT: &str =
    "INSERT INTO identity.bootstrap_tokens (id, project_id, domain_id, kind, env_prefix, hash, lookup_tag,
    issued_at, expires_at, issued_by_user_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
const GET: &str = "SELECT * FROM identity.bootstrap_tokens WHERE id = $1 AND project_id = $2";
const BY_TAG: &str = "SELECT * FROM identity.bootstrap_tokens WHERE lookup_tag = $1";
const LOCK: &str = "SELECT * FROM identity.bootstrap_tokens WHERE id = $1 FOR UPDATE";
const LIST: &str = "SELECT * FROM identity.bootstrap_tokens WHERE project_id = $1 AND (issued_at, id) > ($2, $3)
    ORDER BY issued_at, id LIMIT $4";
const REVOKE: &str = "UPDATE identity.bootstrap_tokens SET revoked_at = $3, revoked_by = $4
    WHERE id = $1 AND project_id = $2 AND consumed_at IS NULL AND revoked_at IS NULL RETURNING domain_id";
const CONSUME: &str = "UPDATE identity.bootstrap_tokens
    SET consumed_at = $2, consumed_by_node_id = $3, consumed_nonce = $4 WHERE id = $1";
const SWEEP: &str = "DELETE FROM identity.bootstrap_tokens
    WHERE least(coalesce(consumed_at, revoked_at, expires_at), expires_at) <= $1::timestamptz - interval '90 days'";

fn at(row: &PgRow, column: &str) -> Result<Timestamp, sqlx::Error> {
    row.try_get::<OffsetDateTime, _>(column).map(Timestamp::new)
}

fn maybe(row: &PgRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<OffsetDateTime>, _>(column)?.map(Timestamp::new))
}

fn read(row: &PgRow) -> Result<StoredToken, sqlx::Error> {
    let kind: &str = row.try_get("kind")?;
    Ok(StoredToken {
        id: TokenId::from_uuid(row.try_get("id")?),
        project: ProjectId::from_uuid(row.try_get("project_id")?),
        domain: DomainId::from_uuid(row.try_get("domain_id")?),
        kind: TokenKind::parse(kind).ok_or_else(|| sqlx::Error::Decode("unknown token kind".into()))?,
        env_prefix: row.try_get("env_prefix")?,
        hash: row.try_get("hash")?,
        issued_at: at(row, "issued_at")?,
        expires_at: at(row, "expires_at")?,
        issued_by: PrincipalId::from_uuid(row.try_get("issued_by_user_id")?),
        consumed_at: maybe(row, "consumed_at")?,
        revoked_at: maybe(row, "revoked_at")?,
    })
}

/// The Domain of a Project, which cannot be deleted until the transaction ends.
pub(super) async fn parent(tx: &mut Tx, project: ProjectId) -> Result<Option<DomainId>, Fault> {
    let domain: Option<Uuid> = sqlx::query_scalar(PARENT).bind(project.uuid()).fetch_optional(&mut **tx).await?;
    Ok(domain.map(DomainId::from_uuid))
}

pub(super) async fn knows_project<'e>(db: impl PgExecutor<'e>, project: ProjectId) -> Result<bool, Fault> {
    Ok(sqlx::query_scalar(KNOWS_PROJECT).bind(project.uuid()).fetch_one(db).await?)
}

pub(super) async fn insert(tx: &mut Tx, token: &StoredToken, tag: &[u8; 32]) -> Result<(), Fault> {
    sqlx::query(INSERT)
        .bind(token.id.uuid())
        .bind(token.project.uuid())
        .bind(token.domain.uuid())
        .bind(token.kind.as_str())
        .bind(&token.env_prefix)
        .bind(&token.hash)
        .bind(tag.as_slice())
        .bind(token.issued_at.inner())
        .bind(token.expires_at.inner())
        .bind(token.issued_by.uuid())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn get<'e>(
    db: impl PgExecutor<'e>,
    project: ProjectId,
    id: TokenId,
) -> Result<Option<StoredToken>, Fault> {
    let row = sqlx::query(GET).bind(id.uuid()).bind(project.uuid()).fetch_optional(db).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

pub(super) async fn by_tag<'e>(db: impl PgExecutor<'e>, tag: &[u8; 32]) -> Result<Option<StoredToken>, Fault> {
    let row = sqlx::query(BY_TAG).bind(tag.as_slice()).fetch_optional(db).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

pub(super) async fn lock(tx: &mut Tx, id: TokenId) -> Result<Option<StoredToken>, Fault> {
    let row = sqlx::query(LOCK).bind(id.uuid()).fetch_optional(&mut **tx).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

pub(super) async fn list<'e>(
    db: impl PgExecutor<'e>,
    project: ProjectId,
    after: Option<(Timestamp, Uuid)>,
    limit: i64,
) -> Result<Vec<StoredToken>, Fault> {
    let (at, id) = after.unwrap_or(pages::BEGINNING);
    let rows = sqlx::query(LIST).bind(project.uuid()).bind(at.inner()).bind(id).bind(limit).fetch_all(db).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// Revokes a token that is neither redeemed nor revoked; its Domain, if one was.
pub(super) async fn revoke(
    tx: &mut Tx,
    project: ProjectId,
    id: TokenId,
    by: PrincipalId,
    now: Timestamp,
) -> Result<Option<DomainId>, Fault> {
    let query = sqlx::query_scalar(REVOKE).bind(id.uuid()).bind(project.uuid()).bind(now.inner()).bind(by.uuid());
    let domain: Option<Uuid> = query.fetch_optional(&mut **tx).await?;
    Ok(domain.map(DomainId::from_uuid))
}

/// Marks a locked token as redeemed; `false` when the nonce is spent in its Project.
pub(super) async fn consume(
    tx: &mut Tx,
    id: TokenId,
    node: NodeId,
    nonce: &str,
    now: Timestamp,
) -> Result<bool, Fault> {
    let query = sqlx::query(CONSUME).bind(id.uuid()).bind(now.inner()).bind(node.uuid()).bind(nonce);
    match query.execute(&mut **tx).await {
        Ok(_) => Ok(true),
        Err(error) if violated_constraint(&error) == Some("bootstrap_tokens_nonce_key") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes tokens that ended 90 days ago.
pub(super) async fn sweep<'e>(db: impl PgExecutor<'e>, now: Timestamp) -> Result<u64, Fault> {
    Ok(sqlx::query(SWEEP).bind(now.inner()).execute(db).await?.rows_affected())
}
