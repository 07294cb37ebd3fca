//! Checks, lookups, and the administration of tuples.

use http::Method;
use plexsphere_kernel::Outcome;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::served::{code, grant, served, spelled};
use crate::world::object;

#[tokio::test]
async fn a_check_answers_200_either_way_and_leaves_its_row() {
    let served = served().await;
    assert_eq!(served.ask("u9", "user:9", "manage", "project:2").await, "allowed");
    assert_eq!(served.ask("u9", "user:7", "deploy", "project:2").await, "insufficient_relation");
    let (row, _) = served.last_row();
    assert_eq!(
        (row.relation.as_str(), row.object, row.correlation_id.as_str()),
        ("authz.check", object("project:2"), "here")
    );
    assert_eq!((row.domain, matches!(row.outcome, Outcome::Denied(_))), (Some(served.world.domain), true));
    assert_eq!(served.ask("u9", "user:7", "read", "project:77").await, "out_of_scope");
    assert_eq!(
        served.ask("u6", "user:9", "manage", "project:2").await,
        "out_of_scope",
        "what one cannot read is hidden"
    );
    assert_eq!(served.ask("u6", "user:6", "read", "user:6").await, "allowed", "of oneself one may know");
    for bad in [
        json!({"subject": "user:*", "relation": "read", "resource": spelled("project:2")}),
        json!({"subject": spelled("user:9"), "relation": "levitate", "resource": spelled("project:2")}),
        json!({"subject": spelled("user:9"), "relation": "read", "resource": spelled("robot:2")}),
        json!({"subject": "", "relation": "read", "resource": spelled("project:2")}),
        json!({"subject": spelled("user:9"), "relation": "read", "resource": spelled("project:2"), "caveat_context": {"x": 1}}),
    ] {
        let refused = served.call("u9", Method::POST, "/v1/authz/check", Some(bad.clone())).await;
        assert_eq!(code(&refused), (400, "invalid_check_request"), "{bad}");
    }
    let undecodable = served.call("u9", Method::POST, "/v1/authz/check", Some(json!({"subject": 7}))).await;
    assert_eq!(code(&undecodable), (400, "invalid_body"));
}

