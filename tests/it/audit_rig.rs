//! The audit rig: sixteen writers change one Domain while control is killed at random moments and started again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use plexsphere_kernel::Database;
use rand::Rng as _;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::chains;
use crate::installation::{Installation, Role, client};

const WRITERS: usize = 16;
/// How long the mirror may take behind the last kill.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long the writers write; a longer run is asked for by this variable.
fn seconds() -> u64 {
    std::env::var("AUDIT_RIG_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_change_has_one_row_on_a_chain_that_holds_while_control_is_killed_at_random() {
    let copies = tempfile::tempdir().unwrap();
    let mirror = format!("file://{}/{{chain}}", copies.path().display());
    let mut installation = Installation::start(1, &[("PLEXSPHERE_CONTROL_AUDIT_MIRROR", &mirror)]).await;
    let (domain, first) = installation.domain_and_project("rig", "10.50.0.0/16").await;
    let auditor = auditor(&installation, &domain, &first).await;
    let mut projects = vec![first];
    for number in 1..WRITERS {
        let project = json!({ "domain_id": domain, "name": "w", "slug": format!("w{number}") });
        let project = installation.call("POST", "/v1/projects", Some(project), 201).await;
        projects.push(project["id"].as_str().unwrap().to_owned());
    }
    let (kills, written) = write_under_fire(&mut installation, projects).await;

    let db = Database::connect(&installation.database_url, 2).await.unwrap();
    let lengths: BTreeMap<Uuid, i64> = chains::all_hold(&installation.database_url).await.into_iter().collect();
    let chain: Uuid = domain.parse().unwrap();
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT correlation_id, count(*) FROM audit.entries WHERE chain = $1 GROUP BY correlation_id")
            .bind(chain)
            .fetch_all(db.pool())
            .await
            .unwrap();
    let rows: BTreeMap<String, i64> = rows.into_iter().collect();
    let wrong: Vec<_> = written.acknowledged.iter().filter(|id| rows.get(*id) != Some(&1)).collect();
    let twice: Vec<_> = rows.iter().filter(|(id, count)| id.starts_with("rig-") && **count > 1).collect();
    println!(
        "{} s, {WRITERS} writers, {kills} kills of control: {} changes acknowledged, {} attempts without an answer or \
         refused, {} rows on the Domain's chain, {} acknowledged changes without exactly one row",
        seconds(),
        written.acknowledged.len(),
        written.failed,
        lengths[&chain],
        wrong.len(),
    );
    assert!(wrong.is_empty() && twice.is_empty(), "{wrong:?} {twice:?}");
    assert!(written.acknowledged.len() > WRITERS, "the writers wrote");

    let path = format!("{}/v1/domains/{domain}/audit/verify", installation.http_url(0));
    let verdict = client().post(path).bearer_auth(&auditor).send().await.unwrap();
    let verdict: serde_json::Value = verdict.json().await.unwrap();
    assert_eq!(verdict["ok"], true, "{verdict}");

    exported(&db).await;
    let export = tokio::process::Command::new(env!("CARGO_BIN_EXE_plexsphere"))
        .args(["audit", "verify", "--export"])
        .arg(copies.path().join(&domain))
        .args(["--from-start", "-o", "json"])
        .output()
        .await
        .unwrap();
    let said: serde_json::Value = serde_json::from_slice(&export.stdout).unwrap();
    assert!(export.status.success(), "{said}");
    println!("{said}");
    assert_eq!((&said[0]["ok"], said[0]["segment_from"].as_i64()), (&json!(true), Some(1)));
    assert!(said[0]["segment_to"].as_i64() >= Some(lengths[&chain]), "the copy is whole: {said}");
}

/// A machine that may verify the Domain's chain.
async fn auditor(installation: &Installation, domain: &str, project: &str) -> String {
    let identity = json!({
        "display_name": "auditor", "subject": "auditor", "audience": "plexsphere", "federation_kind": "api_token",
    });
    let path = format!("/v1/domains/{domain}/service-identities");
    let identity = installation.call("POST", &path, Some(identity), 201).await;
    let id = identity["id"].as_str().unwrap().to_owned();
    let token = json!({ "identity_ref": format!("service:{id}"), "env_prefix": "dev", "ttl_seconds": 3600 });
    let token = installation.call("POST", "/v1/admin/tokens", Some(token), 201).await;
    let tuple = json!({
        "subject": format!("serviceaccount:{id}"), "relation": "auditor", "resource": format!("domain:{domain}"),
    });
    let path = format!("/v1/authz/relation-tuples?project_id={project}");
    installation.call("POST", &path, Some(tuple), 201).await;
    token["plaintext"].as_str().or(token["token"].as_str()).unwrap().to_owned()
}

/// What the writers were told.
#[derive(Default)]
struct Written {
    acknowledged: Vec<String>,
    failed: u64,
}

/// Writes until the time is over while control is killed; the number of kills, and what was written.
async fn write_under_fire(installation: &mut Installation, projects: Vec<String>) -> (usize, Written) {
    let (url, token, done) = (installation.http_url(0), installation.admin_token(), CancellationToken::new());
    let failed = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..)
        .zip(projects)
        .map(|(number, project)| {
            let url = format!("{url}/v1/projects/{project}");
            tokio::spawn(write(number, url, token.clone(), (done.clone(), Arc::clone(&failed))))
        })
        .collect();
    let until = Instant::now() + Duration::from_secs(seconds());
    let mut kills = 0;
    while Instant::now() < until {
        let pause = rand::rng().random_range(700..2_500);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        installation.kill_and_restart(Role::Control).await;
        kills += 1;
    }
    installation.ready().await;
    done.cancel();
    let mut written = Written::default();
    for writer in writers {
        written.acknowledged.extend(writer.await.unwrap());
    }
    written.failed = failed.load(Ordering::Relaxed);
    (kills, written)
}

/// Renames one Project again and again; the correlation ids of what was acknowledged.
async fn write(
    writer: usize,
    url: String,
    token: String,
    (done, failed): (CancellationToken, Arc<AtomicU64>),
) -> Vec<String> {
    let (client, mut acknowledged) = (client(), Vec::new());
    for number in 0u64.. {
        if done.is_cancelled() {
            break;
        }
        let id = format!("rig-{writer}-{number}");
        let request = client.patch(&url).bearer_auth(&token).header("x-correlation-id", &id);
        match request.json(&json!({ "name": id })).send().await {
            Ok(answer) if answer.status().is_success() => {
                assert_eq!(answer.headers()["x-correlation-id"], id.as_str());
                acknowledged.push(id);
            }
            Ok(answer) => {
                assert!(answer.status().is_server_error(), "{}", answer.status());
                failed.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(_) => {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    acknowledged
}

/// Waits until every entry is copied.
async fn exported(db: &Database) {
    let behind = "SELECT count(*) FROM audit.chain_heads h WHERE last_seq >
        (SELECT coalesce(max(s.last_seq), 0) FROM audit.segments s WHERE s.chain = h.chain AND s.etag IS NOT NULL)";
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left: i64 = sqlx::query_scalar(behind).fetch_one(db.pool()).await.unwrap();
        if left == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{left} chains are not copied");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
