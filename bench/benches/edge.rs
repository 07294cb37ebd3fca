//! The edge's hot path in process: look-up, budget, and one whole ingest request, each beside its cheapest baseline.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench that does not run must say so at once"
)]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::Request;
use plexsphere_bench::corpus;
use plexsphere_edge::body::RequestBody;
use plexsphere_edge::config::{DirectoryConfig, IngestConfig, QuotaConfig};
use plexsphere_edge::directory::{Directory, Lookup};
use plexsphere_edge::ingest::{BufferFault, BufferedBatch, Ingest, IngestBuffer, IngestDeps, Surface, SurfaceState};
use plexsphere_edge::metrics::Metrics;
use plexsphere_edge::quota::{ByteBudget, Quotas};
use plexsphere_edge::respond::Context;
use plexsphere_edge::{Clock, SystemClock};
use plexsphere_wire::directory::{Credential, CredentialState, NodeEntry};
use plexsphere_wire::nsk::{CredentialDigest, NskBearer, render_bearer};
use plexsphere_wire::subjects::Origin;
use plexsphere_wire::telemetry::{Encoding, Inflater, Limits, Shape, Signal, validate};
use plexsphere_wire::{CorrelationId, DomainId, NodeId, ProjectId, ResourceId, Timestamp};

/// Takes every batch at once: what is measured is the edge, not the bus.
struct Nothing;

impl IngestBuffer for Nothing {
    async fn publish(&self, batch: BufferedBatch) -> Result<(), BufferFault> {
        black_box(batch);
        Ok(())
    }
}

const NODES: usize = 20_000;
const KEY: [u8; 32] = [0x2a; 32];

fn entries(count: usize) -> Vec<NodeEntry> {
    let now = Timestamp::from_unix_seconds(1_780_000_000);
    let (domain, project) = (DomainId::mint(now), ProjectId::mint(now));
    (0..count)
        .map(|_| {
            let node = NodeId::mint(now);
            NodeEntry {
                node,
                domain,
                project,
                resource: ResourceId::mint(now),
                credentials: vec![Credential {
                    digest: CredentialDigest::of(node, &KEY),
                    state: CredentialState::Live,
                }],
                deregistered: false,
                pinned_kid: "k-1".to_owned(),
            }
        })
        .collect()
}

fn directory(criterion: &mut Criterion) {
    let entries = entries(NODES);
    let directory = Directory::new();
    let mut plain = HashMap::new();
    for entry in &entries {
        directory.put_node(entry.clone());
        plain.insert(entry.node, Arc::new(entry.clone()));
    }
    let bearers: Vec<_> = entries.iter().map(|entry| render_bearer("plexd", entry.node, &KEY)).collect();
    let mut group = criterion.benchmark_group("directory");
    group.throughput(Throughput::Elements(1));
    let mut turn = 0;
    let mut next = move || {
        turn = (turn + 7_919) % NODES;
        turn
    };
    group.bench_function("baseline: std HashMap look-up", |bencher| {
        bencher.iter(|| black_box(plain.get(&entries[next()].node).cloned()));
    });
    group.bench_function("baseline: SHA-256 of the credential", |bencher| {
        bencher.iter(|| black_box(CredentialDigest::of(entries[next()].node, &KEY)));
    });
    group.bench_function("look-up", |bencher| {
        bencher.iter(|| black_box(directory.node(entries[next()].node)));
    });
    group.bench_function("bearer parsed, hashed, looked up and judged", |bencher| {
        bencher.iter(|| {
            let bearer = NskBearer::parse(&bearers[next()]).expect("a bearer");
            let record = directory.node(bearer.node).expect("known");
            black_box(record.entry.judge(&bearer.digest()))
        });
    });
    group.finish();
}

