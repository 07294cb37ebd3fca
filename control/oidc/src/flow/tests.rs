use std::collections::BTreeMap;

use super::*;

fn discovery() -> Discovery {
    Discovery {
        issuer: "https://idp.example".to_owned(),
        authorization_endpoint: "https://idp.example/authorize?tenant=7".to_owned(),
        token_endpoint: "https://idp.example/token".to_owned(),
        jwks_uri: "https://idp.example/jwks".to_owned(),
        client_auth: None,
        names_issuer_in_callback: false,
    }
}

fn query(prompt: Option<Prompt>, acr: &[&str]) -> BTreeMap<String, String> {
    let required = RequiredAssurance { acr: acr.iter().map(|acr| (*acr).to_owned()).collect(), amr: Vec::new() };
    let sign_in =
        SignIn { client_id: "a client", redirect_uri: "https://us.example/cb?x=1&y", required: &required, prompt };
    let secrets = FlowSecrets {
        state: Secret::new("the-state"),
        nonce: Secret::new("the-nonce"),
        // The example of RFC 7636, appendix B.
        verifier: Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        handle: Secret::new("the-handle"),
    };
    let url = authorization_url(&discovery(), &sign_in, &secrets).unwrap();
    assert!(url.starts_with("https://idp.example/authorize?"), "{url}");
    assert!(!url.contains("dBjft") && !url.contains("the-handle"), "{url}");
    Url::parse(&url).unwrap().query_pairs().into_owned().collect()
}

#[test]
fn the_address_asks_for_a_code_with_a_challenge_and_keeps_what_the_endpoint_has() {
    let expected = [
        ("tenant", "7"),
        ("response_type", "code"),
        ("client_id", "a client"),
        ("redirect_uri", "https://us.example/cb?x=1&y"),
        ("scope", "openid profile email"),
        ("state", "the-state"),
        ("nonce", "the-nonce"),
        ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("code_challenge_method", "S256"),
    ];
    let expected: BTreeMap<_, _> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(query(None, &[]), expected);
}

#[test]
fn classes_and_prompts_are_forwarded_and_a_fresh_login_asks_for_no_earlier_one() {
    let asked = query(Some(Prompt::Login), &["gold", "silver"]);
    assert_eq!(asked["acr_values"], "gold silver");
    assert_eq!((asked["prompt"].as_str(), asked["max_age"].as_str()), ("login", "0"));
    let asked = query(Prompt::parse("select_account"), &[]);
    assert_eq!((asked["prompt"].as_str(), asked.get("max_age")), ("select_account", None));
    assert_eq!(Prompt::parse("create"), None);
    assert_eq!(Prompt::parse("none"), Some(Prompt::None));
}

#[test]
fn the_secrets_of_two_flows_have_nothing_in_common_and_are_not_printed() {
    let (one, two) = (FlowSecrets::random(), FlowSecrets::random());
    let all = [&one, &two].map(|flow| [&flow.state, &flow.nonce, &flow.verifier, &flow.handle].map(Secret::expose));
    let distinct: std::collections::BTreeSet<_> = all.iter().flatten().collect();
    assert_eq!(distinct.len(), 8);
    assert!(distinct.iter().all(|text| text.len() == 43));
    assert!(!format!("{one:?}").contains(one.state.expose()));
}

#[test]
fn a_callback_without_one_state_belongs_to_no_flow() {
    let long = format!("state=x&code={}", "y".repeat(MAX_CALLBACK_BYTES));
    for query in ["", "code=x", "state=&code=x", "state=a&state=b&code=x", "state=a&code=x&code=y", long.as_str()] {
        assert_eq!(Callback::parse(query).unwrap_err(), CallbackFault::NoState, "{query}");
    }
    assert_eq!(CallbackFault::NoState.code(), Code::StateMismatch);
}

#[test]
fn an_error_wins_over_a_code_and_its_text_is_not_kept() {
    let read = |query: &str| Callback::parse(query).unwrap();
    let good = read("state=a%2Bb&code=c&iss=https%3A%2F%2Fidp.example&session_state=z");
    assert_eq!((good.state.expose(), good.issuer.as_deref()), ("a+b", Some("https://idp.example")));
    assert_eq!(good.outcome.unwrap().expose(), "c");
    let denied = read("state=a&code=c&error=access_denied&error_description=call+me");
    assert_eq!(denied.outcome.unwrap_err().to_string(), "access_denied");
    assert_eq!(read("state=a").outcome.unwrap_err().to_string(), "unreadable");
    assert!(!format!("{:?}", read("state=a&code=c0de")).contains("c0de"));
}

#[test]
fn the_browser_that_comes_back_is_the_one_with_the_cookie() {
    assert!(same_browser("abc", Some("abc")));
    for (state, cookie) in [("abc", Some("abd")), ("abc", Some("ab")), ("abc", None), ("", Some("")), ("", None)] {
        assert!(!same_browser(state, cookie));
    }
    assert_ne!(state_digest("abc"), state_digest("abd"));
}

#[test]
fn each_failure_has_the_code_of_its_step() {
    let refused = || ExchangeFailure::Refused { status: 400, error: OAuthError::new("invalid_grant") };
    let away = || ProviderError::Status { status: 503 };
    let cases = [
        (SignInFailure::Denied { error: OAuthError::new("x") }, Code::IdpDenied),
        (SignInFailure::OtherIssuer, Code::StateMismatch),
        (SignInFailure::Exchange(refused()), Code::TokenExchangeRejected),
        (SignInFailure::Exchange(ExchangeFailure::NoClientAuth), Code::TokenExchangeRejected),
        (SignInFailure::Exchange(away().into()), Code::IdpUnreachable),
        (SignInFailure::Provider(away()), Code::IdpUnreachable),
        (SignInFailure::Token(TokenRefusal::Signature), Code::IdTokenInvalid),
        (SignInFailure::Token(TokenRefusal::Nonce), Code::NonceMismatch),
        (SignInFailure::Token(TokenRefusal::NotRecent), Code::AssuranceNotMet),
        (SignInFailure::Assurance(AssuranceUnmet::Acr), Code::AssuranceNotMet),
    ];
    for (failure, code) in cases {
        assert_eq!(failure.code(), code, "{failure}");
    }
}
