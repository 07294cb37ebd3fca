//! The API document (OpenAPI 3.1), made of the operations themselves.
#![expect(clippy::indexing_slicing, reason = "indexing a JSON object that was just built adds or reads a member")]

use std::collections::{BTreeMap, BTreeSet};

use plexsphere_kernel::http::{Gate, Operation, Scheme};
use plexsphere_wire::{ChildCounts, Code, ProjectChildCounts, schema};
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema as _, ToSchema as _};

/// The document of a list of operations. Byte-stable for one build.
#[must_use]
pub fn document(operations: &[&Operation], version: &str) -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut schemas: BTreeMap<String, Value> = own_schemas();
    let mut tags = BTreeSet::new();
    for operation in operations {
        tags.insert(operation.tag);
        for (name, schema) in &operation.schemas {
            schemas.entry(name.clone()).or_insert_with(|| serde_json::to_value(schema).unwrap_or_default());
        }
        let item = paths.entry(operation.path).or_default();
        item.insert(operation.method.as_str().to_ascii_lowercase(), describe(operation));
    }
    schemas.retain(|name, _| name != schema::UUID && name != schema::DATE_TIME);
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "plexsphere",
            "version": "v1",
            "summary": "Control plane of a fleet of machines",
            "description": format!("Build {version}. Errors are RFC 9457 problems; branch on `code`."),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "tags": tags.into_iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
        "security": [{ "sessionCookie": [] }, { "operatorBearer": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "sessionCookie": { "type": "apiKey", "in": "cookie", "name": "plexsphere_session" },
                "operatorBearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
                "nskBearer": { "type": "http", "scheme": "bearer" },
            },
        },
    });
    settle(&mut document);
    document
}

fn describe(operation: &Operation) -> Value {
    let mut value = json!({
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": format!("{}\n\n{}", operation.description, gate_words(operation.gate)),
        "responses": responses(operation),
    });
    match operation.scheme {
        Scheme::Anonymous => value["security"] = json!([]),
        Scheme::Node => value["security"] = json!([{ "nskBearer": [] }]),
        Scheme::Operator | Scheme::OperatorOrNode | Scheme::OperatorIfAny => {}
    }
    let parameters = parameters(operation);
    if !parameters.is_empty() {
        value["parameters"] = parameters.into();
    }
    if let Some((media_type, schema)) = &operation.documented_body {
        value["requestBody"] = json!({ "required": true, "content": { *media_type: { "schema": schema } } });
    } else if let Some(rules) = &operation.body {
        let schema = reference(&rules.schema);
        value["requestBody"] =
            json!({ "required": !rules.optional, "content": { "application/json": { "schema": schema } } });
    }
    value
}

fn gate_words(gate: Gate) -> String {
    use plexsphere_kernel::http::ObjectFrom;
    match gate {
        Gate::Open(why) => format!("Needs no credential: {why}."),
        Gate::AnyCaller(why) => format!("Any authenticated caller: {why}."),
        Gate::Relation { relation, object: ObjectFrom::Platform } => format!("Needs `{relation}` on the platform."),
        Gate::Relation { relation, object: ObjectFrom::Path { kind, .. } } | Gate::AfterRead { relation, kind } => {
            format!("Needs `{relation}` on the {kind}.")
        }
        Gate::OwnNode { relation, .. } => {
            format!("The Node itself by its key; an operator, where one is admitted, needs `{relation}` on the Node.")
        }
    }
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let path = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let path = path.map(|name| {
        let schema = if name == "id" || name.ends_with("_id") {
            json!({ "type": "string", "format": "uuid" })
        } else if name == "seq" {
            json!({ "type": "integer", "format": "int64", "minimum": 1 })
        } else if let Some((_, pattern)) = operation.path_patterns.iter().find(|(param, _)| *param == name) {
            json!({ "type": "string", "pattern": pattern })
        } else {
            json!({ "type": "string" })
        };
        json!({ "in": "path", "name": name, "required": true, "schema": schema })
    });
    let others = |place: &'static str| {
        move |(name, description, schema): &(&'static str, &'static str, _)| {
            let required = place == "query" && operation.required_queries.contains(name);
            json!({ "in": place, "name": name, "required": required, "description": description, "schema": schema })
        }
    };
    path.chain(operation.query.iter().map(others("query")))
        .chain(operation.headers.iter().map(others("header")))
        .collect()
}

