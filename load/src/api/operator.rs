//! What setting a run up needs from the operator's side.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method};
use plexsphere_wire::{DomainId, ProjectId, ResourceId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{ApiError, decode};
use crate::transport::{Backoff, BackoffPolicy, Client, Request};

/// How often an operation is asked for that the platform has no room for.
const ATTEMPTS: u32 = 8;

/// A Resource that a Node can enrol for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRef {
    /// Its id.
    pub id: ResourceId,
    /// Its handle, which is its `external_ref`.
    pub handle: String,
}

/// The operator operations, with an operator's bearer token.
#[derive(Clone, Debug)]
pub struct OperatorApi {
    client: Arc<Client>,
    authorization: HeaderValue,
}

#[derive(Deserialize)]
struct Created<Id> {
    id: Id,
}

#[derive(Deserialize)]
struct Issued {
    token: String,
}

impl OperatorApi {
    /// The operations over `client`, as the holder of `token`.
    ///
    /// # Errors
    /// [`ApiError::Request`] when the token cannot stand in a header.
    pub fn new(client: Arc<Client>, token: &str) -> Result<Self, ApiError> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| ApiError::Request("the token is no header value".to_owned()))?;
        authorization.set_sensitive(true);
        Ok(Self { client, authorization })
    }

    /// `CreateDomain`.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub async fn create_domain(&self, slug: &str, mesh_cidr: &str) -> Result<DomainId, ApiError> {
        let body = json!({ "name": slug, "slug": slug, "mesh_cidr": mesh_cidr });
        self.post::<Created<DomainId>>("/v1/domains".to_owned(), &body).await.map(|created| created.id)
    }

    /// `CreateProject`.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub async fn create_project(&self, domain: DomainId, slug: &str) -> Result<ProjectId, ApiError> {
        let body = json!({ "domain_id": domain, "name": slug, "slug": slug });
        self.post::<Created<ProjectId>>("/v1/projects".to_owned(), &body).await.map(|created| created.id)
    }

    /// `CreateResource` with origin `adopted` and kind `vm`.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub async fn adopt_resource(&self, project: ProjectId, handle: &str) -> Result<ResourceRef, ApiError> {
        let body = json!({ "origin": "adopted", "kind": "vm", "external_ref": handle });
        let created: Created<ResourceId> = self.post(format!("/v1/projects/{project}/resources"), &body).await?;
        Ok(ResourceRef { id: created.id, handle: handle.to_owned() })
    }

    /// `IssueBootstrapToken` for a Node, valid for `ttl_seconds` (300..=86400).
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub async fn issue_token(&self, project: ProjectId, ttl_seconds: u32) -> Result<String, ApiError> {
        let body = json!({ "kind": "node", "env_prefix": "load", "ttl_seconds": ttl_seconds });
        let path = format!("/v1/projects/{project}/bootstrap-tokens");
        self.post::<Issued>(path, &body).await.map(|issued| issued.token)
    }

    async fn post<T: DeserializeOwned>(&self, path: String, body: &Value) -> Result<T, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let request = Request { method: Method::POST, path, headers, body: body.to_string().into() };
        let mut backoff = Backoff::new(BackoffPolicy::default());
        let mut attempts = 1;
        loop {
            let outcome: Result<T, ApiError> = decode(&self.client.send(request.clone()).await?);
            // Only what was refused before any work may be asked for again: these operations are not idempotent.
            let refused = outcome.as_ref().err().and_then(ApiError::refused);
            let Some(refused) = refused.filter(|refused| matches!(refused.status, 429 | 503) && attempts < ATTEMPTS)
            else {
                return outcome;
            };
            tokio::time::sleep(refused.retry_after_seconds.map_or_else(|| backoff.wait(), Duration::from_secs)).await;
            attempts += 1;
        }
    }
}
