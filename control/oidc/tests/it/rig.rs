//! Keys of our own, and a provider that serves exactly what a test says and counts what it is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaKeyPair,
};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use plexsphere_oidc::{
    ClaimMappings, Client, Expected, Fetch, FetchSettings, IdToken, Providers, Reach, Secret, SignInFailure,
    TokenRefusal, Trust, verify_id_token,
};
use plexsphere_wire::Timestamp;
use serde_json::{Value, json};
use std::sync::Mutex;

pub const CLIENT: &str = "the-client";
pub const NONCE: &str = "the-nonce";

/// What a test calls now.
pub fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000)
}

pub fn seconds(count: u64) -> std::time::Duration {
    std::time::Duration::from_secs(count)
}

pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    data_encoding::BASE64URL_NOPAD.encode(bytes.as_ref())
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// A signing key.
pub struct Signer {
    pub kid: &'static str,
    pub alg: &'static str,
    pair: Pair,
}

impl Signer {
    pub fn new(kid: &'static str, alg: &'static str) -> Self {
        let pair = match alg {
            "RS256" | "PS256" => Pair::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())),
            "ES256" => Pair::P256(Box::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())),
            "EdDSA" => Pair::Ed25519(Box::new(Ed25519KeyPair::generate().unwrap())),
            other => panic!("no signer for {other}"),
        };
        Self { kid, alg, pair }
    }

    pub fn jwk(&self) -> Value {
        let mut key = match &self.pair {
            Pair::Rsa(pair) => {
                let key = pair.public_key();
                let n = base64url(key.modulus().big_endian_without_leading_zero());
                json!({ "kty": "RSA", "n": n, "e": base64url(key.exponent().big_endian_without_leading_zero()) })
            }
            Pair::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "x": base64url(&point[1..33]), "y": base64url(&point[33..]) })
            }
            Pair::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key().as_ref()) })
            }
        };
        key["kid"] = json!(self.kid);
        key["use"] = json!("sig");
        key
    }

    pub fn header(&self) -> Value {
        json!({ "alg": self.alg, "kid": self.kid, "typ": "JWT" })
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_parts(&self.header().to_string(), claims.to_string().as_bytes())
    }

    /// Signs whatever it is given, as its own algorithm does.
    pub fn sign_parts(&self, header: &str, payload: &[u8]) -> String {
        let message = format!("{}.{}", base64url(header), base64url(payload));
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let scheme = if self.alg == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                pair.sign(scheme, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Pair::P256(pair) => pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", base64url(signature))
    }
}

/// One form that was posted.
#[derive(Debug, Clone, Default)]
pub struct Posted {
    pub fields: BTreeMap<String, String>,
    pub authorization: Option<String>,
}

#[derive(Default)]
struct Served {
    discovery: Mutex<Value>,
    jwks: Mutex<(u16, String)>,
    token: Mutex<(u16, String)>,
    posted: Mutex<Vec<Posted>>,
    discoveries: AtomicUsize,
    key_reads: AtomicUsize,
    held: tokio::sync::watch::Sender<bool>,
}

/// The provider.
pub struct Idp {
    pub issuer: String,
    providers: Providers,
    served: Arc<Served>,
}

