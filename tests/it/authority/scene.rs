//! The objects that the operations are tried on, and a request for each that a caller with the right would be granted.

use plexsphere_testkit::Answer;
use reqwest::Method;
use serde_json::{Value, json};

use super::Gated;
use crate::answers::send;
use crate::installation::{EnrolledNode, Installation, client};

const NOBODY: &str = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a1";

/// A Domain with one object of each kind, and an administrator of it who replaces what a caller took away.
pub(super) struct Scene {
    client: reqwest::Client,
    url: String,
    admin: String,
    pub(super) domain: String,
    pub(super) project: String,
    pub(super) node: EnrolledNode,
    /// A ServiceIdentity whose tokens are looked after.
    machine: String,
    made: u32,
}

/// A request: path and body.
pub(super) struct Probe {
    path: String,
    body: Option<Value>,
}

impl Scene {
    pub(super) async fn new(installation: &Installation, admin: String, domain: &str, project: &str) -> Self {
        let node = installation.enrol(project, "host").await;
        let (machine, _) = super::machine(installation, domain, "kept").await;
        let url = installation.http_url(0);
        let client = client();
        Self { client, url, admin, domain: domain.to_owned(), project: project.to_owned(), node, machine, made: 0 }
    }

    /// What `operation` is tried with. Whatever a granted one would use up is made anew.
    pub(super) async fn probe(&mut self, operation: &Gated) -> Probe {
        self.made += 1;
        let name = format!("made-{}", self.made);
        let (domain, project, machine) = (self.domain.clone(), self.project.clone(), self.machine.clone());
        let path = self.path(&operation.path);
        let at = |id: &str| operation.path.replace("{id}", id);
        let tuple = json!({
            "subject": format!("serviceaccount:{machine}"), "relation": "viewer", "resource": format!("project:{project}"),
        });
        match operation.id.as_str() {
            "CreateDomain" => {
                let cidr = format!("fd00:{:x}::/64", self.made);
                Probe { path, body: Some(json!({ "name": name, "slug": name, "mesh_cidr": cidr })) }
            }
            "CreateProject" => Probe { path, body: Some(json!({ "domain_id": domain, "name": name, "slug": name })) },
            "GetResource" => Probe { path: at(&self.node.resource), body: None },
            "DeleteResource" => Probe { path: at(&self.resource(&name).await), body: None },
            "DeleteProject" | "DeleteDomain" => Probe { path, body: None },
            "GetAdminGroupList" => Probe { path: format!("{path}?domain_id={domain}"), body: None },
            "GetAdminIdPList" => Probe { path: format!("{path}?domain_id={domain}"), body: None },
            "GetAdminTokens" => Probe { path: format!("{path}?identity_ref=service:{machine}"), body: None },
            "PostAdminGroup" => Probe { path, body: Some(self.group_body(&name)) },
            "PatchAdminGroup" => {
                Probe { path: at(&self.group(&name).await), body: Some(json!({ "display_name": "x" })) }
            }
            "PostAdminGroupMember" => Probe {
                path: at(&self.group(&name).await),
                body: Some(json!({
                    "principal_id": machine, "principal_kind": "service_identity", "source": "manual",
                })),
            },
            "DeleteAdminGroupMember" => {
                let path = at(&self.group(&name).await).replace("{principal_id}", &machine);
                Probe { path: format!("{path}?kind=service_identity"), body: None }
            }
            id if id.contains("AdminGroup") => Probe { path: at(&self.group(&name).await), body: None },
            "PostAdminIdP" => Probe { path, body: Some(self.binding_body(&name)) },
            "PostAdminPlatformIdP" => {
                let mut body = self.binding_body(&name);
                body.as_object_mut().unwrap().remove("domain_id");
                body["client_secret_ref"] = "env:SECRET".into();
                Probe { path, body: Some(body) }
            }
            "PatchAdminIdP" => {
                Probe { path: at(&self.binding(&name).await), body: Some(json!({ "jit_policy": "allow" })) }
            }
            "PatchAdminIdPStatus" => {
                Probe { path: at(&self.binding(&name).await), body: Some(json!({ "status": "deactivated" })) }
            }
            "GetAdminIdPByID" | "DeleteAdminIdPByID" => Probe { path: at(&self.binding(&name).await), body: None },
            "PostAdminTokens" => Probe { path, body: Some(self.token_body()) },
            "DeleteAdminTokenByID" | "PostAdminTokenRotate" => Probe { path: at(&self.token().await), body: None },
            "ListRelationTuples" => Probe { path: format!("{path}?project_id={project}"), body: None },
            "CreateRelationTuple" => Probe { path: format!("{path}?project_id={project}"), body: Some(tuple) },
            "PatchRelationTuple" => Probe { path: at(&self.tuple(&tuple).await), body: Some(tuple) },
            "DeleteRelationTuple" => Probe { path: at(&self.tuple(&tuple).await), body: None },
            _ if [Method::GET, Method::DELETE].contains(&operation.method) => Probe { path, body: None },
            _ => Probe { path, body: Some(json!({})) },
        }
    }

