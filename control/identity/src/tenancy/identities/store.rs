//! SQL of a Domain's principals. What both tables have in common is read as one.

use plexsphere_kernel::database::violated_constraint;
use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, PrincipalId, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use super::model::{FederationKind, IdentityKind, IdentityRefusal, Principal, ServiceIdentity};
use crate::pages;

/// The pages, each with the index that it walks.
pub(crate) const PAGES: &[(&str, &str)] = &[
    (LIST, "users_by_creation"),
    (LIST, "service_identities_by_creation"),
    (LIST_USERS, "users_by_creation"),
    (LIST_SERVICES, "service_identities_by_creation"),
];

pub(crate) const STATEMENTS: &[&str] = &[LIST, LIST_USERS, LIST_SERVICES, FIND, KNOWS_DOMAIN, INSERT, SERVICE];

const LIST: &str = "SELECT * FROM (
    (SELECT id, 'user' AS kind, domain_id, display_name, external_subject, email, last_sign_in_at, created_at, updated_at
     FROM identity.users WHERE domain_id = $1 AND (created_at, id) < ($2, $3)
     ORDER BY created_at DESC, id DESC LIMIT $4)
    UNION ALL
    (SELECT id, 'service-identity', domain_id, display_name, subject, NULL, NULL, created_at, created_at
     FROM identity.service_identities WHERE domain_id = $1 AND (created_at, id) < ($2, $3)
     ORDER BY created_at DESC, id DESC LIMIT $4)
    ) AS both_kinds ORDER BY created_at DESC, id DESC LIMIT $4";
const LIST_USERS: &str = "SELECT id, 'user' AS kind, domain_id, display_name, external_subject, email, last_sign_in_at,
    created_at, updated_at FROM identity.users WHERE domain_id = $1 AND (created_at, id) < ($2, $3)
    ORDER BY created_at DESC, id DESC LIMIT $4";
const LIST_SERVICES: &str = "SELECT id, 'service-identity' AS kind, domain_id, display_name,
    subject AS external_subject, NULL AS email, NULL::timestamptz AS last_sign_in_at, created_at,
    created_at AS updated_at FROM identity.service_identities WHERE domain_id = $1 AND (created_at, id) < ($2, $3)
    ORDER BY created_at DESC, id DESC LIMIT $4";
const FIND: &str = "SELECT id, 'user' AS kind, domain_id, display_name, external_subject, email, last_sign_in_at,
    created_at, updated_at FROM identity.users WHERE id = $1 AND domain_id = $2
    UNION ALL SELECT id, 'service-identity', domain_id, display_name, subject, NULL, NULL, created_at, created_at
    FROM identity.service_identities WHERE id = $1 AND domain_id = $2";
const KNOWS_DOMAIN: &str = "SELECT EXISTS (SELECT FROM identity.domains WHERE id = $1)";
const INSERT: &str = "INSERT INTO identity.service_identities
    (id, domain_id, display_name, subject, audience, federation_kind, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
const SERVICE: &str = "SELECT * FROM identity.service_identities WHERE id = $1";

fn at(row: &PgRow, column: &str) -> Result<Timestamp, sqlx::Error> {
    row.try_get::<OffsetDateTime, _>(column).map(Timestamp::new)
}

fn read(row: &PgRow) -> Result<Principal, sqlx::Error> {
    let kind: &str = row.try_get("kind")?;
    Ok(Principal {
        id: PrincipalId::from_uuid(row.try_get("id")?),
        kind: IdentityKind::parse(kind).ok_or_else(|| sqlx::Error::Decode("unknown kind".into()))?,
        domain: DomainId::from_uuid(row.try_get("domain_id")?),
        display_name: row.try_get("display_name")?,
        external_subject: row.try_get("external_subject")?,
        email: row.try_get("email")?,
        last_sign_in_at: row.try_get::<Option<OffsetDateTime>, _>("last_sign_in_at")?.map(Timestamp::new),
        created_at: at(row, "created_at")?,
        updated_at: at(row, "updated_at")?,
    })
}

/// A page, newest first.
pub(super) async fn list<'e>(
    db: impl PgExecutor<'e>,
    domain: DomainId,
    kind: Option<IdentityKind>,
    before: Option<(Timestamp, Uuid)>,
    limit: i64,
) -> Result<Vec<Principal>, Fault> {
    let statement = match kind {
        None => LIST,
        Some(IdentityKind::User) => LIST_USERS,
        Some(IdentityKind::ServiceIdentity) => LIST_SERVICES,
    };
    let (at, id) = before.unwrap_or_else(pages::end);
    let query = sqlx::query(statement).bind(domain.uuid()).bind(at.inner()).bind(id).bind(limit);
    let rows = query.fetch_all(db).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

pub(super) async fn find<'e>(
    db: impl PgExecutor<'e>,
    domain: DomainId,
    id: PrincipalId,
) -> Result<Option<Principal>, Fault> {
    let row = sqlx::query(FIND).bind(id.uuid()).bind(domain.uuid()).fetch_optional(db).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

pub(super) async fn knows_domain<'e>(db: impl PgExecutor<'e>, domain: DomainId) -> Result<bool, Fault> {
    Ok(sqlx::query_scalar(KNOWS_DOMAIN).bind(domain.uuid()).fetch_one(db).await?)
}

/// Inserts; the constraints have the last word on Domain and subject.
pub(super) async fn insert(tx: &mut Tx, service: &ServiceIdentity) -> Result<(), IdentityRefusal> {
    let result = sqlx::query(INSERT)
        .bind(service.id.uuid())
        .bind(service.domain.uuid())
        .bind(&service.display_name)
        .bind(&service.subject)
        .bind(&service.audience)
        .bind(service.federation_kind.as_str())
        .bind(service.created_at.inner())
        .execute(&mut **tx)
        .await;
    result.map(|_| ()).map_err(|error| match violated_constraint(&error) {
        Some("service_identities_subject_key") => IdentityRefusal::AlreadyExists,
        Some("service_identities_domain_fkey") => IdentityRefusal::DomainNotFound,
        _ => IdentityRefusal::Fault(error.into()),
    })
}

pub(super) async fn service<'e>(db: impl PgExecutor<'e>, id: PrincipalId) -> Result<Option<ServiceIdentity>, Fault> {
    let row = sqlx::query(SERVICE).bind(id.uuid()).fetch_optional(db).await?;
    let read = |row: &PgRow| -> Result<ServiceIdentity, sqlx::Error> {
        let kind: &str = row.try_get("federation_kind")?;
        Ok(ServiceIdentity {
            id: PrincipalId::from_uuid(row.try_get("id")?),
            domain: DomainId::from_uuid(row.try_get("domain_id")?),
            display_name: row.try_get("display_name")?,
            subject: row.try_get("subject")?,
            audience: row.try_get("audience")?,
            federation_kind: FederationKind::parse(kind)
                .ok_or_else(|| sqlx::Error::Decode("unknown federation kind".into()))?,
            created_at: at(row, "created_at")?,
        })
    };
    Ok(row.as_ref().map(read).transpose()?)
}
