//! SQL of Invitations.

use std::collections::BTreeMap;

use plexsphere_kernel::{Fault, StoredCaveat, Tx};
use plexsphere_wire::{DomainId, GroupId, InvitationId, PrincipalId, ProjectId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgExecutor, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use super::model::{Invitation, InvitationStatus, StagedObject, StagedTuple};
use crate::pages;

/// The pages and look-ups that grow, each with the index that it walks.
pub(crate) const PAGES: &[(&str, &str)] = &[
    (LIST, "invitations_by_creation"),
    (LIST_IN_STATUS, "invitations_by_status"),
    (PENDING_FOR, "invitations_pending_key"),
    (DUE, "invitations_due"),
];

pub(crate) const STATEMENTS: &[&str] = &[
    HOLD_DOMAIN,
    KNOWS_DOMAIN,
    PROJECTS,
    GROUPS,
    INSERT,
    PENDING_ID,
    GET,
    LIST,
    LIST_IN_STATUS,
    PENDING_FOR,
    ACCEPT,
    REVOKE,
    EXPIRE,
    EXPIRE_ELAPSED,
    DUE,
    EXPIRE_MANY,
];

const HOLD_DOMAIN: &str = "SELECT id FROM identity.domains WHERE id = $1 FOR KEY SHARE";
const KNOWS_DOMAIN: &str = "SELECT EXISTS (SELECT FROM identity.domains WHERE id = $1)";
// Both under locks that deletions wait for.
const PROJECTS: &str = "SELECT id FROM identity.projects WHERE id = ANY($1) AND domain_id = $2 ORDER BY id
    FOR KEY SHARE";
const GROUPS: &str = "SELECT id FROM identity.groups WHERE id = ANY($1) AND domain_id = $2 AND source = 'manual'
    ORDER BY id FOR KEY SHARE";
// Waits for whoever is about to insert another one for the same subject.
const INSERT: &str = "INSERT INTO identity.invitations (id, domain_id, sealed_subject, wrap_key_version, pseudonym,
    match_key, initial_tuples, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (domain_id, match_key) WHERE status = 'pending' DO NOTHING";
const PENDING_ID: &str = "SELECT id FROM identity.invitations
    WHERE domain_id = $1 AND match_key = $2 AND status = 'pending'";
const GET: &str = "SELECT * FROM identity.invitations WHERE id = $1 AND domain_id = $2";
const LIST: &str = "SELECT * FROM identity.invitations WHERE domain_id = $1 AND (created_at, id) < ($2, $3)
    ORDER BY created_at DESC, id DESC LIMIT $4";
const LIST_IN_STATUS: &str = "SELECT * FROM identity.invitations
    WHERE domain_id = $1 AND status = $5 AND (created_at, id) < ($2, $3)
    ORDER BY created_at DESC, id DESC LIMIT $4";
const PENDING_FOR: &str = "SELECT * FROM identity.invitations
    WHERE domain_id = $1 AND match_key = ANY($2) AND status = 'pending' ORDER BY created_at, id";
const ACCEPT: &str = "UPDATE identity.invitations SET status = 'accepted', accepted_at = $2, accepted_user_id = $3
    WHERE id = $1 AND status = 'pending'";
const REVOKE: &str = "UPDATE identity.invitations SET status = 'revoked', revoked_at = $3
    WHERE id = $1 AND domain_id = $2 AND status = 'pending' AND expires_at > $3";
const EXPIRE: &str = "UPDATE identity.invitations SET status = 'expired', expired_at = $2
    WHERE id = $1 AND status = 'pending' AND expires_at <= $2";
const EXPIRE_ELAPSED: &str = "UPDATE identity.invitations SET status = 'expired', expired_at = $3
    WHERE domain_id = $1 AND match_key = $2 AND status = 'pending' AND expires_at <= $3 RETURNING id";
const DUE: &str = "SELECT id FROM identity.invitations WHERE status = 'pending' AND expires_at <= $1
    ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED";
const EXPIRE_MANY: &str = "UPDATE identity.invitations SET status = 'expired', expired_at = $2
    WHERE id = ANY($1) AND status = 'pending' RETURNING domain_id, id";

/// A staged tuple in its column.
#[derive(Serialize, Deserialize)]
struct Staged {
    relation: String,
    object: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    caveat: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    context: BTreeMap<String, Value>,
}

impl Staged {
    fn of(tuple: &StagedTuple) -> Self {
        let (caveat, context) = match &tuple.caveat {
            Some(caveat) => (Some(caveat.name.clone()), caveat.context.clone()),
            None => (None, BTreeMap::new()),
        };
        Self { relation: tuple.relation.clone(), object: tuple.object.object().to_string(), caveat, context }
    }

    fn read(self, domain: DomainId) -> Result<StagedTuple, sqlx::Error> {
        let object = StagedObject::parse(&self.object, domain);
        Ok(StagedTuple {
            relation: self.relation,
            object: object.ok_or_else(|| sqlx::Error::Decode("unknown object".into()))?,
            caveat: self.caveat.map(|name| StoredCaveat { name, context: self.context }),
        })
    }
}

fn maybe(row: &PgRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<OffsetDateTime>, _>(column)?.map(Timestamp::new))
}

