//! The token endpoint, client credentials and JWT-SVIDs, against a provider of ours.

use plexsphere_oidc::{
    Callback, ClaimMappings, Client, ExchangeFailure, ExpectedSvid, GrantFailure, Pending, ProviderError,
    RequiredAssurance, Secret, SignInFailure, SpiffeBundles, Svid, SvidFailure, TokenRefusal, client_credentials,
    finish,
};
use plexsphere_testkit::logs;
use plexsphere_wire::{Code, Timestamp};
use serde_json::{Value, json};

use crate::rig::{self, Idp, NONCE, Signer, base64url, client, now, providers, seconds};

const AUDIENCE: &str = "https://plexsphere.test";
const SPIFFE_ID: &str = "spiffe://example.org/agent";

async fn finish_at(idp: &Idp, query: &str, required: RequiredAssurance) -> Result<String, SignInFailure> {
    let (trust, client, mappings) = (idp.trust(), client(), ClaimMappings::default());
    let (nonce, verifier) = (Secret::new(NONCE), Secret::new("the-verifier"));
    let pending = Pending {
        trust: &trust,
        client: &client,
        redirect_uri: "https://us.test/cb",
        nonce: &nonce,
        verifier: &verifier,
        required: &required,
        mappings: &mappings,
        authenticated_since: None,
    };
    let callback = Callback::parse(query).unwrap();
    finish(&providers(), &pending, &callback, now()).await.map(|token| token.subject)
}

#[tokio::test]
async fn the_code_is_redeemed_with_verifier_and_credentials_by_the_way_the_provider_supports() {
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    idp.serve_token(200, json!({ "id_token": signer.sign(&idp.claims()) }).to_string());
    assert_eq!(finish_at(&idp, "state=s&code=the-code", RequiredAssurance::default()).await.unwrap(), "Ada-1");
    idp.serve_discovery(|document| document["token_endpoint_auth_methods_supported"] = json!(["client_secret_post"]));
    assert_eq!(finish_at(&idp, "state=s&code=the-code", RequiredAssurance::default()).await.unwrap(), "Ada-1");
    let [basic, post] = &idp.posted()[..] else { panic!("two exchanges") };
    let grant = [
        ("grant_type", "authorization_code"),
        ("code", "the-code"),
        ("code_verifier", "the-verifier"),
        ("redirect_uri", "https://us.test/cb"),
    ];
    for posted in [basic, post] {
        assert!(grant.iter().all(|(name, value)| posted.fields[*name] == *value), "{posted:?}");
    }
    assert_eq!(basic.authorization.as_deref(), Some("Basic dGhlLWNsaWVudDp0aGUtc2VjcmV0"));
    assert!(!basic.fields.contains_key("client_secret"));
    assert_eq!((post.fields["client_secret"].as_str(), &post.authorization), ("the-secret", &None));

    idp.serve_discovery(|document| document["token_endpoint_auth_methods_supported"] = json!(["private_key_jwt"]));
    let refused = finish_at(&idp, "state=s&code=c", RequiredAssurance::default()).await.unwrap_err();
    assert_eq!(refused, SignInFailure::Exchange(ExchangeFailure::NoClientAuth));
    assert_eq!(idp.posted().len(), 2);
}

