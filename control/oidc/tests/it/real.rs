//! The whole sign-in against a real, certified provider, with its own login form.

use plexsphere_oidc::{
    Callback, ClaimMappings, Client, ExchangeFailure, FlowSecrets, Groups, IdToken, Pending, Prompt, Providers,
    RequiredAssurance, Secret, SignIn, SignInFailure, TokenRefusal, Trust, authorization_url, client_credentials,
    finish, same_browser, state_digest,
};
use plexsphere_testkit::{Browser, OpenIdSettings, TestOpenId, logs, openid, openid_with};
use plexsphere_wire::{Code, Timestamp};

use serde_json::json;

use crate::rig::providers;

/// The provider's clock is the real one.
#[expect(clippy::disallowed_methods, reason = "the provider does not take its time from us")]
fn now() -> Timestamp {
    Timestamp::new(time::OffsetDateTime::now_utc())
}

/// Ourselves at the provider, and one flow after another.
struct Party<'p> {
    idp: &'p TestOpenId,
    providers: Providers,
    trust: Trust,
    client: Client,
    required: RequiredAssurance,
    mappings: ClaimMappings,
}

/// A flow that came back.
struct Returned {
    secrets: FlowSecrets,
    callback: String,
    begun: Timestamp,
}

impl<'p> Party<'p> {
    fn new(idp: &'p TestOpenId) -> Self {
        Self {
            idp,
            providers: providers(),
            trust: Trust { issuer: idp.issuer(), discovery_url: idp.discovery_url() },
            client: Client { id: TestOpenId::CLIENT_ID.to_owned(), secret: Secret::new(TestOpenId::CLIENT_SECRET) },
            required: RequiredAssurance::default(),
            mappings: ClaimMappings { groups: Some("groups".to_owned()), ..ClaimMappings::default() },
        }
    }

    async fn url(&self, secrets: &FlowSecrets, prompt: Option<Prompt>) -> String {
        let discovery = self.providers.discover(&self.trust, now()).await.unwrap();
        let sign_in = SignIn {
            client_id: &self.client.id,
            redirect_uri: self.idp.redirect_uri(),
            required: &self.required,
            prompt,
        };
        authorization_url(&discovery, &sign_in, secrets).unwrap()
    }

    async fn go(&self, browser: &mut Browser, prompt: Option<Prompt>) -> Returned {
        let (secrets, begun) = (FlowSecrets::random(), now());
        let callback = browser.sign_in(&self.url(&secrets, prompt).await, "ada").await;
        Returned { secrets, callback, begun }
    }

    async fn finish(&self, returned: &Returned, fresh: bool) -> Result<IdToken, SignInFailure> {
        let query = returned.callback.split_once('?').unwrap().1;
        let callback = Callback::parse(query).unwrap();
        assert!(same_browser(callback.state.expose(), Some(returned.secrets.state.expose())));
        assert_eq!(state_digest(callback.state.expose()), state_digest(returned.secrets.state.expose()));
        let pending = Pending {
            trust: &self.trust,
            client: &self.client,
            redirect_uri: self.idp.redirect_uri(),
            nonce: &returned.secrets.nonce,
            verifier: &returned.secrets.verifier,
            required: &self.required,
            mappings: &self.mappings,
            authenticated_since: fresh.then_some(returned.begun),
        };
        finish(&self.providers, &pending, &callback, now()).await
    }
}

#[tokio::test]
async fn a_person_signs_in_with_each_algorithm_and_each_way_to_prove_ourselves() {
    let ways = [
        ("RS256", "client_secret_basic"),
        ("PS256", "client_secret_post"),
        ("ES256", "client_secret_basic"),
        ("EdDSA", "client_secret_post"),
    ];
    for (alg, client_auth) in ways {
        let Some(idp) = openid_with(OpenIdSettings { alg, client_auth, ..OpenIdSettings::default() }).await else {
            return;
        };
        let party = Party::new(&idp);
        let returned = party.go(&mut idp.browser(), None).await;
        let log = logs::guard();
        let token = party.finish(&returned, false).await.unwrap();
        let code = returned.callback.split("code=").nth(1).unwrap().split('&').next().unwrap();
        let FlowSecrets { state, nonce, verifier, handle } = &returned.secrets;
        for secret in [code, TestOpenId::CLIENT_SECRET, "ada@example.test", "team-ada"] {
            assert!(!log.saw(secret), "{secret} is in the log");
        }
        for secret in [state, nonce, verifier, handle] {
            assert!(!log.saw(secret.expose()), "a secret of the flow is in the log");
        }
        assert_eq!((token.issuer, token.subject.as_str()), (idp.issuer(), "ada"), "{alg}");
        assert_eq!((token.email.as_deref(), token.email_verified), (Some("ada@example.test"), true));
        assert_eq!(token.display_name.as_deref(), Some("Name of ada"));
        assert_eq!(token.groups, Groups::Known(["staff".to_owned(), "team-ada".to_owned()].into()));
    }
}

#[tokio::test]
async fn a_code_is_good_once_and_for_its_own_flow_only() {
    let Some(idp) = openid().await else { return };
    let party = Party::new(&idp);
    let mut browser = idp.browser();
    let first = party.go(&mut browser, None).await;
    let mut stolen = party.go(&mut browser, None).await;
    stolen.secrets.verifier = first.secrets.verifier.clone();
    let refused = |failure: SignInFailure| {
        assert!(matches!(failure, SignInFailure::Exchange(ExchangeFailure::Refused { .. })), "{failure:?}");
        assert_eq!(failure.code(), Code::TokenExchangeRejected);
    };
    refused(party.finish(&stolen, false).await.unwrap_err());
    party.finish(&first, false).await.unwrap();
    refused(party.finish(&first, false).await.unwrap_err());

    let mut replayed = party.go(&mut browser, None).await;
    replayed.secrets.nonce = first.secrets.nonce.clone();
    let failure = party.finish(&replayed, false).await.unwrap_err();
    assert_eq!(failure, SignInFailure::Token(TokenRefusal::Nonce));
    assert_eq!(failure.code(), Code::NonceMismatch);
}

