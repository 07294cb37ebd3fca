use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use plexsphere_testkit::{eventually, nats, openbao, postgres};

/// Not a test of its own: what the test below runs in another process, and kills.
#[tokio::test]
#[ignore = "it waits to be killed by no_server_outlives_a_killed_test_process"]
async fn start_all_and_wait_to_be_killed() {
    let (postgres, nats, openbao) = tokio::join!(postgres(), nats(), openbao());
    println!("\nstarted {} {} {}", postgres.pid(), nats.pid(), openbao.pid());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn no_server_outlives_a_killed_test_process() {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "orphans::start_all_and_wait_to_be_killed", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(process.stdout.take().unwrap());
    let pids = tokio::task::spawn_blocking(move || -> Vec<i32> {
        let line = output.lines().map_while(Result::ok).find(|line| line.starts_with("started ")).unwrap();
        line.split(' ').skip(1).map(|pid| pid.parse().unwrap()).collect()
    })
    .await
    .unwrap();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| alive(*pid)));
    process.kill().unwrap();
    process.wait().unwrap();
    eventually!(!pids.iter().any(|pid| alive(*pid)), "all of {pids:?} end with the process that started them");
}

/// A zombie is dead: in a container its new parent may never collect it.
fn alive(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}