fn read(row: &PgRow) -> Result<Invitation, sqlx::Error> {
    let domain = DomainId::from_uuid(row.try_get("domain_id")?);
    let status: &str = row.try_get("status")?;
    let pseudonym: Vec<u8> = row.try_get("pseudonym")?;
    let Json(staged): Json<Vec<Staged>> = row.try_get("initial_tuples")?;
    let accepted_by: Option<Uuid> = row.try_get("accepted_user_id")?;
    Ok(Invitation {
        id: InvitationId::from_uuid(row.try_get("id")?),
        domain,
        pseudonym: pseudonym.try_into().map_err(|_| sqlx::Error::Decode("a pseudonym has 32 bytes".into()))?,
        status: InvitationStatus::parse(status).ok_or_else(|| sqlx::Error::Decode("unknown status".into()))?,
        tuples: staged.into_iter().map(|tuple| tuple.read(domain)).collect::<Result<_, _>>()?,
        created_at: row.try_get::<OffsetDateTime, _>("created_at").map(Timestamp::new)?,
        expires_at: row.try_get::<OffsetDateTime, _>("expires_at").map(Timestamp::new)?,
        accepted: maybe(row, "accepted_at")?.zip(accepted_by.map(PrincipalId::from_uuid)),
        revoked_at: maybe(row, "revoked_at")?,
        expired_at: maybe(row, "expired_at")?,
    })
}

/// Whether a Domain exists; it cannot be deleted until the transaction ends.
pub(super) async fn hold_domain(tx: &mut Tx, domain: DomainId) -> Result<bool, Fault> {
    Ok(sqlx::query(HOLD_DOMAIN).bind(domain.uuid()).fetch_optional(&mut **tx).await?.is_some())
}

pub(super) async fn knows_domain<'e>(db: impl PgExecutor<'e>, domain: DomainId) -> Result<bool, Fault> {
    Ok(sqlx::query_scalar(KNOWS_DOMAIN).bind(domain.uuid()).fetch_one(db).await?)
}

/// Those of the objects that exist in the Domain, which cannot be deleted until the transaction ends.
pub(super) async fn existing(
    tx: &mut Tx,
    domain: DomainId,
    objects: &[StagedObject],
) -> Result<Vec<StagedObject>, Fault> {
    let mut found = vec![StagedObject::Domain(domain)];
    let (mut projects, mut groups) = (Vec::new(), Vec::new());
    for object in objects {
        match object {
            StagedObject::Domain(_) => {}
            StagedObject::Project(id) => projects.push(id.uuid()),
            StagedObject::Group(id) => groups.push(id.uuid()),
        }
    }
    if !projects.is_empty() {
        let query = sqlx::query_scalar(PROJECTS).bind(projects).bind(domain.uuid());
        let ids: Vec<Uuid> = query.fetch_all(&mut **tx).await?;
        found.extend(ids.into_iter().map(|id| StagedObject::Project(ProjectId::from_uuid(id))));
    }
    if !groups.is_empty() {
        let query = sqlx::query_scalar(GROUPS).bind(groups).bind(domain.uuid());
        let ids: Vec<Uuid> = query.fetch_all(&mut **tx).await?;
        found.extend(ids.into_iter().map(|id| StagedObject::Group(GroupId::from_uuid(id))));
    }
    Ok(found)
}

/// What a row holds beside the Invitation.
pub(super) struct Secret {
    pub(super) sealed_subject: Vec<u8>,
    pub(super) wrap_key_version: i32,
    pub(super) match_key: [u8; 32],
}

