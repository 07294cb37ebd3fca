use plexsphere_testkit::{openbao, openbao_own};

#[tokio::test]
async fn two_tests_have_mounts_of_their_own_in_one_unsealed_server() {
    let (one, two) = tokio::join!(openbao(), openbao());
    assert_eq!(one.pid(), two.pid());
    assert_ne!(one.kv_mount(), two.kv_mount());
    assert_ne!(one.transit_mount(), two.transit_mount());
    assert!(!one.token().is_empty() && one.url().starts_with("http://127.0.0.1:"));
}

#[tokio::test]
async fn a_killed_server_comes_back_unsealed_with_the_same_token() {
    let mut server = openbao_own().await;
    let (url, token) = (server.url(), server.token().to_owned());
    server.kill9().await;
    // Starting again lists the mounts with the token, so it proves that both survived.
    server.restart().await;
    assert_eq!((server.url(), server.token()), (url, token.as_str()));
}
