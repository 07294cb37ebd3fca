//! SQL of suspending and purging. Many principals at once: one person may be a User in many Domains.

use plexsphere_kernel::{Fault, Subject, Tx};
use plexsphere_wire::{DomainId, PrincipalId, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

pub(super) const STATEMENTS: &[&str] = &[
    ADMINISTRATION_LOCK,
    USER,
    SAME_PERSON,
    SERVICE,
    LEAVES_NO_ADMINISTRATOR,
    SUSPEND_USERS,
    SUSPEND_SERVICES,
    RESUME_USERS,
    RESUME_SERVICES,
    END_SESSIONS,
    END_ACCESS_TOKENS,
    END_API_TOKENS,
    DENY_DEVICES,
    DOMAINS,
    DELETE_ADDRESSED,
    DELETE_ACCEPTED,
    FORGET_FIRST,
    DELETE_ADMINS,
    DELETE_API_TOKENS,
    DELETE_ACCESS_TOKENS,
    DELETE_MEMBERSHIPS,
    DELETE_USERS,
    DELETE_SERVICES,
];

/// The lock under which platform administrators come and go.
const ADMINISTRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(7235419221103001)";
const USER: &str = "SELECT id, domain_id, issuer, external_subject, email FROM identity.users WHERE id = $1 FOR UPDATE";
const SAME_PERSON: &str = "SELECT id, domain_id, issuer, external_subject, email FROM identity.users
    WHERE issuer = $1 AND external_subject = $2 ORDER BY id FOR UPDATE";
const SERVICE: &str = "SELECT domain_id FROM identity.service_identities WHERE id = $1 FOR UPDATE";
const LEAVES_NO_ADMINISTRATOR: &str = "SELECT EXISTS (SELECT FROM identity.platform_admins WHERE user_id = ANY($1))
    AND NOT EXISTS (SELECT FROM identity.platform_admins a JOIN identity.users u ON u.id = a.user_id
        WHERE a.user_id <> ALL($1) AND u.suspended_at IS NULL)";
const SUSPEND_USERS: &str = "UPDATE identity.users SET suspended_at = $2 WHERE id = ANY($1) AND suspended_at IS NULL";
const SUSPEND_SERVICES: &str = "UPDATE identity.service_identities SET suspended_at = $2
    WHERE id = ANY($1) AND suspended_at IS NULL";
const RESUME_USERS: &str = "UPDATE identity.users SET suspended_at = NULL WHERE id = ANY($1)";
const RESUME_SERVICES: &str = "UPDATE identity.service_identities SET suspended_at = NULL WHERE id = ANY($1)";
const END_SESSIONS: &str =
    "UPDATE identity.sessions SET revoked_at = $2 WHERE user_id = ANY($1) AND revoked_at IS NULL";
const END_ACCESS_TOKENS: &str = "UPDATE identity.access_tokens SET revoked_at = $2
    WHERE (user_id = ANY($1) OR service_id = ANY($1)) AND revoked_at IS NULL";
const END_API_TOKENS: &str = "UPDATE identity.api_tokens SET revoked_at = $2
    WHERE (user_id = ANY($1) OR service_identity_id = ANY($1)) AND revoked_at IS NULL";
const DENY_DEVICES: &str = "UPDATE identity.device_sessions SET state = 'denied'
    WHERE user_id = ANY($1) AND state = 'approved'";
const DOMAINS: &str = "SELECT id FROM identity.domains";
// One that somebody else has accepted says more about that person.
const DELETE_ADDRESSED: &str = "DELETE FROM identity.invitations
    WHERE (domain_id, match_key) IN (SELECT * FROM unnest($1::uuid[], $2::bytea[])) AND accepted_user_id IS NULL";
const DELETE_ACCEPTED: &str = "DELETE FROM identity.invitations WHERE accepted_user_id = ANY($1)";
const FORGET_FIRST: &str =
    "UPDATE identity.installation SET bootstrap_user_id = NULL WHERE bootstrap_user_id = ANY($1)";
const DELETE_ADMINS: &str = "DELETE FROM identity.platform_admins WHERE user_id = ANY($1)";
const DELETE_API_TOKENS: &str = "DELETE FROM identity.api_tokens
    WHERE user_id = ANY($1) OR service_identity_id = ANY($1)";
const DELETE_ACCESS_TOKENS: &str = "DELETE FROM identity.access_tokens WHERE service_id = ANY($1)";
const DELETE_MEMBERSHIPS: &str = "DELETE FROM identity.memberships
    WHERE principal_id = ANY($1) AND principal_kind IN ('user', 'service_identity')";
// Sessions, device sessions and the access tokens of people go with them.
const DELETE_USERS: &str = "DELETE FROM identity.users WHERE id = ANY($1)";
const DELETE_SERVICES: &str = "DELETE FROM identity.service_identities WHERE id = ANY($1)";

/// A principal, locked until the transaction ends.
pub(super) struct Target {
    pub(super) subject: Subject,
    pub(super) home: Option<DomainId>,
    /// Issuer and subject of a person.
    pub(super) known_as: Option<(String, String)>,
    pub(super) email: Option<String>,
}

impl Target {
    fn person(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            subject: Subject::User(PrincipalId::from_uuid(row.try_get("id")?)),
            home: row.try_get::<Option<Uuid>, _>("domain_id")?.map(DomainId::from_uuid),
            known_as: Some((row.try_get("issuer")?, row.try_get("external_subject")?)),
            email: row.try_get("email")?,
        })
    }
}

