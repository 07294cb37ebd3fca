use ed25519_dalek::SigningKey;
use plexsphere_wire::EnvelopeId;
use plexsphere_wire::envelope::{Unsigned, sign};

use super::*;

const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(NOW)
}

fn domain(seed: u8) -> DomainId {
    DomainId::from_bytes([seed; 16]).unwrap()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn ring() -> KeyRing {
    KeyRing::new("k-1".into(), key(1).verifying_key())
}

struct Draft {
    event: EventType,
    kid: &'static str,
    seed: u8,
    domain: DomainId,
    at: Timestamp,
    payload: String,
}

impl Draft {
    fn new(kid: &'static str, seed: u8) -> Self {
        Self { event: EventType::NodeStateUpdated, kid, seed, domain: domain(9), at: now(), payload: "{}".into() }
    }

    fn wire(&self) -> Vec<u8> {
        let unsigned = Unsigned {
            id: EnvelopeId::mint(now()),
            event: self.event,
            domain: self.domain,
            key_id: self.kid.into(),
            issued_at: self.at,
            payload: self.payload.clone(),
        };
        sign(&unsigned.canonical_bytes().unwrap(), &key(self.seed))
    }

    fn judged_by(&self, ring: &mut KeyRing, at: Timestamp) -> Result<(), Distrust> {
        ring.check(&self.wire(), self.event.as_str(), at).map(drop)
    }
}

fn rotation(new: &str, seed: u8, previous: Option<(&str, Timestamp)>) -> String {
    use base64::Engine as _;
    let public = base64::engine::general_purpose::STANDARD.encode(key(seed).verifying_key().to_bytes());
    let mut payload = serde_json::json!({ "key_id": new, "public_key": public });
    if let Some((kid, deadline)) = previous {
        payload["previous_key_id"] = kid.into();
        payload["transition_expires"] = deadline.to_string().into();
    }
    payload.to_string()
}

// I2
#[test]
fn an_envelope_under_the_pinned_key_is_believed_and_one_under_another_key_is_not() {
    let mut ring = ring();
    assert_eq!(Draft::new("k-1", 1).judged_by(&mut ring, now()), Ok(()));
    assert_eq!(ring.domain(), Some(domain(9)));
    let forged = Draft::new("k-1", 2).judged_by(&mut ring, now());
    assert_eq!(forged, Err(Distrust::Envelope(EnvelopeError::Signature)));
    assert_eq!(Draft::new("k-2", 2).judged_by(&mut ring, now()), Err(Distrust::UnknownKey));
}

#[test]
fn line_breaks_between_tokens_do_not_break_the_signature() {
    let wire = String::from_utf8(Draft::new("k-1", 1).wire()).unwrap().replacen(",\"scope\"", ",\n\"scope\"", 1);
    assert!(ring().check(wire.as_bytes(), "node_state_updated", now()).is_ok());
}

#[test]
fn more_than_five_minutes_off_is_stale_to_either_side() {
    for (seconds, verdict) in [(-301, false), (-300, true), (300, true), (301, false)] {
        let draft = Draft { at: Timestamp::from_unix_seconds(NOW + seconds), ..Draft::new("k-1", 1) };
        let expected = if verdict { Ok(()) } else { Err(Distrust::Stale) };
        assert_eq!(draft.judged_by(&mut ring(), now()), expected, "{seconds}");
    }
}

#[test]
fn another_domain_and_another_frame_type_are_refused() {
    let mut ring = ring();
    Draft::new("k-1", 1).judged_by(&mut ring, now()).unwrap();
    let foreign = Draft { domain: domain(8), ..Draft::new("k-1", 1) };
    assert_eq!(foreign.judged_by(&mut ring, now()), Err(Distrust::ForeignScope));
    let verdict = ring.check(&Draft::new("k-1", 1).wire(), "policy_updated", now());
    assert_eq!(verdict.map(drop), Err(Distrust::TypeMismatch));
}

#[test]
fn a_rotation_installs_the_new_key_and_keeps_the_old_one_until_its_deadline() {
    let mut ring = ring();
    let deadline = now().plus(Duration::from_secs(60));
    let payload = rotation("k-2", 2, Some(("k-1", deadline)));
    Draft { event: EventType::SigningKeyRotated, payload, ..Draft::new("k-1", 1) }.judged_by(&mut ring, now()).unwrap();
    assert_eq!(ring.current_kid(), "k-2");
    assert_eq!(Draft::new("k-2", 2).judged_by(&mut ring, now()), Ok(()));
    assert_eq!(Draft::new("k-1", 1).judged_by(&mut ring, now()), Ok(()));
    assert_eq!(Draft::new("k-1", 1).judged_by(&mut ring, deadline), Err(Distrust::UnknownKey));
}

#[test]
fn a_rotation_without_a_deadline_keeps_no_grace_and_a_malformed_one_changes_nothing() {
    let mut ring = ring();
    let broken = Draft {
        event: EventType::SigningKeyRotated,
        payload: r#"{"key_id":"k-2","public_key":"short"}"#.into(),
        ..Draft::new("k-1", 1)
    };
    broken.judged_by(&mut ring, now()).unwrap();
    assert_eq!(ring.current_kid(), "k-1");
    let payload = rotation("k-3", 3, None);
    Draft { event: EventType::SigningKeyRotated, payload, ..Draft::new("k-1", 1) }.judged_by(&mut ring, now()).unwrap();
    assert_eq!(Draft::new("k-1", 1).judged_by(&mut ring, now()), Err(Distrust::UnknownKey));
    assert_eq!(Draft::new("k-3", 3).judged_by(&mut ring, now()), Ok(()));
}
