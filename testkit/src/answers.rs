//! Answers against the API document: every one that a test sees must be one that the document describes, and is noted, so
//! that what the document promises and no test ever saw can be listed.
//!
//! An answer must have a described status, media type and problem code, and a body that fits its schema, without members
//! that the schema does not name. A success also proves its request: a body that was taken must fit the request's schema.
#![expect(clippy::indexing_slicing, reason = "what is missing in a JSON value reads as null")]

mod client;

use std::collections::{HashMap, HashSet};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use jsonschema::Validator;
use parking_lot::Mutex;
use serde_json::{Value, json};

pub use client::Answer;

/// Bodies up to this many bytes are looked at; a longer request travels on as it is.
const MOST: u64 = 4 * 1024 * 1024;
/// Codes that any operation may answer: what the transport and a lost dependency make of a request.
const ANYWHERE: [&str; 5] =
    ["internal", "request_timeout", "uri_too_long", "header_too_large", "datastore_unavailable"];
/// Where an operation takes more than the document says, on purpose: members of newer agents, and an empty text for none.
const LENIENT: [(&str, &str); 2] = [("PostRegister", ""), ("CreateDomain", "/region")];
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// One exchange, as a test saw it.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The path, without the query.
    pub path: &'a str,
    /// The request's body, where it is known and not compressed.
    pub request: Option<&'a [u8]>,
    /// The answer's status.
    pub status: StatusCode,
    /// The answer's headers.
    pub headers: &'a HeaderMap,
    /// The answer's body.
    pub body: &'a [u8],
}

/// The document, ready to be compared with.
pub struct Answers {
    document: Value,
    operations: Vec<(String, Vec<String>)>,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
    seen: Mutex<HashSet<String>>,
}

impl Answers {
    /// Prepares an API document (OpenAPI 3.1).
    #[must_use]
    pub fn of(mut document: Value) -> Arc<Self> {
        let mut operations = Vec::new();
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            for method in METHODS.iter().filter(|method| item.get(**method).is_some()) {
                operations.push(((*method).to_owned(), path.split('/').map(str::to_owned).collect()));
            }
        }
        close(&mut document, false);
        Arc::new(Self { document, operations, validators: Mutex::default(), seen: Mutex::default() })
    }

    /// Puts the comparison around a router.
    pub fn guard(self: &Arc<Self>, router: Router) -> Router {
        let answers = Arc::clone(self);
        router.layer(from_fn(move |request: Request, next: Next| {
            let answers = Arc::clone(&answers);
            async move { answers.watch(request, next).await }
        }))
    }

    async fn watch(&self, request: Request, next: Next) -> Response {
        let (parts, body) = request.into_parts();
        let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
        let plain = !parts.headers.contains_key(CONTENT_ENCODING);
        let (sent, body) = if plain && body.size_hint().exact().is_some_and(|length| length <= MOST) {
            let bytes = body.collect().await.expect("the body of a test").to_bytes();
            (Some(bytes.clone()), Body::from(bytes))
        } else {
            (None, body)
        };
        let (parts, body) = next.run(Request::from_parts(parts, body)).await.into_parts();
        let bytes = body.collect().await.expect("the body of an answer").to_bytes();
        self.check(&Exchange {
            method: &method,
            path: &path,
            request: sent.as_deref(),
            status: parts.status,
            headers: &parts.headers,
            body: &bytes,
        });
        Response::from_parts(parts, Body::from(bytes))
    }

    /// Compares one exchange with the document and notes it.
    ///
    /// # Panics
    /// When the document does not describe it.
    pub fn check(&self, exchange: &Exchange<'_>) {
        if let Err(what) = self.compare(exchange) {
            panic!("{what}");
        }
    }

    /// As [`Self::check`], for whoever gathers what is wrong.
    ///
    /// # Errors
    /// What the document does not describe.
    pub fn compare(&self, exchange: &Exchange<'_>) -> Result<(), String> {
        self.judge(exchange).map_err(|what| {
            let body = String::from_utf8_lossy(exchange.body);
            let Exchange { method, path, status, .. } = exchange;
            format!("{method} {path} answered {status}, which the document does not describe: {what}\n{body}")
        })
    }

    fn judge(&self, exchange: &Exchange<'_>) -> Result<(), String> {
        let Some((pointer, operation)) = self.operation(exchange.method, exchange.path) else {
            let known = matches!(exchange.status.as_u16(), 404 | 405);
            return if known || *exchange.method == Method::HEAD {
                Ok(())
            } else {
                Err("no such operation".to_owned())
            };
        };
        let media = exchange.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let media = media.split(';').next().unwrap_or("").trim();
        let status = exchange.status.as_str();
        let code = if media == "application/problem+json" { code(exchange)? } else { "-".to_owned() };
        self.note(operation["operationId"].as_str().unwrap_or(""), status, &code);
        if code != "-" {
            return self.problem(&operation["responses"][status], &code, exchange);
        }
        let response = &operation["responses"][status];
        if response.is_null() {
            return Err("no such status".to_owned());
        }
        if response["headers"].get("Location").is_some() && !exchange.headers.contains_key(http::header::LOCATION) {
            return Err("no Location".to_owned());
        }
        let Some(content) = response.get("content") else {
            return if exchange.body.is_empty() { Ok(()) } else { Err("no body is described".to_owned()) };
        };
        if content.get(media).is_none() {
            return Err(format!("no media type {media:?}"));
        }
        if media == "application/json" {
            let body = inflated(exchange)?;
            self.fits(&format!("{pointer}/responses/{status}/content/application~1json/schema"), &body, None)?;
        }
        match (exchange.request, operation["requestBody"]["content"].get("application/json")) {
            (Some(sent), Some(_)) if !sent.is_empty() && exchange.status.is_success() => {
                let place = format!("{pointer}/requestBody/content/application~1json/schema");
                let lenient =
                    LENIENT.iter().find(|(name, _)| operation["operationId"] == **name).map(|(_, place)| *place);
                self.fits(&place, sent, lenient).map_err(|what| format!("the request was taken: {what}"))
            }
            _ => Ok(()),
        }
    }

    /// A problem's code must be one of the status's codes, and its body have the members of its kind.
    fn problem(&self, response: &Value, code: &str, exchange: &Exchange<'_>) -> Result<(), String> {
        let codes = response["x-problem-codes"].as_array();
        let described = codes.is_some_and(|codes| codes.iter().any(|known| known == code));
        if !described && !ANYWHERE.contains(&code) {
            return Err(format!("no code {code} for this status"));
        }
        if matches!(exchange.status.as_u16(), 429 | 503) && !exchange.headers.contains_key(http::header::RETRY_AFTER) {
            return Err("no Retry-After".to_owned());
        }
        let body: Value = serde_json::from_slice(exchange.body).map_err(|error| error.to_string())?;
        let kind = if body.get("reason").is_some() { "PermissionDenied" } else { "Problem" };
        self.fits(&format!("/components/schemas/{kind}"), exchange.body, None)
    }

    /// Whether a text fits the schema at a place of the document, but for what stands at `lenient` in it.
    fn fits(&self, place: &str, text: &[u8], lenient: Option<&str>) -> Result<(), String> {
        let value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let validator = self.validator(place);
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .filter(|error| lenient != Some(error.instance_path().as_str()))
            .take(3)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
    }

    fn validator(&self, place: &str) -> Arc<Validator> {
        let mut validators = self.validators.lock();
        if let Some(known) = validators.get(place) {
            return Arc::clone(known);
        }
        let schema = json!({
            "$ref": format!("#{place}"),
            "paths": self.document["paths"],
            "components": self.document["components"],
        });
        let made =
            jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema of the document");
        let made = Arc::new(made);
        validators.insert(place.to_owned(), Arc::clone(&made));
        made
    }

    /// The operation of a method and path, with its JSON pointer. Fixed segments win over parameters.
    fn operation(&self, method: &Method, path: &str) -> Option<(String, &Value)> {
        let method = method.as_str().to_ascii_lowercase();
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |template: &[String]| {
            template.len() == parts.len()
                && template.iter().zip(&parts).all(|(want, have)| want.starts_with('{') || want == have)
        };
        let fixed = |template: &[String]| template.iter().filter(|part| !part.starts_with('{')).count();
        let (_, template) = self
            .operations
            .iter()
            .filter(|(known, template)| *known == method && fits(template))
            .max_by_key(|(_, template)| fixed(template))?;
        let template = template.join("/");
        let pointer = format!("/paths/{}/{method}", template.replace('~', "~0").replace('/', "~1"));
        // A reference is a URI, so what is no character of one is escaped.
        let pointer = pointer.replace('{', "%7B").replace('}', "%7D");
        Some((pointer, &self.document["paths"][template][method]))
    }

    fn note(&self, operation: &str, status: &str, code: &str) {
        let line = format!("{operation} {status} {code}\n");
        if self.seen.lock().insert(line.clone()) {
            append(&line);
        }
    }
}

