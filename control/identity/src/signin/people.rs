//! SQL of people who sign in.

use plexsphere_kernel::{Fault, Tx};
use plexsphere_oidc::IdToken;
use plexsphere_wire::{DomainId, PrincipalId, Timestamp};
use uuid::Uuid;

pub(super) const STATEMENTS: &[&str] = &[FIND, DOMAIN_STANDS, INSERT, SEEN];

// Nobody signs in twice at once as two Users: the second waits for the first, and finds it.
const FIND: &str =
    "SELECT id, suspended_at IS NOT NULL FROM identity.users WHERE domain_id IS NOT DISTINCT FROM $1 AND issuer = $2
    AND external_subject = $3 FOR NO KEY UPDATE";
const DOMAIN_STANDS: &str = "SELECT id FROM identity.domains WHERE id = $1 FOR KEY SHARE";
const INSERT: &str = "INSERT INTO identity.users
    (id, domain_id, issuer, external_subject, email, email_verified, display_name, created_at, last_sign_in_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
    ON CONFLICT ON CONSTRAINT users_subject_key DO NOTHING RETURNING id";
const SEEN: &str = "UPDATE identity.users SET email = $2, email_verified = $3,
    display_name = COALESCE($4, display_name), last_sign_in_at = $5, updated_at = $5 WHERE id = $1";

/// The longest email that is kept, in bytes; a longer one is no address.
const MAX_EMAIL: usize = 320;

fn email(token: &IdToken) -> (Option<&str>, bool) {
    let email = token.email.as_deref().filter(|email| email.len() <= MAX_EMAIL);
    (email, token.email_verified && email.is_some())
}

/// The User of a token in a scope.
pub(super) struct Known {
    pub(super) id: PrincipalId,
    pub(super) suspended: bool,
}

/// Finds the User of a token.
pub(super) async fn find(tx: &mut Tx, domain: Option<DomainId>, token: &IdToken) -> Result<Option<Known>, Fault> {
    let query = sqlx::query_as(FIND).bind(domain.map(|domain| domain.uuid())).bind(&token.issuer).bind(&token.subject);
    let row: Option<(Uuid, bool)> = query.fetch_optional(&mut **tx).await?;
    Ok(row.map(|(id, suspended)| Known { id: PrincipalId::from_uuid(id), suspended }))
}

/// Whether a Domain exists, held until the transaction ends.
pub(super) async fn domain_stands(tx: &mut Tx, domain: DomainId) -> Result<bool, Fault> {
    let found: Option<Uuid> = sqlx::query_scalar(DOMAIN_STANDS).bind(domain.uuid()).fetch_optional(&mut **tx).await?;
    Ok(found.is_some())
}

/// Makes the User of a token; `None` when a racing sign-in made it first.
pub(super) async fn insert(
    tx: &mut Tx,
    (id, domain): (PrincipalId, Option<DomainId>),
    token: &IdToken,
    now: Timestamp,
) -> Result<Option<PrincipalId>, Fault> {
    let (email, verified) = email(token);
    let fallback = || format!("user-{}", id.to_string().get(28..).unwrap_or_default());
    let query = sqlx::query_scalar(INSERT)
        .bind(id.uuid())
        .bind(domain.map(|domain| domain.uuid()))
        .bind(&token.issuer)
        .bind(&token.subject)
        .bind(email)
        .bind(verified)
        .bind(token.display_name.clone().unwrap_or_else(fallback))
        .bind(now.inner());
    let made: Option<Uuid> = query.fetch_optional(&mut **tx).await?;
    Ok(made.map(PrincipalId::from_uuid))
}

/// Takes over what the provider says of a known User.
pub(super) async fn seen(tx: &mut Tx, id: PrincipalId, token: &IdToken, now: Timestamp) -> Result<(), Fault> {
    let (email, verified) = email(token);
    sqlx::query(SEEN)
        .bind(id.uuid())
        .bind(email)
        .bind(verified)
        .bind(&token.display_name)
        .bind(now.inner())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
