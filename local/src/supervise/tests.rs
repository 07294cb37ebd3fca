use super::*;

fn shell(script: &str) -> Child {
    Child::spawn(ChildSpec::new("shell", "/bin/sh").args(["-c", script])).unwrap()
}

#[tokio::test]
async fn a_dead_child_is_reported_with_name_status_and_last_lines() {
    let died = shell("echo first; echo cannot go on >&2; exit 3").died().await;
    let sentence = died.to_string();
    assert!(sentence.starts_with("shell died (exit status 3); its last lines: "), "{sentence}");
    assert!(sentence.contains("first") && sentence.contains("cannot go on"), "{sentence}");
}

#[tokio::test]
async fn stop_asks_first_and_kills_what_does_not_listen() {
    let polite = shell("trap 'exit 7' TERM; echo up; while :; do sleep 0.02; done");
    until_up(&polite).await;
    assert_eq!(polite.stop(Duration::from_secs(5)).await.code, Some(7));

    let deaf = shell("trap '' TERM; echo up; while :; do sleep 0.02; done");
    until_up(&deaf).await;
    assert_eq!(deaf.stop(Duration::from_millis(50)).await.signal, Some(libc::SIGKILL));
}

#[tokio::test]
async fn only_the_last_forty_lines_are_kept_in_memory_and_all_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let spec = ChildSpec::new("counter", "/bin/sh").args(["-c", "for i in $(seq 100); do echo $i; done"]);
    let exit = Child::spawn(spec.log_file(&log)).unwrap().exited().await;
    assert_eq!(exit.tail.len(), 40);
    assert_eq!(exit.tail.last().map(String::as_str), Some("100"));
    assert_eq!(std::fs::read_to_string(log).unwrap().lines().count(), 100);
}

#[tokio::test]
async fn a_child_survives_the_thread_that_asked_for_it_and_ends_with_its_last_handle() {
    let child = std::thread::spawn(|| shell("echo up; exec sleep 60")).join().unwrap();
    until_up(&child).await;
    assert!(child.exit().is_none());
    let pid = child.pid();
    let mut exit = child.inner.exit.clone();
    drop(child);
    exit.wait_for(Option::is_some).await.unwrap();
    assert!(!posix::process_exists(pid));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_child_leads_a_group_of_its_own_so_that_ctrl_c_does_not_reach_it() {
    let child = shell("echo up; exec sleep 60");
    until_up(&child).await;
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid())).unwrap();
    let group = stat.rsplit(") ").next().unwrap().split(' ').nth(2).unwrap();
    assert_eq!(group, child.pid().to_string());
}

#[tokio::test]
async fn a_program_that_is_not_there_is_one_sentence() {
    let refused = Child::spawn(ChildSpec::new("ghost", "/nonexistent/ghost")).unwrap_err();
    assert!(refused.to_string().starts_with("cannot run /nonexistent/ghost: "), "{refused}");
}

async fn until_up(child: &Child) {
    let up = async {
        while child.tail().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), up).await.unwrap();
}
