use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::*;

fn set(keys: Value) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), Purpose::Oidc).unwrap()
}

fn coordinate(length: usize) -> String {
    BASE64URL_NOPAD.encode(&vec![7; length])
}

fn ec(kid: &str) -> Value {
    json!({ "kty": "EC", "crv": "P-256", "x": coordinate(32), "y": coordinate(32), "kid": kid })
}

fn rsa_of(bytes: usize) -> Value {
    json!({ "kty": "RSA", "n": coordinate(bytes), "e": "AQAB", "kid": "r" })
}

fn with(mut key: Value, member: &str, value: Value) -> Value {
    key[member] = value;
    key
}

#[test]
fn keys_that_we_cannot_use_are_left_out_and_the_others_serve() {
    let unusable = [
        json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "h" }),
        json!({ "kty": "EC", "crv": "P-521", "x": coordinate(66), "y": coordinate(66), "kid": "p" }),
        with(ec("e"), "use", json!("enc")),
        with(ec("e"), "alg", json!("HS256")),
        with(ec("e"), "key_ops", json!(["encrypt"])),
        with(ec("e"), "x", json!(coordinate(31))),
        with(ec("e"), "x", json!(format!("{}=", coordinate(32)))),
        with(ec("e"), "kid", json!(7)),
        with(ec("e"), "kid", json!("")),
        rsa_of(128),
        rsa_of(1_025),
        with(rsa_of(256), "e", json!(coordinate(5))),
        json!("no key at all"),
    ];
    for key in unusable {
        assert_eq!(set(json!([key, ec("good")])).keys.len(), 1, "{key}");
    }
    assert_eq!(
        set(json!([rsa_of(256), with(ec("e"), "use", json!("sig")), with(ec("f"), "key_ops", json!(["verify"]))]))
            .keys
            .len(),
        3
    );
}

#[test]
fn a_key_is_chosen_by_id_and_algorithm_and_never_guessed_among_several() {
    let keys = set(json!([ec("a"), ec("b"), rsa_of(256), with(ec("ps"), "alg", json!("ES256"))]));
    assert!(matches!(keys.choose(Some("a"), Alg::Es256), Choice::Key(_)));
    assert!(matches!(keys.choose(Some("a"), Alg::Rs256), Choice::Unfit));
    assert!(matches!(keys.choose(Some("z"), Alg::Es256), Choice::Unknown));
    assert!(matches!(keys.choose(None, Alg::Es256), Choice::Unfit));
    assert!(matches!(keys.choose(None, Alg::Ps256), Choice::Key(_)));
    assert!(matches!(keys.choose(None, Alg::EdDsa), Choice::Unknown));
    assert!(matches!(set(json!([ec("a"), ec("a")])).choose(Some("a"), Alg::Es256), Choice::Unfit));
}

#[test]
fn a_key_that_names_its_algorithm_serves_no_other() {
    let keys = set(json!([with(rsa_of(256), "alg", json!("PS256"))]));
    assert!(matches!(keys.choose(Some("r"), Alg::Ps256), Choice::Key(_)));
    assert!(matches!(keys.choose(Some("r"), Alg::Rs256), Choice::Unfit));
}

#[test]
fn a_bundle_serves_only_keys_that_are_for_jwt_svids_and_have_an_id() {
    let svid = |usage: &str| with(ec("s"), "use", json!(usage));
    let nameless = json!({ "kty": "EC", "crv": "P-256", "x": coordinate(32), "y": coordinate(32), "use": "jwt-svid" });
    let document = json!({ "keys": [svid("jwt-svid"), svid("x509-svid"), svid("sig"), ec("n"), nameless] }).to_string();
    assert_eq!(KeySet::parse(document.as_bytes(), Purpose::Svid).unwrap().keys.len(), 1);
}

#[test]
fn a_document_that_is_no_key_set_is_refused() {
    let many = json!({ "keys": vec![ec("a"); MAX_KEYS + 1] }).to_string();
    for document in ["", "[]", "{}", r#"{"keys":{}}"#, many.as_str()] {
        assert_eq!(KeySet::parse(document.as_bytes(), Purpose::Oidc).unwrap_err(), JsonFault::Malformed, "{document}");
    }
    let twice = KeySet::parse(br#"{"keys":[],"keys":[]}"#, Purpose::Oidc);
    assert_eq!(twice.unwrap_err(), JsonFault::DuplicateMember);
}
