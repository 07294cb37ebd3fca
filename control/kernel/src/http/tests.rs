use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use plexsphere_wire::{Code, DenialReason, PrincipalId, Problem, Timestamp};
use serde::Deserialize;
use tower::ServiceExt as _;

use super::pipeline::Throttle;
use super::pipeline::csrf::AllowedOrigins;
use super::*;
use crate::audit::CaveatNames;
use crate::authz::{AuthzUnavailable, Circumstances, Ruling};
use crate::{
    Assurance, AuditLog, AuditRecord, Authenticated, Authenticator, Authorizer, Clock, Credential, Decision, Fault,
    ObjectRef, Principal, PrincipalScope, Subject, Tx,
};

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_seconds(1_700_000_000)
    }
}

#[async_trait]
impl Authenticator for Fixed {
    async fn operator(&self, bearer: &str) -> Result<Authenticated, Problem> {
        if bearer != "psk_good" {
            return Err(Problem::new(Code::Unauthenticated, "no"));
        }
        let subject = Subject::User(PrincipalId::mint(self.now()));
        let principal = Principal { subject, scope: PrincipalScope::Platform };
        Ok(Authenticated::Operator { principal, credential: Credential::AccessToken(Assurance::default()) })
    }

    async fn session(&self, id: &str) -> Result<Authenticated, Problem> {
        if id == "live" { self.operator("psk_good").await } else { self.operator(id).await }
    }

    async fn node(&self, _: &str) -> Result<Authenticated, Problem> {
        Err(Problem::new(Code::NskInvalid, "no"))
    }
}

#[async_trait]
impl Authorizer for Fixed {
    async fn check(&self, _: &Principal, relation: &str, _: &ObjectRef) -> Result<Decision, AuthzUnavailable> {
        match relation {
            "manage" => Ok(Decision::Allowed { relation_path: vec!["manage".into()] }),
            "broken" => Err(AuthzUnavailable),
            _ => Ok(Decision::Denied { reason: DenialReason::OutOfScope, relation_path: Vec::new() }),
        }
    }

    async fn decide(
        &self,
        principal: &Principal,
        relation: &str,
        object: &ObjectRef,
        circumstances: &Circumstances,
    ) -> Result<Ruling, AuthzUnavailable> {
        let mut caveats = CaveatNames::default();
        if circumstances.now.is_some() {
            caveats.add("business_hours", "now").unwrap();
        }
        Ok(Ruling { decision: self.check(principal, relation, object).await?, caveats })
    }
}

/// The conditions that each recorded row names.
#[derive(Default)]
struct Rows(Mutex<Vec<CaveatNames>>);

#[async_trait]
impl AuditLog for Rows {
    async fn record(&self, _: &mut Tx, _: AuditRecord) -> Result<(), Fault> {
        self.0.lock().push(CaveatNames::default());
        Ok(())
    }

    async fn record_decision(&self, _: AuditRecord, caveats: CaveatNames) -> Result<(), Fault> {
        self.0.lock().push(caveats);
        Ok(())
    }
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    #[serde(default)]
    note: Option<String>,
}

fn operation(id: &'static str, path: &'static str, gate: Gate) -> Operation {
    Operation::new(id, Method::POST, path, gate)
        .words("test", "t", "t")
        .json_body::<Named>(64)
        .body_rules(|rules| {
            rules.gzip = true;
            rules.nullable = &["note"];
        })
        .answers_empty(200, "ok")
        .handler(|call| async move {
            let named: Named = call.json()?;
            assert_ne!(named.name, "panic", "asked to");
            Reply::json(StatusCode::OK, &serde_json::json!({"name": named.name, "note": named.note}))
        })
}

