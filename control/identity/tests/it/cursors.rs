//! A cursor is of use to whoever was given it, and to nobody else.

use serde_json::json;

use crate::callers::{Grants, caller, service};
use crate::world::world;

#[tokio::test]
async fn a_page_goes_on_for_the_caller_who_read_its_beginning_alone() {
    let mut world = world().await;
    let grants = Grants::seat(&mut world);
    let domain = world.domain("one", "10.1.0.0/16").await;
    world.domain("two", "10.2.0.0/16").await;
    let project = world.project(&domain, "one", None).await;
    for host in [1, 2] {
        world.enrol("vm", host).await;
        service(&world, &domain).await;
        let invitation = json!({ "external_subject": format!("{host}@example.com") });
        let invited = world.post(&format!("/v1/domains/{domain}/invitations"), invitation).await;
        assert_eq!(invited.status, 201, "{}", invited.body);
    }
    world.project(&domain, "two", None).await;
    let other = caller(&world, &grants, None).await;
    grants.give(&other, "read", format!("domain:{domain}"));
    grants.give(&other, "observe", format!("project:{project}"));
    for path in [
        "/v1/domains".to_owned(),
        "/v1/projects".to_owned(),
        "/v1/nodes".to_owned(),
        format!("/v1/domains/{domain}/identities"),
        format!("/v1/domains/{domain}/invitations"),
        format!("/v1/projects/{project}/resources"),
    ] {
        let cursor = world.get(&format!("{path}?limit=1")).await.text("next_cursor");
        let next = format!("{path}?limit=1&cursor={cursor}");
        assert_eq!(world.get(&next).await.status, 200, "{path}");
        let refused = world.call_as(&other.token, "GET", &next, None).await;
        assert_eq!(refused.refusal(), (403, "cursor_binding_mismatch"), "{path}");
        let mut flipped = cursor.into_bytes();
        flipped[9] ^= 1;
        let flipped = String::from_utf8(flipped).unwrap();
        let refused = world.get(&format!("{path}?limit=1&cursor={flipped}")).await;
        assert_eq!(refused.refusal(), (400, "invalid_cursor"), "{path}");
    }
}
