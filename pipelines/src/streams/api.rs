//! The few requests of the JetStream API that are made in JSON.

use async_nats::jetstream::{self, consumer};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::settings::StreamSettings;
use crate::route::Route;

/// Why the topology is not in order.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The server takes smaller messages than a batch may have.
    #[error("the bus takes messages of at most {offered} bytes, {needed} are needed")]
    Payload {
        /// What the server offers, in bytes.
        offered: usize,
        /// What is needed, in bytes.
        needed: usize,
    },
    /// The server has too little storage even for the smallest size.
    #[error("the bus has too little storage for stream {stream}")]
    Storage {
        /// The stream.
        stream: String,
    },
    /// A stream or consumer of this name exists with a setting that cannot be changed in place.
    #[error("{what} has {setting} {found} instead of {wanted}")]
    Settings {
        /// The stream or durable.
        what: String,
        /// The setting.
        setting: &'static str,
        /// Its value as it should be.
        wanted: String,
        /// Its value as it is.
        found: String,
    },
    /// The bus did not answer, or refused.
    #[error("the bus refused {what}: {detail}")]
    Unavailable {
        /// What was asked for.
        what: String,
        /// What the client or the server said.
        detail: String,
    },
}

/// How a creation ended.
pub(super) enum Reply {
    Done,
    /// A stream of this name exists.
    Exists,
}

#[derive(Deserialize)]
struct Response {
    error: Option<ApiError>,
    config: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

const STREAM_NOT_FOUND: u64 = 10_059;
const CONSUMER_NOT_FOUND: u64 = 10_014;
const STREAM_NAME_EXISTS: u64 = 10_058;
/// Account limit, insufficient resources, memory, storage, and the account's largest stream.
const NO_STORAGE: [u64; 5] = [10_002, 10_023, 10_028, 10_047, 10_122];

// === impl TopologyError ===

impl TopologyError {
    pub(super) fn unexpected(what: &str, error: &(impl ToString + ?Sized)) -> Self {
        Self::Unavailable { what: what.to_owned(), detail: error.to_string() }
    }
}

impl ApiError {
    fn into_topology(self, what: &str) -> TopologyError {
        if NO_STORAGE.contains(&self.err_code) {
            return TopologyError::Storage { stream: what.to_owned() };
        }
        TopologyError::unexpected(what, &format!("{} ({})", self.description, self.err_code))
    }
}

/// The settings of a stream, `None` when there is no such stream.
pub(super) async fn stream_config(
    jetstream: &jetstream::Context,
    name: &str,
) -> Result<Option<Map<String, Value>>, TopologyError> {
    let response = request(jetstream, format!("STREAM.INFO.{name}"), &json!({}), name).await?;
    match response.error {
        Some(error) if error.err_code == STREAM_NOT_FOUND => Ok(None),
        Some(error) => Err(error.into_topology(name)),
        None => Ok(Some(response.config.unwrap_or_default())),
    }
}

pub(super) async fn create_stream(
    jetstream: &jetstream::Context,
    wanted: &StreamSettings,
) -> Result<Reply, TopologyError> {
    let response = request(jetstream, format!("STREAM.CREATE.{}", wanted.name), &wanted.body, wanted.name).await?;
    match response.error {
        None => Ok(Reply::Done),
        Some(error) if error.err_code == STREAM_NAME_EXISTS => Ok(Reply::Exists),
        Some(error) => Err(error.into_topology(wanted.name)),
    }
}

pub(super) async fn update_stream(
    jetstream: &jetstream::Context,
    name: &str,
    body: &Map<String, Value>,
) -> Result<(), TopologyError> {
    let response = request(jetstream, format!("STREAM.UPDATE.{name}"), body, name).await?;
    response.error.map_or(Ok(()), |error| Err(error.into_topology(name)))
}

/// The settings of a route's consumer, `None` when there is no such durable.
pub(super) async fn consumer_config(
    jetstream: &jetstream::Context,
    route: Route,
) -> Result<Option<consumer::Config>, TopologyError> {
    let subject = format!("CONSUMER.INFO.{}.{}", route.stream(), route.durable());
    let response = request(jetstream, subject, &json!({}), route.durable()).await?;
    match response.error {
        Some(error) if error.err_code == CONSUMER_NOT_FOUND => Ok(None),
        Some(error) => Err(error.into_topology(route.durable())),
        None => serde_json::from_value(Value::Object(response.config.unwrap_or_default()))
            .map(Some)
            .map_err(|error| TopologyError::unexpected(route.durable(), &error)),
    }
}

async fn request(
    jetstream: &jetstream::Context,
    subject: String,
    body: &(impl serde::Serialize + ?Sized),
    what: &str,
) -> Result<Response, TopologyError> {
    jetstream
        .request(subject, body)
        .await
        .map_err(|error: jetstream::context::RequestError| TopologyError::unexpected(what, &error))
}
