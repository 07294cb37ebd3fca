//! Every operation of the served document, attacked from outside its body: method, credential, path, query, headers.
//!
//! The attacks are made from the document, so that an operation that is added is attacked too; what it must answer to
//! ids is written down here, and a missing line fails the test.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::Value;

use super::visible;
use crate::installation::{Installation, client};

/// A well-formed id that names nothing.
const NOBODY: &str = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a1";
const MALFORMED: [&str; 4] = ["x", "00000000-0000-0000-0000-000000000000", "%00", LONG];
const LONG: &str =
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

type Answer = (u16, &'static str);

/// What an operation says to ids of its path: malformed, by parameter, and well-formed but of nobody.
struct Ids {
    malformed: &'static [(&'static str, Answer)],
    nobody: Answer,
}

const DOMAIN: Answer = (400, "invalid_domain_id");
const PROJECT: Answer = (400, "invalid_project_id");
const NO_TOKEN: Answer = (404, "api_token_not_found");
const NO_BOOTSTRAP: Answer = (404, "bootstrap_token_not_found");
const NO_NODE: Answer = (404, "node_not_found");

/// The answers to an administrator; `None` for an operation without an id in its path.
fn ids(operation: &str) -> Option<Ids> {
    let ids = |malformed, nobody| Some(Ids { malformed, nobody });
    match operation {
        "GetAuthTokens" | "PostAuthTokens" | "GetAuthWhoami" | "GetDocs" | "ListDomains" | "CreateDomain"
        | "GetHealth" | "GetOpenAPI" | "ListProjects" | "CreateProject" | "PostRegister" | "GetVersion" => None,
        "DeleteAuthTokenByID" | "PostAuthTokenRotate" => ids(&[("id", NO_TOKEN)], NO_TOKEN),
        "GetDocsAsset" => ids(&[("asset", (404, "not_found"))], (404, "not_found")),
        "GetDomain" => ids(&[("id", DOMAIN)], (404, "domain_not_found")),
        "GetProject" => ids(&[("id", PROJECT)], (404, "project_not_found")),
        "GetNodeEvents" | "GetNodeState" | "GetNodeReachability" => ids(&[("id", NO_NODE)], NO_NODE),
        // An administrator is no Node, and the credential is judged before the path.
        "PostNodeHeartbeat" | "PostNodeMetrics" | "PostNodeLogs" | "PostNodeAudit" => {
            ids(&[("id", (401, "unauthorized"))], (401, "unauthorized"))
        }
        "ListBootstrapTokens" => ids(&[("project_id", PROJECT)], (404, "project_not_found")),
        // The body is judged before the Project is looked for.
        "IssueBootstrapToken" => ids(&[("project_id", PROJECT)], (400, "invalid_body")),
        "RevokeBootstrapToken" | "GetBootstrapTokenMetadata" => {
            ids(&[("project_id", PROJECT), ("id", NO_BOOTSTRAP)], NO_BOOTSTRAP)
        }
        "ListProjectResources" => ids(&[("project_id", PROJECT)], (200, "")),
        "CreateResource" => ids(&[("project_id", PROJECT)], (400, "invalid_resource_origin")),
        "DeleteResource" => ids(&[("id", (400, "invalid_resource_id"))], (404, "resource_not_found")),
        // No 400 is declared, so that a malformed id is one that names nothing.
        "GetResource" => ids(&[("id", (404, "resource_not_found"))], (404, "resource_not_found")),
        other => panic!("say here what {other} answers to ids"),
    }
}

struct Operation {
    id: String,
    method: Method,
    path: String,
    security: Option<Value>,
    queries: BTreeSet<String>,
}

impl Operation {
    fn is_anonymous(&self) -> bool {
        self.security == Some(Value::Array(Vec::new()))
    }

    fn is_nodes_alone(&self) -> bool {
        self.security.as_ref().is_some_and(|security| security.to_string().contains("nskBearer"))
    }

    /// The path with `value` for one parameter and an id of nobody for the others.
    fn with(&self, parameter: &str, value: &str) -> String {
        let parts = self.path.split('/').map(|part| match part.strip_prefix('{') {
            Some(name) if name.trim_end_matches('}') == parameter => value,
            Some(_) => NOBODY,
            None => part,
        });
        parts.collect::<Vec<_>>().join("/")
    }
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let queries = parameters.filter(|parameter| parameter["in"] == "query");
            operations.push(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                security: operation.get("security").cloned(),
                queries: queries.map(|query| query["name"].as_str().unwrap().to_owned()).collect(),
            });
        }
    }
    operations
}

/// Sends attacks and collects what was not answered as it must be.
struct Attacker {
    client: reqwest::Client,
    url: String,
    failures: Vec<String>,
}

