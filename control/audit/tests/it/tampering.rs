//! Whatever somebody with the whole database in hands changes, verification names the first row.

use plexsphere_audit::chain::GENESIS;
use uuid::Uuid;

use crate::rig::{Rig, somebody};

async fn chain_of_eight() -> (Rig, Uuid) {
    let rig = Rig::new().await;
    let domain = rig.domain(somebody(), 8).await;
    assert_eq!(rig.verify(domain.uuid()).await.divergence, None);
    (rig, domain.uuid())
}

async fn first_bad(change: &str) -> i64 {
    let (rig, chain) = chain_of_eight().await;
    rig.tamper(&change.replace("{chain}", &chain.to_string())).await;
    let verdict = rig.verify(chain).await;
    verdict.divergence.unwrap_or_else(|| panic!("it was not found: {change}")).seq
}

#[tokio::test]
async fn a_change_of_any_column_is_found_at_its_row() {
    let flip = |column: &str| format!("{column} = set_byte({column}, 3, get_byte({column}, 3) # 1)");
    let changes = [
        flip("subject"),
        flip("ctx"),
        flip("prev_hash"),
        flip("entry_hash"),
        flip("canonical"),
        "relation = 'domain.delete'".to_owned(),
        "object_type = 'node'".to_owned(),
        "object_id = 'y'".to_owned(),
        "reason = 'out_of_scope'".to_owned(),
        "caveat_names = '{\"a\":[\"b\"]}'".to_owned(),
        "caveat_names = 'no json'".to_owned(),
        "correlation_id = 'c'".to_owned(),
        "occurred_at = occurred_at + interval '1 microsecond'".to_owned(),
        "occurred_at = 'infinity'".to_owned(),
        "repeated = 1".to_owned(),
        "canonical = ''".to_owned(),
        "relation = NULL".to_owned(),
        "object_id = NULL".to_owned(),
        "occurred_at = NULL".to_owned(),
        "repeated = NULL".to_owned(),
        "subject = NULL".to_owned(),
        "prev_hash = NULL".to_owned(),
        "entry_hash = NULL".to_owned(),
        "canonical = NULL".to_owned(),
        // The columns and the bytes agree, the hash does not.
        "object_id = 'y', canonical = convert_to(replace(convert_from(canonical, 'utf8'), '\"object\":{\"id\":\"', \
         '\"object\":{\"id\":\"y'), 'utf8')"
            .to_owned(),
    ];
    // A column that comes later has a change here, or a reason not to.
    let excepted = [
        "chain", // Moving a row to another chain is a test of its own, and so is
        "seq",   // moving it to another place.
        "entry", // Names the erasable context, which `ctx` commits to: one that is not this row's is not shown.
    ];
    let changed = |column: &str| changes.iter().any(|change| change.starts_with(&format!("{column} = ")));
    let (rig, _) = chain_of_eight().await;
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT column_name::text FROM information_schema.columns WHERE table_schema = 'audit' AND table_name = 'entries'",
    )
    .fetch_all(&rig.database.pool())
    .await
    .unwrap();
    assert_eq!(columns.len(), 16);
    for column in columns {
        assert!(changed(&column) != excepted.contains(&column.as_str()), "{column}");
    }
    for change in changes {
        let nullable = match change.strip_suffix(" = NULL") {
            Some(column) => format!("ALTER TABLE audit.entries ALTER {column} DROP NOT NULL;"),
            None => String::new(),
        };
        let change = format!("{nullable} UPDATE audit.entries SET {change} WHERE chain = '{{chain}}' AND seq = 5");
        assert_eq!(first_bad(&change).await, 5, "{change}");
    }
}

#[tokio::test]
async fn a_row_that_moved_to_another_place_or_chain_is_found() {
    let moved = "UPDATE audit.entries SET chain = '00000000-0000-7000-8000-000000000099'
                 WHERE chain = '{chain}' AND seq = 5";
    assert_eq!(first_bad(moved).await, 5);
    let swapped = "UPDATE audit.entries SET seq = 100 WHERE chain = '{chain}' AND seq = 4;
                   UPDATE audit.entries SET seq = 4 WHERE chain = '{chain}' AND seq = 6;
                   UPDATE audit.entries SET seq = 6 WHERE chain = '{chain}' AND seq = 100";
    assert_eq!(first_bad(swapped).await, 4);
}

#[tokio::test]
async fn a_row_that_is_gone_is_found_at_its_place_wherever_it_was() {
    for seq in [1, 5, 8] {
        let (rig, chain) = chain_of_eight().await;
        let hash: Vec<u8> = sqlx::query_scalar("SELECT entry_hash FROM audit.entries WHERE chain = $1 AND seq = $2")
            .bind(chain)
            .bind(seq)
            .fetch_one(&rig.database.pool())
            .await
            .unwrap();
        rig.tamper(&format!("DELETE FROM audit.entries WHERE seq = {seq}")).await;
        let found = rig.verify(chain).await.divergence.unwrap();
        assert_eq!((found.seq, found.expected.to_vec(), found.observed), (seq, hash, GENESIS));
    }
}