fn router(rows: &Arc<Rows>) -> axum::Router {
    let gates = Arc::new(Gates {
        authenticator: Arc::new(Fixed),
        authorizer: Arc::new(Fixed),
        audit: Arc::clone(rows) as Arc<dyn AuditLog>,
        clock: Arc::new(Fixed),
        throttle: Throttle::default(),
        origins: AllowedOrigins::parse(["https://console.example.org"]).unwrap(),
    });
    let on = |relation| Gate::on(relation, "domain", "id", Code::InvalidDomainId);
    let after = |id, path| {
        let gate = Gate::AfterRead { relation: "read", kind: "domain" };
        Operation::new(id, Method::GET, path, gate).answers_empty(200, "ok")
    };
    let denied = Code::InsufficientRelation;
    let own = Gate::OwnNode { param: "id", relation: "nothing", mismatch: Code::NodeIdMismatch, denied };
    serve(
        vec![
            operation("Open", "/open", Gate::Open("test")),
            operation("Managed", "/managed/{id}", on("manage")),
            operation("Denied", "/denied/{id}", on("nothing")),
            operation("Broken", "/broken/{id}", on("broken")),
            Operation::new("Second", Method::GET, "/second/{id}/{other}", on("nothing"))
                .path_id("other", Code::InvalidPrincipalId)
                .paged()
                .answers_empty(200, "ok")
                .handler(|_| async { Ok(Reply::empty(StatusCode::OK)) }),
            Operation::new("Own", Method::GET, "/own/{id}", own)
                .answers_empty(200, "ok")
                .handler(|_| async { Ok(Reply::empty(StatusCode::OK)) }),
            after("Forgetful", "/after/forgetful").handler(|_| async { Ok(Reply::empty(StatusCode::OK)) }),
            after("Refusing", "/after/refusing")
                .handler(|_| async { Err(Problem::new(Code::DomainNotFound, "There is no such Domain.")) }),
            after("Filtering", "/after/filtering").handler(|call| async move {
                call.may_each("read", &[]).await?;
                Ok(Reply::empty(StatusCode::OK))
            }),
            after("Asking", "/after/asking").handler(|call| async move {
                call.clone().authorize("manage", &ObjectRef::platform()).await?;
                Ok(Reply::empty(StatusCode::OK))
            }),
        ],
        &gates,
    )
}

struct Answer {
    status: u16,
    code: String,
    reason: String,
    headers: http::HeaderMap,
}

async fn post(path: &str, bearer: Option<&str>, body: impl Into<Body>) -> Answer {
    let rows = Arc::new(Rows::default());
    send(&rows, Method::POST, path, bearer, body.into()).await
}

