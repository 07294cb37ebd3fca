//! The README's tour, copied line by line: `dev` as a stranger starts it, then each block as it stands there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use plexsphere_local::{Child, ChildSpec, Signal, free_port};

use crate::installation::client;

/// The blocks of the README that belong to the tour, in their order.
fn tour() -> String {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let blocks: Vec<&str> =
        readme.split("```sh tour\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 4, "the README has a tour");
    blocks.join("\n")
}

/// A folder with a `cargo` that runs what is built already instead of building it again for release.
fn shims(folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let program = Path::new(env!("CARGO_BIN_EXE_plexsphere"));
    let load = program.with_file_name("plexsphere-load");
    if !load.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "plexsphere-load"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(built.success());
    }
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n  *plexsphere-load*) while [ \"$1\" != -- ]; do shift; done; shift; exec {} \"$@\";;\n  \
         *) while [ \"$1\" != -- ]; do shift; done; shift; exec {} \"$@\";;\nesac\n",
        load.display(),
        program.display()
    );
    let shims = folder.join("shims");
    std::fs::create_dir(&shims).unwrap();
    std::fs::write(shims.join("cargo"), script).unwrap();
    std::fs::set_permissions(shims.join("cargo"), std::fs::Permissions::from_mode(0o755)).unwrap();
    shims
}

struct Dev {
    child: Child,
    folder: tempfile::TempDir,
}

impl Dev {
    async fn start(arguments: &[&str]) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        // PostgreSQL may run as another user, who must pass.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut dev = Self { child: spawn(folder.path(), arguments), folder };
        dev.ready().await;
        dev
    }

    async fn ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !self.folder.path().join("ready.json").exists() {
            assert!(self.child.exit().is_none(), "{}", self.child.tail().join("\n"));
            assert!(Instant::now() < deadline, "{}", self.child.tail().join("\n"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn facts(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.folder.path().join("ready.json")).unwrap()).unwrap()
    }

    async fn interrupt(&self) -> plexsphere_local::Exit {
        self.child.signal(Signal::Interrupt);
        self.child.exited().await
    }
}

fn spawn(folder: &Path, arguments: &[&str]) -> Child {
    let fixed =
        ["dev", "--data-dir", "dev-data", "--ready-file", "ready.json", "--http-port", "0", "--https-port", "0"];
    let mut spec = ChildSpec::new("dev", env!("CARGO_BIN_EXE_plexsphere")).args(fixed).args(arguments.iter().copied());
    spec.folder = Some(folder.to_owned());
    Child::spawn(spec).unwrap()
}

