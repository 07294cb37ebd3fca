//! Every wrong form of an id token, made with keys of our own.

use aws_lc_rs::hmac;
use plexsphere_oidc::{ClaimMappings, Expected, MAX_TOKEN_BYTES, SignInFailure, TokenRefusal, verify_id_token};
use serde_json::{Value, json};

use crate::rig::{self, CLIENT, Idp, NONCE, Signer, base64url, refusal, seconds, verify, verify_with};

fn now() -> i64 {
    rig::now().unix_seconds()
}

fn changed(mut value: Value, member: &str, to: Value) -> Value {
    value[member] = to;
    value
}

fn without(mut value: Value, member: &str) -> Value {
    value.as_object_mut().unwrap().remove(member);
    value
}

#[tokio::test]
async fn a_token_signed_by_each_allowed_algorithm_is_believed() {
    for alg in ["RS256", "PS256", "ES256", "EdDSA"] {
        let signer = Signer::new("k", alg);
        let idp = Idp::start(&[&signer]).await;
        let token = verify(&idp, &signer.sign(&idp.claims())).await.unwrap();
        assert_eq!((token.issuer.as_str(), token.subject.as_str()), (idp.issuer.as_str(), "Ada-1"), "{alg}");
        assert_eq!((token.email.as_deref(), token.email_verified), (Some("ada@example.test"), true));
        assert_eq!(token.display_name.as_deref(), Some("Ada"));
    }
}

#[tokio::test]
async fn unsigned_and_symmetric_tokens_are_refused_whatever_they_are_keyed_with() {
    let signer = Signer::new("k", "RS256");
    let idp = Idp::start(&[&signer]).await;
    let claims = idp.claims().to_string();
    for alg in ["none", "None", "NONE", "nOnE"] {
        let message = format!("{}.{}", base64url(json!({ "alg": alg }).to_string()), base64url(&claims));
        assert_eq!(refusal(&idp, &format!("{message}.")).await, TokenRefusal::Algorithm);
        assert_eq!(refusal(&idp, &format!("{message}.AAAA")).await, TokenRefusal::Algorithm);
    }
    let modulus = signer.jwk()["n"].as_str().unwrap().to_owned();
    for (alg, kind) in [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)] {
        for secret in ["the-secret", CLIENT, modulus.as_str(), signer.jwk().to_string().as_str()] {
            let header = base64url(json!({ "alg": alg, "kid": "k" }).to_string());
            let message = format!("{header}.{}", base64url(&claims));
            let tag = hmac::sign(&hmac::Key::new(kind, secret.as_bytes()), message.as_bytes());
            assert_eq!(refusal(&idp, &format!("{message}.{}", base64url(tag))).await, TokenRefusal::Algorithm);
        }
    }
    for alg in ["RS384", "RS512", "PS384", "ES384", "ES256K", "Ed25519", "rs256", "", "RS256 "] {
        let token = signer.sign_parts(&json!({ "alg": alg, "kid": "k" }).to_string(), claims.as_bytes());
        assert_eq!(refusal(&idp, &token).await, TokenRefusal::Algorithm, "{alg}");
    }
    assert_eq!(idp.key_reads(), 0, "none of them is worth a look at the keys");
}

#[tokio::test]
async fn a_signature_of_another_key_scheme_or_message_is_refused() {
    let (rsa, ec) = (Signer::new("r", "RS256"), Signer::new("e", "ES256"));
    let idp = Idp::start(&[&rsa, &ec]).await;
    let good = rsa.sign(&idp.claims());
    let stranger = Signer::new("r", "RS256").sign(&idp.claims());
    assert_eq!(refusal(&idp, &stranger).await, TokenRefusal::Signature);

    // One RSA key, the other padding: only the header lies.
    let pss = json!({ "alg": "PS256", "kid": "r" }).to_string();
    assert_eq!(
        refusal(&idp, &rsa.sign_parts(&pss, idp.claims().to_string().as_bytes())).await,
        TokenRefusal::Signature
    );
    let crossed = json!({ "alg": "ES256", "kid": "r" }).to_string();
    let crossed = rsa.sign_parts(&crossed, idp.claims().to_string().as_bytes());
    assert_eq!(refusal(&idp, &crossed).await, TokenRefusal::UnfitKey);

    let (message, signature) = good.rsplit_once('.').unwrap();
    let header = message.split_once('.').unwrap().0;
    let other = base64url(changed(idp.claims(), "sub", json!("root")).to_string());
    assert_eq!(refusal(&idp, &format!("{header}.{other}.{signature}")).await, TokenRefusal::Signature);
    assert_eq!(refusal(&idp, &format!("{message}.")).await, TokenRefusal::Signature);
    assert_eq!(refusal(&idp, &format!("{message}.{}", base64url([0; 64]))).await, TokenRefusal::Signature);
    assert_eq!(refusal(&idp, &format!("{message}.{signature}=")).await, TokenRefusal::Signature);
    assert!(verify(&idp, &good).await.is_ok());
}

