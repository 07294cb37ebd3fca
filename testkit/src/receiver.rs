//! An endpoint that is as strict as Mimir, Loki and a SIEM collector: a request that they would refuse is a violation.
//!
//! The messages are declared here once more, so that a wrong field number in the renderers cannot read itself back.

mod messages;

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use prost::Message;
use serde_json::Value;

pub use messages::{Entry, Label, Pair, PushRequest, PushTime, Sample, Stream, TimeSeries, WriteRequest};

/// What a request carried.
#[derive(Clone, Debug)]
pub enum Push {
    /// Metrics, at `/api/v1/push`.
    Mimir(WriteRequest),
    /// Logs and audit, at `/loki/api/v1/push`.
    Loki(PushRequest),
    /// Records, at `/siem`.
    Siem(Vec<Value>),
}

/// One request that was no violation.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `X-Scope-OrgID`.
    pub tenant: String,
    /// `X-Plexsphere-Batch-Id`.
    pub batch_id: Option<String>,
    /// `Authorization`, verbatim.
    pub authorization: Option<String>,
    /// The body as it came.
    pub bytes: Bytes,
    /// The body as it reads.
    pub push: Push,
    /// When it came.
    pub at: Instant,
    /// What it was answered.
    pub status: u16,
}

/// What to answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// `Location`.
    pub location: Option<String>,
    /// How long the answer is held back.
    pub delay: Duration,
}

type Script = Arc<dyn Fn(&Seen) -> Answer + Send + Sync>;

/// The endpoint. It ends with the test's runtime.
#[derive(Clone)]
pub struct Receiver {
    /// `http://` and its address, without a path.
    pub url: String,
    inner: Arc<Inner>,
}

struct Inner {
    seen: Mutex<Vec<Seen>>,
    violations: Mutex<Vec<String>>,
    script: Mutex<Script>,
}

impl Answer {
    /// A bare status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }
}

impl Seen {
    /// Whether it went to the SIEM.
    #[must_use]
    pub const fn is_siem(&self) -> bool {
        matches!(self.push, Push::Siem(_))
    }

    /// How many records it carried.
    #[must_use]
    pub fn records(&self) -> usize {
        match &self.push {
            Push::Mimir(request) => request.timeseries.iter().map(|series| series.samples.len()).sum(),
            Push::Loki(request) => request.streams.iter().map(|stream| stream.entries.len()).sum(),
            Push::Siem(records) => records.len(),
        }
    }

    /// Whether a line, name or member holds the text.
    #[must_use]
    pub fn mentions(&self, text: &str) -> bool {
        format!("{:?}", self.push).contains(text)
    }
}

impl Receiver {
    /// Listens on a free port of the loopback and answers 204.
    pub async fn start() -> Self {
        let inner = Arc::new(Inner {
            seen: Mutex::default(),
            violations: Mutex::default(),
            script: Mutex::new(Arc::new(|_: &Seen| Answer::status(204))),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(handle).with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, inner }
    }

    /// Answers as `script` says from now on.
    pub fn script(&self, script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) {
        *self.inner.script.lock() = Arc::new(script);
    }

    /// Every request so far, in order.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().clone()
    }

    /// Those that were answered with success.
    #[must_use]
    pub fn accepted(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.status < 300).collect()
    }

    /// Fails the test when a request broke a rule of its receiver.
    pub fn assert_no_violation(&self) {
        assert_eq!(*self.inner.violations.lock(), Vec::<String>::new());
    }
}

async fn handle(State(inner): State<Arc<Inner>>, uri: Uri, headers: HeaderMap, bytes: Bytes) -> Response {
    let seen = match read(uri.path(), &headers, bytes) {
        Ok(seen) => seen,
        Err(violation) => {
            inner.violations.lock().push(violation.clone());
            return (StatusCode::IM_A_TEAPOT, violation).into_response();
        }
    };
    let script = Arc::clone(&inner.script.lock());
    let answer = script(&seen);
    inner.seen.lock().push(Seen { status: answer.status, ..seen });
    tokio::time::sleep(answer.delay).await;
    let mut response = (StatusCode::from_u16(answer.status).unwrap(), "said the receiver").into_response();
    if let Some(seconds) = answer.retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    if let Some(location) = answer.location {
        response.headers_mut().insert("location", location.parse().unwrap());
    }
    response
}