#[tokio::test]
async fn a_refused_code_is_told_apart_from_a_provider_that_does_not_answer() {
    let idp = Idp::start(&[]).await;
    for (status, body, code) in [
        (400, r#"{"error":"invalid_grant","error_description":"<script>"}"#, Code::TokenExchangeRejected),
        (401, "", Code::TokenExchangeRejected),
        (403, "[]", Code::TokenExchangeRejected),
        (429, "", Code::IdpUnreachable),
        (408, "", Code::IdpUnreachable),
        (500, r#"{"error":"server_error"}"#, Code::IdpUnreachable),
        (302, "", Code::TokenExchangeRejected),
        (200, "no json", Code::IdTokenInvalid),
        (200, r#"{"id_token":"a","id_token":"b"}"#, Code::IdTokenInvalid),
        (200, "{}", Code::IdTokenInvalid),
        (200, r#"{"id_token":7}"#, Code::IdTokenInvalid),
    ] {
        idp.serve_token(status, body);
        let failure = finish_at(&idp, "state=s&code=c", RequiredAssurance::default()).await.unwrap_err();
        // A redirect is a fault of the endpoint, seen before any status.
        let code = if status == 302 { Code::IdpUnreachable } else { code };
        assert_eq!(failure.code(), code, "{status} {body}: {failure:?}");
        assert!(!format!("{failure:?}").contains("script"));
    }
}

#[tokio::test]
async fn a_callback_of_another_issuer_or_with_an_error_reaches_no_token_endpoint() {
    let idp = Idp::start(&[]).await;
    let finish = |query: String| {
        let idp = &idp;
        async move { finish_at(idp, &query, RequiredAssurance::default()).await.unwrap_err() }
    };
    assert_eq!(finish("state=s&error=access_denied".to_owned()).await.code(), Code::IdpDenied);
    assert_eq!(finish("state=s".to_owned()).await.code(), Code::IdpDenied);
    let mixed_up = "state=s&code=c&iss=https%3A%2F%2Fevil.example".to_owned();
    assert_eq!(finish(mixed_up).await, SignInFailure::OtherIssuer);
    idp.serve_discovery(|document| document["authorization_response_iss_parameter_supported"] = json!(true));
    assert_eq!(finish("state=s&code=c".to_owned()).await, SignInFailure::OtherIssuer);
    assert!(idp.posted().is_empty());
}

#[tokio::test]
async fn a_weak_sign_in_is_refused_after_its_token_was_believed() {
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    let mut claims = idp.claims();
    claims["acr"] = json!("silver");
    claims["amr"] = json!(["pwd"]);
    idp.serve_token(200, json!({ "id_token": signer.sign(&claims) }).to_string());
    let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    for (acr, amr, met) in [
        (&["silver", "gold"][..], &["pwd"][..], true),
        (&["gold"], &[], false),
        (&[], &["pwd", "otp"], false),
        (&[], &[], true),
    ] {
        let required = RequiredAssurance { acr: list(acr), amr: list(amr) };
        let finished = finish_at(&idp, "state=s&code=c", required).await;
        assert_eq!(finished.is_ok(), met, "{acr:?} {amr:?}");
        if let Err(failure) = finished {
            assert_eq!(failure.code(), Code::AssuranceNotMet);
        }
    }
}

fn machine_claims(idp: &Idp) -> Value {
    let end = now().unix_seconds() + 60;
    json!({ "iss": idp.issuer, "sub": "machine:7", "aud": [AUDIENCE, "x"], "exp": end })
}

async fn grant(idp: &Idp) -> Result<String, GrantFailure> {
    let machine = Client { id: "machine:7".to_owned(), secret: Secret::new("s") };
    let granted = client_credentials(&providers(), &idp.trust(), &machine, AUDIENCE, now()).await;
    granted.map(|token| token.subject)
}

#[tokio::test]
async fn a_machine_is_believed_when_its_access_token_is_for_us_and_about_itself() {
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    let at = json!({ "alg": "ES256", "kid": "k", "typ": "at+jwt" }).to_string();
    let token = signer.sign_parts(&at, machine_claims(&idp).to_string().as_bytes());
    idp.serve_token(200, json!({ "access_token": token, "token_type": "Bearer" }).to_string());
    assert_eq!(grant(&idp).await.unwrap(), "machine:7");
    let posted = &idp.posted()[0];
    assert_eq!(
        (posted.fields["grant_type"].as_str(), posted.fields["audience"].as_str()),
        ("client_credentials", AUDIENCE)
    );
    assert_eq!(posted.authorization.as_deref(), Some("Basic bWFjaGluZSUzQTc6cw=="));

    for (member, value, refusal) in [
        ("iss", json!("https://evil.example"), TokenRefusal::Issuer),
        ("aud", json!("x"), TokenRefusal::Audience),
        ("sub", json!("machine:8"), TokenRefusal::Subject),
        ("exp", json!(now().unix_seconds() - 60), TokenRefusal::Expired),
        ("nbf", json!(now().unix_seconds() + 61), TokenRefusal::FromTheFuture),
    ] {
        let mut claims = machine_claims(&idp);
        claims[member] = value;
        idp.serve_token(200, json!({ "access_token": signer.sign(&claims) }).to_string());
        let failure = grant(&idp).await.unwrap_err();
        assert_eq!(failure, GrantFailure::Token(refusal));
        assert_eq!(failure.code(), Code::InvalidClientBadGateway);
    }
}

#[tokio::test]
async fn wrong_machine_credentials_an_opaque_token_and_a_dead_provider_have_their_codes() {
    let idp = Idp::start(&[]).await;
    for (status, body, code) in [
        (401, r#"{"error":"invalid_client"}"#, Code::InvalidClientBadGateway),
        (503, "", Code::IdpUnreachable),
        (200, r#"{"access_token":"opaque"}"#, Code::InvalidClientBadGateway),
        (200, "{}", Code::InvalidClientBadGateway),
    ] {
        idp.serve_token(status, body);
        assert_eq!(grant(&idp).await.unwrap_err().code(), code, "{status} {body}");
    }
}

fn svid_claims() -> Value {
    json!({ "sub": SPIFFE_ID, "aud": [AUDIENCE], "exp": now().unix_seconds() + 60, "jti": "once" })
}

fn bundle(signer: &Signer) -> String {
    let mut key = signer.jwk();
    key["use"] = json!("jwt-svid");
    let mut x509 = Signer::new("x", "ES256").jwk();
    x509["use"] = json!("x509-svid");
    json!({ "keys": [x509, key], "spiffe_sequence": 1, "spiffe_refresh_hint": 300 }).to_string()
}

struct Workload {
    idp: Idp,
    bundles: SpiffeBundles,
    url: String,
}

impl Workload {
    async fn start(signer: &Signer) -> Self {
        let idp = Idp::start(&[]).await;
        idp.serve_jwks(200, bundle(signer));
        let url = idp.jwks_url();
        Self { idp, bundles: SpiffeBundles::new(rig::fetch()), url }
    }

    async fn verify(&self, assertion: &str, now: Timestamp) -> Result<Svid, SvidFailure> {
        let expected = ExpectedSvid {
            bundle_url: Some(&self.url),
            issuer: "https://spire.example",
            audience: AUDIENCE,
            subject: SPIFFE_ID,
        };
        self.bundles.verify(assertion, &expected, now).await
    }
}

#[tokio::test]
async fn a_jwt_svid_is_verified_against_the_bundle() {
    for alg in ["ES256", "RS256", "PS256"] {
        let signer = Signer::new("k", alg);
        let workload = Workload::start(&signer).await;
        let svid = workload.verify(&signer.sign(&svid_claims()), now()).await.unwrap();
        assert_eq!((svid.subject.as_str(), svid.jti.as_deref()), (SPIFFE_ID, Some("once")));
        assert_eq!(svid.expires, now().plus(seconds(60)));
    }
}

#[tokio::test]
async fn each_wrong_svid_has_its_refusal() {
    let signer = Signer::new("k", "ES256");
    let workload = Workload::start(&signer).await;
    for (member, value, refusal) in [
        ("iss", json!("https://evil.example"), TokenRefusal::Issuer),
        ("aud", json!(["x"]), TokenRefusal::Audience),
        ("exp", json!(now().unix_seconds() - 60), TokenRefusal::Expired),
        ("exp", json!(null), TokenRefusal::Claim("exp")),
        ("sub", json!("machine"), TokenRefusal::Subject),
        ("jti", json!(""), TokenRefusal::Claim("jti")),
    ] {
        let mut claims = svid_claims();
        claims[member] = value;
        let failure = workload.verify(&signer.sign(&claims), now()).await.unwrap_err();
        assert_eq!(failure, SvidFailure::Refused(refusal));
        assert_eq!(failure.code(), Code::SpiffeVerificationFailed);
    }
    let mut other = svid_claims();
    other["sub"] = json!("spiffe://example.org/another");
    let failure = workload.verify(&signer.sign(&other), now()).await.unwrap_err();
    assert_eq!((failure.code(), failure), (Code::FederationKindMismatch, SvidFailure::OtherSubject));

    let nameless = signer.sign_parts(r#"{"alg":"ES256"}"#, svid_claims().to_string().as_bytes());
    let refused = |refusal| Err(SvidFailure::Refused(refusal));
    assert_eq!(workload.verify(&nameless, now()).await, refused(TokenRefusal::UnknownKey));
    let forged = Signer::new("k", "ES256").sign(&svid_claims());
    assert_eq!(workload.verify(&forged, now()).await, refused(TokenRefusal::Signature));
    let eddsa = Signer::new("k", "EdDSA").sign(&svid_claims());
    assert_eq!(workload.verify(&eddsa, now()).await, refused(TokenRefusal::Algorithm));
    let none = format!("{}.{}.", base64url(r#"{"alg":"none","kid":"k"}"#), base64url(svid_claims().to_string()));
    assert_eq!(workload.verify(&none, now()).await, refused(TokenRefusal::Algorithm));
}

#[tokio::test]
async fn an_unknown_svid_key_is_asked_for_exactly_once() {
    let (old, new) = (Signer::new("old", "ES256"), Signer::new("new", "ES256"));
    let workload = Workload::start(&old).await;
    workload.verify(&old.sign(&svid_claims()), now()).await.unwrap();
    workload.idp.serve_jwks(200, bundle(&new));
    workload.verify(&new.sign(&svid_claims()), now()).await.unwrap();
    let stranger = Signer::new("stranger", "ES256").sign(&svid_claims());
    let refused = workload.verify(&stranger, now()).await.unwrap_err();
    assert_eq!(refused, SvidFailure::Refused(TokenRefusal::UnknownKey));
    assert_eq!(workload.idp.key_reads(), 2);
}

#[tokio::test]
async fn a_bundle_outlives_its_server_for_a_day_and_no_longer() {
    let signer = Signer::new("k", "ES256");
    let workload = Workload::start(&signer).await;
    let mut claims = svid_claims();
    claims["exp"] = json!(now().unix_seconds() + 200_000);
    let assertion = signer.sign(&claims);
    workload.verify(&assertion, now()).await.unwrap();
    workload.idp.serve_jwks(503, String::new());
    workload.verify(&assertion, now().plus(seconds(86_399))).await.unwrap();
    let failure = workload.verify(&assertion, now().plus(seconds(86_400))).await.unwrap_err();
    assert_eq!(failure, SvidFailure::Unreachable(ProviderError::Status { status: 503 }));
    assert_eq!(failure.code(), Code::SpiffeBundleUnreachable);
}

#[tokio::test]
async fn a_bundle_that_is_not_configured_or_leads_inside_is_not_fetched() {
    let log = logs::guard();
    let signer = Signer::new("k", "ES256");
    let workload = Workload::start(&signer).await;
    let assertion = signer.sign(&svid_claims());
    let expected = |bundle_url| ExpectedSvid { bundle_url, issuer: "i", audience: AUDIENCE, subject: SPIFFE_ID };
    let verify =
        async |bundle_url| workload.bundles.verify(&assertion, &expected(bundle_url), now()).await.unwrap_err();
    assert_eq!(verify(None).await, SvidFailure::Unconfigured);
    assert_eq!(SvidFailure::Unconfigured.code(), Code::SpiffeBundleUnconfigured);
    assert_eq!(verify(Some("http://169.254.169.254/bundle")).await.code(), Code::SpiffeBundleUnreachable);
    drop(log);
}