impl Idp {
    pub async fn start(keys: &[&Signer]) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let served = Arc::new(Served::default());
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(jwks))
            .route("/token", post(token))
            .with_state(Arc::clone(&served));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let idp = Self { issuer, providers: providers(), served };
        idp.serve_discovery(|_| {});
        idp.serve_keys(keys);
        idp
    }

    pub fn trust(&self) -> Trust {
        Trust {
            issuer: self.issuer.clone(),
            discovery_url: format!("{}/.well-known/openid-configuration", self.issuer),
        }
    }

    pub fn jwks_url(&self) -> String {
        format!("{}/jwks", self.issuer)
    }

    /// Serves a good discovery document with a change.
    pub fn serve_discovery(&self, change: impl FnOnce(&mut Value)) {
        let mut document = json!({
            "issuer": self.issuer,
            "authorization_endpoint": format!("{}/authorize", self.issuer),
            "token_endpoint": format!("{}/token", self.issuer),
            "jwks_uri": self.jwks_url(),
            "subject_types_supported": ["public"],
        });
        change(&mut document);
        *self.served.discovery.lock().unwrap() = document;
    }

    pub fn serve_keys(&self, keys: &[&Signer]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        self.serve_jwks(200, json!({ "keys": keys }).to_string());
    }

    pub fn serve_jwks(&self, status: u16, body: String) {
        *self.served.jwks.lock().unwrap() = (status, body);
    }

    /// Lets nobody have the keys until they are let go.
    pub fn hold_keys(&self, held: bool) {
        self.served.held.send_replace(held);
    }

    pub fn serve_token(&self, status: u16, body: impl Into<String>) {
        *self.served.token.lock().unwrap() = (status, body.into());
    }

    pub fn discoveries(&self) -> usize {
        self.served.discoveries.load(Ordering::SeqCst)
    }

    pub fn key_reads(&self) -> usize {
        self.served.key_reads.load(Ordering::SeqCst)
    }

    pub fn posted(&self) -> Vec<Posted> {
        self.served.posted.lock().unwrap().clone()
    }

    /// Claims that are right in every way.
    pub fn claims(&self) -> Value {
        let now = now().unix_seconds();
        json!({
            "iss": self.issuer, "sub": "Ada-1", "aud": CLIENT, "nonce": NONCE, "iat": now, "exp": now + 300,
            "email": "ada@example.test", "email_verified": true, "name": "Ada",
        })
    }
}

async fn discovery(State(served): State<Arc<Served>>) -> String {
    served.discoveries.fetch_add(1, Ordering::SeqCst);
    served.discovery.lock().unwrap().to_string()
}

async fn jwks(State(served): State<Arc<Served>>) -> (StatusCode, String) {
    served.key_reads.fetch_add(1, Ordering::SeqCst);
    let _ = served.held.subscribe().wait_for(|held| !held).await;
    let (status, body) = served.jwks.lock().unwrap().clone();
    (StatusCode::from_u16(status).unwrap(), body)
}

async fn token(State(served): State<Arc<Served>>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let fields = url::form_urlencoded::parse(&body).into_owned().collect();
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    served.posted.lock().unwrap().push(Posted { fields, authorization });
    let (status, body) = served.token.lock().unwrap().clone();
    (StatusCode::from_u16(status).unwrap(), body)
}

/// A client that may reach loopback by plain http.
pub fn fetch() -> Fetch {
    Fetch::new(FetchSettings { plain_http: true, reach: Reach::Loopback, ..FetchSettings::default() }).unwrap()
}

pub fn providers() -> Providers {
    Providers::new(fetch())
}

pub fn client() -> Client {
    Client { id: CLIENT.to_owned(), secret: Secret::new("the-secret") }
}

pub fn expected() -> Expected<'static> {
    Expected { client_id: CLIENT, nonce: NONCE, authenticated_since: None }
}

/// Verifies a token as the usual client does.
pub async fn verify(idp: &Idp, token: &str) -> Result<IdToken, SignInFailure> {
    verify_with(&idp.providers, idp, token, now()).await
}

pub async fn verify_with(
    providers: &Providers,
    idp: &Idp,
    token: &str,
    now: Timestamp,
) -> Result<IdToken, SignInFailure> {
    verify_id_token(providers, &idp.trust(), token, (&expected(), &ClaimMappings::default()), now).await
}

/// The refusal of a token, which must be one.
pub async fn refusal(idp: &Idp, token: &str) -> TokenRefusal {
    match verify(idp, token).await {
        Err(SignInFailure::Token(refusal)) => refusal,
        other => panic!("not refused as a token: {other:?}"),
    }
}
