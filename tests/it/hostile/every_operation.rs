//! Every operation of the served document, attacked from outside its body: method, credential, path, query, headers.
//!
//! The attacks are made from the document, so that an operation that is added is attacked too; what it must answer to
//! ids is written down here, and a missing line fails the test.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::Value;

use super::visible;
use crate::answers::try_send;
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
const DENIED: Answer = (403, "permission_denied");
const NO_TOKEN: Answer = (404, "api_token_not_found");
const NO_BOOTSTRAP: Answer = (404, "bootstrap_token_not_found");
const NO_GROUP: Answer = (404, "group_not_found");
const NO_BINDING: Answer = (404, "binding_not_found");
const NO_ENTRY: Answer = (404, "audit_entry_not_found");
const OTHER_NODE: Answer = (403, "insufficient_relation");

/// The answers to somebody who administers the platform and one Domain; `None` for an operation without an id in its
/// path. Whoever has no right on an object cannot tell it from one that is not there.
fn ids(operation: &str) -> Option<Ids> {
    let ids = |malformed, nobody| Some(Ids { malformed, nobody });
    match operation {
        "GetAuthTokens"
        | "PostAuthTokens"
        | "GetAuthWhoami"
        | "GetDocs"
        | "ListDomains"
        | "CreateDomain"
        | "GetHealth"
        | "GetOpenAPI"
        | "ListProjects"
        | "CreateProject"
        | "PostRegister"
        | "GetVersion"
        | "ListNodes"
        | "GetAdminGroupList"
        | "PostAdminGroup"
        | "GetAdminIdPList"
        | "PostAdminIdP"
        | "GetAdminPlatformIdPList"
        | "PostAdminPlatformIdP"
        | "GetAdminTokens"
        | "PostAdminTokens"
        | "GetAuthCallback"
        | "PostAuthDeviceCode"
        | "PostAuthDeviceToken"
        | "PostAuthDeviceApprove"
        | "GetAuthIdPBindings"
        | "PostAuthServiceToken"
        | "PostAuthSignIn"
        | "PostAuthSignOutGlobal"
        | "DeleteAuthSession"
        | "PostAuthzCheck"
        | "PostAuthzLookupResources"
        | "PostAuthzLookupSubjects"
        | "ListRelationTuples"
        | "CreateRelationTuple"
        | "ListPlatformAuditEntries"
        | "VerifyPlatformAuditChain"
        | "EraseIdentityFromPlatformAudit"
        | "PostKeysRotate" => None,
        "DeleteAuthTokenByID" | "PostAuthTokenRotate" | "DeleteAdminTokenByID" | "PostAdminTokenRotate" => {
            ids(&[("id", NO_TOKEN)], NO_TOKEN)
        }
        "GetDocsAsset" => ids(&[("asset", (404, "not_found"))], (404, "not_found")),
        "GetDomain"
        | "PatchDomain"
        | "DeleteDomain"
        | "ListIdentities"
        | "ListInvitations"
        | "CreateInvitation"
        | "CreateServiceIdentity" => ids(&[("id", DOMAIN)], DENIED),
        "GetIdentity" => ids(&[("id", DOMAIN), ("principal_id", (400, "invalid_principal_id"))], DENIED),
        "GetInvitation" | "RevokeInvitation" => {
            ids(&[("id", DOMAIN), ("invitation_id", (400, "invalid_invitation_id"))], DENIED)
        }
        "ListAuditEntries" | "VerifyAuditChain" | "EraseIdentityFromAudit" => ids(&[("domain_id", DOMAIN)], DENIED),
        "GetAuditEntry" => ids(&[("domain_id", DOMAIN), ("seq", (400, "invalid_seq"))], NO_ENTRY),
        "GetPlatformAuditEntry" => ids(&[("seq", (400, "invalid_seq"))], NO_ENTRY),
        "GetProject" | "PatchProject" | "DeleteProject" => ids(&[("id", PROJECT)], DENIED),
        // No 400 is declared.
        "PostNodeKeysRotate" | "GetNodeKeysRotatePreview" => ids(&[("id", (404, "node_not_found"))], DENIED),
        "GetNodeEvents" | "GetNodeState" | "GetNodeReachability" => ids(&[("id", OTHER_NODE)], OTHER_NODE),
        // No 400 is declared.
        "GetDomainMeshTopology" => ids(&[("domain_id", (404, "domain_not_found"))], DENIED),
        // An administrator is no Node, and the credential is judged before the path.
        "PostNodeHeartbeat" | "PostNodeMetrics" | "PostNodeLogs" | "PostNodeAudit" | "PutNodeEndpoint" => {
            ids(&[("id", (401, "unauthorized"))], (401, "unauthorized"))
        }
        "PutNodeStateReport" | "DeleteNodeStateReport" => {
            ids(&[("id", (401, "unauthorized")), ("key", (401, "unauthorized"))], (401, "unauthorized"))
        }
        "ListBootstrapTokens" | "IssueBootstrapToken" | "ListProjectResources" | "CreateResource" => {
            ids(&[("project_id", PROJECT)], DENIED)
        }
        "RevokeBootstrapToken" | "GetBootstrapTokenMetadata" => {
            // No 400 is declared.
            ids(&[("project_id", (404, "project_not_found")), ("id", NO_BOOTSTRAP)], DENIED)
        }
        "DeleteResource" => ids(&[("id", (400, "invalid_resource_id"))], (404, "resource_not_found")),
        // No 400 is declared, so that a malformed id is one that names nothing.
        "GetResource" => ids(&[("id", (404, "resource_not_found"))], (404, "resource_not_found")),
        "GetAdminGroupByID"
        | "PatchAdminGroup"
        | "DeleteAdminGroupByID"
        | "GetAdminGroupMembers"
        | "PostAdminGroupMember" => ids(&[("id", NO_GROUP)], NO_GROUP),
        // The kind of the member is judged before the Group is looked for.
        "DeleteAdminGroupMember" => {
            ids(&[("id", (400, "invalid_kind")), ("principal_id", (400, "invalid_kind"))], (400, "invalid_kind"))
        }
        "GetAdminIdPByID" | "PatchAdminIdP" | "PatchAdminIdPStatus" | "DeleteAdminIdPByID" => {
            ids(&[("id", NO_BINDING)], NO_BINDING)
        }
        "PatchRelationTuple" | "DeleteRelationTuple" => {
            ids(&[("id", (400, "invalid_relation_tuple_id"))], (404, "relation_tuple_not_found"))
        }
        other => panic!("say here what {other} answers to ids"),
    }
}

