//! Who may do what, tried over the served operations: every gate on a Domain, a Project, a Resource or a Node, with a
//! caller for each relation that can be granted there, one without any, one of another Domain, the platform's
//! administrator, a Node, and nobody. The table is printed.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::answers::send;
use crate::installation::{EnrolledNode, Installation, client};

const DOMAIN_RELATIONS: [&str; 7] =
    ["admin", "maintainer", "operator", "member", "auditor", "approver", "emergency_approver"];
const PROJECT_RELATIONS: [&str; 5] = ["admin", "maintainer", "operator", "member", "viewer"];

/// The granted relations that suffice for a permission, as the matrix of relations has it.
fn sufficient(permission: &str, kind: &str) -> &'static [&'static str] {
    match (kind, permission) {
        ("domain", "manage") => &["domain#admin"],
        ("domain", "read") => &[
            "domain#member",
            "domain#operator",
            "domain#maintainer",
            "domain#admin",
            "domain#approver",
            "domain#emergency_approver",
            "domain#auditor",
        ],
        ("domain", "auditor") => &["domain#auditor"],
        ("project", "manage") => &["domain#admin", "project#admin"],
        ("project", "deploy") => &["domain#admin", "domain#maintainer", "project#admin", "project#maintainer"],
        ("project" | "resource", "observe") => &[
            "domain#member",
            "domain#operator",
            "domain#maintainer",
            "domain#admin",
            "project#viewer",
            "project#member",
            "project#operator",
            "project#maintainer",
            "project#admin",
        ],
        ("project", "read") => &[
            "domain#member",
            "domain#operator",
            "domain#maintainer",
            "domain#admin",
            "domain#approver",
            "domain#emergency_approver",
            "domain#auditor",
            "project#viewer",
            "project#member",
            "project#operator",
            "project#maintainer",
            "project#admin",
        ],
        ("node", "node-agent") => &[
            "domain#operator",
            "domain#maintainer",
            "domain#admin",
            "project#operator",
            "project#maintainer",
            "project#admin",
        ],
        (kind, permission) => panic!("say here which relations give `{permission}` on a {kind}"),
    }
}

/// A gate on something that the path names.
struct Gated {
    id: String,
    method: Method,
    path: String,
    permission: String,
    kind: String,
}

struct Scene {
    domain: String,
    project: String,
    resource: String,
    node: EnrolledNode,
}

impl Scene {
    /// The path with what the scene holds; what it does not hold is named by an id of nobody.
    fn path(&self, template: &str) -> String {
        let mut before = "";
        let mut parts = Vec::new();
        let node = self.node.node.to_string();
        for part in template.split('/') {
            parts.push(match (part.starts_with('{'), before) {
                (true, "domains") => self.domain.clone(),
                (true, "projects") => self.project.clone(),
                (true, "resources") => self.resource.clone(),
                (true, "nodes") => node.clone(),
                (true, "entries") => "1".to_owned(),
                (true, _) => "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a1".to_owned(),
                (false, _) => part.to_owned(),
            });
            before = part;
        }
        parts.join("/")
    }
}

/// Operations whose gate stands on what their path names. One that would end what the others need is left out, and so is a
/// stream, which does not end by itself.
fn gated(document: &Value) -> Vec<Gated> {
    let mut gated = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let place = ["/v1/domains/{", "/v1/projects/{", "/v1/nodes/{", "/v1/resources/{"];
        if !place.iter().any(|place| path.starts_with(place)) {
            continue;
        }
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            let words = operation["description"].as_str().unwrap();
            let Some((permission, kind)) = read_gate(words) else { continue };
            let by_nodes_alone = operation.get("security").is_some_and(|schemes| schemes.to_string().contains("nsk"));
            if by_nodes_alone || ["DeleteResource", "GetNodeEvents"].contains(&id) {
                continue;
            }
            let (method, path) = (method.to_uppercase().parse().unwrap(), path.clone());
            gated.push(Gated { id: id.to_owned(), method, path, permission, kind });
        }
    }
    gated
}

/// What the document's last words say of the gate.
fn read_gate(words: &str) -> Option<(String, String)> {
    let last = words.rsplit("\n\n").next()?;
    if let Some(rest) = last.strip_prefix("The Node itself by its key; an operator, where one is admitted, needs `") {
        return Some((rest.split('`').next()?.to_owned(), "node".to_owned()));
    }
    let rest = last.strip_prefix("Needs `")?;
    let (permission, rest) = rest.split_once("` on the ")?;
    Some((permission.to_owned(), rest.trim_end_matches('.').to_owned()))
}