fn alive(pid: u64) -> bool {
    Path::new(&format!("/proc/{pid}/stat")).exists()
        && !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default().contains(") Z ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readme_tour_runs_as_it_stands_there() {
    let dev = Dev::start(&[]).await;
    let shims = shims(dev.folder.path());
    let path = format!("{}:{}", shims.display(), std::env::var("PATH").unwrap());
    // The agent of the tour runs in the background; it goes with the shell's group.
    let script = format!("set -euo pipefail\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n{}", tour());
    let folder = dev.folder.path().to_owned();
    let output = tokio::task::spawn_blocking(move || {
        Command::new("timeout")
            .args(["120", "bash", "-c", &script])
            .current_dir(folder)
            .env("PATH", path)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    })
    .await
    .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{}", dev.child.tail().join("\n"));
    assert!(
        said.contains("\"healthy\"") && said.contains("load_avg_1") && said.contains("hello from the tour"),
        "{said}"
    );
    let exit = dev.interrupt().await;
    assert_eq!(exit.code, Some(0), "{}", exit.last_lines());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_start_finds_its_data_and_ctrl_c_leaves_nothing_behind() {
    let mut dev = Dev::start(&[]).await;
    let facts = dev.facts();
    let body = serde_json::json!({ "name": "Kept", "slug": "kept", "mesh_cidr": "10.42.0.0/16" });
    let url = format!("{}/v1/domains", facts["http_url"].as_str().unwrap());
    let token = facts["admin_token"].as_str().unwrap();
    let made = client().post(&url).bearer_auth(token).json(&body).send().await.unwrap();
    assert_eq!(made.status(), 201);
    assert_eq!(dev.interrupt().await.code, Some(0));
    for pid in facts["pids"].as_object().unwrap().values() {
        assert!(!alive(pid.as_u64().unwrap()), "{facts}");
    }
    std::fs::remove_file(dev.folder.path().join("ready.json")).unwrap();
    dev.child = spawn(dev.folder.path(), &[]);
    dev.ready().await;
    let facts = dev.facts();
    let url = format!("{}/v1/domains", facts["http_url"].as_str().unwrap());
    let list: serde_json::Value = client().get(&url).bearer_auth(token).send().await.unwrap().json().await.unwrap();
    assert_eq!(list["items"][0]["slug"], "kept", "{list}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_child_ends_the_run_with_its_name_and_several_edges_are_processes() {
    let dev = Dev::start(&["--edges", "2"]).await;
    let facts = dev.facts();
    assert_eq!(facts["edges"].as_array().unwrap().len(), 2);
    for edge in facts["edges"].as_array().unwrap() {
        let health = client().get(format!("{}/v1/health", edge["http_url"].as_str().unwrap())).send().await.unwrap();
        assert_eq!(health.status(), 200);
    }
    let pids = facts["pids"].as_object().unwrap();
    let edge = pids["edge-2"].as_u64().unwrap();
    assert!(Command::new("kill").args(["-9", &edge.to_string()]).status().unwrap().success());
    let exit = dev.child.exited().await;
    assert_eq!(exit.code, Some(1));
    assert!(exit.last_lines().contains("edge-2"), "{}", exit.last_lines());
    for pid in pids.values() {
        assert!(!alive(pid.as_u64().unwrap()), "{facts}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_one_clear_sentence() {
    let port = free_port().unwrap();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let spec = ChildSpec::new("edge", env!("CARGO_BIN_EXE_plexsphere")).args([
        "edge",
        "--set",
        &format!("edge.listen.http=127.0.0.1:{port}"),
        "--set",
        "admin.listen=127.0.0.1:0",
    ]);
    let mut spec = spec;
    spec.folder = Some(folder.path().to_owned());
    let exit = Child::spawn(spec).unwrap().exited().await;
    assert_eq!(exit.code, Some(1));
    let line = exit.tail.last().cloned().unwrap_or_default();
    assert!(line.starts_with("plexsphere: ") && line.contains(&port.to_string()), "{:?}", exit.tail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_of_this_machine_are_read_back_from_a_real_remote_write_receiver() {
    let Some(program) = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|folder| folder.join("victoria-metrics")).find(|file| file.exists())
    }) else {
        eprintln!("SKIPPED: no victoria-metrics on the PATH, so no real remote-write receiver was asked");
        return;
    };
    let port = free_port().unwrap();
    let store = tempfile::tempdir().unwrap();
    let receiver = ChildSpec::new("victoria-metrics", program)
        .args([format!("-httpListenAddr=127.0.0.1:{port}"), format!("-storageDataPath={}", store.path().display())]);
    let _receiver = Child::spawn(receiver).unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let dev = Dev::start(&["--mimir-url", &format!("{url}/api/v1/write")]).await;
    let facts = dev.facts();
    let shims = shims(dev.folder.path());
    let path = format!("{}:{}", shims.display(), std::env::var("PATH").unwrap());
    // Everything of the tour up to the agent: the rest reads local files, which have no metrics in this run.
    let script = tour();
    let (before, _) = script.split_once("until NODE=").unwrap();
    let script = format!("set -euo pipefail\n{before}\nsleep 60\n");
    let mut shell = ChildSpec::new("tour", "/bin/bash").args(["-c", &script]).env("PATH", path);
    shell.folder = Some(dev.folder.path().to_owned());
    let shell = Child::spawn(shell).unwrap();
    plexsphere_testkit::eventually!(
        {
            let query = format!("{url}/api/v1/export?match=node_memory_total_bytes");
            match client().get(&query).send().await {
                Ok(answer) => {
                    let text = answer.text().await.unwrap_or_default();
                    text.contains("domain_id") && text.contains("node_memory_total_bytes")
                }
                Err(_) => false,
            }
        },
        "the receiver has this machine's memory"
    );
    shell.kill().await;
    assert!(facts["telemetry_folder"].is_string());
}