/// What a query parameter refuses, and with which code; nothing for one that takes every text.
fn refused(operation: &str, query: &str) -> (&'static [&'static str], &'static str) {
    const NO_IDS: &[&str] = &["x", "00000000-0000-0000-0000-000000000000", "%00", "%FF"];
    match (operation, query) {
        // Administering does not imply reading the audit log, and who may not read it hears nothing of its filters.
        ("ListAuditEntries" | "ListPlatformAuditEntries", _) => (&[], ""),
        (_, "limit") => {
            (&["0", "201", "-1", "abc", "1e2", "", "99999999999999999999", "%00", "%FF", "1&limit=2"], "invalid_limit")
        }
        (_, "cursor") => (&["0", "abc", "AXsib3AiOiJ4In0.AAAA", LONG, "%00", "%FF", "a&cursor=b"], "invalid_cursor"),
        ("ListProjects" | "ListNodes", "domain_id") => (NO_IDS, "invalid_domain_filter"),
        ("GetAuthIdPBindings" | "GetAdminGroupList", "domain_id") => (NO_IDS, "invalid_domain_id"),
        // No 400 is declared: a Domain that cannot be is one on which the caller has no right.
        ("GetAdminIdPList", "domain_id") => (NO_IDS, "permission_denied"),
        ("ListRelationTuples" | "CreateRelationTuple", "project_id") => (NO_IDS, "invalid_project_id"),
        ("ListIdentities" | "DeleteAdminGroupMember", "kind") => (&["x", "%00", "user&kind=user"], "invalid_kind"),
        ("ListInvitations", "status") => (&["x", "%00", "pending&status=pending"], "invalid_status"),
        ("GetAdminTokens", "identity_ref") => (&["x", "user:x", "%00"], "invalid_identity_ref"),
        // A browser that comes back is led on whatever it brings; its own tests say where to.
        ("GetAuthCallback" | "GetAuthIdPBindings", "code" | "state" | "scope") => (&[], ""),
        (operation, query) => panic!("say here what {query} of {operation} refuses"),
    }
}

/// What the caller has a right on.
struct Own {
    domain: String,
    project: String,
}

struct Operation {
    id: String,
    method: Method,
    path: String,
    security: Option<Value>,
    queries: BTreeSet<String>,
    /// Whether a JSON object is taken.
    takes_object: bool,
}

