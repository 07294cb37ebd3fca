use proptest::prelude::*;

use super::*;

const CANONICAL: &str = r#"{"id":"0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a0","type":"node_state_updated","scope":"domain:0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a1","key_id":"k-1","issued_at":"2026-05-27T10:00:00Z","payload":{"note":"a\u003cb\u0026c"}}"#;
const SIGNATURE: &str = "cVufRiZ+rwC63cEpREwMhBNBTX3Gr8bV8kpEpQgadUK801ErBdvlag8UYjDyecstiVmVFPvkrV1UwHCTGJinAA==";
const PUBLIC_KEY: &str = "6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=";

fn vector() -> Unsigned {
    Unsigned {
        id: "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a0".parse().unwrap(),
        event: EventType::NodeStateUpdated,
        domain: "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a1".parse().unwrap(),
        key_id: "k-1".into(),
        issued_at: Timestamp::parse("2026-05-27T10:00:00.120Z").unwrap(),
        payload: r#"{ "note" : "a<b&c" }"#.into(),
    }
}

#[test]
fn the_published_vector_has_these_bytes_and_this_signature() {
    let key = SigningKey::from_bytes(&[7; 32]);
    assert_eq!(STANDARD.encode(key.verifying_key().to_bytes()), PUBLIC_KEY);
    let canonical = vector().canonical_bytes().unwrap();
    assert_eq!(String::from_utf8_lossy(&canonical), CANONICAL);
    let wire = sign(&canonical, &key);
    assert!(wire.ends_with(format!(r#","signature":"{SIGNATURE}"}}"#).as_bytes()));
    let envelope = Envelope::parse(&wire).unwrap();
    envelope.verify(&parse_public_key(PUBLIC_KEY).unwrap()).unwrap();
}

#[test]
fn any_changed_byte_anywhere_fails() {
    let key = SigningKey::from_bytes(&[7; 32]);
    let wire = sign(&vector().canonical_bytes().unwrap(), &key);
    for index in 0..wire.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut changed = wire.clone();
            changed[index] ^= flip;
            let believed =
                Envelope::parse(&changed).and_then(|envelope| envelope.verify(&key.verifying_key()).map(|()| envelope));
            assert!(believed.is_err(), "byte {index} ^ {flip:#x} was believed");
        }
    }
}

#[test]
fn a_reordered_member_an_extra_member_or_a_fraction_is_refused() {
    let key = SigningKey::from_bytes(&[7; 32]);
    let wire = String::from_utf8(sign(CANONICAL.as_bytes(), &key)).unwrap();
    let extra = wire.replacen(r#","payload""#, r#","x":1,"payload""#, 1);
    let fraction = wire.replacen("10:00:00Z", "10:00:00.120Z", 1);
    let spaced = wire.replacen(r#","type""#, r#", "type""#, 1);
    let id = r#""id":"0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a0","#;
    let reordered = wire.replacen(id, "", 1).replacen(r#""scope""#, &format!(r#"{id}"scope""#), 1);
    for bad in [extra, fraction, spaced, reordered] {
        assert!(Envelope::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn a_kid_that_would_be_escaped_and_a_payload_that_is_no_object_are_refused() {
    for kid in ["", "a b", "a<b", "a\"b", "a\\b", "ü"] {
        let unsigned = Unsigned { key_id: kid.into(), ..vector() };
        assert_eq!(unsigned.canonical_bytes(), Err(EnvelopeError::KeyId));
    }
    for payload in ["[]", "1", "", "{", "null"] {
        let unsigned = Unsigned { payload: payload.into(), ..vector() };
        assert_eq!(unsigned.canonical_bytes(), Err(EnvelopeError::Payload));
    }
}

#[test]
fn an_oversize_envelope_and_an_oversize_string_are_refused() {
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_STRING_BYTES + 1));
    assert_eq!(Unsigned { payload: long, ..vector() }.canonical_bytes(), Err(EnvelopeError::TooLarge));
    let many = format!(r#"{{"a":[{}1]}}"#, "\"0123456789\",".repeat(50_000));
    assert_eq!(Unsigned { payload: many, ..vector() }.canonical_bytes(), Err(EnvelopeError::TooLarge));
}

proptest! {
    #[test]
    fn canonical_json_keeps_the_value_and_is_a_fixed_point(value in any_json(), spaces in "[ \n\t]{0,3}") {
        let text = format!("{spaces}{}{spaces}", serde_json::to_string_pretty(&value).unwrap());
        let canonical = canonical_json(&text).unwrap();
        prop_assert_eq!(&canonical_json(&canonical).unwrap(), &canonical);
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&canonical).unwrap(), value);
        let sensitive = canonical.contains(['<', '>', '&', '\u{2028}', '\u{2029}']);
        prop_assert!(!sensitive);
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        "\\PC{0,8}|[<>&\u{2028}\u{2029}\"\\\\\u{1}\n]{0,4}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::btree_map("[a-z<&]{0,4}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}