#[tokio::test]
async fn lookups_answer_in_the_spelling_of_the_request_and_within_what_the_caller_reads() {
    let served = served().await;
    let machine = "serviceaccount:40";
    served.world.grant(&["serviceaccount:40#parent@domain:1", "project:51#admin@user:99"]).await;
    let body = grant(machine, "operator", "project:2");
    assert_eq!(served.create("u8", 2, body).await.0, 201);
    let lookup = |who: &'static str, path: &'static str, body: Value| {
        let served = &served;
        async move {
            let (status, answer) = served.call(who, Method::POST, path, Some(body)).await;
            assert_eq!(status, 200, "{answer}");
            let items = answer["items"].as_array().unwrap();
            items.iter().map(|item| item.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        }
    };
    let subjects = "/v1/authz/lookup-subjects";
    for kind in ["serviceaccount", "service-identity"] {
        let body = json!({"subject_type": kind, "relation": "act", "resource": spelled("node:4")});
        assert_eq!(lookup("u9", subjects, body).await, [format!("{kind}:{}", Uuid::from_u128(40))]);
    }
    let resources = "/v1/authz/lookup-resources";
    let body = json!({"subject": spelled("service-identity:40"), "relation": "act", "resource_type": "node"});
    assert_eq!(lookup("u9", resources, body).await, [spelled("node:4")]);
    let body = json!({"subject": spelled("user:99"), "relation": "manage", "resource_type": "project"});
    assert_eq!(lookup("u9", resources, body.clone()).await, Vec::<String>::new(), "another domain's is left out");
    assert_eq!(lookup("u99", resources, body).await, [spelled("project:51")], "to oneself it is not");
    let bad = json!({"subject": spelled("user:99"), "relation": "manage", "resource_type": "robot"});
    let refused = served.call("u9", Method::POST, resources, Some(bad)).await;
    assert_eq!(code(&refused), (400, "invalid_lookup_request"));
}

#[tokio::test]
async fn a_grant_is_seen_by_the_next_check_and_written_once_with_one_event() {
    let served = served().await;
    let first = served.create("u8", 2, grant("user:6", "operator", "node:4")).await;
    assert_eq!(first.0, 201, "{}", first.1);
    assert_eq!(served.ask("u9", "user:6", "act", "node:4").await, "allowed");
    let second = served.create("u8", 2, grant("user:6", "operator", "node:4")).await;
    assert_eq!((second.0.as_u16(), &second.1), (201, &first.1));
    assert_eq!(served.events().await, ["RelationTupleCreated"]);
    let caveated = json!({"caveat_name": "from_cidr", "caveat_context": {"allowed_cidrs": ["10.0.0.0/8"]}});
    let mut other = grant("user:6", "operator", "node:4");
    other.as_object_mut().unwrap().extend(caveated.as_object().unwrap().clone());
    assert_eq!(code(&served.create("u8", 2, other).await), (400, "invalid_relation_tuple"));
    assert_eq!(served.create("u7", 2, grant("user:6", "viewer", "project:2")).await.0, 403);
}

#[tokio::test]
async fn nobody_grants_beyond_the_project_or_what_the_schema_assigns() {
    let served = served().await;
    assert_eq!(served.create("u8", 2, grant("user:8", "admin", "domain:1")).await.0, 403, "a project's is no domain's");
    assert_eq!(served.create("u9", 2, grant("user:8", "approver", "domain:1")).await.0, 201);
    for (subject, relation, resource) in [
        ("user:8", "admin", "platform:plexsphere"),
        ("user:8", "admin", "domain:50"),
        ("user:8", "viewer", "project:51"),
        ("user:8", "viewer", "project:5"),
        ("domain:1", "parent", "project:2"),
        ("node:4", "agent", "node:4"),
        ("user:8", "read", "project:2"),
        ("user:8", "member", "group:11"),
        ("user:*", "viewer", "project:2"),
        ("user:99", "viewer", "project:2"),
        ("user:1234", "viewer", "project:2"),
        ("project:5#node", "secret_consumer", "project:2"),
        ("user:8", "secret_consumer", "project:2"),
        ("group:11", "viewer", "project:2"),
    ] {
        let refused = served.create("u8", 2, grant(subject, relation, resource)).await;
        assert_eq!(code(&refused), (400, "invalid_relation_tuple"), "{resource}#{relation}@{subject}");
    }
    for (name, context) in [("office", json!({})), ("from_cidr", json!({"allowed_cidrs": ["x"]}))] {
        let mut body = grant("user:6", "viewer", "project:2");
        body["caveat_name"] = json!(name);
        body["caveat_context"] = context;
        assert_eq!(code(&served.create("u8", 2, body).await), (400, "invalid_relation_tuple"), "{name}");
    }
    for good in [("group:11#member", "viewer", "project:2"), ("project:2#node", "secret_consumer", "project:2")] {
        let (status, answer) = served.create("u8", 2, grant(good.0, good.1, good.2)).await;
        assert_eq!(status, 201, "{good:?} {answer}");
    }
}

#[tokio::test]
async fn a_gate_compares_a_condition_with_the_request_and_not_with_the_callers_word() {
    let served = served().await;
    let mut body = grant("user:6", "admin", "project:2");
    body["caveat_name"] = json!("within_time_window");
    body["caveat_context"] = json!({"not_after": "2027-01-15T08:00:10Z"});
    assert_eq!(served.create("u8", 2, body).await.0, 201);
    assert_eq!(served.list("u6", "").await.0, 200);
    served.world.clock.advance(10);
    let refused = served.list("u6", "").await;
    assert_eq!(code(&refused), (403, "permission_denied"));
    assert_eq!(refused.1["reason"], "caveat_violation");
    let mut check = grant("user:6", "manage", "project:2");
    check["caveat_context"] = json!({"now": "2027-01-15T08:00:00Z"});
    let (_, answer) = served.call("u9", Method::POST, "/v1/authz/check", Some(check)).await;
    assert_eq!(answer["decision"], "allowed", "a check is asked with a context of its own");
    let (_, names) = served.last_row();
    let names: Vec<_> = names.names()["within_time_window"].iter().map(String::as_str).collect();
    assert_eq!(names, ["not_after", "now"]);
}

#[tokio::test]
async fn a_gate_takes_the_address_from_the_request_and_a_token_carries_no_assurance() {
    let served = served().await;
    for (user, name, context, status) in [
        ("user:6", "from_cidr", json!({"allowed_cidrs": ["192.0.2.0/24"]}), 200),
        ("user:7", "from_cidr", json!({"allowed_cidrs": ["10.0.0.0/8"]}), 403),
        ("user:40", "requires_assurance", json!({"any_acr": ["gold"]}), 403),
    ] {
        served.world.grant(&["user:40#parent@domain:1"]).await;
        served.world.revoke(&["domain:1#member@user:7"]).await;
        let mut body = grant(user, "viewer", "project:2");
        body["caveat_name"] = json!(name);
        body["caveat_context"] = context;
        assert_eq!(served.create("u8", 2, body).await.0, 201);
        let (answered, page) = served.list(&user.replace("user:", "u"), "").await;
        assert_eq!(answered, status, "{user} {page}");
        if status == 403 {
            assert_eq!(page["reason"], "caveat_violation", "{user}");
        }
    }
}

#[tokio::test]
async fn a_list_pages_in_the_order_of_writing_without_rows_that_its_reader_cannot_read() {
    let served = served().await;
    for user in ["user:9", "user:8", "user:7", "user:6"] {
        served.world.clock.advance(1);
        assert_eq!(served.create("u8", 2, grant(user, "viewer", "project:2")).await.0, 201);
    }
    assert_eq!(served.create("u9", 2, grant("user:7", "approver", "domain:1")).await.0, 201);
    let mut seen = Vec::new();
    let mut rest = "&limit=2".to_owned();
    loop {
        let (status, page) = served.list("u8", &rest).await;
        assert_eq!(status, 200, "{page}");
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["subject"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => rest = format!("&limit=2&cursor={cursor}"),
            None => break,
        }
    }
    let expected: Vec<String> = ["user:9", "user:8", "user:7", "user:6"].iter().map(|user| spelled(user)).collect();
    assert_eq!(seen, expected, "the domain's approver is not for the project's administrator");
    let foreign = served.list("u9", &rest).await;
    assert_eq!(code(&foreign), (400, "invalid_cursor"));
    let bad = served.call("u8", Method::GET, "/v1/authz/relation-tuples", None).await;
    assert_eq!(code(&bad), (400, "invalid_project_id"));
}

#[tokio::test]
async fn a_tuple_is_replaced_in_one_step_and_deleted_once() {
    let served = served().await;
    let (_, made) = served.create("u8", 2, grant("user:6", "operator", "project:2")).await;
    let path = format!("/v1/authz/relation-tuples/{}", made["id"].as_str().unwrap());
    let hidden = served.call("u99", Method::DELETE, &path, None).await;
    assert_eq!(code(&hidden), (404, "relation_tuple_not_found"), "without read it does not exist");
    assert_eq!(code(&served.call("u7", Method::DELETE, &path, None).await), (403, "permission_denied"));
    let bad = served.call("u8", Method::DELETE, "/v1/authz/relation-tuples/x", None).await;
    assert_eq!(code(&bad), (400, "invalid_relation_tuple_id"));
    // Both tuples give `observe`: under constant reads it is never missing.
    let reading = async {
        for _ in 0..20 {
            assert_eq!(served.ask("u9", "user:6", "observe", "node:4").await, "allowed");
        }
    };
    let writing = async {
        for round in 0..10 {
            let relation = if round % 2 == 0 { "viewer" } else { "member" };
            let body = Some(grant("user:6", relation, "project:2"));
            let (status, answer) = served.call("u8", Method::PATCH, &path, body).await;
            assert_eq!(status, 200, "{answer}");
            assert_eq!((&answer["id"], answer["relation"].as_str()), (&made["id"], Some(relation)));
        }
    };
    tokio::join!(reading, writing);
    let taken = served.create("u8", 2, grant("user:7", "viewer", "project:2")).await;
    assert_eq!(taken.0, 201);
    let onto = served.call("u8", Method::PATCH, &path, Some(grant("user:7", "viewer", "project:2"))).await;
    assert_eq!(code(&onto), (400, "invalid_relation_tuple"));
    let escalated = served.call("u8", Method::PATCH, &path, Some(grant("user:8", "admin", "domain:1"))).await;
    assert_eq!(code(&escalated), (403, "permission_denied"));
    let (one, two) =
        tokio::join!(served.call("u8", Method::DELETE, &path, None), served.call("u8", Method::DELETE, &path, None));
    let mut statuses = [one.0.as_u16(), two.0.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 404]);
    assert_eq!(served.ask("u9", "user:6", "observe", "node:4").await, "out_of_scope");
    assert_eq!(served.events().await.iter().filter(|name| *name == "RelationTupleReplaced").count(), 10);
}

#[tokio::test]
async fn the_last_administrator_of_a_domain_stays() {
    let served = served().await;
    let (status, made) = served.create("u9", 2, grant("user:7", "admin", "domain:1")).await;
    assert_eq!(status, 201, "{made}");
    let path = format!("/v1/authz/relation-tuples/{}", made["id"].as_str().unwrap());
    served.world.revoke(&["domain:1#admin@user:9"]).await;
    let refused = served.call("u7", Method::DELETE, &path, None).await;
    assert_eq!(code(&refused), (400, "invalid_relation_tuple"));
    let refused = served.call("u7", Method::PATCH, &path, Some(grant("user:7", "member", "domain:1"))).await;
    assert_eq!(code(&refused), (400, "invalid_relation_tuple"));
    served.world.grant(&["domain:1#admin@user:9"]).await;
    assert_eq!(served.call("u7", Method::DELETE, &path, None).await.0, 204);
}
