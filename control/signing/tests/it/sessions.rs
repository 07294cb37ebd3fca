use std::time::Duration;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use plexsphere_kernel::{EnvelopeSigner as _, SignerFault};
use plexsphere_signing::Disbelief;
use plexsphere_wire::DomainId;
use serde_json::{Value, json};

use crate::rig::{Rig, destroy, now, rotate, unsigned};

fn input(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    format!("{}.{}", encode(header), encode(claims))
}

pub fn token(domain: DomainId, kid: &str) -> String {
    let header = json!({ "alg": "EdDSA", "kid": kid, "typ": "at+jwt" });
    input(&header, &json!({ "iss": format!("plexsphere://domain/{domain}"), "kind": "ssh" }))
}

#[tokio::test]
async fn the_current_key_signs_sessions_at_once_and_the_previous_one_is_believed_to_the_second() {
    let rig = Rig::new().await;
    let domain = rig.domain().await;
    let old = rig.kid(domain).await;
    let bytes = token(domain, &old);
    let signature = rig.signing.sign_session(domain, &bytes).await.unwrap();
    let verify = async |kid: &str, at| rig.signing.verify(domain, kid, bytes.as_bytes(), &signature, at).await;
    assert_eq!(verify(&old, now()).await, Ok(()));
    let rotated = rotate(&rig, domain, false).await.unwrap();
    // Not announced yet, and signs sessions all the same; the old one does not.
    rig.signing.sign_session(domain, &token(domain, &rotated.kid)).await.unwrap();
    let end = rotated.transition_expires;
    assert_eq!(verify(&old, end.minus(Duration::from_secs(1))).await, Ok(()));
    assert_eq!(verify(&old, end).await, Err(Disbelief::Key));
    // A forced rotation retires it at once.
    rotate(&rig, domain, true).await.unwrap();
    assert_eq!(verify(&old, now()).await, Err(Disbelief::Key));
    destroy(&rig, domain, &old).await.unwrap();
    assert_eq!(verify(&old, now()).await, Err(Disbelief::Key));
}

#[tokio::test]
async fn a_session_of_another_form_algorithm_domain_or_key_is_refused_and_recorded() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("the signer refused");
    let rig = Rig::new().await;
    let (domain, other) = (rig.domain().await, rig.domain().await);
    let (kid, other_kid) = (rig.kid(domain).await, rig.kid(other).await);
    let claims = json!({ "iss": format!("plexsphere://domain/{domain}") });
    let header = |alg: &str, typ: &str| json!({ "alg": alg, "kid": kid, "typ": typ });
    let mut with_key = header("EdDSA", "at+jwt");
    with_key["jwk"] = json!({ "kty": "OKP" });
    let envelope = unsigned(domain, &kid).canonical_bytes().unwrap();
    let wrong = [
        ("no algorithm", input(&header("none", "at+jwt"), &claims)),
        ("a shared secret", input(&header("HS256", "at+jwt"), &claims)),
        ("another type", input(&header("EdDSA", "JWT"), &claims)),
        ("a key of its own", input(&with_key, &claims)),
        (
            "claims of another domain",
            input(&header("EdDSA", "at+jwt"), &json!({ "iss": format!("plexsphere://domain/{other}") })),
        ),
        ("no issuer", input(&header("EdDSA", "at+jwt"), &json!({}))),
        ("the key of another domain", token(domain, &other_kid)),
        ("a padded segment", token(domain, &kid).replacen('.', "=.", 1)),
        ("three segments", format!("{}.x", token(domain, &kid))),
        ("an envelope", String::from_utf8(envelope).unwrap()),
        ("too much", format!("{}{}", token(domain, &kid), "A".repeat(8_192))),
        ("nothing", String::new()),
    ];
    let count = wrong.len();
    for (what, bytes) in wrong {
        let signed = rig.signing.sign_session(domain, &bytes).await;
        assert!(matches!(signed, Err(SignerFault::Refused(_))), "{what}: {signed:?}");
    }
    let refusals = rig.audit.0.lock().unwrap().iter().filter(|action| *action == "signing.refuse").count();
    assert_eq!(refusals, count);
}

#[tokio::test]
async fn a_signature_is_believed_under_its_own_domain_and_key_only() {
    let rig = Rig::new().await;
    let (domain, other) = (rig.domain().await, rig.domain().await);
    let (kid, other_kid) = (rig.kid(domain).await, rig.kid(other).await);
    let bytes = token(domain, &kid);
    let signature = rig.signing.sign_session(domain, &bytes).await.unwrap();
    let verify = async |domain, kid: &str, bytes: &str, signature: &[u8; 64]| {
        rig.signing.verify(domain, kid, bytes.as_bytes(), signature, now()).await
    };
    assert_eq!(verify(domain, &kid, &bytes, &signature).await, Ok(()));
    assert_eq!(verify(other, &kid, &bytes, &signature).await, Err(Disbelief::Key));
    assert_eq!(verify(domain, &other_kid, &bytes, &signature).await, Err(Disbelief::Key));
    assert_eq!(verify(other, &other_kid, &bytes, &signature).await, Err(Disbelief::Signature));
    assert_eq!(verify(DomainId::mint(now()), &kid, &bytes, &signature).await, Err(Disbelief::Key));
    assert_eq!(verify(domain, &kid, &format!("{bytes}x"), &signature).await, Err(Disbelief::Signature));
    // The same scalar plus the group's order: lax verifiers take it.
    assert_eq!(verify(domain, &kid, &bytes, &with_order_added(&signature)).await, Err(Disbelief::Signature));
}

#[tokio::test]
async fn a_retired_key_is_believed_in_announcements_alone() {
    let rig = Rig::new().await;
    let domain = rig.domain().await;
    let old = rig.kid(domain).await;
    let envelope = unsigned(domain, &old).canonical_bytes().unwrap();
    let signature = rig.signing.sign(domain, &old, &envelope).await.unwrap();
    let first = rotate(&rig, domain, false).await.unwrap().kid;
    rig.announce(domain, &first, 1).await;
    let second = rotate(&rig, domain, true).await.unwrap().kid;
    rig.announce(domain, &second, 2).await;
    let believed = rig.signing.verify(domain, &old, &envelope, &signature, now()).await;
    assert_eq!(believed, Err(Disbelief::Key));
    let wire = rig.signing.announce(domain, &old).await.unwrap().unwrap();
    let announced = plexsphere_wire::envelope::Envelope::parse(&wire).unwrap();
    let canonical = announced.unsigned.canonical_bytes().unwrap();
    let members: Value = serde_json::from_slice(&wire).unwrap();
    let signature = BASE64.decode(members["signature"].as_str().unwrap().as_bytes()).unwrap().try_into().unwrap();
    assert_eq!(rig.signing.verify(domain, &old, &canonical, &signature, now()).await, Ok(()));
}

/// `S + L`, little-endian, in the second half of the signature.
fn with_order_added(signature: &[u8; 64]) -> [u8; 64] {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut changed = *signature;
    let mut carry = 0u16;
    for (byte, add) in changed[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    changed
}