/// The body as it was before it was compressed.
fn inflated(exchange: &Exchange<'_>) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    match exchange.headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None => return Ok(exchange.body.to_vec()),
        Some(b"gzip") => flate2::read::GzDecoder::new(exchange.body).read_to_end(&mut plain),
        Some(_) => return Err("an unknown content encoding".to_owned()),
    }
    .map_err(|error| error.to_string())?;
    Ok(plain)
}

/// The code of a problem.
fn code(exchange: &Exchange<'_>) -> Result<String, String> {
    let body: Value = serde_json::from_slice(exchange.body).map_err(|error| error.to_string())?;
    body["code"].as_str().map(str::to_owned).ok_or_else(|| "a problem without a code".to_owned())
}

/// Notes of all test programs are gathered in one folder, a file for each program.
fn append(line: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/answers");
    let program = std::env::current_exe().ok();
    let name = program.as_deref().and_then(Path::file_stem).and_then(std::ffi::OsStr::to_str).unwrap_or("tests");
    let written = std::fs::create_dir_all(&folder).and_then(|()| {
        let mut file = std::fs::File::options().create(true).append(true).open(folder.join(name))?;
        file.write_all(line.as_bytes())
    });
    written.expect("the folder of build results can be written");
}

/// Makes objects refuse members that they do not name; a part of a composition is closed by the whole.
fn close(value: &mut Value, part: bool) {
    match value {
        Value::Object(members) => {
            let composed = members.get("allOf").is_some_and(Value::is_array);
            let open = members.get("additionalProperties").is_none() && members.get("unevaluatedProperties").is_none();
            let names = members.get("properties").is_some_and(Value::is_object);
            for (name, inner) in members.iter_mut() {
                match (name.as_str(), inner) {
                    ("allOf" | "oneOf" | "anyOf", Value::Array(parts)) => {
                        parts.iter_mut().for_each(|inner| close(inner, composed || part));
                    }
                    (_, inner) => close(inner, false),
                }
            }
            if open && (names || composed) && !part {
                members.insert("unevaluatedProperties".to_owned(), false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| close(item, false)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
