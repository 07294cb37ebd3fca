//! How long credentials are believed, here and in other processes; and how often strangers may ask.

use std::sync::Arc;
use std::time::Duration;

use plexsphere_identity::{Deps, Identity, IdentityConfig, Sweeper};
use plexsphere_kernel::tasks::{Service as _, Task as _, TaskKind};
use plexsphere_kernel::{ChangeListener, Changes};
use plexsphere_testkit::eventually;
use serde_json::json;
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;

use crate::callers::user;
use crate::enrolment::bearer;
use crate::people::{holding, home, meet, person, session, whoami};
use crate::world::{DEPLOYMENT, World, world};

const SECOND: Duration = Duration::from_secs(1);

/// Another control process over the same database.
fn replica(world: &World) -> Identity {
    Identity::new(&IdentityConfig::new(DEPLOYMENT), world.deps.clone())
}

/// A token of the administrator's own that lives for a day: its id and text.
async fn token(world: &World) -> (String, String) {
    let me = world.get("/v1/auth/whoami").await.text("subject");
    let body = json!({ "identity_ref": format!("user:{me}"), "env_prefix": "dev", "ttl_seconds": 604_800 });
    let issued = world.post("/v1/auth/tokens", body).await;
    (issued.text("id"), issued.text("plaintext"))
}

#[tokio::test]
async fn whoever_comes_by_an_old_secret_gets_nothing_that_outlives_it() {
    let world = world().await;
    let (id, old) = token(&world).await;
    let path = format!("/v1/auth/tokens/{id}/rotate");
    let rotated = world.call_as(&world.admin, "POST", &path, None).await;
    let (new, deadline) = (rotated.text("plaintext"), rotated.text("rotation_deadline"));
    let me = world.get("/v1/auth/whoami").await.text("subject");
    let wanted = json!({ "identity_ref": format!("user:{me}"), "env_prefix": "dev", "ttl_seconds": 604_800 });
    let by_old = world.call_as(&old, "POST", "/v1/auth/tokens", Some(wanted.clone())).await;
    let by_new = world.call_as(&new, "POST", "/v1/auth/tokens", Some(wanted)).await;
    assert_eq!((by_old.status.as_u16(), by_new.status.as_u16()), (201, 201));
    assert_eq!(by_old.text("expires_at"), deadline);
    assert_eq!(by_new.text("expires_at"), rotated.text("expires_at"));
    let again = world.call_as(&old, "POST", &path, None).await;
    assert_eq!(again.text("expires_at"), deadline);
}

#[tokio::test]
async fn whoever_was_suspended_a_moment_ago_makes_no_credentials_and_theirs_can_be_ended() {
    let world = world().await;
    let domain = world.domain("acme", "10.1.0.0/16").await;
    let ada = user(&world, Some(&domain)).await;
    let wanted = json!({ "identity_ref": format!("user:{ada}"), "env_prefix": "dev", "ttl_seconds": 3_600 });
    let issued = world.post("/v1/admin/tokens", wanted.clone()).await;
    let (id, text) = (issued.text("id"), issued.text("plaintext"));
    assert_eq!(world.call_as(&text, "GET", "/v1/auth/whoami", None).await.status, 200);
    // As another process does it: this one believes the token for a while.
    sqlx::query("UPDATE identity.users SET suspended_at = now() WHERE id = $1")
        .bind(ada)
        .execute(&world.database.pool())
        .await
        .unwrap();
    assert_eq!(world.call_as(&text, "GET", "/v1/auth/whoami", None).await.status, 200);
    let refused = world.call_as(&text, "POST", "/v1/auth/tokens", Some(wanted)).await;
    assert_eq!(refused.refusal(), (401, "unauthenticated"));
    assert_eq!(world.delete(&format!("/v1/admin/tokens/{id}")).await.status, 204);
    assert_eq!(world.count("SELECT count(*) FROM identity.api_tokens WHERE user_id IS NOT NULL").await, 2);
}

#[tokio::test]
async fn a_revocation_elsewhere_acts_within_five_seconds_although_the_token_is_in_use() {
    let world = world().await;
    let (id, text) = token(&world).await;
    let elsewhere = replica(&world).authenticator();
    elsewhere.operator(&text).await.unwrap();
    world.clock.advance(58 * SECOND);
    elsewhere.operator(&text).await.unwrap();
    assert_eq!(world.delete(&format!("/v1/auth/tokens/{id}")).await.status, 204);
    // The use is a minute behind the last one that was recorded, and is recorded; that renews nothing.
    world.clock.advance(3 * SECOND);
    elsewhere.operator(&text).await.unwrap();
    world.clock.advance(2 * SECOND);
    assert_eq!(elsewhere.operator(&text).await.unwrap_err().code().as_str(), "unauthenticated");
}