#[tokio::test]
async fn a_key_in_the_header_is_not_looked_at() {
    let (ours, theirs) = (Signer::new("k", "ES256"), Signer::new("k", "ES256"));
    let idp = Idp::start(&[&ours]).await;
    for (member, value) in
        [("jwk", theirs.jwk()), ("jku", json!("http://127.0.0.1:1/jwks")), ("x5u", json!("http://x"))]
    {
        let header = changed(theirs.header(), member, value);
        let token = theirs.sign_parts(&header.to_string(), idp.claims().to_string().as_bytes());
        assert_eq!(refusal(&idp, &token).await, TokenRefusal::Signature, "{member}");
    }
}

#[tokio::test]
async fn each_wrong_claim_has_its_refusal() {
    use TokenRefusal::{Audience, AuthorizedParty, Claim, Expired, FromTheFuture, Issuer, Nonce, Subject};
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    let good = idp.claims();
    let set = |member: &str, value: Value| changed(good.clone(), member, value);
    let slashed = format!("{}/", idp.issuer);
    let cases = [
        (set("iss", json!("https://evil.example")), Issuer),
        (set("iss", json!(slashed)), Issuer),
        (set("iss", json!(idp.issuer.to_uppercase())), Issuer),
        (set("iss", json!([idp.issuer])), Issuer),
        (without(good.clone(), "iss"), Issuer),
        (set("aud", json!("another-client")), Audience),
        (set("aud", json!([])), Audience),
        (set("aud", json!(["another-client", "third"])), Audience),
        (set("aud", json!([CLIENT, 7])), Claim("aud")),
        (set("aud", json!({ "a": CLIENT })), Claim("aud")),
        (without(good.clone(), "aud"), Audience),
        (set("aud", json!([CLIENT, "another-client"])), AuthorizedParty),
        (set("azp", json!("another-client")), AuthorizedParty),
        (changed(set("aud", json!([CLIENT, "x"])), "azp", json!("x")), AuthorizedParty),
        (set("azp", json!(null)), AuthorizedParty),
        (set("exp", json!(now() - 60)), Expired),
        (set("exp", json!(0)), Expired),
        (set("exp", json!("soon")), Claim("exp")),
        (set("exp", json!(1e300)), Claim("exp")),
        (set("exp", json!(-1)), Claim("exp")),
        (without(good.clone(), "exp"), Claim("exp")),
        (set("iat", json!(now() + 61)), FromTheFuture),
        (set("nbf", json!(now() + 61)), FromTheFuture),
        (without(good.clone(), "iat"), Claim("iat")),
        (set("sub", json!("")), Subject),
        (set("sub", json!(7)), Subject),
        (set("sub", json!("a\u{0}b")), Subject),
        (set("sub", json!("x".repeat(256))), Subject),
        (without(good.clone(), "sub"), Subject),
        (set("nonce", json!("another-nonce")), Nonce),
        (set("nonce", json!("")), Nonce),
        (without(good.clone(), "nonce"), Nonce),
        (set("amr", json!([1])), Claim("amr")),
        (set("auth_time", json!("x")), Claim("auth_time")),
    ];
    for (claims, expected) in cases {
        assert_eq!(refusal(&idp, &signer.sign(&claims)).await, expected, "{claims}");
    }
}

#[tokio::test]
async fn a_minute_of_clock_difference_is_forgiven_and_no_more() {
    let signer = Signer::new("k", "EdDSA");
    let idp = Idp::start(&[&signer]).await;
    let good = idp.claims();
    for (member, value) in [("exp", now() - 59), ("iat", now() + 60), ("nbf", now() + 60)] {
        let claims = changed(good.clone(), member, json!(value));
        assert!(verify(&idp, &signer.sign(&claims)).await.is_ok(), "{member}");
    }
    let fractional = changed(good.clone(), "exp", json!(now() as f64 + 0.5));
    assert!(verify(&idp, &signer.sign(&fractional)).await.is_ok());
    let later = rig::now().plus(seconds(360));
    let late = verify_with(&rig::providers(), &idp, &signer.sign(&good), later).await;
    assert_eq!(late, Err(SignInFailure::Token(TokenRefusal::Expired)));
}

#[tokio::test]
async fn several_audiences_pass_when_we_are_the_authorized_party() {
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    let several = changed(changed(idp.claims(), "aud", json!(["x", CLIENT])), "azp", json!(CLIENT));
    assert!(verify(&idp, &signer.sign(&several)).await.is_ok());
}

#[tokio::test]
async fn a_token_that_says_two_things_at_once_is_refused() {
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    let claims = idp.claims().to_string();
    let twice = format!("{{\"sub\":\"root\",{}", &claims[1..]);
    let token = signer.sign_parts(&signer.header().to_string(), twice.as_bytes());
    assert_eq!(refusal(&idp, &token).await, TokenRefusal::DuplicateMember);
    let inside = format!("{{\"x\":{{\"a\":1,\"a\":2}},{}", &claims[1..]);
    let token = signer.sign_parts(&signer.header().to_string(), inside.as_bytes());
    assert_eq!(refusal(&idp, &token).await, TokenRefusal::DuplicateMember);
    let header = r#"{"alg":"ES256","kid":"k","alg":"none"}"#;
    assert_eq!(refusal(&idp, &signer.sign_parts(header, claims.as_bytes())).await, TokenRefusal::DuplicateMember);
}