    /// The path with what the scene holds; what it does not hold is named by an id of nobody.
    fn path(&self, template: &str) -> String {
        let mut before = "";
        let mut parts = Vec::new();
        let node = self.node.node.to_string();
        for part in template.split('/') {
            parts.push(match (part.starts_with('{'), before) {
                (true, "domains") => self.domain.clone(),
                (true, "projects") => self.project.clone(),
                (true, "nodes") => node.clone(),
                (true, "entries") => "1".to_owned(),
                (true, _) => NOBODY.to_owned(),
                (false, _) => part.to_owned(),
            });
            before = part;
        }
        parts.join("/")
    }

    fn group_body(&self, name: &str) -> Value {
        json!({ "domain_id": self.domain, "slug": name, "display_name": name, "source": "manual" })
    }

    fn binding_body(&self, name: &str) -> Value {
        json!({
            "domain_id": self.domain, "issuer": format!("https://{name}.test"), "client_id": "c", "alias": name,
            "client_secret_ref": format!("secret:{}/{name}", self.domain), "jit_policy": "deny",
            "discovery_url": format!("https://{name}.test/.well-known/openid-configuration"),
        })
    }

    fn token_body(&self) -> Value {
        json!({ "identity_ref": format!("service:{}", self.machine), "env_prefix": "dev", "ttl_seconds": 3600 })
    }

    async fn group(&self, name: &str) -> String {
        self.make("/v1/admin/groups", self.group_body(name)).await
    }

    async fn binding(&self, name: &str) -> String {
        self.make("/v1/admin/idp", self.binding_body(name)).await
    }

    async fn token(&self) -> String {
        let made = self.make("/v1/admin/tokens", self.token_body()).await;
        let path = format!("/v1/admin/tokens?identity_ref=service:{}", self.machine);
        let list = self.call(Method::GET, &path, None).await.json();
        let list = list.as_array().cloned().or_else(|| list["items"].as_array().cloned()).unwrap();
        // A principal holds only so many.
        for token in list.iter().filter_map(|token| token["id"].as_str()).filter(|id| **id != made) {
            self.call(Method::DELETE, &format!("/v1/admin/tokens/{token}"), None).await;
        }
        made
    }

    async fn tuple(&self, tuple: &Value) -> String {
        self.make(&format!("/v1/authz/relation-tuples?project_id={}", self.project), tuple.clone()).await
    }

    async fn resource(&self, name: &str) -> String {
        let body = json!({ "origin": "adopted", "kind": "vm", "external_ref": name });
        self.make(&format!("/v1/projects/{}/resources", self.project), body).await
    }

    async fn make(&self, path: &str, body: Value) -> String {
        let made = self.call(Method::POST, path, Some(body)).await;
        assert_eq!(made.status, 201, "{path}: {}", made.text);
        made.json()["id"].as_str().unwrap().to_owned()
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.admin);
        send(if let Some(body) = body { request.json(&body) } else { request }).await
    }

    /// What a caller is told: let in (`+`), refused (`-`), or not known at all (`?`).
    pub(super) async fn verdict(&self, operation: &Gated, probe: &Probe, bearer: Option<&str>) -> &'static str {
        let mut request = self.client.request(operation.method.clone(), format!("{}{}", self.url, probe.path));
        if let Some(body) = &probe.body {
            request = request.json(body);
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
            (404, code) if HIDDEN.contains(&code) => {
                self.reads_as_missing(operation, probe, bearer, body).await;
                "-"
            }
            (status, code) if status >= 500 => panic!("{} {}: {status} {code}", operation.id, probe.path),
            _ => "+",
        }
    }

    /// The refusal of an object that exists is, word for word, that of one that does not.
    async fn reads_as_missing(&self, operation: &Gated, probe: &Probe, bearer: Option<&str>, refused: Value) {
        let strange = if operation.path.contains("{seq}") { "999999" } else { NOBODY };
        let variable = operation.path.split('/').position(|part| part == "{seq}" || part == "{id}").unwrap();
        let path = probe.path.split('/').enumerate().map(|(at, part)| if at == variable { strange } else { part });
        let path: Vec<&str> = path.collect();
        let mut request = self.client.request(operation.method.clone(), format!("{}{}", self.url, path.join("/")));
        if let Some(body) = &probe.body {
            request = request.json(body);
        }
        let missing = send(request.bearer_auth(bearer.unwrap())).await.json();
        for member in ["type", "title", "status", "detail", "code", "reason"] {
            assert_eq!(refused[member], missing[member], "{} tells a foreign object from a missing one", operation.id);
        }
    }
}

const HIDDEN: [&str; 6] = [
    "audit_entry_not_found",
    "resource_not_found",
    "group_not_found",
    "binding_not_found",
    "api_token_not_found",
    "relation_tuple_not_found",
];
