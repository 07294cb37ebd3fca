//! SQL of the list of Nodes.

use plexsphere_kernel::Fault;
use plexsphere_wire::{DomainId, NodeId, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::pages;

/// The pages, each with the index that it walks.
pub(crate) const PAGES: &[(&str, &str)] = &[(LIST, "nodes_by_creation"), (LIST_OF_DOMAIN, "nodes_of_domain")];

pub(crate) const STATEMENTS: &[&str] = &[LIST, LIST_OF_DOMAIN, KNOWS_DOMAIN];

const LIST: &str = "SELECT n.id, n.domain_id, n.created_at, r.kind, r.external_ref FROM identity.nodes n
    LEFT JOIN identity.resources r ON r.id = n.resource_id
    WHERE n.deregistered_at IS NULL AND (n.created_at, n.id) > ($1, $2) ORDER BY n.created_at, n.id LIMIT $3";
const LIST_OF_DOMAIN: &str = "SELECT n.id, n.domain_id, n.created_at, r.kind, r.external_ref FROM identity.nodes n
    LEFT JOIN identity.resources r ON r.id = n.resource_id
    WHERE n.domain_id = $4 AND n.deregistered_at IS NULL AND (n.created_at, n.id) > ($1, $2)
    ORDER BY n.created_at, n.id LIMIT $3";
const KNOWS_DOMAIN: &str = "SELECT EXISTS (SELECT FROM identity.domains WHERE id = $1)";

/// A live Node with what its Resource calls it.
pub(super) struct NodeRow {
    pub(super) id: NodeId,
    pub(super) domain: DomainId,
    pub(super) kind: Option<String>,
    pub(super) name: Option<String>,
    pub(super) created_at: Timestamp,
}

fn read(row: &PgRow) -> Result<NodeRow, sqlx::Error> {
    Ok(NodeRow {
        id: NodeId::from_uuid(row.try_get("id")?),
        domain: DomainId::from_uuid(row.try_get("domain_id")?),
        kind: row.try_get("kind")?,
        name: row.try_get("external_ref")?,
        created_at: row.try_get::<OffsetDateTime, _>("created_at").map(Timestamp::new)?,
    })
}

/// A page of the live Nodes of one Domain or of all, in the order of their registration.
pub(super) async fn list<'e>(
    db: impl PgExecutor<'e>,
    domain: Option<DomainId>,
    after: Option<(Timestamp, Uuid)>,
    limit: i64,
) -> Result<Vec<NodeRow>, Fault> {
    let (at, id) = after.unwrap_or(pages::BEGINNING);
    let mut query = sqlx::query(if domain.is_some() { LIST_OF_DOMAIN } else { LIST });
    query = query.bind(at.inner()).bind(id).bind(limit);
    if let Some(domain) = domain {
        query = query.bind(domain.uuid());
    }
    let rows = query.fetch_all(db).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

pub(super) async fn knows_domain<'e>(db: impl PgExecutor<'e>, domain: DomainId) -> Result<bool, Fault> {
    Ok(sqlx::query_scalar(KNOWS_DOMAIN).bind(domain.uuid()).fetch_one(db).await?)
}