#[tokio::test]
async fn encrypted_nested_extended_and_foreign_tokens_are_refused() {
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    let claims = idp.claims().to_string();
    let signed = |header: Value| signer.sign_parts(&header.to_string(), claims.as_bytes());
    let header = || signer.header();
    assert_eq!(refusal(&idp, "e30.e30.e30.e30.e30").await, TokenRefusal::Encrypted);
    assert_eq!(refusal(&idp, &signed(changed(header(), "enc", json!("A256GCM")))).await, TokenRefusal::Encrypted);
    assert_eq!(refusal(&idp, &signed(changed(header(), "cty", json!("JWT")))).await, TokenRefusal::Encrypted);
    let inner = signer.sign(&idp.claims());
    assert_eq!(
        refusal(&idp, &signer.sign_parts(&header().to_string(), inner.as_bytes())).await,
        TokenRefusal::Malformed
    );
    assert_eq!(refusal(&idp, &signed(changed(header(), "crit", json!(["exp"])))).await, TokenRefusal::Critical);
    assert_eq!(refusal(&idp, &signed(changed(header(), "b64", json!(false)))).await, TokenRefusal::Critical);
    for typ in [json!("at+jwt"), json!("logout+jwt"), json!("JOSE"), json!(7), json!("")] {
        assert_eq!(refusal(&idp, &signed(changed(header(), "typ", typ.clone()))).await, TokenRefusal::Type, "{typ}");
    }
    assert!(verify(&idp, &signed(without(header(), "typ"))).await.is_ok());
}

#[tokio::test]
async fn what_is_no_compact_token_is_malformed_and_what_is_too_long_is_not_read() {
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    let good = signer.sign(&idp.claims());
    let padded = good.replacen('.', "=.", 1);
    for token in
        ["", ".", "..", "a", "a.b", "a.b.c.d", "!.e30.e30", "e30.e30.", "W10.e30.AA", &padded, &format!(" {good}")]
    {
        let expected = if token == "e30.e30." { TokenRefusal::Algorithm } else { TokenRefusal::Malformed };
        assert_eq!(refusal(&idp, token).await, expected, "{token}");
    }
    let long = changed(idp.claims(), "pad", json!("x".repeat(MAX_TOKEN_BYTES)));
    assert_eq!(refusal(&idp, &signer.sign(&long)).await, TokenRefusal::Oversized);
    let array = signer.sign_parts(&signer.header().to_string(), b"[]");
    assert_eq!(refusal(&idp, &array).await, TokenRefusal::Malformed);
    for kid in [json!(7), json!(""), json!("x".repeat(257))] {
        let header = changed(signer.header(), "kid", kid).to_string();
        let token = signer.sign_parts(&header, idp.claims().to_string().as_bytes());
        assert_eq!(refusal(&idp, &token).await, TokenRefusal::Malformed);
    }
}

#[tokio::test]
async fn a_sign_in_older_than_its_flow_is_refused_where_a_fresh_one_was_asked_for() {
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    let fresh = Expected { client_id: CLIENT, nonce: NONCE, authenticated_since: Some(rig::now()) };
    let mappings = ClaimMappings::default();
    for (auth_time, believed) in [(Some(now() - 61), false), (Some(now() - 30), true), (None, false)] {
        let mut claims = idp.claims();
        if let Some(auth_time) = auth_time {
            claims["auth_time"] = json!(auth_time);
        }
        let (providers, trust, token) = (rig::providers(), idp.trust(), signer.sign(&claims));
        let read = verify_id_token(&providers, &trust, &token, (&fresh, &mappings), rig::now()).await;
        if believed {
            assert_eq!(read.unwrap().auth_time.map(|at| at.unix_seconds()), auth_time);
        } else {
            assert_eq!(read, Err(SignInFailure::Token(TokenRefusal::NotRecent)));
        }
    }
}

#[tokio::test]
async fn no_token_with_one_symbol_changed_or_cut_is_believed() {
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    let providers = rig::providers();
    let good = signer.sign(&idp.claims());
    for at in 0..good.len() {
        let original = good.as_bytes()[at];
        for symbol in [b'A', b'B', b'g', b'_', b'.', b'=', b' '] {
            let mut changed = good.clone().into_bytes();
            changed[at] = symbol;
            let changed = String::from_utf8(changed).unwrap();
            let read = verify_with(&providers, &idp, &changed, rig::now()).await;
            assert_eq!(read.is_ok(), symbol == original, "{changed}");
        }
        assert!(verify_with(&providers, &idp, &good[..at], rig::now()).await.is_err());
    }
}
