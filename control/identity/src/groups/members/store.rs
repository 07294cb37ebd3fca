//! SQL of memberships.

use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::{DomainId, GroupId, IdpBindingId, PrincipalId, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row as _};
use uuid::Uuid;

use super::model::{MAX_DEPTH, MemberKind, Membership, Nesting};

/// The look-ups that grow with a Domain, each with the index that it walks.
pub(crate) const PAGES: &[(&str, &str)] = &[
    (LIST, "memberships_pkey"),
    (OUTER, "memberships_of_principal"),
    (NESTING, "memberships_of_principal"),
    (NESTING, "memberships_pkey"),
    (OF_USER, "groups_of_binding"),
    (PAGE, "memberships_pkey"),
    (LEFT, "memberships_pkey"),
];

pub(crate) const STATEMENTS: &[&str] = &[
    INSERT,
    LIST,
    DELETE,
    FORGET_GROUP,
    OUTER,
    NESTING,
    NESTING_LOCK,
    USER,
    SERVICE_IDENTITY,
    GROUP,
    OF_USER,
    PAGE,
    LEFT,
];

const INSERT: &str = "INSERT INTO identity.memberships (group_id, principal_kind, principal_id, source, created_at)
    SELECT id, $2, $3, source, $4 FROM identity.groups WHERE id = $1 ON CONFLICT DO NOTHING";
const LIST: &str = "SELECT * FROM identity.memberships WHERE group_id = $1 ORDER BY created_at, principal_id";
const DELETE: &str =
    "DELETE FROM identity.memberships WHERE group_id = $1 AND principal_kind = $2 AND principal_id = $3";
const FORGET_GROUP: &str = "DELETE FROM identity.memberships WHERE group_id = $1";
const OUTER: &str = "DELETE FROM identity.memberships WHERE principal_id = $1 AND principal_kind = 'group'";

// Two nestings that are each harmless can close a cycle together, so those of a Domain are made one after the other.
const NESTING_LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('identity.nesting:' || $1::uuid::text, 0))";
// UNION drops what was reached at the same depth before, so that diamonds cost no more than their Groups times the depth.
const NESTING: &str = "WITH RECURSIVE
    outwards (id, depth) AS (
        SELECT $1::uuid, 1::bigint
        UNION SELECT m.group_id, o.depth + 1 FROM outwards o JOIN identity.memberships m
            ON m.principal_id = o.id AND m.principal_kind = 'group' WHERE o.depth <= $3),
    inwards (id, depth) AS (
        SELECT $2::uuid, 1::bigint
        UNION SELECT m.principal_id, i.depth + 1 FROM inwards i JOIN identity.memberships m
            ON m.group_id = i.id AND m.principal_kind = 'group' WHERE i.depth <= $3)
    SELECT EXISTS (SELECT FROM inwards WHERE id = $1) AS closes_a_cycle,
        (SELECT max(depth) FROM outwards) AS outwards, (SELECT max(depth) FROM inwards) AS inwards";

// A member of another Domain is none; one that is here stays until the transaction ends.
const USER: &str = "SELECT id FROM identity.users WHERE id = $1 AND domain_id = $2 FOR KEY SHARE";
const SERVICE_IDENTITY: &str =
    "SELECT id FROM identity.service_identities WHERE id = $1 AND domain_id = $2 FOR KEY SHARE";
const GROUP: &str = "SELECT id FROM identity.groups WHERE id = $1 AND domain_id = $2 FOR KEY SHARE";

const OF_USER: &str = "SELECT g.id, g.idp_claim_value, m.principal_id IS NOT NULL AS is_member
    FROM identity.groups g LEFT JOIN identity.memberships m
        ON m.group_id = g.id AND m.principal_kind = 'user' AND m.principal_id = $3
    WHERE g.idp_binding_id = $2 AND g.domain_id = $1 ORDER BY g.id FOR KEY SHARE OF g";

const PAGE: &str = "SELECT m.*, g.domain_id FROM identity.memberships m JOIN identity.groups g ON g.id = m.group_id
    WHERE (m.group_id, m.principal_kind, m.principal_id) > ($1, $2, $3)
    ORDER BY m.group_id, m.principal_kind, m.principal_id LIMIT $4";
const LEFT: &str = "SELECT EXISTS (SELECT FROM identity.memberships m
        WHERE m.group_id = w.group_id AND m.principal_kind = w.kind AND m.principal_id = w.principal)
    FROM unnest($1::uuid[], $2::text[], $3::uuid[]) WITH ORDINALITY AS w (group_id, kind, principal, place)
    ORDER BY w.place";

fn read(row: &PgRow) -> Result<Membership, sqlx::Error> {
    let kind: &str = row.try_get("principal_kind")?;
    Ok(Membership {
        group: GroupId::from_uuid(row.try_get("group_id")?),
        kind: MemberKind::parse(kind).ok_or_else(|| sqlx::Error::Decode("unknown kind of member".into()))?,
        principal: PrincipalId::from_uuid(row.try_get("principal_id")?),
        created_at: Timestamp::new(row.try_get("created_at")?),
    })
}