/// Nobody else changes who administers the platform until the transaction ends.
pub(super) async fn lock_administration(tx: &mut Tx) -> Result<(), Fault> {
    sqlx::query(ADMINISTRATION_LOCK).execute(&mut **tx).await?;
    Ok(())
}

/// The principal, if there is one.
pub(super) async fn target(tx: &mut Tx, subject: Subject) -> Result<Option<Target>, Fault> {
    match subject {
        Subject::User(id) => {
            let row = sqlx::query(USER).bind(id.uuid()).fetch_optional(&mut **tx).await?;
            Ok(row.as_ref().map(Target::person).transpose()?)
        }
        Subject::Service(id) => {
            let home: Option<Uuid> = sqlx::query_scalar(SERVICE).bind(id.uuid()).fetch_optional(&mut **tx).await?;
            let target = |home| Target { subject, home: Some(DomainId::from_uuid(home)), known_as: None, email: None };
            Ok(home.map(target))
        }
        Subject::Node(_) | Subject::System(_) => Ok(None),
    }
}

/// Everybody whom an issuer knows by this subject.
pub(super) async fn same_person(tx: &mut Tx, issuer: &str, subject: &str) -> Result<Vec<Target>, Fault> {
    let rows = sqlx::query(SAME_PERSON).bind(issuer).bind(subject).fetch_all(&mut **tx).await?;
    Ok(rows.iter().map(Target::person).collect::<Result<_, _>>()?)
}

/// Whether the platform would have no administrator who can sign in without these.
pub(super) async fn leaves_no_administrator(tx: &mut Tx, ids: &[Uuid]) -> Result<bool, Fault> {
    Ok(sqlx::query_scalar(LEAVES_NO_ADMINISTRATOR).bind(ids).fetch_one(&mut **tx).await?)
}

/// Ends every credential of these, for good, and keeps them from authenticating.
pub(super) async fn suspend(tx: &mut Tx, ids: &[Uuid], now: Timestamp) -> Result<(), Fault> {
    for statement in [SUSPEND_USERS, SUSPEND_SERVICES, END_SESSIONS, END_ACCESS_TOKENS, END_API_TOKENS] {
        sqlx::query(statement).bind(ids).bind(now.inner()).execute(&mut **tx).await?;
    }
    each(tx, &[DENY_DEVICES], ids).await
}

/// Lets these authenticate again, by credentials that they get anew.
pub(super) async fn resume(tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
    each(tx, &[RESUME_USERS, RESUME_SERVICES], ids).await
}

/// Every Domain.
pub(super) async fn domains(tx: &mut Tx) -> Result<Vec<DomainId>, Fault> {
    let ids: Vec<Uuid> = sqlx::query_scalar(DOMAINS).fetch_all(&mut **tx).await?;
    Ok(ids.into_iter().map(DomainId::from_uuid).collect())
}

/// Deletes the Invitations that were made out to any of these and accepted by nobody.
pub(super) async fn delete_addressed(tx: &mut Tx, keys: &[(DomainId, [u8; 32])]) -> Result<(), Fault> {
    let (domains, keys): (Vec<Uuid>, Vec<&[u8]>) =
        keys.iter().map(|(domain, key)| (domain.uuid(), key.as_slice())).unzip();
    sqlx::query(DELETE_ADDRESSED).bind(domains).bind(keys).execute(&mut **tx).await?;
    Ok(())
}

/// Deletes these, and every row that is theirs.
pub(super) async fn delete(tx: &mut Tx, ids: &[Uuid]) -> Result<(), Fault> {
    let theirs = [
        FORGET_FIRST,
        DELETE_ADMINS,
        DELETE_API_TOKENS,
        DELETE_ACCESS_TOKENS,
        DELETE_MEMBERSHIPS,
        DELETE_ACCEPTED,
        DELETE_USERS,
        DELETE_SERVICES,
    ];
    each(tx, &theirs, ids).await
}

async fn each(tx: &mut Tx, statements: &[&'static str], ids: &[Uuid]) -> Result<(), Fault> {
    for statement in statements {
        sqlx::query(*statement).bind(ids).execute(&mut **tx).await?;
    }
    Ok(())
}