#[tokio::test]
async fn a_wrong_client_secret_is_refused_by_the_provider() {
    let Some(idp) = openid().await else { return };
    let mut party = Party::new(&idp);
    party.client.secret = Secret::new("wrong");
    let returned = party.go(&mut idp.browser(), None).await;
    let failure = party.finish(&returned, false).await.unwrap_err();
    let SignInFailure::Exchange(ExchangeFailure::Refused { status, error }) = failure else { panic!("{failure:?}") };
    assert_eq!((status, error.to_string().as_str()), (401, "invalid_client"));
}

#[tokio::test]
async fn a_person_who_cancels_is_denied() {
    let Some(idp) = openid().await else { return };
    let party = Party::new(&idp);
    let (secrets, begun) = (FlowSecrets::random(), now());
    let callback = idp.browser().cancel(&party.url(&secrets, None).await).await;
    let failure = party.finish(&Returned { secrets, callback, begun }, false).await.unwrap_err();
    assert_eq!(failure.code(), Code::IdpDenied);
    assert!(failure.to_string().ends_with("access_denied"), "{failure}");
}

#[tokio::test]
async fn a_fresh_login_is_asked_for_and_proven() {
    let Some(idp) = openid().await else { return };
    let party = Party::new(&idp);
    let mut browser = idp.browser();
    let first = party.go(&mut browser, None).await;
    party.finish(&first, false).await.unwrap();
    let again = party.go(&mut browser, Some(Prompt::Login)).await;
    let token = party.finish(&again, true).await.unwrap();
    assert!(token.auth_time.is_some());
}

#[tokio::test]
async fn classes_and_methods_are_believed_as_the_provider_gives_them_and_never_assumed() {
    let Some(idp) = openid().await else { return };
    let mut party = Party::new(&idp);
    party.required = RequiredAssurance { acr: vec!["gold".to_owned()], amr: vec!["otp".to_owned()] };
    let mut outcomes = Vec::new();
    for person in
        [json!({}), json!({ "acr": "silver", "amr": ["otp"] }), json!({ "acr": "gold", "amr": ["pwd", "otp"] })]
    {
        idp.person("ada", &person).await;
        let returned = party.go(&mut idp.browser(), None).await;
        outcomes.push(party.finish(&returned, false).await.map(|token| token.amr).map_err(|failure| failure.code()));
    }
    let strong = vec!["pwd".to_owned(), "otp".to_owned()];
    assert_eq!(outcomes, [Err(Code::AssuranceNotMet), Err(Code::AssuranceNotMet), Ok(strong)]);
}

#[tokio::test]
async fn groups_and_names_follow_the_provider_from_sign_in_to_sign_in() {
    let Some(idp) = openid().await else { return };
    let party = Party::new(&idp);
    let mut browser = idp.browser();
    let mut groups = Vec::new();
    for person in [
        json!({ "groups": ["ops"], "name": null }),
        json!({ "groups": [] }),
        json!({ "groups": null, "_claim_names": {} }),
    ] {
        idp.person("ada", &person).await;
        let returned = party.go(&mut browser, None).await;
        groups.push(party.finish(&returned, false).await.unwrap().groups);
    }
    let known = |names: &[&str]| Groups::Known(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(groups, [known(&["ops"]), known(&[]), Groups::Unknown]);
}

#[tokio::test]
async fn a_provider_that_rotates_its_keys_is_followed_and_one_that_died_is_told_apart() {
    let Some(mut idp) = openid().await else { return };
    let providers = {
        let party = Party::new(&idp);
        let returned = party.go(&mut idp.browser(), None).await;
        party.finish(&returned, false).await.unwrap();
        party.providers
    };
    idp.rotate_keys().await;
    let party = Party { providers, ..Party::new(&idp) };
    let returned = party.go(&mut idp.browser(), None).await;
    party.finish(&returned, false).await.unwrap();
    let returned = party.go(&mut idp.browser(), None).await;
    idp.stop().await;
    let failure = party.finish(&returned, false).await.unwrap_err();
    assert_eq!(failure.code(), Code::IdpUnreachable);
}

#[tokio::test]
async fn a_machine_redeems_its_credentials() {
    let Some(idp) = openid_with(OpenIdSettings { alg: "ES256", ..OpenIdSettings::default() }).await else { return };
    let party = Party::new(&idp);
    let machine = |secret| Client { id: TestOpenId::MACHINE_ID.to_owned(), secret: Secret::new(secret) };
    let grant = async |secret, audience| {
        client_credentials(&party.providers, &party.trust, &machine(secret), audience, now()).await
    };
    let token = grant(TestOpenId::MACHINE_SECRET, TestOpenId::AUDIENCE).await.unwrap();
    assert_eq!(token.subject, TestOpenId::MACHINE_ID);
    let wrong = grant("wrong", TestOpenId::AUDIENCE).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidClientBadGateway);
    let other = grant(TestOpenId::MACHINE_SECRET, "https://elsewhere.test").await.unwrap_err();
    assert_eq!(other.code(), Code::InvalidClientBadGateway);
}
