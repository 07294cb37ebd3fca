//! Who may do what, tried over the served operations: every gate, with a caller for each relation that can be granted, by
//! itself and by a Group, one without any, one of another Domain, a Node, and nobody. The table is printed.

mod matrix;
mod scene;

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection as _;
use uuid::Uuid;

use crate::installation::Installation;
use matrix::sufficient;
use scene::Scene;

/// An operation whose gate is a permission on an object.
struct Gated {
    id: String,
    method: Method,
    path: String,
    permission: String,
    kind: String,
}

/// All operations with a gate on an object, by what the document's last words say of it.
///
/// Left out are what would end the objects of all others, a stream, which does not end by itself, and what Nodes alone call.
/// `CreateServiceIdentity` and its like use nothing up: a body that fits no schema is refused behind the gate.
fn gated(document: &Value) -> Vec<Gated> {
    let mut gated = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            let words = operation["description"].as_str().unwrap();
            let by_nodes_alone = operation.get("security").is_some_and(|schemes| schemes.to_string().contains("nsk"));
            if by_nodes_alone || id == "GetNodeEvents" {
                continue;
            }
            let (permission, kind) = match (id, read_gate(words)) {
                // Whoever may not read the log hears that there is no such entry.
                ("GetAuditEntry", _) => ("auditor".to_owned(), "domain".to_owned()),
                ("GetPlatformAuditEntry", _) => ("auditor".to_owned(), "platform".to_owned()),
                (_, Some(gate)) => gate,
                (_, None) => continue,
            };
            let (method, path) = (method.to_uppercase().parse().unwrap(), path.clone());
            gated.push(Gated { id: id.to_owned(), method, path, permission, kind });
        }
    }
    gated
}

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
    let token = issue(installation, &format!("service:{id}")).await;
    (id, token)
}

async fn issue(installation: &Installation, identity: &str) -> String {
    let token = json!({ "identity_ref": identity, "env_prefix": "dev", "ttl_seconds": 3600 });
    let token = installation.call("POST", "/v1/admin/tokens", Some(token), 201).await;
    token["plaintext"].as_str().or(token["token"].as_str()).unwrap().to_owned()
}

async fn grant(installation: &Installation, project: &str, subject: String, relation: &str, object: String) {
    let tuple = json!({ "subject": subject, "relation": relation, "resource": object });
    let path = format!("/v1/authz/relation-tuples?project_id={project}");
    installation.call("POST", &path, Some(tuple), 201).await;
}

/// A caller for each relation that a Domain's administrator can grant, and one whose relation comes from a Group.
async fn callers(installation: &Installation, domain: &str, project: &str) -> BTreeMap<String, String> {
    let mut callers = BTreeMap::new();
    let on = |kind: &'static str, relations: &'static [&'static str], id: &str| {
        let id = id.to_owned();
        relations.iter().map(move |relation| (kind, *relation, id.clone())).collect::<Vec<_>>()
    };
    let granted = [on("domain", &matrix::DOMAIN, domain), on("project", &matrix::PROJECT, project)];
    for (kind, relation, id) in granted.into_iter().flatten() {
        let name = format!("{kind}#{relation}");
        let (machine, token) = machine(installation, domain, &name).await;
        grant(installation, project, format!("serviceaccount:{machine}"), relation, format!("{kind}:{id}")).await;
        callers.insert(name, token);
    }
    callers
}

/// As [`callers`], on the scene's Resource and Node.
async fn callers_on_host(installation: &Installation, scene: &Scene, callers: &mut BTreeMap<String, String>) {
    let node = scene.node.node.to_string();
    let on_resource = matrix::RESOURCE.map(|relation| ("resource", relation, scene.node.resource.as_str()));
    let on_node = matrix::NODE.map(|relation| ("node", relation, node.as_str()));
    for (kind, relation, id) in on_resource.into_iter().chain(on_node) {
        let name = format!("{kind}#{relation}");
        let (machine, token) = machine(installation, &scene.domain, &name).await;
        grant(installation, &scene.project, format!("serviceaccount:{machine}"), relation, format!("{kind}:{id}"))
            .await;
        callers.insert(name, token);
    }
}

/// A caller who is a member of a Group that maintains the Domain.
async fn caller_by_group(installation: &Installation, scene: &Scene) -> String {
    let group = json!({ "domain_id": scene.domain, "slug": "crew", "display_name": "Crew", "source": "manual" });
    let group =
        installation.call("POST", "/v1/admin/groups", Some(group), 201).await["id"].as_str().unwrap().to_owned();
    let (machine, token) = machine(installation, &scene.domain, "of-the-crew").await;
    let member = json!({ "principal_id": machine, "principal_kind": "service_identity", "source": "manual" });
    installation.call("POST", &format!("/v1/admin/groups/{group}/members"), Some(member), 201).await;
    let object = format!("domain:{}", scene.domain);
    grant(installation, &scene.project, format!("group:{group}#member"), "maintainer", object).await;
    token
}

