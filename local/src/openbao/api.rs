//! The few calls of OpenBao's HTTP API that its set-up needs.

use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::LocalError;

const NAME: &str = "bao";
/// A single node may take a whole election to lead itself.
const ACTIVE_WITHIN: Duration = Duration::from_secs(60);
const REQUEST_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub(super) struct Api {
    client: Client,
    base: String,
    token: Option<String>,
}

#[derive(Deserialize)]
struct Initialised {
    keys_base64: Vec<String>,
    root_token: String,
}

impl Api {
    pub(super) fn new(base: &str, token: Option<&str>) -> Result<Self, LocalError> {
        // Loopback is never reached through a proxy, whatever the environment says.
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(REQUEST_WITHIN)
            .build()
            .map_err(refused)?;
        Ok(Self { client, base: base.to_owned(), token: token.map(str::to_owned) })
    }

    /// Whether it answers at all, sealed or not.
    pub(super) async fn answers(&self) -> bool {
        self.call(Method::GET, "sys/seal-status", None).await.is_ok()
    }

    pub(super) async fn is_initialised(&self) -> Result<bool, LocalError> {
        let status = self.call(Method::GET, "sys/init", None).await?;
        Ok(status.get("initialized").and_then(Value::as_bool).unwrap_or(false))
    }

    /// Makes one unseal key; returns it with the root token.
    pub(super) async fn initialise(&self) -> Result<(String, String), LocalError> {
        let body = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let answer = self.call(Method::PUT, "sys/init", Some(body)).await?;
        let Initialised { keys_base64, root_token } = serde_json::from_value(answer).map_err(refused)?;
        let key = keys_base64.into_iter().next().ok_or_else(|| refused("it made no unseal key"))?;
        Ok((key, root_token))
    }

    pub(super) async fn unseal(&self, key: &str) -> Result<(), LocalError> {
        let answer = self.call(Method::PUT, "sys/unseal", Some(json!({ "key": key }))).await?;
        match answer.get("sealed").and_then(Value::as_bool) {
            Some(false) => Ok(()),
            _ => Err(refused("it stays sealed with the key in the data folder")),
        }
    }

    pub(super) async fn until_active(&self) -> Result<(), LocalError> {
        let until = Instant::now() + ACTIVE_WITHIN;
        loop {
            let health = self.client.get(format!("{}/v1/sys/health", self.base)).send().await;
            if health.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(refused(format!("it was not active within {} s", ACTIVE_WITHIN.as_secs())));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The mounted paths, each with its trailing slash.
    pub(super) async fn mounts(&self) -> Result<Vec<String>, LocalError> {
        let answer = self.call(Method::GET, "sys/mounts", None).await?;
        let mounts = answer.get("data").and_then(Value::as_object);
        Ok(mounts.map(|mounts| mounts.keys().cloned().collect()).unwrap_or_default())
    }

    pub(super) async fn mount(&self, path: &str, kind: &str, version: Option<&str>) -> Result<(), LocalError> {
        let mut body = json!({ "type": kind });
        if let (Some(version), Some(body)) = (version, body.as_object_mut()) {
            body.insert("options".to_owned(), json!({ "version": version }));
        }
        self.call(Method::POST, &format!("sys/mounts/{path}"), Some(body)).await.map(drop)
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, LocalError> {
        let mut request = self.client.request(method, format!("{}/v1/{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("X-Vault-Token", token);
        }
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(refused)?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(refused)?;
        if !status.is_success() {
            let text = String::from_utf8_lossy(&bytes);
            return Err(refused(format!("{path} answered {status}: {}", text.trim())));
        }
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(refused)
    }
}

fn refused(reason: impl ToString) -> LocalError {
    LocalError::SetUp { what: NAME, reason: reason.to_string() }
}
