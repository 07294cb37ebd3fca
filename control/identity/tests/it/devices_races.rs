//! Devices, and what meets their polls.

use std::time::Duration;

use crate::people::{Person, device, holding, home, meet, person, poll, switch_off, whoami};
use crate::world::{World, world, world_with};

const USERS: &str = "SELECT id FROM identity.users FOR UPDATE";
const DEVICES: &str = "SELECT device_digest FROM identity.device_sessions FOR UPDATE";

/// A device that Ada has approved and that has not come for its token.
async fn approved(world: &World) -> (Person, String, String) {
    let (domain, binding) = home(world).await;
    let ada = person(world, &domain, &binding).await;
    let (code, user_code) = device(world, &domain).await;
    assert_eq!(ada.approve(world, &user_code).await.status, 200);
    (ada, code, binding)
}

#[tokio::test]
async fn a_sign_out_everywhere_takes_back_what_no_device_has_fetched() {
    let world = world().await;
    let (ada, code, _) = approved(&world).await;
    assert_eq!(ada.sign_out_everywhere(&world).await.status, 204);
    assert_eq!(poll(&world, &code).await.refusal(), (400, "access_denied"));
    assert_eq!(world.count("SELECT count(*) FROM identity.access_tokens").await, 0);
}

#[tokio::test]
async fn a_poll_under_way_gives_no_token_that_outlives_a_sign_out_everywhere() {
    let world = world().await;
    let (ada, code, _) = approved(&world).await;
    let holder = holding(&world, USERS).await;
    let (polled, out) = meet(&world, holder, poll(&world, &code), ada.sign_out_everywhere(&world)).await;
    assert_eq!((polled.status.as_u16(), out.status.as_u16()), (200, 204), "{}", polled.body);
    assert_eq!(whoami(&world, &polled.text("access_token")).await, 401);
}

#[tokio::test]
async fn a_poll_behind_a_sign_out_everywhere_is_denied() {
    let world = world().await;
    let (ada, code, _) = approved(&world).await;
    let holder = holding(&world, USERS).await;
    let (out, polled) = meet(&world, holder, ada.sign_out_everywhere(&world), poll(&world, &code)).await;
    assert_eq!((out.status.as_u16(), polled.refusal()), (204, (400, "access_denied")));
}

#[tokio::test]
async fn an_approval_under_way_is_taken_back_by_a_sign_out_everywhere() {
    let world = world().await;
    let (domain, binding) = home(&world).await;
    let ada = person(&world, &domain, &binding).await;
    let (code, user_code) = device(&world, &domain).await;
    let holder = holding(&world, USERS).await;
    let (lent, out) = meet(&world, holder, ada.approve(&world, &user_code), ada.sign_out_everywhere(&world)).await;
    assert_eq!((lent.status.as_u16(), out.status.as_u16()), (200, 204));
    assert_eq!(poll(&world, &code).await.refusal(), (400, "access_denied"));
}

#[tokio::test]
async fn an_approval_behind_a_sign_out_everywhere_lends_nothing() {
    let world = world().await;
    let (domain, binding) = home(&world).await;
    let ada = person(&world, &domain, &binding).await;
    let (code, user_code) = device(&world, &domain).await;
    let holder = holding(&world, USERS).await;
    let (out, late) = meet(&world, holder, ada.sign_out_everywhere(&world), ada.approve(&world, &user_code)).await;
    assert_eq!((out.status.as_u16(), late.refusal()), (204, (401, "unauthenticated")));
    assert_eq!(poll(&world, &code).await.refusal(), (400, "authorization_pending"));
}

#[tokio::test]
async fn a_poll_under_way_gives_no_token_that_outlives_its_binding() {
    let world = world().await;
    let (_, code, binding) = approved(&world).await;
    let holder = holding(&world, USERS).await;
    let (polled, off) = meet(&world, holder, poll(&world, &code), switch_off(&world, &binding)).await;
    assert_eq!((polled.status.as_u16(), off.status.as_u16()), (200, 200), "{}", polled.body);
    assert_eq!(whoami(&world, &polled.text("access_token")).await, 401);
}

