//! The health probe, and providers that take their time.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use plexsphere_testkit::eventually;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::bindings::{made, of_platform};
use crate::world::{World, world_with};

/// Serves the documents of a good provider; its issuer.
async fn good() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "subject_types_supported": ["public"],
    });
    let keys = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "use": "sig",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }] });
    let serve = |body: Value| get(move || async move { body.to_string() });
    let router = Router::new().route("/.well-known/openid-configuration", serve(document)).route("/jwks", serve(keys));
    tokio::spawn(async move { axum::serve(listener, router).await });
    issuer
}

async fn status(world: &World, id: &str) -> String {
    world.get(&format!("/v1/admin/idp/{id}")).await.text("status")
}

#[tokio::test]
async fn a_provider_that_does_not_answer_holds_up_no_finding_about_another() {
    let world = world_with(|config| config.allow_insecure_idp = true).await;
    // Connections to it are accepted by the system, and nobody reads them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow = made(&world, of_platform(&format!("http://{}", silent.local_addr().unwrap()))).await;
    let quick = made(&world, of_platform(&good().await)).await;
    let broken = "UPDATE identity.idp_bindings SET status = 'inactive'";
    sqlx::query(broken).execute(&world.database.pool()).await.unwrap();
    let probe = world.identity.idp_health_probe();
    let mut round = Box::pin(probe.probe_once());
    let recovered = async {
        eventually!(status(&world, &quick).await == "active", "the finding is recorded");
    };
    tokio::select! {
        ended = &mut round => panic!("the round waits for the silent provider: {ended:?}"),
        () = recovered => {}
    }
    assert_eq!(status(&world, &slow).await, "inactive");
    drop(silent);
    let _ = tokio::time::timeout(Duration::from_secs(30), round).await.unwrap();
}
