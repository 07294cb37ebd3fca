//! The checks rig: questions over HTTP while many relation tuples stand, along Groups nested ten deep.
//!
//! `CHECKS_RIG_TUPLES=1000000 cargo test --release -p plexsphere --test it checks -- --nocapture` prints the figures.

use std::time::{Duration, Instant};

use plexsphere_kernel::Database;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::answers::send;
use crate::installation::{Installation, Role, client};

/// Tuples of one Project: its place, the places of 250 Nodes, ten nested Groups, and the members of the innermost.
const PER_PROJECT: u64 = 1 + 3 * NODES + 2 * GROUPS + 2 * USERS;
const NODES: u64 = 250;
const GROUPS: u64 = 10;
const USERS: u64 = 114;
const QUESTIONS: usize = 2_000;
const CALLERS: usize = 16;

/// How many tuples there are at least; a larger number is asked for by this variable.
fn tuples() -> u64 {
    std::env::var("CHECKS_RIG_TUPLES").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_along_ten_nested_groups_are_answered_over_http() {
    let mut installation = Installation::start(1, &[]).await;
    let (domain, _) = installation.domain_and_project("many", "10.60.0.0/16").await;
    let before = installation.resident(Role::Control);
    let projects = tuples().div_ceil(PER_PROJECT);
    fill(&installation.database_url, &domain, projects).await;
    let began = Instant::now();
    installation.kill_and_restart(Role::Control).await;
    installation.ready().await;
    println!(
        "{} tuples: control ready {:?} after its start, {} bytes a tuple resident",
        projects * PER_PROJECT,
        began.elapsed(),
        installation.resident(Role::Control).saturating_sub(before) / (projects * PER_PROJECT),
    );

    let asked =
        Asked { url: format!("{}/v1/authz/check", installation.http_url(0)), token: installation.admin_token() };
    let may = |project: u64, user: u64, node: u64| {
        json!({
            "subject": format!("user:{}", id(USER, project * USERS + user)),
            "relation": "act",
            "resource": format!("node:{}", id(NODE, project * NODES + node)),
        })
    };
    assert_eq!(asked.decision(&may(0, 3, 4)).await, "allowed");
    let stranger = json!({
        "subject": format!("user:{}", id(USER, USERS)),
        "relation": "act",
        "resource": format!("node:{}", id(NODE, 4)),
    });
    assert_eq!(asked.decision(&stranger).await, if projects > 1 { "denied" } else { "allowed" });

    for callers in [1, CALLERS] {
        let began = Instant::now();
        let each = QUESTIONS / callers;
        let work: Vec<_> = (0..callers as u64)
            .map(|caller| {
                let (asked, client) = (asked.clone(), client());
                let questions: Vec<Value> = (0..each as u64)
                    .map(|n| may((caller * 7_919 + n * 104_729) % projects, n % USERS, n * 31 % NODES))
                    .collect();
                tokio::spawn(async move { asked.timed(&client, questions).await })
            })
            .collect();
        let mut took = Vec::new();
        for work in work {
            took.extend(work.await.unwrap());
        }
        let rate = took.len() as f64 / began.elapsed().as_secs_f64();
        took.sort_unstable();
        let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
        println!("{callers} callers over HTTP: p50 {p50:?}, p99 {p99:?}, {rate:.0} checks/s");
    }
}

const USER: u32 = 1;
const NODE: u32 = 2;

/// The id of a kind's n-th object, as [`filling`] makes it.
fn id(kind: u32, number: u64) -> String {
    format!("019a0000-0000-7{kind:03x}-8000-{number:012x}")
}

/// `$1` is the Domain, `$2` the number of Projects.
fn filling() -> String {
    format!(
        "
    WITH ids AS (SELECT $1::uuid AS domain, $2::bigint AS projects)
    INSERT INTO rebac.tuples (id, scope, object_kind, object_id, relation, subject_kind, subject_id, subject_name, class,
        created_at)
    SELECT gen_random_uuid(), domain, kind, object, relation, subject_kind, subject, subject_name, class, now()
    FROM ids, LATERAL (
        SELECT 'project', pg_temp.id(3, p), 'parent', 'domain', domain, '', 'system' FROM generate_series(0, projects - 1) p
        UNION ALL SELECT 'resource', pg_temp.id(4, n), 'parent', 'project', pg_temp.id(3, n / {NODES}), '', 'system'
            FROM generate_series(0, projects * {NODES} - 1) n
        UNION ALL SELECT 'node', pg_temp.id(2, n), 'parent', 'resource', pg_temp.id(4, n), '', 'system'
            FROM generate_series(0, projects * {NODES} - 1) n
        UNION ALL SELECT 'project', pg_temp.id(3, n / {NODES}), 'node', 'node', pg_temp.id(2, n), '', 'system'
            FROM generate_series(0, projects * {NODES} - 1) n
        UNION ALL SELECT 'group', pg_temp.id(5, g), 'parent', 'domain', domain, '', 'system'
            FROM generate_series(0, projects * {GROUPS} - 1) g
        UNION ALL SELECT 'group', pg_temp.id(5, g), 'member', 'group', pg_temp.id(5, g + 1), 'member', 'members'
            FROM generate_series(0, projects * {GROUPS} - 1) g WHERE g % {GROUPS} < {GROUPS} - 1
        UNION ALL SELECT 'project', pg_temp.id(3, p), 'operator', 'group', pg_temp.id(5, p * {GROUPS}), 'member', 'assignable'
            FROM generate_series(0, projects - 1) p
        UNION ALL SELECT 'user', pg_temp.id(1, u), 'parent', 'domain', domain, '', 'system'
            FROM generate_series(0, projects * {USERS} - 1) u
        UNION ALL SELECT 'group', pg_temp.id(5, u / {USERS} * {GROUPS} + {GROUPS} - 1), 'member', 'user', pg_temp.id(1, u), '', 'members'
            FROM generate_series(0, projects * {USERS} - 1) u
    ) AS t (kind, object, relation, subject_kind, subject, subject_name, class)"
    )
}

/// Fills the table behind the change log's back: whoever reads it anew finds the tuples.
async fn fill(url: &str, domain: &str, projects: u64) {
    let db = Database::connect(url, 1).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    for sql in [
        "SET LOCAL statement_timeout = '10min'",
        "CREATE FUNCTION pg_temp.id(kind int, number bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS \
         $$ SELECT ('019a0000-0000-7' || lpad(to_hex(kind), 3, '0') || '-8000-' || lpad(to_hex(number), 12, '0'))::uuid $$",
        "ALTER TABLE rebac.tuples DISABLE TRIGGER tuples_log",
    ] {
        sqlx::query(sql).execute(&mut *tx).await.unwrap();
    }
    let filled =
        sqlx::query(AssertSqlSafe(filling())).bind(domain.parse::<uuid::Uuid>().unwrap()).bind(projects as i64);
    assert_eq!(filled.execute(&mut *tx).await.unwrap().rows_affected(), projects * PER_PROJECT);
    sqlx::query("ALTER TABLE rebac.tuples ENABLE TRIGGER tuples_log").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

/// Where questions are asked, and by whom.
#[derive(Clone)]
struct Asked {
    url: String,
    token: String,
}

impl Asked {
    async fn decision(&self, question: &Value) -> String {
        let answer = send(client().post(&self.url).bearer_auth(&self.token).json(question)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["decision"].as_str().unwrap().to_owned()
    }

    /// One question behind the other; how long each took.
    async fn timed(&self, client: &reqwest::Client, questions: Vec<Value>) -> Vec<Duration> {
        let mut took = Vec::with_capacity(questions.len());
        for question in questions {
            let began = Instant::now();
            let request = client.post(&self.url).bearer_auth(&self.token).json(&question);
            let answer: Value = request.send().await.unwrap().json().await.unwrap();
            took.push(began.elapsed());
            assert_eq!(answer["decision"], "allowed", "{question}");
        }
        took
    }
}