#[tokio::test]
async fn a_sign_out_elsewhere_acts_within_five_seconds_although_the_session_is_in_use() {
    let world = world().await;
    let (domain, binding) = home(&world).await;
    let ada = person(&world, &domain, &binding).await;
    let cookie = session(&world, ada.id, &binding).await;
    let elsewhere = replica(&world).authenticator();
    world.clock.advance(58 * SECOND);
    elsewhere.session(&cookie).await.unwrap();
    assert_eq!(ada.sign_out_everywhere(&world).await.status, 204);
    world.clock.advance(3 * SECOND);
    elsewhere.session(&cookie).await.unwrap();
    world.clock.advance(2 * SECOND);
    assert_eq!(elsewhere.session(&cookie).await.unwrap_err().code().as_str(), "unauthenticated");
}

#[tokio::test]
async fn a_node_that_ended_elsewhere_passes_no_more_after_five_seconds() {
    let world = world().await;
    let key = bearer(&world.enrol("vm", 1).await);
    let elsewhere = replica(&world).authenticator();
    elsewhere.node(&key).await.unwrap();
    assert_eq!(world.delete(&format!("/v1/resources/{}", world.resource_of(1).await)).await.status, 204);
    world.clock.advance(5 * SECOND);
    assert_eq!(elsewhere.node(&key).await.unwrap_err().code().as_str(), "nsk_revoked");
}

#[tokio::test]
async fn a_key_is_believed_until_a_change_of_its_node_is_heard_whoever_made_it() {
    let world = world().await;
    let key = bearer(&world.enrol("vm", 1).await);
    let other = bearer(&world.enrol("vm", 2).await);
    let changes = Changes::new();
    let elsewhere =
        Identity::new(&IdentityConfig::new(DEPLOYMENT), Deps { changes: Arc::clone(&changes), ..world.deps.clone() });
    let listener = ChangeListener::new(Arc::clone(&changes), world.db.clone());
    tokio::spawn(async move { listener.serve(CancellationToken::new()).await });
    eventually!(changes.hearing(), "changes are heard");
    let elsewhere = elsewhere.authenticator();
    for key in [&key, &other] {
        elsewhere.node(key).await.unwrap();
    }
    let hide = |from: &str, to: &str| AssertSqlSafe(format!("ALTER TABLE identity.{from} RENAME TO {to}"));
    sqlx::query(hide("node_secret_keys", "hidden")).execute(&world.database.pool()).await.unwrap();
    world.clock.advance(60 * SECOND);
    elsewhere.node(&key).await.unwrap();
    sqlx::query(hide("hidden", "node_secret_keys")).execute(&world.database.pool()).await.unwrap();
    assert_eq!(world.delete(&format!("/v1/resources/{}", world.resource_of(1).await)).await.status, 204);
    eventually!(
        elsewhere.node(&key).await.is_err_and(|problem| problem.code().as_str() == "nsk_revoked"),
        "the revocation is heard, without a second of the clock"
    );
    elsewhere.node(&other).await.unwrap();
}

#[tokio::test]
async fn of_two_rotations_of_one_token_each_gives_a_secret_and_the_first_one_goes() {
    let world = world().await;
    let (id, old) = token(&world).await;
    let path = format!("/v1/auth/tokens/{id}/rotate");
    let rotate = || world.call_as(&world.admin, "POST", &path, None);
    let holder = holding(&world, "SELECT id FROM identity.api_tokens FOR UPDATE").await;
    let (one, two) = meet(&world, holder, rotate(), rotate()).await;
    assert_eq!((one.status.as_u16(), two.status.as_u16()), (200, 200));
    assert_eq!(whoami(&world, &old).await, 401);
    for secret in [one.text("plaintext"), two.text("plaintext")] {
        assert_eq!(whoami(&world, &secret).await, 200);
    }
    world.clock.advance(25 * 3_600 * SECOND);
    assert_eq!(whoami(&world, &one.text("plaintext")).await, 401);
    assert_eq!(whoami(&world, &two.text("plaintext")).await, 200);
}

#[tokio::test]
async fn what_ended_is_swept_as_often_as_its_kind_needs() {
    let world = world().await;
    let period = |sweeper: Sweeper| (sweeper.kind(), sweeper.schedule().period.as_secs() / 60);
    let periods: Vec<_> = world.identity.sweepers().into_iter().map(period).collect();
    let expected = [
        (TaskKind::AuthFlowSweeper, 1),
        (TaskKind::SessionSweeper, 5),
        (TaskKind::ApiTokenSweeper, 60),
        (TaskKind::BootstrapTokenSweeper, 60),
        (TaskKind::NskRevokedSweeper, 60),
    ];
    assert_eq!(periods, expected);
}

#[tokio::test]
async fn whoever_asks_for_the_choice_of_providers_again_and_again_is_slowed_down() {
    let world = world().await;
    let ask = || world.call_as("", "GET", "/v1/auth/idp-bindings", None);
    for _ in 0..20 {
        assert_eq!(ask().await.status, 200);
    }
    assert_eq!(ask().await.refusal(), (429, "rate_limited"));
}