impl Attacker {
    /// One request; checks what every refusal has: a problem, its code, its path and its correlation id.
    async fn send(&mut self, method: &Method, path: &str, headers: &[(&str, &str)], expected: Answer) {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.url));
        if [Method::POST, Method::PUT, Method::PATCH].contains(method) {
            request = request.header("content-type", "application/json").body("{}");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return self.failures.push(format!("{method} {path}: {error}")),
        };
        let status = answer.status().as_u16();
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (correlation, kind) = (header("x-correlation-id"), header("content-type").unwrap_or_default());
        let (challenge, allow) = (header("www-authenticate"), header("allow"));
        if kind.starts_with("text/event-stream") {
            return self.failures.push(format!("{method} {path}: {status}, an event stream"));
        }
        let body: Value = answer.json().await.unwrap_or_default();
        let code = body["code"].as_str().unwrap_or("");
        let mut wrong = Vec::new();
        if (status, code) != expected {
            wrong.push(format!("{status} {code}, not {expected:?}"));
        }
        if status >= 400 {
            let instance = path.split('?').next();
            let whole = kind == "application/problem+json"
                && body["status"] == status
                && body["instance"].as_str() == instance
                && correlation.is_some()
                && body["correlation_id"].as_str() == correlation.as_deref();
            if !whole {
                wrong.push(format!("no whole problem: {kind} {body} {correlation:?}"));
            }
        }
        if (status == 401 && challenge.is_none()) || (status == 405 && allow.is_none()) {
            wrong.push(format!("a header is missing: {challenge:?} {allow:?}"));
        }
        self.failures.extend(wrong.into_iter().map(|text| format!("{method} {path}: {text}")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_answers_hostile_methods_credentials_paths_and_queries_with_the_briefs_codes() {
    let installation = Installation::start(1, &[]).await;
    let (_, project) = installation.domain_and_project("every", "10.47.0.0/16").await;
    let node = installation.enrol(&project, "victim").await;
    let before = visible(&installation, &project).await;
    let document = installation.call("GET", "/v1/openapi.json", None, 200).await;
    let operations = operations(&document);
    let mut attacker = Attacker { client: client(), url: installation.http_url(0), failures: Vec::new() };
    wrong_methods(&mut attacker, &operations).await;
    let admin = format!("Bearer {}", installation.admin_token());
    let nsk = format!("Bearer {}", node.bearer);
    for operation in &operations {
        credentials(&mut attacker, operation, &admin, &nsk).await;
        paths(&mut attacker, operation, &admin).await;
        queries(&mut attacker, operation, &admin).await;
    }
    let Attacker { failures, .. } = attacker;
    assert!(failures.is_empty(), "{} of them:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(visible(&installation, &project).await, before);
}

async fn wrong_methods(attacker: &mut Attacker, operations: &[Operation]) {
    let mut by_path: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        by_path.entry(&operation.path).or_default().push(operation);
    }
    for of_path in by_path.values() {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            if of_path.iter().all(|operation| operation.method != method) {
                attacker.send(&method, &of_path[0].with("", ""), &[], (405, "method_not_allowed")).await;
            }
        }
    }
}

async fn credentials(attacker: &mut Attacker, operation: &Operation, admin: &str, nsk: &str) {
    if operation.is_anonymous() {
        return;
    }
    let node = operation.is_nodes_alone();
    let unauthenticated = (401, if node { "unauthorized" } else { "unauthenticated" });
    let both = ["GetNodeEvents", "GetNodeState", "GetNodeReachability"].contains(&operation.id.as_str());
    // Whatever the path names, and however malformed it is, a stranger learns nothing of it.
    let long = format!("Bearer {}", "a".repeat(10_000));
    for path in [operation.with("", ""), operation.with("id", "x")] {
        attacker.send(&operation.method, &path, &[], unauthenticated).await;
        for value in ["Bearer garbage", "Bearer ", "Basic YTpi", "Bearer psb_dev_x", "Bearer psk_x", long.as_str()] {
            attacker.send(&operation.method, &path, &[("authorization", value)], unauthenticated).await;
        }
        let cookie = [("authorization", "Bearer garbage"), ("cookie", "plexsphere_session=x")];
        attacker.send(&operation.method, &path, &cookie, unauthenticated).await;
        let malformed_nsk = if both { (401, "unauthorized") } else { unauthenticated };
        attacker.send(&operation.method, &path, &[("authorization", "Bearer nsk_plexd_AAAA")], malformed_nsk).await;
    }
    if node {
        attacker.send(&operation.method, &operation.with("", ""), &[("authorization", admin)], unauthenticated).await;
    }
    let of_a_node = if node || both { (403, "node_id_mismatch") } else { unauthenticated };
    attacker.send(&operation.method, &operation.with("", ""), &[("authorization", nsk)], of_a_node).await;
}

async fn paths(attacker: &mut Attacker, operation: &Operation, admin: &str) {
    let Some(ids) = ids(&operation.id) else { return };
    let credential = [("authorization", admin)];
    attacker.send(&operation.method, &operation.with("", ""), &credential, ids.nobody).await;
    for (parameter, expected) in ids.malformed {
        for value in MALFORMED {
            attacker.send(&operation.method, &operation.with(parameter, value), &credential, *expected).await;
        }
    }
    let hostile =
        [("authorization", admin), ("x-correlation-id", "alice@example.com {"), ("x-forwarded-for", "0.0.0.0")];
    attacker.send(&operation.method, &operation.with("", ""), &hostile, ids.nobody).await;
}

async fn queries(attacker: &mut Attacker, operation: &Operation, admin: &str) {
    let credential = [("authorization", admin)];
    let foreign = "AXsib3AiOiJ4In0.AAAA";
    let long = "a".repeat(5_000);
    for query in &operation.queries {
        let (values, code): (&[&str], _) = match query.as_str() {
            "limit" => (
                &["0", "201", "-1", "abc", "1e2", "", "99999999999999999999", "%00", "%FF", "1&limit=2"],
                "invalid_limit",
            ),
            "cursor" => (&["0", "abc", foreign, &long, "%00", "%FF", "a&cursor=b"], "invalid_cursor"),
            "domain_id" => (&["", "x", "00000000-0000-0000-0000-000000000000", "%00", "%FF"], "invalid_domain_filter"),
            other => panic!("say here what {other} of {} refuses", operation.id),
        };
        for value in values {
            let path = format!("{}?{query}={value}", operation.with("", ""));
            attacker.send(&operation.method, &path, &credential, (400, code)).await;
        }
    }
}
