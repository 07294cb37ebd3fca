//! How fast a batch is judged, beside what no decoder could beat and what it would cost to build values.
//!
//! `cargo bench -p plexsphere-bench --bench decoder`
//!
//! Throughput counts inflated bytes. Per signal: `validate` is what the front door runs; `records` also asks every view
//! for its values, as the router does; `copy` is a memcpy of the same bytes; `utf8` only asks whether they are text;
//! `simd_json_tape` finds JSON's structure and applies no rule; `serde_json` is the strict typed decode that builds
//! values. Inflation, digest and re-encoding are measured on the same bodies.

#![allow(clippy::expect_used, missing_docs, reason = "a bench that does not run must say so at once")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use plexsphere_bench::corpus;
use plexsphere_wire::telemetry::{
    AuditEvent, Encoding, Inflater, Limits, LogLine, MetricSample, Records, Shape, Signal, batch_id, rewrite, validate,
};
use serde::Deserialize;
use time::OffsetDateTime;

struct Body {
    signal: Signal,
    plain: Vec<u8>,
}

fn bodies() -> [Body; 3] {
    [
        Body { signal: Signal::Metrics, plain: corpus::metrics(1, 1, corpus::POINTS) },
        Body { signal: Signal::Logs, plain: corpus::logs(1, 1, corpus::LINES) },
        Body { signal: Signal::Audit, plain: corpus::audit(1, 1, corpus::EVENTS) },
    ]
}

fn decoder(criterion: &mut Criterion) {
    for body in bodies() {
        let mut group = criterion.benchmark_group(body.signal.as_str());
        group.throughput(Throughput::Bytes(body.plain.len() as u64));
        ours(&mut group, &body);
        baselines(&mut group, &body);
        from_wire(&mut group, &body);
        group.finish();
    }
}

fn ours(group: &mut BenchmarkGroup<'_, WallTime>, body: &Body) {
    let limits = Limits::default();
    let shape = body.signal.received_shape();
    group.bench_function("validate", |bencher| {
        bencher.iter(|| validate(body.signal, shape, black_box(&body.plain), &limits).expect("valid"));
    });
    group.bench_function("records", |bencher| bencher.iter(|| read_all(body.signal, shape, black_box(&body.plain))));
    group.bench_function("rewrite", |bencher| {
        bencher.iter(|| rewrite(body.signal, shape, black_box(&body.plain), &limits).expect("valid"));
    });
    group
        .bench_function("batch_id", |bencher| bencher.iter(|| batch_id(body.signal, &[7; 16], black_box(&body.plain))));
}

fn baselines(group: &mut BenchmarkGroup<'_, WallTime>, body: &Body) {
    let mut copy = body.plain.clone();
    group.bench_function("copy", |bencher| {
        bencher.iter(|| {
            copy.copy_from_slice(black_box(&body.plain));
            black_box(&mut copy);
        });
    });
    group.bench_function("utf8", |bencher| {
        bencher.iter(|| std::str::from_utf8(black_box(&body.plain)).expect("text").len())
    });
    // The tape is of the array; NDJSON is given one tape per line, as it must be if lines are to be judged one by one.
    let mut buffers = simd_json::Buffers::new(body.plain.len());
    group.bench_function("simd_json_tape", |bencher| {
        bencher.iter_batched_ref(
            || body.plain.clone(),
            |plain| match body.signal.received_shape() {
                Shape::Array => tape_nodes(plain, &mut buffers),
                Shape::Ndjson => plain
                    .split_mut(|byte| *byte == b'\n')
                    .filter(|line| !line.is_empty())
                    .map(|line| tape_nodes(line, &mut buffers))
                    .sum(),
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("serde_json", |bencher| bencher.iter(|| serde_records(body.signal, black_box(&body.plain))));
}

fn from_wire(group: &mut BenchmarkGroup<'_, WallTime>, body: &Body) {
    let limits = Limits::default();
    let shape = body.signal.received_shape();
    let mut inflater = Inflater::new();
    for (encoding, wire) in [(Encoding::Gzip, corpus::gzip(&body.plain)), (Encoding::Zstd, corpus::zstd(&body.plain))] {
        group.bench_function(format!("inflate_{}", encoding.as_str()), |bencher| {
            bencher.iter(|| inflater.inflate(encoding, black_box(&wire), limits.inflated_bytes).expect("valid").len());
        });
        group.bench_function(format!("inflate_and_validate_{}", encoding.as_str()), |bencher| {
            bencher.iter(|| {
                let inflated = inflater.inflate(encoding, black_box(&wire), limits.inflated_bytes).expect("valid");
                validate(body.signal, shape, inflated, &limits).expect("valid")
            });
        });
    }
}

/// Reads every value of every record.
fn read_all(signal: Signal, shape: Shape, plain: &[u8]) -> usize {
    let limits = Limits::default();
    match signal {
        Signal::Metrics => Records::<MetricSample<'_>>::new(shape, plain, &limits)
            .map(|sample| {
                let sample = sample.expect("valid");
                let labels = sample.labels.iter().map(|(key, value)| key.to_cow().len() + value.to_cow().len());
                labels.sum::<usize>() + sample.name.to_cow().len() + usize::from(black_box(sample.value.to_f64()) > 0.0)
            })
            .sum(),
        Signal::Logs => Records::<LogLine<'_>>::new(shape, plain, &limits)
            .map(|line| {
                let line = line.expect("valid");
                let optional = line.unit.into_iter().chain(line.hostname);
                optional.map(|text| text.to_cow().len()).sum::<usize>() + line.message.to_cow().len()
            })
            .sum(),
        Signal::Audit => Records::<AuditEvent<'_>>::new(shape, plain, &limits)
            .map(|event| {
                let event = event.expect("valid");
                event.action.to_cow().len() + event.outcome.to_cow().len()
            })
            .sum(),
    }
}

fn tape_nodes(json: &mut [u8], buffers: &mut simd_json::Buffers) -> usize {
    simd_json::to_tape_with_buffers(json, buffers).expect("JSON").0.len()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "built to be measured")]
struct SerdeSample<'a> {
    #[serde(borrow)]
    group: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    value: f64,
    #[serde(borrow, default)]
    labels: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "built to be measured")]
struct SerdeLine<'a> {
    #[serde(borrow)]
    severity: Cow<'a, str>,
    #[serde(borrow)]
    unit: Option<Cow<'a, str>>,
    #[serde(borrow)]
    hostname: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "built to be measured")]
struct SerdeEvent<'a> {
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow)]
    outcome: Cow<'a, str>,
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
}

fn serde_records(signal: Signal, plain: &[u8]) -> usize {
    fn lines<'a, T: Deserialize<'a>>(plain: &'a [u8]) -> usize {
        let mut records = 0;
        for line in plain.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            black_box(serde_json::from_slice::<T>(line).expect("valid"));
            records += 1;
        }
        records
    }
    match signal {
        Signal::Metrics => black_box(serde_json::from_slice::<Vec<SerdeSample<'_>>>(plain).expect("valid")).len(),
        Signal::Logs => lines::<SerdeLine<'_>>(plain),
        Signal::Audit => lines::<SerdeEvent<'_>>(plain),
    }
}

fn settings() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = settings(); targets = decoder }
criterion_main!(benches);
