//! The surface as a whole: document, routes, and what stands on them.

use std::collections::BTreeSet;

use crate::answers::send;
use crate::installation::{Installation, client};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_described_operation_is_routed_and_nothing_internal_is_reachable() {
    let installation = Installation::start(1, &[]).await;
    let url = installation.http_url(0);
    let document: serde_json::Value =
        client().get(format!("{url}/v1/openapi.json")).send().await.unwrap().json().await.unwrap();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()));
            let concrete = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
            let concrete: Vec<&str> = concrete.collect();
            let request =
                client().request(method.to_uppercase().parse().unwrap(), format!("{url}{}", concrete.join("/")));
            let answer = send(request).await;
            assert_ne!(answer.status, 405, "{method} {path}");
            assert!(!answer.text.contains("There is no such route"), "{method} {path}: {}", answer.text);
        }
    }
    let expected = [
        "CreateDomain",
        "CreateInvitation",
        "CreateProject",
        "CreateRelationTuple",
        "CreateResource",
        "CreateServiceIdentity",
        "DeleteAdminGroupByID",
        "DeleteAdminGroupMember",
        "DeleteAdminIdPByID",
        "DeleteAdminTokenByID",
        "DeleteAuthSession",
        "DeleteAuthTokenByID",
        "DeleteDomain",
        "DeleteNodeStateReport",
        "DeleteProject",
        "DeleteRelationTuple",
        "DeleteResource",
        "EraseIdentityFromAudit",
        "EraseIdentityFromPlatformAudit",
        "GetAdminGroupByID",
        "GetAdminGroupList",
        "GetAdminGroupMembers",
        "GetAdminIdPByID",
        "GetAdminIdPList",
        "GetAdminPlatformIdPList",
        "GetAdminTokens",
        "GetAuditEntry",
        "GetAuthCallback",
        "GetAuthIdPBindings",
        "GetAuthTokens",
        "GetAuthWhoami",
        "GetBootstrapTokenMetadata",
        "GetDocs",
        "GetDocsAsset",
        "GetDomain",
        "GetDomainMeshTopology",
        "GetHealth",
        "GetIdentity",
        "GetInvitation",
        "GetNodeEvents",
        "GetNodeKeysRotatePreview",
        "GetNodeReachability",
        "GetNodeState",
        "GetOpenAPI",
        "GetPlatformAuditEntry",
        "GetProject",
        "GetResource",
        "GetVersion",
        "IssueBootstrapToken",
        "ListAuditEntries",
        "ListBootstrapTokens",
        "ListDomains",
        "ListIdentities",
        "ListInvitations",
        "ListNodes",
        "ListPlatformAuditEntries",
        "ListProjectResources",
        "ListProjects",
        "ListRelationTuples",
        "PatchAdminGroup",
        "PatchAdminIdP",
        "PatchAdminIdPStatus",
        "PatchDomain",
        "PatchProject",
        "PatchRelationTuple",
        "PostAdminGroup",
        "PostAdminGroupMember",
        "PostAdminIdP",
        "PostAdminPlatformIdP",
        "PostAdminTokenRotate",
        "PostAdminTokens",
        "PostAuthDeviceApprove",
        "PostAuthDeviceCode",
        "PostAuthDeviceToken",
        "PostAuthServiceToken",
        "PostAuthSignIn",
        "PostAuthSignOutGlobal",
        "PostAuthTokenRotate",
        "PostAuthTokens",
        "PostAuthzCheck",
        "PostAuthzLookupResources",
        "PostAuthzLookupSubjects",
        "PostKeysRotate",
        "PostNodeAudit",
        "PostNodeHeartbeat",
        "PostNodeKeysRotate",
        "PostNodeLogs",
        "PostNodeMetrics",
        "PostRegister",
        "PutNodeEndpoint",
        "PutNodeStateReport",
        "RevokeBootstrapToken",
        "RevokeInvitation",
        "VerifyAuditChain",
        "VerifyPlatformAuditChain",
    ];
    for id in expected {
        assert!(ids.remove(id), "{id} is not described");
    }
    assert!(ids.is_empty(), "not known here: {ids:?}");
    for path in ["/internal/v1/authorize/node-events/x", "/metrics", "/readyz", "/v2/domains", "/"] {
        let answer = send(client().get(format!("{url}{path}"))).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_the_document_loads_nothing_from_elsewhere() {
    let installation = Installation::start(1, &[]).await;
    let url = installation.http_url(0);
    let page = client().get(format!("{url}/v1/docs")).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe-eval"));
    assert!(!page.text().await.unwrap().contains("https://"));
    let script = client().get(format!("{url}/v1/docs/assets/redoc.standalone.js")).send().await.unwrap();
    assert_eq!(script.headers()["content-type"], "application/javascript");
    let missing = client().get(format!("{url}/v1/docs/assets/%2e%2e%2fsecret")).send().await.unwrap();
    assert_eq!(missing.status(), 404);
    let health: serde_json::Value =
        client().get(format!("{url}/v1/health")).send().await.unwrap().json().await.unwrap();
    assert_eq!(health["status"], "ok", "{health}");
}
