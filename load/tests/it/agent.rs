use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use plexsphere_load::agent::{AgentConfig, AgentError, Happening, run};
use plexsphere_load::api::EncodingChoice;
use plexsphere_load::transport::{Protocol, Trust};
use plexsphere_wire::envelope::EventType;
use plexsphere_wire::{NodeId, ProjectId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::platform::Platform;
use crate::transport::quick;

struct Running {
    happenings: mpsc::Receiver<Happening>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), AgentError>>,
}

fn config(platform: &Platform, folder: &Path) -> AgentConfig {
    let beat = Duration::from_millis(100);
    AgentConfig {
        url: platform.url(),
        protocol: Protocol::H1,
        trust: Trust::File(platform.ca.clone()),
        token: Some(Zeroizing::new(platform.issue_token())),
        project: Some(ProjectId::mint(plexsphere_load::clock::now())),
        resource: Some("web-1".to_owned()),
        state_dir: Some(folder.join("state")),
        logs: vec![folder.join("app.log")],
        audit_logs: vec![folder.join("audit.log")],
        interval: beat,
        log_interval: beat,
        audit_interval: beat,
        heartbeat: beat,
        encoding: EncodingChoice::Agent,
        backoff: quick(),
        rotation_backoff: quick(),
    }
}

fn start(config: AgentConfig) -> Running {
    let (say, happenings) = mpsc::channel(256);
    let (stop, stopped) = watch::channel(false);
    Running { happenings, stop, task: tokio::spawn(Box::pin(run(config, stopped, say))) }
}

impl Running {
    async fn until(&mut self, wanted: impl Fn(&Happening) -> bool) -> Happening {
        let search = async {
            loop {
                let happening = self.happenings.recv().await.expect("the agent still runs");
                if wanted(&happening) {
                    return happening;
                }
            }
        };
        timeout(Duration::from_secs(30), search).await.expect("it happens in time")
    }

    async fn finish(mut self) {
        self.stop.send_replace(true);
        self.until(|happening| *happening == Happening::Stopped).await;
        self.task.await.unwrap().unwrap();
    }
}

fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn sent(signal: &'static str) -> impl Fn(&Happening) -> bool {
    move |happening| matches!(happening, Happening::Sent { signal: found, .. } if *found == signal)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_sends_this_machine_and_its_files_and_a_restart_is_the_same_node() {
    let platform = Platform::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut agent = start(config(&platform, folder.path()));
    let node = match agent.until(|happening| matches!(happening, Happening::Registered { .. })).await {
        Happening::Registered { node, .. } => node,
        other => panic!("{other:?}"),
    };
    agent.until(sent("metrics")).await;
    agent.until(|happening| matches!(happening, Happening::Heartbeat { .. })).await;
    append(&folder.path().join("app.log"), "first line\nERROR second line\n");
    agent.until(sent("logs")).await;
    append(&folder.path().join("audit.log"), "type=USER_LOGIN msg=audit(1700000000.123:45): res=success\n");
    agent.until(sent("audit")).await;
    platform.publish(EventType::PeerRegistered, r#"{"peers":[]}"#);
    agent.until(|happening| matches!(happening, Happening::Event { in_order: true, .. })).await;
    agent.until(|happening| matches!(happening, Happening::State { .. })).await;
    agent.finish().await;
    check(&platform, node);

    let again = AgentConfig { token: None, project: None, resource: None, ..config(&platform, folder.path()) };
    let mut agent = start(again);
    let resumed = agent.until(|happening| matches!(happening, Happening::Resumed { .. })).await;
    assert!(matches!(resumed, Happening::Resumed { node: again, .. } if again == node));
    agent.until(sent("metrics")).await;
    agent.finish().await;
    assert_eq!(platform.lock().registrations.len(), 1);
}

fn check(platform: &Platform, node: NodeId) {
    let state = platform.lock();
    let of = |signal: &str| -> Vec<serde_json::Value> {
        let batches = state.accepted.iter().filter(|batch| batch.signal == signal && batch.node == node);
        batches.flat_map(|batch| batch.records.clone()).collect()
    };
    let names: Vec<String> = of("metrics").iter().map(|sample| sample["name"].as_str().unwrap().to_owned()).collect();
    for name in ["memory_used_bytes", "disk_total_bytes", "load_avg_1", "uptime_seconds"] {
        assert!(names.iter().any(|found| found == name), "{name}");
    }
    let lines = of("logs");
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["message"], &lines[1]["severity"]), (&"first line".into(), &"err".into()));
    let audit = of("audit");
    assert_eq!((audit.len(), &audit[0]["action"]), (1, &"USER_LOGIN".into()));
    assert!(state.heartbeats > 0 && state.pulls > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wished_rotation_offers_one_key_until_it_is_taken_and_the_flag_does_not_repeat_it() {
    let platform = Platform::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut agent = start(config(&platform, folder.path()));
    agent.until(|happening| matches!(happening, Happening::StreamOpened { .. })).await;
    platform.refuse_next("rotate", 503, "datastore_unavailable");
    platform.publish(EventType::RotateKeys, r#"{"rotation_id":"r"}"#);
    let rotated = agent.until(|happening| matches!(happening, Happening::KeyRotated { .. })).await;
    platform.lock().rotate = true;
    assert!(matches!(rotated, Happening::KeyRotated { rotation_id: Some(_) }));
    agent.until(|happening| matches!(happening, Happening::Heartbeat { rotate_keys: true, .. })).await;
    agent.until(|happening| matches!(happening, Happening::Heartbeat { rotate_keys: true, .. })).await;
    agent.finish().await;
    let state = platform.lock();
    assert_eq!(state.keys.len(), 1);
    let offered = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).unwrap()["new_public_key"].clone();
    assert_eq!(offered(&state.refused[0]), state.keys[0].as_str());
}

#[tokio::test]
async fn an_agent_without_token_or_identity_says_what_it_needs() {
    let platform = Platform::start().await;
    let folder = tempfile::tempdir().unwrap();
    let agent = start(AgentConfig { token: None, ..config(&platform, folder.path()) });
    assert!(matches!(agent.task.await.unwrap(), Err(AgentError::NothingToRegisterWith)));
}
