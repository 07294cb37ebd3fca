//! Discovery and keys: exactness, caching, one refresh on an unknown key, and what is remembered of failures.

use plexsphere_oidc::{
    DiscoveryFault, Fetch, FetchError, FetchSettings, ProviderError, Providers, Reach, SignInFailure, TokenRefusal,
    Trust,
};
use plexsphere_testkit::logs;
use serde_json::json;

use crate::rig::{self, Idp, Signer, now, providers, seconds, verify_with};

#[tokio::test]
async fn a_document_is_held_to_the_issuer_byte_for_byte() {
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    for issuer in [format!("{}/", idp.issuer), idp.issuer.replace("http", "HTTP"), "https://evil.example".to_owned()] {
        let trust = Trust { issuer, ..idp.trust() };
        assert_eq!(providers().discover(&trust, now()).await.unwrap_err(), ProviderError::Issuer);
    }
    assert!(!ProviderError::Issuer.is_transient());
    let discovery = providers().discover(&idp.trust(), now()).await.unwrap();
    assert_eq!(discovery.token_endpoint, format!("{}/token", idp.issuer));
}

#[tokio::test]
async fn a_document_with_an_endpoint_that_leads_inside_is_refused_before_anything_is_sent_there() {
    let idp = Idp::start(&[]).await;
    for (member, url) in [
        ("token_endpoint", "http://169.254.169.254/latest"),
        ("jwks_uri", "file:///etc/passwd"),
        ("authorization_endpoint", "javascript:alert(1)"),
        ("token_endpoint", "http://user:pass@127.0.0.1/"),
    ] {
        idp.serve_discovery(|document| document[member] = json!(url));
        let refused = providers().discover(&idp.trust(), now()).await.unwrap_err();
        let named = matches!(&refused, ProviderError::Discovery { reason: DiscoveryFault::Endpoint { member: at, .. } } if *at == member);
        assert!(named && !refused.is_transient(), "{refused:?}");
    }
    for member in ["authorization_endpoint", "token_endpoint", "jwks_uri", "issuer"] {
        idp.serve_discovery(|document| drop(document.as_object_mut().unwrap().remove(member)));
        let refused = providers().discover(&idp.trust(), now()).await.unwrap_err();
        assert_eq!(refused, ProviderError::Discovery { reason: DiscoveryFault::Missing(member) });
    }
}

#[tokio::test]
async fn document_and_keys_are_read_once_an_hour() {
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    let (providers, mut claims) = (providers(), idp.claims());
    claims["exp"] = json!(now().unix_seconds() + 100_000);
    let token = signer.sign(&claims);
    for (after, reads) in [(0, 1), (1, 1), (3_599, 1), (3_600, 2), (3_601, 2)] {
        verify_with(&providers, &idp, &token, now().plus(seconds(after))).await.unwrap();
        assert_eq!((idp.discoveries(), idp.key_reads()), (reads, reads), "after {after} s");
    }
}

#[tokio::test]
async fn a_rotated_key_is_found_by_one_refresh() {
    let (old, new) = (Signer::new("old", "ES256"), Signer::new("new", "ES256"));
    let idp = Idp::start(&[&old]).await;
    let providers = providers();
    verify_with(&providers, &idp, &old.sign(&idp.claims()), now()).await.unwrap();
    idp.serve_keys(&[&new]);
    verify_with(&providers, &idp, &new.sign(&idp.claims()), now()).await.unwrap();
    assert_eq!(idp.key_reads(), 2);
    let gone = verify_with(&providers, &idp, &old.sign(&idp.claims()), now().plus(seconds(1))).await;
    assert_eq!(gone, Err(SignInFailure::Token(TokenRefusal::UnknownKey)));
    assert_eq!(idp.key_reads(), 2, "within the minute nothing is asked again");
}

#[tokio::test]
async fn a_flood_of_unknown_keys_causes_one_read_a_minute() {
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    let providers = providers();
    verify_with(&providers, &idp, &signer.sign(&idp.claims()), now()).await.unwrap();
    let stranger = Signer::new("unknown", "ES256").sign(&idp.claims());
    let flood = || async {
        let tries = (0..20).map(|_| verify_with(&providers, &idp, &stranger, now().plus(seconds(1))));
        for refused in futures_util::future::join_all(tries).await {
            assert_eq!(refused, Err(SignInFailure::Token(TokenRefusal::UnknownKey)));
        }
    };
    flood().await;
    assert_eq!(idp.key_reads(), 2);
    flood().await;
    assert_eq!(idp.key_reads(), 2);
    let later = verify_with(&providers, &idp, &stranger, now().plus(seconds(61))).await;
    assert_eq!(later, Err(SignInFailure::Token(TokenRefusal::UnknownKey)));
    assert_eq!(idp.key_reads(), 3);
}

