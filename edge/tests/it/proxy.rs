use bytes::Bytes;
use plexsphere_testkit as testkit;

use crate::harness::{browser, rig};

#[tokio::test]
async fn everything_else_goes_to_control_with_our_word_for_the_caller() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let chunks = futures_util::stream::iter((0..64).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 16_384]))));
    let response = browser()
        .put(format!("{}/v1/projects/x?a=b", rig.http()))
        .header("authorization", "Bearer pat_x")
        .header("x-forwarded-for", "9.9.9.9")
        .header("x-forwarded-proto", "https")
        .header("te", "trailers")
        .header("x-correlation-id", "mine")
        .body(reqwest::Body::wrap_stream(chunks))
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["x-control"], "yes");
    assert_eq!(response.headers()["x-correlation-id"], "mine");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert!(!response.headers().contains_key("proxy-authenticate"));
    assert_eq!(response.bytes().await.unwrap().len(), 64 * 16_384);
    let seen = rig.seen.lock();
    let (method, path, headers, _) = &seen[0];
    assert_eq!((method.as_str(), path.as_str()), ("PUT", "/v1/projects/x?a=b"));
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["authorization"], "Bearer pat_x");
    assert_eq!(headers["host"].to_str().unwrap(), rig.http().trim_start_matches("http://"));
    assert!(!headers.contains_key("te"));
}

#[tokio::test]
async fn internal_paths_and_wrong_methods_are_answered_here() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let hidden = browser().get(format!("{}/internal/v1/x", rig.http())).send().await.unwrap();
    assert_eq!(hidden.status(), 404);
    let wrong = browser().get(rig.path("metrics")).send().await.unwrap();
    assert_eq!((wrong.status().as_u16(), &wrong.headers()["allow"]), (405, &"POST".parse().unwrap()));
    assert!(rig.seen.lock().is_empty());
}

#[tokio::test]
async fn a_control_that_is_down_is_a_503_with_retry_after() {
    let logs = testkit::logs::guard();
    logs.expect("control did not answer");
    let rig = rig(|config| config.proxy.control_url = "http://127.0.0.1:9".into()).await;
    let response = browser().get(format!("{}/v1/health", rig.http())).send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &"5".parse().unwrap()));
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["code"], "datastore_unavailable");
}