/// Principals of the platform with a token each, which get their rights from the command line. The administrator comes
/// last: its coming ends the bootstrap token.
async fn callers_of_platform(installation: &Installation) -> BTreeMap<String, String> {
    let mut database = sqlx::PgConnection::connect(&installation.database_url).await.unwrap();
    let mut people = Vec::new();
    for relation in matrix::PLATFORM.into_iter().rev() {
        let id = Uuid::now_v7();
        sqlx::query(
            "INSERT INTO identity.users (id, issuer, external_subject, display_name, created_at)
             VALUES ($1, 'https://idp.test', $2, $2, now())",
        )
        .bind(id)
        .bind(relation)
        .execute(&mut database)
        .await
        .unwrap();
        people.push((relation, id, issue(installation, &format!("user:{id}")).await));
    }
    let mut callers = BTreeMap::new();
    for (relation, id, token) in people {
        installation.command(&["platform", "grant", relation, &format!("user:{id}")]).await.unwrap();
        callers.insert(format!("platform#{relation}"), token);
    }
    callers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_gate_admits_exactly_the_relations_of_the_matrix() {
    let installation = Installation::start(1, &[]).await;
    let (domain, project) = installation.domain_and_project("authority", "10.48.0.0/16").await;
    let (elsewhere, _) = installation.domain_and_project("elsewhere", "10.49.0.0/16").await;
    let document = installation.call("GET", "/v1/openapi.json", None, 200).await;
    let mut callers = callers(&installation, &domain, &project).await;
    let admin = callers["domain#admin"].clone();
    let mut scene = Scene::new(&installation, admin, &domain, &project).await;
    callers_on_host(&installation, &scene, &mut callers).await;
    let by_group = caller_by_group(&installation, &scene).await;
    let nobody = machine(&installation, &domain, "nobody").await.1;
    let stranger = machine(&installation, &elsewhere, "stranger").await.1;
    callers.extend(callers_of_platform(&installation).await);
    let names: Vec<&str> = callers.keys().map(String::as_str).collect();
    println!("{:<31} {:<20} {}", "operation", "needs", names.join(" "));
    let (mut wrong, mut refused) = (Vec::new(), 0);
    let rows_before = refusals(&installation).await;
    let operations = gated(&document);
    for operation in &operations {
        let sufficient = sufficient(&operation.permission, &operation.kind);
        let word = |suffices: bool| if suffices { "+" } else { "-" };
        let maintains = word(sufficient.contains(&"domain#maintainer"));
        let of_the_node = if operation.permission == "node-agent" { "+" } else { "?" };
        let mut others = vec![
            ("of a Group", Some(by_group.as_str()), maintains),
            ("nobody", Some(nobody.as_str()), "-"),
            ("a stranger", Some(stranger.as_str()), "-"),
            ("the anonymous", None, "?"),
        ];
        let key = scene.node.bearer.clone();
        others.push(("a Node", Some(&key), of_the_node));
        let mut row = String::new();
        let granted = callers
            .iter()
            .map(|(name, token)| (name.as_str(), Some(token.as_str()), word(sufficient.contains(&name.as_str()))));
        for (name, bearer, expected) in granted.chain(others) {
            let probe = scene.probe(operation).await;
            let got = scene.verdict(operation, &probe, bearer).await;
            if names.contains(&name) {
                row.push_str(&format!("{got:<width$} ", width = name.len()));
            }
            refused += i64::from(got == "-");
            if got != expected {
                wrong.push(format!("{} by {name}: {got}, not {expected}", operation.id));
            }
        }
        println!("{:<31} {:<20} {row}", operation.id, format!("{}#{}", operation.kind, operation.permission));
    }
    assert!(operations.len() >= 50, "only {} operations are gated", operations.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let rows = refusals(&installation).await - rows_before;
    assert!(rows >= refused, "{refused} refusals left {rows} rows in the audit log");
}

/// Rows of the audit log that record a refusal.
async fn refusals(installation: &Installation) -> i64 {
    let mut database = sqlx::PgConnection::connect(&installation.database_url).await.unwrap();
    sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM audit.entries WHERE reason <> 'granted')
              + (SELECT count(*) FROM audit.pending WHERE reason <> 'granted')",
    )
    .fetch_one(&mut database)
    .await
    .unwrap()
}
