use std::time::{Duration, Instant};

use plexsphere_kernel::seams::SigningKeys as _;
use plexsphere_kernel::{EnvelopeSigner as _, SignerFault};
use plexsphere_wire::envelope::{Envelope, attach_signature, parse_public_key};

use crate::rig::{Rig, now, rotate, unsigned};

#[tokio::test]
async fn a_canonical_envelope_of_the_domain_is_signed_and_verifies() {
    let rig = Rig::new().await;
    let domain = rig.domain().await;
    let kid = rig.kid(domain).await;
    let bytes = unsigned(domain, &kid).canonical_bytes().unwrap();
    let signature = rig.another().await.sign(domain, &kid, &bytes).await.unwrap();
    let envelope = Envelope::parse(&attach_signature(&bytes, &signature)).unwrap();
    let mut tx = rig.db.begin().await.unwrap();
    let key = rig.signing.current(&mut tx, domain).await.unwrap();
    envelope.verify(&parse_public_key(&key.public_key).unwrap()).unwrap();
}

#[tokio::test]
async fn everything_else_is_refused_and_recorded() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("the signer refused");
    let rig = Rig::new().await;
    let (domain, other) = (rig.domain().await, rig.domain().await);
    let (kid, other_kid) = (rig.kid(domain).await, rig.kid(other).await);
    let good = String::from_utf8(unsigned(domain, &kid).canonical_bytes().unwrap()).unwrap();
    let with = |from: &str, to: &str| {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good);
        changed.into_bytes()
    };
    let kind = r#""type":"node_state_updated""#;
    let first = good.trim_start_matches('{').split(',').next().unwrap();
    let wrong = [
        ("the scope of another domain", unsigned(other, &kid).canonical_bytes().unwrap()),
        ("another kid", unsigned(domain, &other_kid).canonical_bytes().unwrap()),
        ("an extra member", with(r#","payload":"#, r#","more":1,"payload":"#)),
        ("another order", with(&format!("{first},{kind}"), &format!("{kind},{first}"))),
        ("another member", with("payload", "payloads")),
        ("a fraction with trailing zeros", with("Z\",\"payload\"", ".120Z\",\"payload\"")),
        ("white space", with(":", ": ")),
        ("a signature already", attach_signature(good.as_bytes(), &[1; 64])),
        ("an unknown type", with("node_state_updated", "peer_added")),
        ("a token's beginning", b"eyJhbGciOiJFZERTQSJ9.e30".to_vec()),
        ("nothing", Vec::new()),
    ];
    let count = wrong.len();
    for (what, bytes) in wrong {
        let signed = rig.signing.sign(domain, &kid, &bytes).await;
        assert!(matches!(signed, Err(SignerFault::Refused(_))), "{what}: {signed:?}");
    }
    // The key of another Domain signs nothing here, even when the bytes name it.
    let foreign = unsigned(domain, &other_kid).canonical_bytes().unwrap();
    assert!(matches!(rig.signing.sign(domain, &other_kid, &foreign).await, Err(SignerFault::Refused(_))));
    let refusals = rig.audit.0.lock().unwrap().iter().filter(|action| *action == "signing.refuse").count();
    assert_eq!(refusals, count + 1);
}

/// What a worker of the relay may meet after a hand-over is no attack: it asks again with what it then reads.
#[tokio::test]
async fn an_old_time_and_a_key_that_is_not_announced_are_told_apart_from_refusals() {
    let rig = Rig::new().await;
    let domain = rig.domain().await;
    let kid = rig.kid(domain).await;
    let mut old = unsigned(domain, &kid);
    old.issued_at = now().minus(Duration::from_secs(90));
    let signed = rig.signing.sign(domain, &kid, &old.canonical_bytes().unwrap()).await;
    assert_eq!(signed, Err(SignerFault::Untimely));
    let next = rotate(&rig, domain, false).await.unwrap().kid;
    let early = unsigned(domain, &next).canonical_bytes().unwrap();
    assert_eq!(rig.signing.sign(domain, &next, &early).await, Err(SignerFault::NotAnnounced));
    let mut tx = rig.db.begin().await.unwrap();
    rig.signing.announced_moved(&mut tx, domain, &next, 1).await.unwrap();
    tx.commit().await.unwrap();
    let late = unsigned(domain, &kid).canonical_bytes().unwrap();
    assert_eq!(rig.another().await.sign(domain, &kid, &late).await, Err(SignerFault::NotAnnounced));
    assert!(!rig.audit.0.lock().unwrap().iter().any(|action| action == "signing.refuse"));
}

/// Prints the rate; run it with `--release -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn signing_rate() {
    let rig = Rig::new().await;
    let domain = rig.domain().await;
    let kid = rig.kid(domain).await;
    let bytes = unsigned(domain, &kid).canonical_bytes().unwrap();
    let began = Instant::now();
    for _ in 0..20_000 {
        rig.signing.sign(domain, &kid, &bytes).await.unwrap();
    }
    println!("{:.0} signatures/s on one core", 20_000.0 / began.elapsed().as_secs_f64());
}
