//! People with a browser session, made without a provider; and requests that meet.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use axum::body::Body;
use data_encoding::BASE64URL_NOPAD;
use http::Request;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::bindings::{made, of_domain};
use crate::callers::{user, waiting_for_locks};
use crate::world::{Answer, World};

/// Somebody with a session.
pub(crate) struct Person {
    pub(crate) id: Uuid,
    session: String,
}

/// A Domain with a binding.
pub(crate) async fn home(world: &World) -> (String, String) {
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let binding = made(world, of_domain(&domain, "https://idp.example")).await;
    (domain, binding)
}

/// A User of a Domain who signed in through a binding.
pub(crate) async fn person(world: &World, domain: &str, binding: &str) -> Person {
    let id = user(world, Some(domain)).await;
    Person { id, session: session(world, id, binding).await }
}

/// The cookie of a fresh session.
pub(crate) async fn session(world: &World, user: Uuid, binding: &str) -> String {
    let secret: [u8; 32] = Sha256::digest(Uuid::new_v4()).into();
    sqlx::query(
        "INSERT INTO identity.sessions (digest, user_id, binding_id, created_at, last_seen_at, expires_at)
         VALUES ($1, $2, $3::uuid, $4, $4, $4::timestamptz + interval '12 hours')",
    )
    .bind(Sha256::digest(secret).as_slice())
    .bind(user)
    .bind(binding)
    .bind(plexsphere_kernel::Clock::now(&*world.clock).inner())
    .execute(&world.database.pool())
    .await
    .unwrap();
    BASE64URL_NOPAD.encode(&secret)
}

impl Person {
    pub(crate) async fn call(&self, world: &World, method: &str, path: &str, body: Option<Value>) -> Answer {
        let csrf = BASE64URL_NOPAD.encode(&[7; 32]);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("cookie", format!("plexsphere_session={}; plexsphere_csrf={csrf}", self.session))
            .header("origin", "https://plexsphere.test")
            .header("x-plexsphere-csrf", csrf)
            .header("content-type", "application/json")
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())));
        world.send(request.unwrap()).await
    }

    pub(crate) async fn approve(&self, world: &World, user_code: &str) -> Answer {
        self.call(world, "POST", "/v1/auth/device/approve", Some(json!({ "user_code": user_code }))).await
    }

    pub(crate) async fn sign_out_everywhere(&self, world: &World) -> Answer {
        self.call(world, "POST", "/v1/auth/sign-out/global", None).await
    }
}

/// The codes of a device that waits: its own, and the person's.
pub(crate) async fn device(world: &World, domain: &str) -> (String, String) {
    let asked = world.call_as("", "POST", "/v1/auth/device-code", Some(json!({ "domain_id": domain }))).await;
    assert_eq!(asked.status, 200, "{}", asked.body);
    (asked.text("device_code"), asked.text("user_code"))
}

pub(crate) async fn poll(world: &World, device_code: &str) -> Answer {
    world.call_as("", "POST", "/v1/auth/device-token", Some(json!({ "device_code": device_code }))).await
}

pub(crate) async fn switch_off(world: &World, binding: &str) -> Answer {
    let path = format!("/v1/admin/idp/{binding}/status");
    world.call_as(&world.admin, "PATCH", &path, Some(json!({ "status": "deactivated" }))).await
}

pub(crate) async fn whoami(world: &World, token: &str) -> u16 {
    world.call_as(token, "GET", "/v1/auth/whoami", None).await.status.as_u16()
}

/// Runs `first` until it waits for a lock that `holder` has, then `second` until it waits too or is over, and lets both
/// go: so they meet in this order wherever they wait for each other.
pub(crate) async fn meet<A, B>(
    world: &World,
    holder: sqlx::Transaction<'static, sqlx::Postgres>,
    first: impl Future<Output = A>,
    second: impl Future<Output = B>,
) -> (A, B) {
    let (mut first, mut second) = (Box::pin(first), Box::pin(second));
    let (a, b) = {
        let a = until_it_waits(world, 1, first.as_mut()).await;
        let b = until_it_waits(world, 2, second.as_mut()).await;
        (a, b)
    };
    holder.commit().await.unwrap();
    tokio::join!(
        async {
            match a {
                Some(over) => over,
                None => first.await,
            }
        },
        async {
            match b {
                Some(over) => over,
                None => second.await,
            }
        }
    )
}

/// What a request answers that is over before as many sessions wait for locks; `None` when they wait.
async fn until_it_waits<T>(world: &World, sessions: i64, mut request: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let mut waiting = Box::pin(waiting_for_locks(world, sessions));
    std::future::poll_fn(|context| {
        if let Poll::Ready(over) = request.as_mut().poll(context) {
            return Poll::Ready(Some(over));
        }
        waiting.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// A transaction of the test that holds what the statement locks or changes.
pub(crate) async fn holding(world: &World, sql: &'static str) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut holder = world.database.pool().begin().await.unwrap();
    sqlx::query(sql).execute(&mut *holder).await.unwrap();
    holder
}