fn quota(criterion: &mut Criterion) {
    let config = QuotaConfig {
        node_bytes_per_second: u64::MAX >> 20,
        node_burst_bytes: u64::MAX >> 20,
        domain_bytes_per_second: u64::MAX >> 20,
        domain_burst_bytes: u64::MAX >> 20,
        ..QuotaConfig::default()
    };
    let quotas = Quotas::new(&config);
    let origins: Vec<Origin> = entries(NODES)
        .iter()
        .map(|entry| Origin { domain: entry.domain, project: entry.project, node: entry.node })
        .collect();
    let counter = AtomicU64::new(0);
    let mut group = criterion.benchmark_group("quota");
    group.throughput(Throughput::Elements(1));
    group.bench_function("baseline: one atomic addition", |bencher| {
        bencher.iter(|| counter.fetch_add(black_box(2_400), Ordering::Relaxed));
    });
    let mut turn = 0usize;
    group.bench_function("charge Node and Domain", |bencher| {
        bencher.iter(|| {
            turn += 1;
            let now = Duration::from_nanos(u64::try_from(turn).unwrap_or(0));
            black_box(quotas.charge(&origins[turn % NODES], 2_400, now).is_ok())
        });
    });
    group.finish();
}

fn ingest(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let entry = entries(1).remove(0);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::register(&mut registry);
    let directory = Arc::new(Directory::new());
    directory.put_node(entry.clone());
    directory.mark_fresh(clock.monotonic());
    let client = runtime
        .block_on(async_nats::ConnectOptions::new().retry_on_initial_connect().connect("127.0.0.1:1"))
        .expect("a client that is not connected");
    let lookup =
        Arc::new(Lookup::new(directory, client, Arc::clone(&clock), metrics.clone(), &DirectoryConfig::default()));
    let quota = QuotaConfig {
        node_bytes_per_second: u64::MAX >> 20,
        node_burst_bytes: u64::MAX >> 20,
        domain_bytes_per_second: u64::MAX >> 20,
        domain_burst_bytes: u64::MAX >> 20,
        ..QuotaConfig::default()
    };
    let deps = IngestDeps {
        surface: Arc::new(Surface::new(SurfaceState::Open)),
        lookup,
        budget: Arc::new(Quotas::new(&quota)),
        clock: Arc::clone(&clock),
        metrics,
    };
    let ingest = Ingest::new(deps, Nothing, &IngestConfig::default(), Duration::from_secs(15));
    let path_id = entry.node.to_string();
    let bearer = format!("Bearer {}", render_bearer("plexd", entry.node, &KEY).as_str());
    let inflated = corpus::logs(1, 0, 200);
    let wire = Bytes::from(corpus::gzip(&inflated));
    let context = Context {
        path: format!("/v1/nodes/{path_id}/logs"),
        correlation_id: CorrelationId::mint(clock.now()),
        secure: false,
    };
    let request = || {
        Request::post(context.path.as_str())
            .header("authorization", &bearer)
            .header("content-encoding", "gzip")
            .header("x-plexsphere-sent-at", "2026-05-27T10:00:00Z")
            .body(RequestBody::Full(Some(wire.clone())))
            .expect("a request")
    };
    let (response, _) = runtime.block_on(ingest.handle(Signal::Logs, &path_id, request(), &context));
    assert_eq!(response.status(), 202);

    let mut group = criterion.benchmark_group("ingest/200 log lines, gzip");
    group.throughput(Throughput::Bytes(u64::try_from(inflated.len()).unwrap_or(0)));
    group.bench_function("baseline: gunzip", |bencher| {
        let mut inflater = Inflater::new();
        bencher.iter(|| black_box(inflater.inflate(Encoding::Gzip, &wire, 10 << 20).expect("gzip").len()));
    });
    group.bench_function("baseline: gunzip, validate", |bencher| {
        let mut inflater = Inflater::new();
        bencher.iter(|| {
            let inflated = inflater.inflate(Encoding::Gzip, &wire, 10 << 20).expect("gzip");
            black_box(validate(Signal::Logs, Shape::Ndjson, inflated, &Limits::default()).expect("a batch"))
        });
    });
    group.bench_function("one whole request", |bencher| {
        bencher.iter(|| {
            let (response, _) = runtime.block_on(ingest.handle(Signal::Logs, &path_id, request(), &context));
            black_box(response.status())
        });
    });
    group.finish();
}

criterion_group!(benches, directory, quota, ingest);
criterion_main!(benches);