#[tokio::test]
async fn a_poll_behind_the_end_of_its_binding_finds_nothing() {
    let world = world().await;
    let (_, code, binding) = approved(&world).await;
    let holder = holding(&world, "SELECT id FROM identity.idp_bindings FOR UPDATE").await;
    let (off, polled) = meet(&world, holder, switch_off(&world, &binding), poll(&world, &code)).await;
    assert_eq!((off.status.as_u16(), polled.refusal()), (200, (400, "invalid_grant")));
}

#[tokio::test]
async fn of_two_polls_of_an_approved_code_one_gets_the_token() {
    let world = world().await;
    let (_, code, _) = approved(&world).await;
    let holder = holding(&world, DEVICES).await;
    let (one, two) = meet(&world, holder, poll(&world, &code), poll(&world, &code)).await;
    let mut seen = [one.refusal(), two.refusal()];
    seen.sort_unstable();
    assert_eq!(seen, [(200, ""), (400, "invalid_grant")]);
    assert_eq!(world.count("SELECT count(*) FROM identity.access_tokens").await, 1);
}

#[tokio::test]
async fn of_two_people_who_approve_one_code_one_lends_it_a_sign_in() {
    let world = world().await;
    let (domain, binding) = home(&world).await;
    let (ada, bob) = (person(&world, &domain, &binding).await, person(&world, &domain, &binding).await);
    let (code, user_code) = device(&world, &domain).await;
    let holder = holding(&world, DEVICES).await;
    let (one, two) = meet(&world, holder, ada.approve(&world, &user_code), bob.approve(&world, &user_code)).await;
    let mut seen = [one.refusal(), two.refusal()];
    seen.sort_unstable();
    assert_eq!(seen, [(200, ""), (409, "device_code_already_approved")]);
    let winner = if one.status == 200 { ada.id } else { bob.id };
    let token = poll(&world, &code).await.text("access_token");
    let who = world.call_as(&token, "GET", "/v1/auth/whoami", None).await;
    assert_eq!(who.text("subject"), winner.to_string());
}

#[tokio::test]
async fn rows_about_a_device_say_which_request_it_was_and_whence() {
    let world = world_with(|config| config.environment = "stage".to_owned()).await;
    let (ada, code, _) = approved(&world).await;
    sqlx::query("UPDATE identity.idp_bindings SET status = 'inactive'").execute(&world.database.pool()).await.unwrap();
    let denied = poll(&world, &code).await;
    assert_eq!(denied.refusal(), (400, "access_denied"));
    sqlx::query("UPDATE identity.idp_bindings SET status = 'active'").execute(&world.database.pool()).await.unwrap();
    let domain: String = sqlx::query_scalar("SELECT domain_id::text FROM identity.idp_bindings")
        .fetch_one(&world.database.pool())
        .await
        .unwrap();
    let (code, user_code) = device(&world, &domain).await;
    assert_eq!(ada.approve(&world, &user_code).await.status, 200);
    world.clock.advance(Duration::from_secs(1));
    let granted = poll(&world, &code).await;
    assert!(granted.text("access_token").starts_with("pat_stage_"), "{}", granted.body);
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT reason, correlation_id, ip FROM audit.pending WHERE relation = 'device-token.issue' ORDER BY n",
    )
    .fetch_all(&world.database.pool())
    .await
    .unwrap();
    let row = |reason: &str, correlation: String| (reason.to_owned(), correlation, "192.0.2.7".to_owned());
    let correlation = granted.headers["x-correlation-id"].to_str().unwrap().to_owned();
    let expected = [row("insufficient_relation", denied.text("correlation_id")), row("granted", correlation)];
    assert_eq!(rows, expected);
}