async fn send(rows: &Arc<Rows>, method: Method, path: &str, bearer: Option<&str>, body: Body) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    if let Some(bearer) = bearer {
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    let response = router(rows).oneshot(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    Answer {
        status: parts.status.as_u16(),
        code: value["code"].as_str().unwrap_or("").to_owned(),
        reason: value["reason"].as_str().unwrap_or("").to_owned(),
        headers: parts.headers,
    }
}

const ID: &str = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a0";
const GOOD: &str = r#"{"name":"a"}"#;

#[tokio::test]
async fn gates_answer_in_their_order() {
    let big = "x".repeat(65);
    let managed = format!("/managed/{ID}");
    let denied = format!("/denied/{ID}");
    let broken = format!("/broken/{ID}");
    let nil = "/denied/00000000-0000-0000-0000-000000000000";
    let table: &[(&str, Option<&str>, &str, u16, &str)] = &[
        ("/nowhere", Some("psk_good"), GOOD, 404, "not_found"),
        ("/managed/%ff", Some("psk_good"), GOOD, 404, "not_found"),
        (&managed, None, &big, 401, "unauthenticated"),
        (&managed, Some("garbage"), GOOD, 401, "unauthenticated"),
        (&managed, Some("nsk_plexd_x"), GOOD, 401, "unauthenticated"),
        (nil, Some("psk_good"), &big, 400, "invalid_domain_id"),
        ("/denied/x", Some("psk_good"), GOOD, 400, "invalid_domain_id"),
        (&denied, Some("psk_good"), &big, 403, "permission_denied"),
        (&broken, Some("psk_good"), GOOD, 503, "authz_unavailable"),
        (&managed, Some("psk_good"), &big, 413, "request_body_too_large"),
        (&managed, Some("psk_good"), "{", 400, "invalid_body"),
        (&managed, Some("psk_good"), GOOD, 200, ""),
        (&managed, Some("psk_good"), r#"{"name":"panic"}"#, 500, "internal"),
    ];
    for (path, bearer, body, status, code) in table {
        let answer = post(path, *bearer, (*body).to_owned()).await;
        assert_eq!((answer.status, answer.code.as_str()), (*status, *code), "{path} {bearer:?} {body}");
    }
}

#[tokio::test]
async fn what_is_malformed_in_an_address_is_so_before_anybody_is_asked_whether_the_caller_may() {
    let rows = Arc::new(Rows::default());
    for (path, bearer, expected) in [
        (format!("/second/{ID}/{ID}"), Some("psk_good"), (403, "permission_denied")),
        (format!("/second/x/{ID}"), Some("psk_good"), (400, "invalid_domain_id")),
        (format!("/second/{ID}/x"), Some("psk_good"), (400, "invalid_principal_id")),
        (format!("/second/{ID}/{ID}?limit=201"), Some("psk_good"), (400, "invalid_limit")),
        (format!("/second/{ID}/{ID}?limit=1&limit=2"), Some("psk_good"), (400, "invalid_limit")),
        ("/second/x/x?limit=0".to_owned(), None, (401, "unauthenticated")),
    ] {
        let answer = send(&rows, Method::GET, &path, bearer, Body::empty()).await;
        assert_eq!((answer.status, answer.code.as_str()), expected, "{path}");
    }
}

#[tokio::test]
async fn a_cookie_authenticates_but_changes_things_for_pages_that_prove_themselves_only() {
    let managed = format!("/managed/{ID}");
    let rows = Arc::new(Rows::default());
    let pair = "; plexsphere_csrf=t0ken";
    let origin = ("origin", "https://console.example.org");
    let token = ("x-plexsphere-csrf", "t0ken");
    for (cookie, headers, status, code) in [
        (format!("plexsphere_session=live{pair}"), vec![origin, token], 200, ""),
        (format!("plexsphere_session=psk_good{pair}"), vec![origin, token], 200, ""),
        (format!("plexsphere_session=dead{pair}"), vec![origin, token], 401, "unauthenticated"),
        (format!("plexsphere_session=nsk_plexd_x{pair}"), vec![origin, token], 401, "unauthenticated"),
        ("plexsphere_session=".to_owned(), vec![origin, token], 401, "unauthenticated"),
        ("plexsphere_session=live; plexsphere_session=live".to_owned(), vec![origin], 401, "unauthenticated"),
        (format!("plexsphere_session=live{pair}"), vec![token], 403, "csrf_origin_mismatch"),
        (format!("plexsphere_session=live{pair}"), vec![origin], 403, "csrf_token_mismatch"),
        (format!("plexsphere_session=psk_good{pair}"), vec![origin], 403, "csrf_token_mismatch"),
        (
            format!("plexsphere_session=live{pair}"),
            vec![origin, token, ("authorization", "Bearer x")],
            401,
            "unauthenticated",
        ),
        (format!("plexsphere_session=live{pair}"), vec![origin, token, ("authorization", "")], 401, "unauthenticated"),
        ("plexsphere_session=dead".to_owned(), vec![("authorization", "Bearer psk_good")], 200, ""),
    ] {
        let mut request = Request::post(&managed).header("content-type", "application/json").header("cookie", &cookie);
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        let response = router(&rows).oneshot(request.body(Body::from(GOOD)).unwrap()).await.unwrap();
        let got = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((got, value["code"].as_str().unwrap_or("")), (status, code), "{cookie} {headers:?}");
    }
}

#[tokio::test]
async fn bodies_are_decoded_strictly() {
    let deep = format!(r#"{{"name":"a","note":{}1{}}}"#, "[".repeat(40), "]".repeat(40));
    let bad = [
        r#"{"name":"a","name":"b"}"#,
        r#"{"name":"a","x":1}"#,
        r#"{"name":null}"#,
        r#"{"name":"a"} x"#,
        r#"{"name":"a\u0000"}"#,
        r#"{"name":7}"#,
        r#"[]"#,
        "",
        &deep[..],
    ];
    for body in bad {
        let answer = post("/open", None, body.to_owned()).await;
        let expected = if body.len() > 64 { 413 } else { 400 };
        assert_eq!(answer.status, expected, "{body}");
    }
    assert_eq!(post("/open", None, vec![b'{', 0xff, b'}']).await.code, "invalid_body");
    assert_eq!(post("/open", None, r#"{"name":"a","note":null}"#).await.status, 200);
}

#[tokio::test]
async fn a_wrong_method_a_wrong_media_type_and_a_bad_encoding_have_their_answers() {
    let rows = Arc::new(Rows::default());
    let answer = send(&rows, Method::DELETE, "/open", None, Body::empty()).await;
    assert_eq!((answer.status, answer.headers["allow"].to_str().unwrap()), (405, "POST"));
    let request = Request::post("/open").header("content-type", "text/plain").body(Body::from(GOOD)).unwrap();
    assert_eq!(router(&rows).oneshot(request).await.unwrap().status(), 415);
    let request = Request::post("/open")
        .header("content-type", "application/json")
        .header("content-encoding", "br")
        .body(Body::from(GOOD))
        .unwrap();
    assert_eq!(router(&rows).oneshot(request).await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_gzip_bomb_stops_at_the_cap() {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![b' '; 10_000]).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() <= 64);
    let rows = Arc::new(Rows::default());
    let request = Request::post("/open")
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .body(Body::from(bomb))
        .unwrap();
    assert_eq!(router(&rows).oneshot(request).await.unwrap().status(), 413);
}

#[tokio::test]
async fn a_decision_that_looked_at_conditions_is_recorded_once_with_their_names() {
    let mut conditions = CaveatNames::default();
    conditions.add("business_hours", "now").unwrap();
    for path in [format!("/denied/{ID}"), format!("/managed/{ID}")] {
        let rows = Arc::new(Rows::default());
        send(&rows, Method::POST, &path, Some("psk_good"), Body::from(GOOD)).await;
        assert_eq!(*rows.0.lock(), std::slice::from_ref(&conditions), "{path}");
    }
}

#[tokio::test]
async fn a_handler_that_must_ask_who_may_and_did_not_serves_nobody() {
    let rows = Arc::new(Rows::default());
    for (path, expected) in [
        ("/after/forgetful", (500, "internal")),
        ("/after/refusing", (404, "domain_not_found")),
        ("/after/filtering", (200, "")),
        ("/after/asking", (200, "")),
    ] {
        let answer = send(&rows, Method::GET, path, Some("psk_good"), Body::empty()).await;
        assert_eq!((answer.status, answer.code.as_str()), expected, "{path}");
    }
}

#[tokio::test]
async fn an_operator_reads_the_authorisers_reason_on_a_nodes_own_path() {
    let rows = Arc::new(Rows::default());
    let answer = send(&rows, Method::GET, &format!("/own/{ID}"), Some("psk_good"), Body::empty()).await;
    let seen = (answer.status, answer.code.as_str(), answer.reason.as_str());
    assert_eq!(seen, (403, "insufficient_relation", "out_of_scope"));
}

#[tokio::test]
async fn every_answer_carries_the_fixed_headers_and_a_clean_correlation_id() {
    let rows = Arc::new(Rows::default());
    for (sent, kept) in [("good-id:1", true), ("bad id", false)] {
        let request = Request::post("/open").header("x-correlation-id", sent).body(Body::empty()).unwrap();
        let response = router(&rows).oneshot(request).await.unwrap();
        let id = response.headers()["x-correlation-id"].to_str().unwrap();
        assert_eq!(id == sent, kept);
        assert_eq!(response.headers()["x-plexsphere-api-version"], "v1");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    }
    let answer = post("/managed/x", None, "").await;
    assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"plexsphere\"");
}

#[test]
fn the_query_decodes_escapes_and_refuses_a_repeated_parameter() {
    let query = Query::parse("a=1%202+3&b=%zz&c&d=1&d=2");
    assert_eq!(query.one("a", Code::InvalidLimit).unwrap(), Some("1 2 3"));
    assert_eq!(query.one("b", Code::InvalidLimit).unwrap(), Some("%zz"));
    assert_eq!(query.one("c", Code::InvalidLimit).unwrap(), Some(""));
    assert_eq!(query.one("e", Code::InvalidLimit).unwrap(), None);
    assert_eq!(query.one("d", Code::InvalidLimit).unwrap_err().code(), Code::InvalidLimit);
}

#[tokio::test]
async fn a_list_is_never_taken_for_an_object() {
    for bad in [r#"["x"]"#, "[]", "null", "7", r#""x""#, r#"{"name":["x"]}"#] {
        let answer = post("/open", None, bad).await;
        assert_eq!((answer.status, answer.code.as_str()), (400, "invalid_body"), "{bad}");
    }
}