/// Inserts a pending Invitation; `false` when there is one for the same subject.
pub(super) async fn insert(tx: &mut Tx, invitation: &Invitation, secret: &Secret) -> Result<bool, Fault> {
    let staged: Vec<Staged> = invitation.tuples.iter().map(Staged::of).collect();
    let done = sqlx::query(INSERT)
        .bind(invitation.id.uuid())
        .bind(invitation.domain.uuid())
        .bind(&secret.sealed_subject)
        .bind(secret.wrap_key_version)
        .bind(invitation.pseudonym.as_slice())
        .bind(secret.match_key.as_slice())
        .bind(Json(staged))
        .bind(invitation.created_at.inner())
        .bind(invitation.expires_at.inner())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// The pending Invitation for a subject.
pub(super) async fn pending_id(
    tx: &mut Tx,
    domain: DomainId,
    match_key: &[u8; 32],
) -> Result<Option<InvitationId>, Fault> {
    let query = sqlx::query_scalar(PENDING_ID).bind(domain.uuid()).bind(match_key.as_slice());
    let id: Option<Uuid> = query.fetch_optional(&mut **tx).await?;
    Ok(id.map(InvitationId::from_uuid))
}

pub(super) async fn get<'e>(
    db: impl PgExecutor<'e>,
    domain: DomainId,
    id: InvitationId,
) -> Result<Option<Invitation>, Fault> {
    let row = sqlx::query(GET).bind(id.uuid()).bind(domain.uuid()).fetch_optional(db).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

/// A page, newest first.
pub(super) async fn list<'e>(
    db: impl PgExecutor<'e>,
    domain: DomainId,
    status: Option<InvitationStatus>,
    before: Option<(Timestamp, Uuid)>,
    limit: i64,
) -> Result<Vec<Invitation>, Fault> {
    let (at, id) = before.unwrap_or_else(pages::end);
    let mut query = sqlx::query(if status.is_some() { LIST_IN_STATUS } else { LIST });
    query = query.bind(domain.uuid()).bind(at.inner()).bind(id).bind(limit);
    if let Some(status) = status {
        query = query.bind(status.as_str());
    }
    let rows = query.fetch_all(db).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// The pending Invitations for any of these subjects, also those whose time is over.
pub(super) async fn pending_for(
    tx: &mut Tx,
    domain: DomainId,
    match_keys: &[[u8; 32]],
) -> Result<Vec<Invitation>, Fault> {
    let keys: Vec<&[u8]> = match_keys.iter().map(<[u8; 32]>::as_slice).collect();
    let rows = sqlx::query(PENDING_FOR).bind(domain.uuid()).bind(keys).fetch_all(&mut **tx).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// pending → accepted; `false` when somebody else ended it.
pub(super) async fn accept(tx: &mut Tx, id: InvitationId, user: PrincipalId, now: Timestamp) -> Result<bool, Fault> {
    let query = sqlx::query(ACCEPT).bind(id.uuid()).bind(now.inner()).bind(user.uuid());
    Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
}

/// pending → revoked, unless its time is over; `false` when it is not pending or not there.
pub(super) async fn revoke(tx: &mut Tx, domain: DomainId, id: InvitationId, now: Timestamp) -> Result<bool, Fault> {
    let query = sqlx::query(REVOKE).bind(id.uuid()).bind(domain.uuid()).bind(now.inner());
    Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
}

/// pending → expired, if its time is over; `false` when somebody else ended it.
pub(super) async fn expire(tx: &mut Tx, id: InvitationId, now: Timestamp) -> Result<bool, Fault> {
    let query = sqlx::query(EXPIRE).bind(id.uuid()).bind(now.inner());
    Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
}

/// pending → expired for the Invitation of a subject, if its time is over; which it was.
pub(super) async fn expire_elapsed(
    tx: &mut Tx,
    domain: DomainId,
    match_key: &[u8; 32],
    now: Timestamp,
) -> Result<Option<InvitationId>, Fault> {
    let query = sqlx::query_scalar(EXPIRE_ELAPSED).bind(domain.uuid()).bind(match_key.as_slice()).bind(now.inner());
    let id: Option<Uuid> = query.fetch_optional(&mut **tx).await?;
    Ok(id.map(InvitationId::from_uuid))
}

/// pending → expired for at most `limit` whose time is over and that nobody else is ending; which they were, by Domain.
pub(super) async fn expire_due(
    tx: &mut Tx,
    now: Timestamp,
    limit: i64,
) -> Result<BTreeMap<DomainId, Vec<InvitationId>>, Fault> {
    let due: Vec<Uuid> = sqlx::query_scalar(DUE).bind(now.inner()).bind(limit).fetch_all(&mut **tx).await?;
    let query = sqlx::query_as(EXPIRE_MANY).bind(due).bind(now.inner());
    let rows: Vec<(Uuid, Uuid)> = query.fetch_all(&mut **tx).await?;
    let mut ended: BTreeMap<DomainId, Vec<InvitationId>> = BTreeMap::new();
    for (domain, id) in rows {
        ended.entry(DomainId::from_uuid(domain)).or_default().push(InvitationId::from_uuid(id));
    }
    Ok(ended)
}