/// A machine principal of a Domain with a token of its own.
async fn machine(installation: &Installation, domain: &str, name: &str) -> (String, String) {
    let identity = json!({
        "display_name": name, "subject": name, "audience": "plexsphere", "federation_kind": "api_token",
    });
    let path = format!("/v1/domains/{domain}/service-identities");
    let identity = installation.call("POST", &path, Some(identity), 201).await;
    let id = identity["id"].as_str().unwrap().to_owned();
    let token = json!({ "identity_ref": format!("service:{id}"), "env_prefix": "dev", "ttl_seconds": 3600 });
    let token = installation.call("POST", "/v1/admin/tokens", Some(token), 201).await;
    (id, token["plaintext"].as_str().or(token["token"].as_str()).unwrap().to_owned())
}

/// What a caller is told: let in, or refused as a stranger, or not known at all.
async fn verdict(url: &str, operation: &Gated, path: &str, bearer: Option<&str>) -> &'static str {
    let mut request = client().request(operation.method.clone(), format!("{url}{path}"));
    if operation.method != Method::GET && operation.method != Method::DELETE {
        request = request.header("content-type", "application/json").body("{}");
    }
    if let Some(bearer) = bearer {
        request = request.bearer_auth(bearer);
    }
    let answer = send(request).await;
    let body = answer.json();
    match (answer.status, body["code"].as_str().unwrap_or("")) {
        (401, _) => "?",
        (403, "permission_denied" | "insufficient_relation" | "node_id_mismatch") => "-",
        // What may not be read cannot be told from what is not there.
        (404, "audit_entry_not_found" | "resource_not_found") => "-",
        (status, code) if status >= 500 => panic!("{} {path}: {status} {code}", operation.id),
        _ => "+",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_gate_admits_exactly_the_relations_of_the_matrix() {
    let installation = Installation::start(1, &[]).await;
    let (domain, project) = installation.domain_and_project("authority", "10.48.0.0/16").await;
    let (elsewhere, _) = installation.domain_and_project("elsewhere", "10.49.0.0/16").await;
    let node = installation.enrol(&project, "host").await;
    let scene = Scene { domain: domain.clone(), project: project.clone(), resource: node.resource.clone(), node };
    let mut callers: BTreeMap<String, String> = BTreeMap::new();
    let granted = DOMAIN_RELATIONS.map(|relation| ("domain", relation, &domain)).into_iter();
    for (kind, relation, id) in granted.chain(PROJECT_RELATIONS.map(|relation| ("project", relation, &project))) {
        let name = format!("{kind}#{relation}");
        let (machine, token) = machine(&installation, &domain, &name).await;
        let tuple = json!({
            "subject": format!("serviceaccount:{machine}"), "relation": relation, "resource": format!("{kind}:{id}"),
        });
        let path = format!("/v1/authz/relation-tuples?project_id={project}");
        installation.call("POST", &path, Some(tuple), 201).await;
        callers.insert(name, token);
    }
    let nobody = machine(&installation, &domain, "nobody").await.1;
    let stranger = machine(&installation, &elsewhere, "stranger").await.1;
    let document = installation.call("GET", "/v1/openapi.json", None, 200).await;
    let url = installation.http_url(0);
    let names: Vec<&str> = callers.keys().map(String::as_str).collect();
    println!("{:<28} {:<20} {}", "operation", "needs", names.join(" "));
    let mut wrong = Vec::new();
    let operations = gated(&document);
    for operation in &operations {
        let path = scene.path(&operation.path);
        let sufficient = sufficient(&operation.permission, &operation.kind);
        let mut row = String::new();
        for (name, token) in &callers {
            let expected = if sufficient.contains(&name.as_str()) { "+" } else { "-" };
            let got = verdict(&url, operation, &path, Some(token)).await;
            row.push_str(&format!("{got:<width$} ", width = name.len()));
            if got != expected {
                wrong.push(format!("{} by {name}: {got}, not {expected}", operation.id));
            }
        }
        println!("{:<28} {:<20} {row}", operation.id, format!("{}#{}", operation.kind, operation.permission));
        let node_reads_itself = operation.kind == "node";
        for (name, bearer, expected) in [
            ("nobody", Some(nobody.as_str()), "-"),
            ("a stranger", Some(stranger.as_str()), "-"),
            ("a node", Some(scene.node.bearer.as_str()), if node_reads_itself { "+" } else { "?" }),
            ("the anonymous", None, "?"),
        ] {
            let got = verdict(&url, operation, &path, bearer).await;
            if got != expected {
                wrong.push(format!("{} by {name}: {got}, not {expected}", operation.id));
            }
        }
    }
    assert!(operations.len() >= 24, "only {} operations are gated", operations.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