#[tokio::test]
async fn a_tail_that_was_cut_or_added_and_a_head_that_was_changed_are_found() {
    assert_eq!(first_bad("DELETE FROM audit.entries WHERE seq > 5").await, 6);
    assert_eq!(first_bad("DELETE FROM audit.entries").await, 1);
    assert_eq!(first_bad("DELETE FROM audit.chain_heads").await, 1);
    assert_eq!(first_bad("UPDATE audit.chain_heads SET last_seq = 5").await, 6);
    assert_eq!(first_bad("UPDATE audit.chain_heads SET last_seq = 12").await, 9);
    let other = "UPDATE audit.chain_heads SET last_hash = sha256('x')";
    assert_eq!(first_bad(other).await, 8);
}

#[tokio::test]
async fn a_part_is_verified_behind_its_true_predecessor() {
    let (rig, chain) = chain_of_eight().await;
    rig.tamper("UPDATE audit.entries SET canonical = 'x' WHERE seq = 3").await;
    let verify = async |from, to| {
        let range = plexsphere_audit::Range { from: Some(from), to };
        let verdict = rig.audit.verifier().verify(chain, range).await.unwrap();
        (verdict.from, verdict.to, verdict.divergence.map(|found| found.seq))
    };
    assert_eq!(verify(1, Some(2)).await, (1, 2, None));
    assert_eq!(verify(4, None).await, (4, 8, None));
    assert_eq!(verify(2, Some(900)).await, (2, 8, Some(3)));
    rig.tamper("DELETE FROM audit.entries WHERE seq = 5").await;
    assert_eq!(verify(6, Some(7)).await, (6, 7, Some(5)));
    assert_eq!(verify(4, Some(5)).await, (4, 5, Some(5)));
}

/// What is erasable is not hashed, so it is compared with its commitment when it is shown.
#[tokio::test]
async fn an_address_that_was_changed_is_not_shown() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("does not fit its commitment");
    let (rig, chain) = chain_of_eight().await;
    rig.world.caller("auditor", &["auditor"]);
    rig.tamper("UPDATE audit.request_contexts SET ip = '203.0.113.66' WHERE entry = (SELECT entry FROM audit.entries WHERE seq = 2)")
        .await;
    let page = rig.get("auditor", &format!("/v1/domains/{chain}/audit/entries?limit=3")).await;
    let ips: Vec<_> = (0..3).map(|at| page.body["items"][at]["request_context"]["ip"].as_str()).collect();
    assert_eq!(ips, [Some("192.0.2.7"), None, Some("192.0.2.7")]);
}

/// Nor is a mapping hashed: whom a pseudonym stands for is computed again when it is shown.
#[tokio::test]
async fn a_subject_or_a_context_that_belongs_to_another_entry_is_not_shown() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("does not fit its pseudonym");
    guard.expect("does not fit its commitment");
    let (rig, chain) = chain_of_eight().await;
    rig.world.caller("auditor", &["auditor"]);
    rig.tamper("UPDATE audit.subject_pii SET subject_id = gen_random_uuid()").await;
    rig.tamper(
        "UPDATE audit.entries e SET entry = o.entry FROM audit.entries o
         WHERE e.seq IN (2, 3) AND o.seq IN (2, 3) AND o.seq <> e.seq",
    )
    .await;
    let page = rig.get("auditor", &format!("/v1/domains/{chain}/audit/entries?limit=4")).await;
    let items = page.body["items"].as_array().unwrap();
    assert_eq!(items.len(), 4);
    assert!(items.iter().all(|item| item["subject"].get("identity_id_ref").is_none()), "{}", page.raw);
    let shown: Vec<bool> = items.iter().map(|item| item["request_context"].get("ip").is_some()).collect();
    assert_eq!(shown, [true, false, false, true]);
    let one = rig.get("auditor", &format!("/v1/domains/{chain}/audit/entries/4")).await;
    assert_eq!(one.body["entry"]["subject"].get("identity_id_ref"), None);
}

#[tokio::test]
async fn an_entry_with_a_reason_that_nobody_knows_is_shown_as_unknown_and_found_as_such() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("a reason outside the closed set");
    let (rig, chain) = chain_of_eight().await;
    rig.world.caller("auditor", &["auditor"]);
    rig.tamper("UPDATE audit.entries SET reason = 'because' WHERE seq = 3").await;
    let page = rig.get("auditor", &format!("/v1/domains/{chain}/audit/entries?reason=unknown")).await;
    let found: Vec<_> =
        page.body["items"].as_array().unwrap().iter().map(|item| (item["seq"].as_i64(), &item["reason"])).collect();
    assert_eq!(found, [(Some(3), &serde_json::json!("unknown"))]);
}