#[tokio::test]
async fn a_key_unknown_to_a_set_that_was_just_read_is_not_asked_for_again() {
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    let stranger = Signer::new("unknown", "ES256").sign(&idp.claims());
    let refused = verify_with(&providers(), &idp, &stranger, now()).await;
    assert_eq!(refused, Err(SignInFailure::Token(TokenRefusal::UnknownKey)));
    assert_eq!(idp.key_reads(), 1);
}

#[tokio::test]
async fn a_token_without_a_key_id_is_verified_only_when_there_is_one_key_for_it() {
    let (one, two) = (Signer::new("one", "ES256"), Signer::new("two", "ES256"));
    let idp = Idp::start(&[&one]).await;
    let token = one.sign_parts(r#"{"alg":"ES256"}"#, idp.claims().to_string().as_bytes());
    verify_with(&providers(), &idp, &token, now()).await.unwrap();
    idp.serve_keys(&[&one, &two]);
    let refused = verify_with(&providers(), &idp, &token, now()).await;
    assert_eq!(refused, Err(SignInFailure::Token(TokenRefusal::UnfitKey)));
}

#[tokio::test]
async fn a_failed_refresh_leaves_the_known_keys_in_use() {
    let log = logs::guard();
    log.expect("could not be refreshed");
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    let providers = providers();
    verify_with(&providers, &idp, &signer.sign(&idp.claims()), now()).await.unwrap();
    idp.serve_jwks(503, String::new());
    let stranger = Signer::new("unknown", "ES256").sign(&idp.claims());
    let refused = verify_with(&providers, &idp, &stranger, now()).await;
    assert_eq!(refused, Err(SignInFailure::Token(TokenRefusal::UnknownKey)));
    verify_with(&providers, &idp, &signer.sign(&idp.claims()), now()).await.unwrap();
    assert!(log.saw("could not be refreshed"));
}

#[tokio::test]
async fn a_failure_is_remembered_for_a_moment_and_then_tried_again() {
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    let (providers, token) = (providers(), signer.sign(&idp.claims()));
    idp.serve_jwks(500, String::new());
    let failed = SignInFailure::Provider(ProviderError::Status { status: 500 });
    assert_eq!(verify_with(&providers, &idp, &token, now()).await.unwrap_err(), failed);
    idp.serve_keys(&[&signer]);
    assert_eq!(verify_with(&providers, &idp, &token, now().plus(seconds(14))).await.unwrap_err(), failed);
    assert_eq!(idp.key_reads(), 1);
    verify_with(&providers, &idp, &token, now().plus(seconds(15))).await.unwrap();
    assert_eq!(idp.key_reads(), 2);
}

#[tokio::test]
async fn a_probe_tells_an_outage_from_a_fault_of_the_configuration() {
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    let providers = providers();
    providers.probe(&idp.trust(), now()).await.unwrap();
    idp.serve_jwks(503, String::new());
    assert!(providers.probe(&idp.trust(), now()).await.unwrap_err().is_transient());
    idp.serve_jwks(200, "not json".to_owned());
    assert!(!providers.probe(&idp.trust(), now()).await.unwrap_err().is_transient());
    idp.serve_discovery(|document| document["issuer"] = json!("https://other.example"));
    assert_eq!(providers.probe(&idp.trust(), now()).await.unwrap_err(), ProviderError::Issuer);
    let nobody = Trust { issuer: "http://127.0.0.1:9".to_owned(), discovery_url: "http://127.0.0.1:9/".to_owned() };
    assert!(providers.probe(&nobody, now()).await.unwrap_err().is_transient());
}

#[tokio::test]
async fn two_trusts_in_one_issuer_share_neither_document_nor_keys() {
    let (honest, evil) = (Signer::new("k", "ES256"), Signer::new("k", "ES256"));
    let (idp, other) = (Idp::start(&[&honest]).await, Idp::start(&[&evil]).await);
    // Another place that speaks in the name of the same issuer.
    other.serve_discovery(|document| document["issuer"] = json!(idp.issuer));
    let providers = providers();
    let poisoned = Trust { issuer: idp.issuer.clone(), ..other.trust() };
    providers.discover(&poisoned, now()).await.unwrap();
    let forged = verify_with(&providers, &idp, &evil.sign(&idp.claims()), now()).await;
    assert_eq!(forged, Err(SignInFailure::Token(TokenRefusal::Signature)));
    verify_with(&providers, &idp, &honest.sign(&idp.claims()), now()).await.unwrap();
}

#[tokio::test]
async fn a_forgotten_trust_is_read_anew() {
    let idp = Idp::start(&[]).await;
    let providers = Providers::new(rig::fetch());
    for _ in 0..2 {
        providers.discover(&idp.trust(), now()).await.unwrap();
    }
    assert_eq!(idp.discoveries(), 1);
    providers.forget(&idp.trust());
    providers.discover(&idp.trust(), now()).await.unwrap();
    assert_eq!(idp.discoveries(), 2);
    let local = Trust { issuer: "x".to_owned(), discovery_url: "http://169.254.169.254/".to_owned() };
    let refused = providers.discover(&local, now()).await.unwrap_err();
    assert!(matches!(refused, ProviderError::Fetch { source: FetchError::Inside { .. } }), "{refused:?}");
}

#[tokio::test]
async fn a_known_key_waits_for_no_strangers_refresh() {
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    let providers = providers();
    let good = signer.sign(&idp.claims());
    verify_with(&providers, &idp, &good, now()).await.unwrap();
    idp.hold_keys(true);
    let forged = Signer::new("unknown", "ES256").sign(&idp.claims());
    let stranger = verify_with(&providers, &idp, &forged, now());
    let others = async {
        plexsphere_testkit::eventually!(idp.key_reads() == 2, "the refresh is under way");
        for _ in 0..10 {
            verify_with(&providers, &idp, &good, now()).await.unwrap();
        }
        idp.hold_keys(false);
    };
    let (refused, ()) = tokio::join!(stranger, others);
    assert_eq!(refused, Err(SignInFailure::Token(TokenRefusal::UnknownKey)));
}

#[tokio::test]
async fn many_who_miss_a_new_key_at_once_are_served_by_one_refresh() {
    let (old, new) = (Signer::new("old", "ES256"), Signer::new("new", "ES256"));
    let idp = Idp::start(&[&old]).await;
    let providers = providers();
    verify_with(&providers, &idp, &old.sign(&idp.claims()), now()).await.unwrap();
    idp.serve_keys(&[&old, &new]);
    let token = new.sign(&idp.claims());
    let tries = (0..30).map(|_| verify_with(&providers, &idp, &token, now()));
    for verified in futures_util::future::join_all(tries).await {
        verified.unwrap();
    }
    assert_eq!(idp.key_reads(), 2);
}

#[tokio::test]
async fn a_key_set_that_moved_is_read_at_its_new_place() {
    let (old, new) = (Signer::new("k", "ES256"), Signer::new("k", "ES256"));
    let (idp, other) = (Idp::start(&[&old]).await, Idp::start(&[&new]).await);
    let providers = providers();
    verify_with(&providers, &idp, &old.sign(&idp.claims()), now()).await.unwrap();
    idp.serve_discovery(|document| document["jwks_uri"] = json!(other.jwks_url()));
    providers.probe(&idp.trust(), now()).await.unwrap();
    verify_with(&providers, &idp, &new.sign(&idp.claims()), now()).await.unwrap();
    let gone = verify_with(&providers, &idp, &old.sign(&idp.claims()), now()).await;
    assert_eq!(gone, Err(SignInFailure::Token(TokenRefusal::Signature)));
}

#[tokio::test]
async fn those_who_waited_for_a_provider_that_hangs_do_not_wait_again() {
    let signer = Signer::new("k", "ES256");
    let idp = Idp::start(&[&signer]).await;
    idp.hold_keys(true);
    let within = std::time::Duration::from_millis(300);
    let settings = FetchSettings { plain_http: true, reach: Reach::Loopback, within, ..FetchSettings::default() };
    let providers = Providers::new(Fetch::new(settings).unwrap());
    let token = signer.sign(&idp.claims());
    let tries = (0..10).map(|_| verify_with(&providers, &idp, &token, now()));
    for refused in futures_util::future::join_all(tries).await {
        let late = ProviderError::Fetch { source: FetchError::Late };
        assert_eq!(refused, Err(SignInFailure::Provider(late)));
    }
    assert_eq!(idp.key_reads(), 1);
}
