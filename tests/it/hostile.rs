//! Hostile input over every route that exists.

mod every_operation;

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::answers::send;
use crate::installation::{EnrolledNode, Installation, client};

/// A route with a JSON body: where it is, the cap of its body, and the code of a body that does not decode.
struct JsonRoute {
    method: Method,
    path: String,
    cap: usize,
    malformed: &'static str,
    too_large: &'static str,
    gzip: bool,
    node: bool,
    tolerates_unknown: bool,
    /// A member that is judged before all others, where there is one.
    first: &'static str,
}

fn routes(project: &str, node: &EnrolledNode) -> Vec<JsonRoute> {
    let operator = |path: String, cap: usize| JsonRoute {
        method: Method::POST,
        path,
        cap,
        malformed: "invalid_body",
        too_large: "request_body_too_large",
        gzip: false,
        node: false,
        tolerates_unknown: false,
        first: "",
    };
    vec![
        operator("/v1/domains".into(), 8 << 10),
        operator("/v1/projects".into(), 8 << 10),
        JsonRoute { first: r#""origin":"adopted","#, ..operator(format!("/v1/projects/{project}/resources"), 8 << 10) },
        operator(format!("/v1/projects/{project}/bootstrap-tokens"), 64 << 10),
        operator("/v1/auth/tokens".into(), 16 << 10),
        JsonRoute {
            gzip: true,
            tolerates_unknown: true,
            malformed: "malformed_register_request",
            ..operator("/v1/register".into(), 32 << 10)
        },
        JsonRoute {
            gzip: true,
            node: true,
            malformed: "malformed_heartbeat_request",
            ..operator(format!("/v1/nodes/{}/heartbeat", node.node), 8 << 10)
        },
        JsonRoute {
            method: Method::PUT,
            gzip: true,
            node: true,
            malformed: "invalid_report",
            too_large: "payload_too_large",
            ..operator(format!("/v1/nodes/{}/state/reports/key", node.node), 32 << 10)
        },
        JsonRoute {
            method: Method::PUT,
            gzip: true,
            node: true,
            malformed: "malformed_endpoint_request",
            too_large: "endpoint_body_too_large",
            ..operator(format!("/v1/nodes/{}/endpoint", node.node), 4 << 10)
        },
        JsonRoute {
            gzip: true,
            node: true,
            malformed: "malformed_keys_rotate_request",
            too_large: "keys_rotate_body_too_large",
            ..operator("/v1/keys/rotate".into(), 4 << 10)
        },
    ]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

struct Attack {
    name: &'static str,
    body: Vec<u8>,
    encoding: Option<&'static str>,
    expected: (u16, &'static str),
}

fn attacks(route: &JsonRoute) -> Vec<Attack> {
    let malformed = (400, route.malformed);
    let too_large = (413, route.too_large);
    let plain = |name, body: &[u8], expected| Attack { name, body: body.to_vec(), encoding: None, expected };
    let object = |name, members: &str| plain(name, format!("{{{}{members}}}", route.first).as_bytes(), malformed);
    let padded = |length: usize| {
        let mut body = br#"{"name":""#.to_vec();
        body.resize(length - 2, b'a');
        body.extend_from_slice(b"\"}");
        body
    };
    let mut attacks = vec![
        plain("empty", b"", malformed),
        plain("array", b"[]", malformed),
        plain("string", b"\"x\"", malformed),
        plain("truncated", b"{\"name\":", malformed),
        plain("trailing", b"{} {}", malformed),
        object("duplicate key", r#""name":"a","name":"b""#),
        plain("bad utf-8", b"{\"name\":\"\xff\"}", malformed),
        object("nul", r#""name":"a\u0000""#),
        plain("deep", [&b"[".repeat(200)[..], &b"]".repeat(200)[..]].concat().as_slice(), malformed),
        plain("oversize by one", &padded(route.cap + 1), too_large),
    ];
    if !route.tolerates_unknown {
        attacks.push(object("unknown field", r#""no_such_member":1"#));
    }
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let whole = gzip(b"{}");
    if route.gzip {
        if bomb.len() <= route.cap {
            attacks.push(Attack { name: "bomb", body: bomb, encoding: Some("gzip"), expected: too_large });
        } else {
            let small = gzip(&vec![b' '; route.cap * 64]);
            attacks.push(Attack { name: "bomb", body: small, encoding: Some("gzip"), expected: too_large });
        }
        let cut = whole[..whole.len() - 4].to_vec();
        attacks.push(Attack { name: "truncated gzip", body: cut, encoding: Some("gzip"), expected: malformed });
    } else {
        attacks.push(Attack {
            name: "gzip where none is taken",
            body: whole,
            encoding: Some("gzip"),
            expected: malformed,
        });
    }
    attacks
}

/// Everything an operator can see, as text: what must not change.
async fn visible(installation: &Installation, project: &str) -> String {
    let mut text = String::new();
    let tokens = format!("/v1/projects/{project}/bootstrap-tokens");
    let resources = format!("/v1/projects/{project}/resources");
    for path in ["/v1/domains", "/v1/projects", &tokens, &resources, "/v1/auth/tokens"] {
        let mut list = installation.call("GET", path, None, 200).await;
        // Reading with a token is a use of it.
        for item in list.as_array_mut().into_iter().flatten() {
            if let Some(item) = item.as_object_mut() {
                item.remove("last_used_at");
            }
        }
        text.push_str(&list.to_string());
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_bodies_get_the_briefs_codes_and_change_nothing() {
    let installation = Installation::start(1, &[]).await;
    let (_, project) = installation.domain_and_project("hostile", "10.44.0.0/16").await;
    let node = installation.enrol(&project, "victim").await;
    let before = visible(&installation, &project).await;
    let admin = installation.admin_token();
    let client = client();
    let mut failures = Vec::new();
    for route in routes(&project, &node) {
        for attack in attacks(&route) {
            let bearer = if route.node { &node.bearer } else { &admin };
            let mut request = client
                .request(route.method.clone(), format!("{}{}", installation.http_url(0), route.path))
                .bearer_auth(bearer)
                .header("content-type", "application/json")
                .body(attack.body);
            if let Some(encoding) = attack.encoding {
                request = request.header("content-encoding", encoding);
            }
            let answer = send(request).await;
            let status = answer.status;
            let correlated = answer.headers.contains_key("x-correlation-id");
            let problem = answer.json();
            let code = problem["code"].as_str().unwrap_or("").to_owned();
            if (status, code.as_str()) != attack.expected || !correlated {
                failures
                    .push(format!("{} {}: {status} {code}, expected {:?}", route.path, attack.name, attack.expected));
            }
        }
        let other = if route.method == Method::PUT { Method::POST } else { Method::PUT };
        let wrong = send(client.request(other, format!("{}{}", installation.http_url(0), route.path))).await;
        if wrong.status != 405 || !wrong.headers.contains_key("allow") {
            failures.push(format!("{} by another method: {}", route.path, wrong.status));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(visible(&installation, &project).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_and_revoked_nodes_and_spent_tokens_are_told_apart_exactly() {
    let installation = Installation::start(1, &[]).await;
    let (_, project) = installation.domain_and_project("keys", "10.45.0.0/16").await;
    let (a, b) = (installation.enrol(&project, "a").await, installation.enrol(&project, "b").await);
    let url = installation.http_url(0);
    let client = client();
    let now = time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339).unwrap();
    let report = json!({ "endpoint": "192.0.2.1:51820", "nat_type": "full_cone", "reported_at": now });
    let beat = json!({
        "client_now": now,
        "binary_checksum": "ab".repeat(32), "binary_version": "1.0.0", "nat_summary": {},
    });
    let told = |request: reqwest::RequestBuilder| async move {
        let answer = send(request).await;
        let (status, value) = (answer.status, answer.json());
        (status, value["code"].as_str().unwrap_or("").to_owned())
    };
    let post = |path: String, bearer: String, body: serde_json::Value| {
        told(client.post(format!("{url}{path}")).bearer_auth(bearer).json(&body))
    };
    let put = |node: &EnrolledNode, bearer: &str| {
        told(client.put(format!("{url}/v1/nodes/{}/endpoint", node.node)).bearer_auth(bearer).json(&report))
    };
    let heartbeat = |node: &EnrolledNode| format!("/v1/nodes/{}/heartbeat", node.node);
    assert_eq!(post(heartbeat(&a), a.bearer.clone(), beat.clone()).await.0, 200);
    assert_eq!(post(heartbeat(&b), a.bearer.clone(), beat.clone()).await, (403, "node_id_mismatch".into()));
    let mut forged = a.bearer.clone();
    forged.replace_range(forged.len() - 4.., "AAAA");
    assert_eq!(post(heartbeat(&a), forged.clone(), beat.clone()).await, (401, "nsk_invalid".into()));
    assert_eq!(put(&a, &a.bearer).await.0, 200);
    assert_eq!(put(&b, &a.bearer).await, (403, "node_id_mismatch".into()));
    assert_eq!(put(&a, &forged).await, (401, "nsk_invalid".into()));
    let rotate = |bearer: &str, kind: &str| {
        let body = json!({ "new_public_key": data_encoding::BASE64.encode(&[9; 32]) }).to_string();
        let request = client.post(format!("{url}/v1/keys/rotate")).bearer_auth(bearer);
        told(request.header("content-type", kind).body(body))
    };
    assert_eq!(rotate(&a.bearer, "application/json").await, (409, "keys_rotate_no_pending_rotation".into()));
    assert_eq!(rotate(&a.bearer, "text/plain").await, (415, "unsupported_media_type".into()));
    assert_eq!(rotate(&forged, "application/json").await, (401, "nsk_invalid".into()));
    let ask = |(method, path): (&str, &str), bearer: String| {
        let url = format!("{url}/v1/nodes/{}/{path}", a.node);
        let request = client.request(method.parse().unwrap(), url).bearer_auth(bearer).json(&json!({ "value": "v" }));
        async move {
            let answer = send(request).await;
            (answer.status, answer.json()["code"].as_str().unwrap_or("").to_owned())
        }
    };
    let own = [("GET", "state"), ("GET", "reachability"), ("PUT", "state/reports/a"), ("DELETE", "state/reports/a")];
    for operation in own {
        assert_eq!(ask(operation, forged.clone()).await, (401, "nsk_invalid".into()), "{operation:?}");
        let status = if operation.0 == "DELETE" { 204 } else { 200 };
        assert_eq!(ask(operation, a.bearer.clone()).await.0, status, "{operation:?}");
    }
    let raw = a.answer["nsk"].as_str().unwrap().to_owned();
    assert_eq!(post(heartbeat(&a), raw, beat.clone()).await, (401, "unauthorized".into()));
    installation.call("DELETE", &format!("/v1/resources/{}", a.resource), None, 204).await;
    plexsphere_testkit::eventually!(
        { post(heartbeat(&a), a.bearer.clone(), beat.clone()).await == (401, "nsk_revoked".into()) },
        "the key of a deleted Node reads as revoked"
    );
    for operation in own {
        assert_eq!(ask(operation, a.bearer.clone()).await, (401, "nsk_revoked".into()), "{operation:?}");
    }
    for signal in ["metrics", "logs", "audit"] {
        let path = format!("/v1/nodes/{}/{signal}", b.node);
        let (status, code) = post(path, a.bearer.clone(), json!([])).await;
        assert_eq!((status, code.as_str()), (401, "nsk_revoked"), "{signal}");
    }
    assert_eq!(put(&a, &a.bearer).await, (401, "nsk_revoked".into()));
    assert_eq!(rotate(&a.bearer, "application/json").await, (401, "nsk_revoked".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_registrations_that_race_for_one_token_make_one_node() {
    let installation = Installation::start(1, &[]).await;
    let (_, project) = installation.domain_and_project("race", "10.46.0.0/16").await;
    let resource = json!({ "origin": "adopted", "kind": "kubernetes-node", "external_ref": "cluster" });
    installation.call("POST", &format!("/v1/projects/{project}/resources"), Some(resource), 201).await;
    let token = json!({ "kind": "node", "env_prefix": "dev", "ttl_seconds": 600 });
    let token = installation.call("POST", &format!("/v1/projects/{project}/bootstrap-tokens"), Some(token), 201).await;
    let url = format!("{}/v1/register", installation.http_url(0));
    let register = |index: u8| {
        let body = json!({
            "bootstrap_token": token["token"], "project_id": project, "resource_handle": "cluster",
            "public_key": data_encoding::BASE64.encode(&[index + 1; 32]), "nonce": format!("nonce-{index}"),
        });
        let request = client().post(&url).json(&body);
        async move {
            let answer = send(request).await;
            let (status, value) = (answer.status, answer.json());
            (status, value["code"].as_str().unwrap_or("").to_owned())
        }
    };
    let answers = futures_util::future::join_all((0..6).map(register)).await;
    let won = answers.iter().filter(|(status, _)| *status == 201).count();
    let lost = answers.iter().filter(|answer| **answer == (403, "token_consumed".to_owned())).count();
    assert_eq!((won, lost), (1, 5), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_beyond_the_limit_and_half_open_connections_are_ended() {
    let installation = Installation::start(1, &[("PLEXSPHERE_EDGE_LISTEN_HEAD_TIMEOUT_SECONDS", "1")]).await;
    let url = installation.http_url(0);
    let client = client();
    let fits = client.get(format!("{url}/v1/version")).header("x-long", "a".repeat(10_000)).send().await.unwrap();
    assert_eq!(fits.status(), 200);
    let long = client.get(format!("{url}/v1/version")).header("x-long", "a".repeat(40_000)).send().await.unwrap();
    assert_eq!(long.status(), 431);
    let long = client.get(format!("{url}/v1/version?{}", "a".repeat(9_000))).send().await.unwrap();
    assert_eq!(long.status(), 414);
    let mut half = tokio::net::TcpStream::connect(("127.0.0.1", installation.http_ports[0])).await.unwrap();
    half.write_all(b"GET /v1/version HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(std::time::Duration::from_secs(10), half.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "a half-open request is ended");
    assert_eq!(client.get(format!("{url}/v1/version")).send().await.unwrap().status(), 200);
}
