use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plexsphere_kernel::custody::openbao::{BaoFault, OpenBao, Transit};
use plexsphere_testkit::{TestOpenBao, openbao, openbao_own};
use serde_json::{Value, json};

/// A client with the root token, and the folder that holds its file.
fn client(server: &TestOpenBao) -> (OpenBao, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, server.token()).unwrap();
    (OpenBao::new(&server.url(), &file).unwrap(), folder)
}

fn transit(server: &TestOpenBao) -> (Transit, tempfile::TempDir) {
    let (bao, folder) = client(server);
    (Transit::new(bao, server.transit_mount()), folder)
}

async fn write(server: &TestOpenBao, path: &str, body: Value) -> Value {
    let (bao, _folder) = client(server);
    let answer = bao.write(&format!("{}/{path}", server.transit_mount()), &body).await.unwrap();
    serde_json::from_slice(&answer).unwrap_or_default()
}

async fn key(server: &TestOpenBao, name: &str) -> Value {
    let (bao, _folder) = client(server);
    bao.read::<Value>(&format!("{}/keys/{name}", server.transit_mount())).await.unwrap()["data"].clone()
}

#[tokio::test]
async fn rings_are_decrypted_in_one_call_and_a_foreign_text_is_refused() {
    let server = openbao().await;
    write(&server, "keys/kek", json!({ "type": "aes256-gcm96" })).await;
    let mut sealed = Vec::new();
    for text in ["ring one", "ring two"] {
        let answer = write(&server, "encrypt/kek", json!({ "plaintext": STANDARD.encode(text) })).await;
        sealed.push(answer["data"]["ciphertext"].as_str().unwrap().to_owned());
    }
    let (transit, _folder) = transit(&server);
    let opened = transit.decrypt("kek", &[&sealed[0], &sealed[1]]).await.unwrap();
    assert_eq!((opened[0].as_slice(), opened[1].as_slice()), (&b"ring one"[..], &b"ring two"[..]));
    let spoilt = sealed[1].replacen("vault:v1:", "vault:v1:AAAA", 1);
    assert!(transit.decrypt("kek", &[&sealed[0], &spoilt]).await.is_err());
    assert!(transit.decrypt("another", &[&sealed[0]]).await.is_err());
}

#[tokio::test]
async fn each_version_signs_verifiably_and_cannot_be_exported() {
    let server = openbao().await;
    let (transit, _folder) = transit(&server);
    let (first, second) = (transit.next_version("k").await.unwrap(), transit.next_version("k").await.unwrap());
    assert_eq!((first.version, second.version), (1, 2));
    for made in [first, second] {
        let signature = transit.sign("k", made.version, b"bytes").await.unwrap();
        let public = ed25519_dalek::VerifyingKey::from_bytes(&made.public_key).unwrap();
        public.verify_strict(b"bytes", &ed25519_dalek::Signature::from_bytes(&signature)).unwrap();
    }
    let key = key(&server, "k").await;
    assert_eq!((&key["type"], &key["exportable"]), (&json!("ed25519"), &json!(false)));
    write(&server, "keys/open", json!({ "type": "ed25519", "exportable": true })).await;
    assert!(matches!(transit.next_version("open").await, Err(BaoFault::Unexpected(_))));
}

#[tokio::test]
async fn what_is_asked_at_the_same_time_is_signed_in_calls_of_a_hundred() {
    let server = openbao().await;
    let (transit, _folder) = transit(&server);
    let made = transit.next_version("k").await.unwrap();
    let public = ed25519_dalek::VerifyingKey::from_bytes(&made.public_key).unwrap();
    let texts: Vec<String> = (0..250).map(|n| format!("text {n}")).collect();
    let all = texts.iter().map(|text| transit.sign("k", made.version, text.as_bytes()));
    for (text, signature) in texts.iter().zip(futures_util::future::join_all(all).await) {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.unwrap());
        public.verify_strict(text.as_bytes(), &signature).unwrap();
    }
}

#[tokio::test]
async fn a_trimmed_version_signs_nothing_more_and_later_ones_go_on() {
    let server = openbao().await;
    let (transit, _folder) = transit(&server);
    for _ in 0..3 {
        transit.next_version("k").await.unwrap();
    }
    transit.trim("k", Some(2)).await.unwrap();
    assert!(transit.sign("k", 1, b"x").await.is_err());
    assert!(transit.sign("k", 2, b"x").await.is_ok() && transit.sign("k", 3, b"x").await.is_ok());
    assert_eq!(key(&server, "k").await["min_available_version"], 2);
    transit.trim("k", None).await.unwrap();
    assert!(transit.sign("k", 2, b"x").await.is_err() && transit.sign("k", 3, b"x").await.is_err());
    assert_eq!(key(&server, "k").await["min_available_version"], 4);
    transit.trim("never-made", None).await.unwrap();
}

#[tokio::test]
async fn a_sealed_server_and_one_that_is_gone_read_as_unreachable() {
    let mut server = openbao_own().await;
    let (transit, folder) = transit(&server);
    let made = transit.next_version("k").await.unwrap();
    let (bao, _folder) = client(&server);
    bao.write("sys/seal", &json!({})).await.unwrap();
    assert_eq!(transit.sign("k", made.version, b"x").await, Err(BaoFault::Unreachable));
    assert_eq!(transit.next_version("k").await, Err(BaoFault::Unreachable));
    server.kill9().await;
    assert_eq!(transit.sign("k", made.version, b"x").await, Err(BaoFault::Unreachable));
    server.restart().await;
    assert!(transit.sign("k", made.version, b"x").await.is_ok());
    std::fs::write(folder.path().join("token"), "s.unknown").unwrap();
    assert_eq!(transit.sign("k", made.version, b"x").await, Err(BaoFault::Refused(403)));
}