fn responses(operation: &Operation) -> Value {
    let mut responses: BTreeMap<String, Value> = BTreeMap::new();
    for success in &operation.successes {
        let mut response = json!({ "description": success.description });
        if let Some((media_type, name)) = &success.content {
            let schema = match (name.as_str(), *media_type) {
                ("", "application/json") => json!({ "type": "object", "additionalProperties": true }),
                ("", _) => json!({ "type": "string" }),
                (name, _) => reference(name),
            };
            response["content"] = json!({ *media_type: { "schema": schema } });
        }
        if success.located {
            response["headers"] = json!({ "Location": { "schema": { "type": "string" } } });
        }
        if operation.id == "GetNodeEvents" {
            let text = json!({ "required": true, "schema": { "type": "string" } });
            response["headers"] = json!({ "X-Plexsphere-API-Version": text, "Cache-Control": text });
        }
        responses.insert(success.status.to_string(), response);
    }
    let mut by_status: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
    for code in operation.problems.iter().copied().chain(global(operation)) {
        by_status.entry(code.status_u16()).or_default().insert(code.as_str());
    }
    for (status, codes) in by_status {
        let schema = if status == 403 && denial(operation) { "PermissionDenied" } else { "Problem" };
        let words: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
        let mut response = json!({
            "description": words.join(", "),
            "content": { "application/problem+json": { "schema": reference(schema) } },
            "x-problem-codes": codes,
        });
        if matches!(status, 429 | 503) {
            response["headers"] =
                json!({ "Retry-After": { "required": true, "schema": { "type": "integer", "minimum": 0 } } });
        }
        responses.entry(status.to_string()).or_insert(response);
    }
    json!(responses)
}

/// Codes that follow from what the operation is.
fn global(operation: &Operation) -> Vec<Code> {
    let mut codes = vec![Code::Internal];
    match operation.scheme {
        Scheme::Anonymous | Scheme::OperatorIfAny => {}
        Scheme::Operator => codes.push(Code::Unauthenticated),
        Scheme::Node => codes.extend([Code::Unauthorized, Code::NskInvalid, Code::NskRevoked]),
        Scheme::OperatorOrNode => {
            codes.extend([Code::Unauthenticated, Code::Unauthorized, Code::NskInvalid, Code::NskRevoked]);
        }
    }
    match operation.gate {
        Gate::Relation { .. } | Gate::AfterRead { .. } => codes.push(Code::PermissionDenied),
        Gate::OwnNode { denied, mismatch, .. } => {
            codes.push(mismatch);
            if operation.scheme == Scheme::OperatorOrNode {
                codes.push(denied);
            }
        }
        Gate::Open(_) | Gate::AnyCaller(_) => {}
    }
    if let Some(rules) = &operation.body {
        codes.extend([rules.malformed, rules.too_large, Code::UnsupportedMediaType, Code::RequestTimeout]);
    }
    if operation.throttled || operation.own_throttle.is_some() {
        codes.push(Code::RateLimited);
    }
    if !matches!(operation.gate, Gate::Open(_)) {
        codes.extend([Code::AuthzUnavailable, Code::DatastoreUnavailable]);
    }
    if matches!(operation.scheme, Scheme::Operator | Scheme::OperatorOrNode) && !operation.method.is_safe() {
        codes.extend([Code::CsrfOriginMismatch, Code::CsrfOriginNotConfigured, Code::CsrfTokenMismatch]);
    }
    codes
}

