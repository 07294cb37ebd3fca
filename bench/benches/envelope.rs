//! Sealing an envelope: canonical bytes, signature, frame, and what a gateway and an agent do to believe it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench that does not run must say so at once"
)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use plexsphere_wire::envelope::{Envelope, EventType, SigningKey, Unsigned, sign};
use plexsphere_wire::{DomainId, EnvelopeId, Timestamp, sse};
use std::hint::black_box;

fn unsigned(payload_bytes: usize) -> Unsigned {
    let now = Timestamp::from_unix_seconds(1_780_000_000);
    Unsigned {
        id: EnvelopeId::mint(now),
        event: EventType::PeerRegistered,
        domain: DomainId::mint(now),
        key_id: "did:web:cp.example.org#agikrofayb5avcqkucqkbifaue-1".to_owned(),
        issued_at: now,
        payload: format!(r#"{{"peers":[{{"note":"{}"}}]}}"#, "x".repeat(payload_bytes)),
    }
}

fn envelope(criterion: &mut Criterion) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = key.verifying_key();
    for payload_bytes in [256, 16 * 1024] {
        let unsigned = unsigned(payload_bytes);
        let canonical = unsigned.canonical_bytes().expect("canonical");
        let wire = sign(&canonical, &key);
        let mut group = criterion.benchmark_group(format!("envelope/{payload_bytes}"));
        group.throughput(Throughput::Elements(1));
        group.bench_function("baseline: copy the bytes", |bencher| {
            bencher.iter_batched(|| (), |()| black_box(canonical.clone()), BatchSize::SmallInput);
        });
        group.bench_function("baseline: bare ed25519 of the bytes", |bencher| {
            use ed25519_dalek::Signer as _;
            bencher.iter(|| black_box(key.sign(black_box(&canonical))));
        });
        group.bench_function("canonical bytes", |bencher| {
            bencher.iter(|| black_box(black_box(&unsigned).canonical_bytes()));
        });
        group.bench_function("canonical bytes, signed", |bencher| {
            bencher.iter(|| {
                let canonical = black_box(&unsigned).canonical_bytes().expect("canonical");
                black_box(sign(&canonical, &key))
            });
        });
        group.bench_function("parsed and verified", |bencher| {
            bencher.iter(|| {
                let envelope = Envelope::parse(black_box(&wire)).expect("an envelope");
                envelope.verify(&public).expect("believed");
            });
        });
        group.bench_function("framed", |bencher| {
            bencher.iter(|| black_box(sse::frame(42, "peer_registered", black_box(&wire))));
        });
        group.finish();
    }
}

criterion_group!(benches, envelope);
criterion_main!(benches);
