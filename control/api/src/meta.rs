//! The meta operations: health, version, the API document and its page.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode};
use plexsphere_kernel::http::{Gate, Operation, OperationBuilder, Reply};
use plexsphere_wire::{Code, Problem, Timestamp};
use serde::Serialize;

use crate::{CheckStatus, Health, HealthStatus};

const REDOC: &[u8] = include_bytes!("../assets/redoc.standalone.js");
const REDOC_NAME: &str = "redoc.standalone.js";

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>plexsphere API</title></head>
<body style="margin:0"><redoc spec-url="/v1/openapi.json"></redoc><script src="/v1/docs/assets/redoc.standalone.js"></script></body>
</html>
"#;

const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; worker-src blob:; frame-ancestors 'none'; base-uri 'none'";

/// What was fixed when the program was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// A semantic version with a leading `v`, or `dev`.
    pub version: &'static str,
    /// The commit in lower-case hex; zeros when unknown.
    pub commit: &'static str,
    /// The commit's time.
    pub date: Timestamp,
}

/// The running build.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
struct VersionInfo {
    /// A semantic version with a leading `v`, or `dev`.
    version: &'static str,
    /// The commit in lower-case hex.
    commit: &'static str,
    /// The commit's time.
    date: Timestamp,
}

fn get(id: &'static str, path: &'static str) -> OperationBuilder {
    Operation::new(id, Method::GET, path, Gate::Open("describes the installation, not what is in it"))
}

fn health() -> OperationBuilder {
    get("GetHealth", "/v1/health")
        .words(
            "meta",
            "Health of this installation",
            "The rollup of all checks. `ok` and `degraded` answer 200, `down` answers 503 with the same document.",
        )
        .answers::<HealthStatus>(200, "Works, perhaps with limits.")
        .answers::<HealthStatus>(503, "Does not work.")
}

fn version() -> OperationBuilder {
    get("GetVersion", "/v1/version")
        .words("meta", "The running build", "Version, commit and date that were fixed when the program was built.")
        .answers::<VersionInfo>(200, "The build.")
}

fn openapi() -> OperationBuilder {
    get("GetOpenAPI", "/v1/openapi.json")
        .words("meta", "This document", "The API document of the running build, as JSON.")
        .answers_media(200, "application/json", "The document.")
}

fn docs() -> OperationBuilder {
    get("GetDocs", "/v1/docs")
        .words("meta", "This document as a page", "A page that renders the document and loads nothing from elsewhere.")
        .answers_media(200, "text/html", "The page.")
}

fn docs_asset() -> OperationBuilder {
    get("GetDocsAsset", "/v1/docs/assets/{asset}")
        .words("meta", "A part of the page", "A file that the page needs, by its exact name.")
        .answers_media(200, "application/javascript", "The file.")
        .problems(&[Code::NotFound])
}

/// The five operations as the document needs them.
pub(crate) fn described() -> Vec<Operation> {
    [health(), version(), openapi(), docs(), docs_asset()].map(OperationBuilder::described).into()
}

/// The five operations as they are served.
pub(crate) fn operations(state: Health, build: BuildInfo, document: Arc<[u8]>) -> Vec<Operation> {
    let page_policy = HeaderName::from_static("content-security-policy");
    let document = Bytes::from_owner(document);
    vec![
        health().handler(move |_| {
            let status = state.status();
            async move {
                let code = match status.status {
                    CheckStatus::Down => StatusCode::SERVICE_UNAVAILABLE,
                    CheckStatus::Ok | CheckStatus::Degraded => StatusCode::OK,
                };
                Reply::json(code, &status)
            }
        }),
        version().handler(move |_| async move {
            let info = VersionInfo { version: build.version, commit: build.commit, date: build.date };
            Reply::json(StatusCode::OK, &info)
        }),
        openapi().handler(move |_| {
            let document = document.clone();
            async move { Ok(Reply::bytes("application/json", document)) }
        }),
        docs().handler(move |_| {
            let page_policy = page_policy.clone();
            async move { Ok(Reply::bytes("text/html; charset=utf-8", PAGE).header(page_policy, PAGE_POLICY)) }
        }),
        docs_asset().handler(|call| async move {
            let name = call.params.text("asset");
            if name == REDOC_NAME {
                let cache = "public, max-age=31536000, immutable";
                return Ok(Reply::bytes("application/javascript", REDOC).header(http::header::CACHE_CONTROL, cache));
            }
            let shown: String = name.chars().take(64).collect();
            Err(Problem::new(Code::NotFound, format!("There is no asset `{shown}`.")))
        }),
    ]
}