fn denial(operation: &Operation) -> bool {
    match operation.gate {
        // A page's 403 is either a refusal or a foreign cursor, so only what both have in common is described.
        Gate::Relation { .. } | Gate::AfterRead { .. } => !operation.problems.contains(&Code::CursorBindingMismatch),
        Gate::OwnNode { .. } => operation.scheme == Scheme::Node,
        Gate::Open(_) | Gate::AnyCaller(_) => false,
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn own_schemas() -> BTreeMap<String, Value> {
    let text = json!({ "type": "string" });
    let mut problem = json!({
        "type": "object",
        "description": "An error document (RFC 9457).",
        "required": ["type", "title", "status", "detail", "instance"],
        "properties": {
            "type": text, "title": text, "status": { "type": "integer" }, "detail": text, "instance": text, "code": text,
        },
    });
    let mut denied = problem.clone();
    let counts = |name: &str| json!({ "allOf": [reference(name)] });
    problem["properties"]["dimension"] = text.clone();
    problem["properties"]["correlation_id"] = text.clone();
    problem["properties"]["child_counts"] = counts("DomainChildCounts");
    problem["properties"]["project_child_counts"] = counts("ProjectChildCounts");
    problem["properties"]["cloud_child_counts"] = counts("CloudChildCounts");
    denied["description"] = "An authorisation refusal.".into();
    denied["required"] = json!(["type", "title", "status", "detail", "instance", "reason", "correlation_id"]);
    denied["properties"]["reason"] =
        json!({ "type": "string", "enum": ["out_of_scope", "insufficient_relation", "caveat_violation"] });
    denied["properties"]["relation_path"] = json!({ "type": "array", "items": text });
    denied["properties"]["correlation_id"] = text;
    let count = json!({ "type": "integer", "minimum": 0 });
    let clouds = json!({
        "type": "object",
        "description": "What keeps a Cloud from being deleted.",
        "required": ["cloud_credentials", "cloud_credential_usages"],
        "properties": { "cloud_credentials": count, "cloud_credential_usages": count },
    });
    let value = |schema| serde_json::to_value(schema).unwrap_or_default();
    BTreeMap::from([
        ("Problem".to_owned(), problem),
        ("PermissionDenied".to_owned(), denied),
        ("CloudChildCounts".to_owned(), clouds),
        (ChildCounts::name().into_owned(), value(ChildCounts::schema())),
        (ProjectChildCounts::name().into_owned(), value(ProjectChildCounts::schema())),
    ])
}

/// Writes scalar schemas in place, and takes back the `null` that the generator gives to every optional member: an
/// absent value is an omitted member here, unless the schema says `x-nullable`.
fn settle(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let nullable = members.remove("x-nullable").is_some();
            if !nullable {
                drop_null(members);
            }
            if let Some(Value::String(target)) = members.get("$ref") {
                let format = match target.rsplit('/').next() {
                    Some(schema::UUID) => Some("uuid"),
                    Some(schema::DATE_TIME) => Some("date-time"),
                    _ => None,
                };
                if let Some(format) = format {
                    members.remove("$ref");
                    members.insert("type".to_owned(), "string".into());
                    members.insert("format".to_owned(), format.into());
                }
            }
            merge_all_of(members);
            members.values_mut().for_each(settle);
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Writes an inlined schema in place: the generator wraps it into `allOf` beside its description.
fn merge_all_of(members: &mut Map<String, Value>) {
    let Some(Value::Array(parts)) = members.get("allOf") else { return };
    let is_reference = |part: &Value| part.get("$ref").is_some();
    if parts.len() < 2 || parts.iter().any(is_reference) {
        return;
    }
    let parts = parts.clone();
    members.remove("allOf");
    // The first part is the schema itself; what stands beside it only describes.
    for part in parts.into_iter().rev() {
        if let Value::Object(part) = part {
            members.extend(part);
        }
    }
}

fn drop_null(members: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = members.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            members.insert("type".to_owned(), only);
        }
    }
    let single = match members.get("oneOf").and_then(Value::as_array) {
        Some(choices) if choices.iter().any(|choice| choice["type"] == "null") => {
            let rest: Vec<&Value> = choices.iter().filter(|choice| choice["type"] != "null").collect();
            match rest.as_slice() {
                [only] => Some((*only).clone()),
                _ => None,
            }
        }
        _ => None,
    };
    if let Some(Value::Object(only)) = single {
        members.remove("oneOf");
        members.extend(only);
    }
}