fn read(path: &str, headers: &HeaderMap, bytes: Bytes) -> Result<Seen, String> {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let expect = |name: &str, wanted: Option<&str>| match (header(name), wanted) {
        (found, wanted) if found.as_deref() == wanted => Ok(()),
        (found, wanted) => Err(format!("{path}: {name} is {found:?}, not {wanted:?}")),
    };
    let tenant = header("x-scope-orgid").ok_or("no tenant")?;
    if tenant.parse::<uuid::Uuid>().is_err() || tenant != tenant.to_lowercase() {
        return Err(format!("tenant {tenant} is no domain"));
    }
    expect("user-agent", Some(concat!("plexsphere/", env!("CARGO_PKG_VERSION"))))?;
    let push = match path {
        "/api/v1/push" => {
            expect("content-type", Some("application/x-protobuf"))?;
            expect("content-encoding", Some("snappy"))?;
            expect("x-prometheus-remote-write-version", Some("0.1.0"))?;
            expect("x-plexsphere-batch-id", None)?;
            Push::Mimir(mimir(&bytes)?)
        }
        "/loki/api/v1/push" => {
            expect("content-type", Some("application/x-protobuf"))?;
            expect("content-encoding", None)?;
            expect("x-prometheus-remote-write-version", None)?;
            Push::Loki(loki(&bytes)?)
        }
        "/siem" => {
            expect("content-type", Some("application/x-ndjson"))?;
            expect("content-encoding", Some("gzip"))?;
            Push::Siem(siem(&bytes, &tenant)?)
        }
        other => return Err(format!("unknown path {other}")),
    };
    let (batch_id, authorization) = (header("x-plexsphere-batch-id"), header("authorization"));
    Ok(Seen { tenant, batch_id, authorization, bytes, push, at: Instant::now(), status: 0 })
}

fn unsnap(bytes: &[u8]) -> Result<Vec<u8>, String> {
    snap::raw::Decoder::new().decompress_vec(bytes).map_err(|error| format!("no snappy block: {error}"))
}

fn mimir(bytes: &[u8]) -> Result<WriteRequest, String> {
    let request = WriteRequest::decode(unsnap(bytes)?.as_slice()).map_err(|error| error.to_string())?;
    let mut sets = BTreeSet::new();
    for series in &request.timeseries {
        if !series.labels.is_sorted_by(|one, next| one.name < next.name) {
            return Err(format!("labels are not sorted or repeat: {:?}", series.labels));
        }
        let legal = |name: &str| {
            name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && !name.starts_with(|first: char| first.is_ascii_digit())
        };
        if series.labels.iter().any(|label| label.value.is_empty() || !legal(&label.name)) {
            return Err(format!("illegal label: {:?}", series.labels));
        }
        if !series.labels.iter().any(|label| label.name == "__name__") {
            return Err("series without a name".to_owned());
        }
        if series.samples.is_empty() || !series.samples.is_sorted_by(|one, next| one.timestamp < next.timestamp) {
            return Err("samples are not sorted or repeat".to_owned());
        }
        if !sets.insert(series.labels.clone()) {
            return Err("label set repeats".to_owned());
        }
    }
    Ok(request)
}

fn loki(bytes: &[u8]) -> Result<PushRequest, String> {
    let request = PushRequest::decode(unsnap(bytes)?.as_slice()).map_err(|error| error.to_string())?;
    for stream in &request.streams {
        let inside = stream.labels.strip_prefix('{').and_then(|labels| labels.strip_suffix('}')).ok_or("no braces")?;
        let names: Vec<&str> = inside.split("\",").map(|pair| pair.split('=').next().unwrap()).collect();
        if names.len() != 5 || !names.is_sorted() {
            return Err(format!("labels are not the closed set: {}", stream.labels));
        }
        let times = stream.entries.iter().map(|entry| entry.timestamp.map(|time| (time.seconds, time.nanos)));
        if stream.entries.is_empty() || !times.is_sorted() {
            return Err("entries are not sorted".to_owned());
        }
    }
    Ok(request)
}

fn siem(bytes: &[u8], tenant: &str) -> Result<Vec<Value>, String> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let records: Vec<Value> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if records.iter().any(|record| record["domain_id"] != tenant || record["schema"] != "plexsphere.siem.v1") {
        return Err("record of another domain or schema".to_owned());
    }
    Ok(records)
}