impl Operation {
    fn is_anonymous(&self) -> bool {
        self.security == Some(Value::Array(Vec::new()))
    }

    /// Whether a page may do this for whoever is signed in.
    fn changes_by_cookie(&self) -> bool {
        self.security.is_none() && self.method != Method::GET
    }

    fn is_nodes_alone(&self) -> bool {
        self.security.as_ref().is_some_and(|security| security.to_string().contains("nskBearer"))
    }

    /// The path with `value` for one parameter and an id of nobody for the others.
    fn with(&self, parameter: &str, value: &str) -> String {
        self.of(parameter, value, None)
    }

    /// The path with `value` for one parameter, and for the others what the caller has a right on, where there is one.
    fn of(&self, parameter: &str, value: &str, own: Option<&Own>) -> String {
        let mut before = "";
        let mut parts = Vec::new();
        for part in self.path.split('/') {
            parts.push(match (part.strip_prefix('{'), before, own) {
                (Some(name), ..) if name.trim_end_matches('}') == parameter => value,
                (Some(_), "domains", Some(own)) => &own.domain,
                (Some(_), "projects", Some(own)) => &own.project,
                (Some("seq}"), ..) => "1",
                (Some(_), ..) => NOBODY,
                (None, ..) => part,
            });
            before = part;
        }
        parts.join("/")
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
                takes_object: operation["requestBody"]["content"]
                    .get("application/json")
                    .is_some_and(|content| content["schema"].get("$ref").is_some()),
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
    /// One request without a body of its own.
    async fn send(&mut self, method: &Method, path: &str, headers: &[(&str, &str)], expected: Answer) {
        self.send_body(method, path, headers, "{}".into(), expected).await;
    }

    /// One request; checks what every refusal has: a problem, its code, its path and its correlation id. Whether a code is
    /// one of the operation's, the document says; an expected one may be left empty.
    async fn send_body(
        &mut self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
        expected: Answer,
    ) {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.url));
        if [Method::POST, Method::PUT, Method::PATCH].contains(method) {
            request = request.body(body);
            if headers.iter().all(|(name, _)| *name != "content-type") {
                request = request.header("content-type", "application/json");
            }
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = match try_send(request).await {
            Ok(answer) => answer,
            Err(error) => return self.failures.push(format!("{method} {path}: {error}")),
        };
        let status = answer.status;
        let header = |name: &str| answer.header(name);
        let (correlation, kind) = (header("x-correlation-id"), header("content-type").unwrap_or_default());
        let (challenge, allow) = (header("www-authenticate"), header("allow"));
        if kind.starts_with("text/event-stream") {
            return self.failures.push(format!("{method} {path}: {status}, an event stream"));
        }
        let body = answer.json();
        let code = body["code"].as_str().unwrap_or("");
        let mut wrong = Vec::new();
        if (status, if expected.1.is_empty() { "" } else { code }) != expected {
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
    let origins = [("PLEXSPHERE_AUTH_CSRF_ALLOWED_ORIGINS", "https://console.test")];
    let installation = Installation::start(1, &origins).await;
    let (domain, project) = installation.domain_and_project("every", "10.47.0.0/16").await;
    let own = Own { domain, project: project.clone() };
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
        paths(&mut attacker, operation, &admin, &own).await;
        queries(&mut attacker, operation, &admin, &own).await;
        forgeries(&mut attacker, operation, &installation.admin_token()).await;
        bodies(&mut attacker, operation, &admin, &own).await;
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
    // Whoever signs out needs no credential, whatever the document says of one.
    if operation.is_anonymous() || operation.id == "DeleteAuthSession" {
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
    let of_a_node = match operation.id.as_str() {
        // It names no Node, so it is always the caller's own.
        "PostKeysRotate" => (400, "malformed_keys_rotate_request"),
        _ if node || both => (403, "node_id_mismatch"),
        _ => unauthenticated,
    };
    attacker.send(&operation.method, &operation.with("", ""), &[("authorization", nsk)], of_a_node).await;
}

async fn paths(attacker: &mut Attacker, operation: &Operation, admin: &str, own: &Own) {
    let Some(ids) = ids(&operation.id) else { return };
    let credential = [("authorization", admin)];
    attacker.send(&operation.method, &operation.with("", ""), &credential, ids.nobody).await;
    for (parameter, expected) in ids.malformed {
        for value in MALFORMED {
            let path = operation.of(parameter, value, Some(own));
            attacker.send(&operation.method, &path, &credential, *expected).await;
        }
    }
    let hostile =
        [("authorization", admin), ("x-correlation-id", "alice@example.com {"), ("x-forwarded-for", "0.0.0.0")];
    attacker.send(&operation.method, &operation.with("", ""), &hostile, ids.nobody).await;
}

async fn queries(attacker: &mut Attacker, operation: &Operation, admin: &str, own: &Own) {
    let credential = [("authorization", admin)];
    for query in &operation.queries {
        let (values, code) = refused(&operation.id, query);
        let status = if code == "permission_denied" { 403 } else { 400 };
        // What a list must be told to be one at all.
        let needed = match (operation.id.as_str(), query.as_str()) {
            ("ListRelationTuples", "cursor" | "limit") => format!("project_id={}&", own.project),
            ("GetAdminGroupList", "cursor" | "limit") => format!("domain_id={}&", own.domain),
            _ => String::new(),
        };
        for value in values {
            let path = format!("{}?{needed}{query}={value}", operation.of("", "", Some(own)));
            attacker.send(&operation.method, &path, &credential, (status, code)).await;
        }
    }
}

/// What a browser sends by itself changes nothing: neither from a foreign page nor without the page's own token.
async fn forgeries(attacker: &mut Attacker, operation: &Operation, admin: &str) {
    if !operation.changes_by_cookie() || operation.id == "DeleteAuthSession" {
        return;
    }
    let cookie = format!("plexsphere_session={admin}; plexsphere_csrf=c");
    let (method, path) = (&operation.method, operation.with("", ""));
    for origin in ["https://evil.test", "null", "https://console.test.evil.test"] {
        let headers = [("cookie", cookie.as_str()), ("origin", origin), ("x-plexsphere-csrf", "c")];
        attacker.send(method, &path, &headers, (403, "csrf_origin_mismatch")).await;
    }
    for token in ["", "d", "C"] {
        let headers = [("cookie", cookie.as_str()), ("origin", "https://console.test"), ("x-plexsphere-csrf", token)];
        attacker.send(method, &path, &headers, (403, "csrf_token_mismatch")).await;
    }
}

/// What an operation answers to a body that is no object of its kind, and to one of another media type. A body of another
/// type is told from one that is not looked at: the object comes first where only a read finds it.
fn shapeless(operation: &str) -> (Answer, Answer) {
    const OTHER_TYPE: Answer = (415, "unsupported_media_type");
    match operation {
        "PatchAdminGroup" | "PostAdminGroupMember" => (NO_GROUP, OTHER_TYPE),
        "PatchAdminIdP" | "PatchAdminIdPStatus" => (NO_BINDING, OTHER_TYPE),
        "PatchRelationTuple" => ((404, "relation_tuple_not_found"), OTHER_TYPE),
        "PostAuthDeviceApprove" => ((403, "api_token_not_allowed"), OTHER_TYPE),
        // Administering does not imply reading the audit log.
        "VerifyAuditChain" | "VerifyPlatformAuditChain" => (DENIED, DENIED),
        _ => ((400, ""), OTHER_TYPE),
    }
}

/// Bodies of another type, size or shape, on objects that the caller has a right on where there are such.
async fn bodies(attacker: &mut Attacker, operation: &Operation, admin: &str, own: &Own) {
    if !operation.takes_object || operation.is_nodes_alone() {
        return;
    }
    let (method, project) = (&operation.method, &own.project);
    let query = if operation.id == "CreateRelationTuple" { format!("?project_id={project}") } else { String::new() };
    let path = format!("{}{query}", operation.of("", "", Some(own)));
    let json = [("authorization", admin)];
    attacker.send_body(method, &path, &json, vec![b' '; 70_000], (413, "")).await;
    // Anonymous callers from one address are throttled before anything is read; the rest is their own tests' business.
    if ["PostAuthSignIn", "PostAuthServiceToken"].contains(&operation.id.as_str()) {
        return;
    }
    let (no_object, other_type) = shapeless(&operation.id);
    let text = [("authorization", admin), ("content-type", "text/plain")];
    attacker.send_body(method, &path, &text, b"{}".to_vec(), other_type).await;
    let shapes: [&[u8]; 6] = [b"[]", b"null", b"7", b"\"x\"", b"{\"no_such_member\":1}", b"{} {}"];
    let tolerant = operation.id == "PostRegister";
    for shape in shapes.iter().filter(|shape| !tolerant || !shape.starts_with(b"{\"")) {
        attacker.send_body(method, &path, &json, shape.to_vec(), no_object).await;
    }
}