/// Inserts, with the Group's source. `false` when the principal is a member already.
pub(super) async fn insert(tx: &mut Tx, membership: &Membership) -> Result<bool, Fault> {
    let query = sqlx::query(INSERT)
        .bind(membership.group.uuid())
        .bind(membership.kind.as_str())
        .bind(membership.principal.uuid())
        .bind(membership.created_at.inner());
    Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
}

pub(super) async fn list<'e>(db: impl PgExecutor<'e>, group: GroupId) -> Result<Vec<Membership>, Fault> {
    let rows = sqlx::query(LIST).bind(group.uuid()).fetch_all(db).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// Whether there was such a member.
pub(super) async fn delete(
    tx: &mut Tx,
    group: GroupId,
    (kind, principal): (MemberKind, PrincipalId),
) -> Result<bool, Fault> {
    let query = sqlx::query(DELETE).bind(group.uuid()).bind(kind.as_str()).bind(principal.uuid());
    Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
}

/// Removes the members of a Group and its memberships in others.
pub(in crate::groups) async fn forget_group(tx: &mut Tx, group: GroupId) -> Result<(), Fault> {
    for statement in [FORGET_GROUP, OUTER] {
        sqlx::query(statement).bind(group.uuid()).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Whether the Domain has the principal, which then stays until the transaction ends.
pub(super) async fn is_of_domain(
    tx: &mut Tx,
    domain: DomainId,
    (kind, principal): (MemberKind, PrincipalId),
) -> Result<bool, Fault> {
    let statement = match kind {
        MemberKind::User => USER,
        MemberKind::ServiceIdentity => SERVICE_IDENTITY,
        MemberKind::Group => GROUP,
    };
    let query = sqlx::query(statement).bind(principal.uuid()).bind(domain.uuid());
    Ok(query.fetch_optional(&mut **tx).await?.is_some())
}

/// Makes nestings of a Domain wait for each other until the transaction ends.
pub(super) async fn lock_nesting(tx: &mut Tx, domain: DomainId) -> Result<(), Fault> {
    sqlx::query(NESTING_LOCK).bind(domain.uuid()).execute(&mut **tx).await?;
    Ok(())
}

/// How two Groups hang together.
pub(super) async fn nesting(tx: &mut Tx, outer: GroupId, inner: PrincipalId) -> Result<Nesting, Fault> {
    let query = sqlx::query(NESTING).bind(outer.uuid()).bind(inner.uuid()).bind(MAX_DEPTH);
    let row = query.fetch_one(&mut **tx).await?;
    Ok(Nesting {
        closes_a_cycle: row.try_get("closes_a_cycle")?,
        outwards: row.try_get::<Option<i64>, _>("outwards")?.unwrap_or(1),
        inwards: row.try_get::<Option<i64>, _>("inwards")?.unwrap_or(1),
    })
}

/// A Group that a binding fills, as it stands towards one User.
pub(super) struct Standing {
    pub(super) group: GroupId,
    pub(super) claim_value: String,
    pub(super) is_member: bool,
}

/// The Groups of a Domain that a binding fills. None of them is deleted until the transaction ends.
pub(super) async fn standings(
    tx: &mut Tx,
    domain: DomainId,
    binding: IdpBindingId,
    user: PrincipalId,
) -> Result<Vec<Standing>, Fault> {
    let query = sqlx::query(OF_USER).bind(domain.uuid()).bind(binding.uuid()).bind(user.uuid());
    let rows = query.fetch_all(&mut **tx).await?;
    let read = |row: &PgRow| {
        Ok::<_, sqlx::Error>(Standing {
            group: GroupId::from_uuid(row.try_get::<Uuid, _>("id")?),
            claim_value: row.try_get("idp_claim_value")?,
            is_member: row.try_get("is_member")?,
        })
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// A membership and the Domain of its Group.
pub(super) type Homed = (DomainId, Membership);

/// The memberships behind one, in the order of their key.
pub(super) async fn page(tx: &mut Tx, after: Option<&Membership>, limit: i64) -> Result<Vec<Homed>, Fault> {
    let query = sqlx::query(PAGE)
        .bind(after.map_or(Uuid::nil(), |last| last.group.uuid()))
        .bind(after.map_or("", |last| last.kind.as_str()))
        .bind(after.map_or(Uuid::nil(), |last| last.principal.uuid()))
        .bind(limit);
    let rows = query.fetch_all(&mut **tx).await?;
    let homed = |row: &PgRow| Ok::<_, sqlx::Error>((DomainId::from_uuid(row.try_get("domain_id")?), read(row)?));
    Ok(rows.iter().map(homed).collect::<Result<_, _>>()?)
}

/// Which of these there still are, in their order.
pub(super) async fn left(tx: &mut Tx, page: &[Homed]) -> Result<Vec<bool>, Fault> {
    let groups: Vec<Uuid> = page.iter().map(|(_, membership)| membership.group.uuid()).collect();
    let kinds: Vec<&str> = page.iter().map(|(_, membership)| membership.kind.as_str()).collect();
    let principals: Vec<Uuid> = page.iter().map(|(_, membership)| membership.principal.uuid()).collect();
    let query = sqlx::query_scalar(LEFT).bind(groups).bind(kinds).bind(principals);
    Ok(query.fetch_all(&mut **tx).await?)
}
