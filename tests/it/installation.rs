//! An installation for tests: real servers, and each role a process of its own that can be killed and started again.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use plexsphere_local::{Child, ChildSpec, free_port};
use plexsphere_testkit as testkit;
use serde_json::{Value, json};

use crate::answers::send;

/// The roles of an installation, edges by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Control,
    Pipelines,
    Edge(usize),
}

struct Process {
    role: Role,
    spec: ChildSpec,
    admin: u16,
    child: Child,
}

/// Servers and roles. Everything ends with it.
pub(crate) struct Installation {
    pub(crate) postgres: testkit::TestPostgres,
    pub(crate) nats: testkit::TestNats,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) http_ports: Vec<u16>,
    pub(crate) https_ports: Vec<u16>,
    control_port: u16,
    /// The database as its owner sees it.
    pub(crate) database_url: String,
    processes: Vec<Process>,
    client: reqwest::Client,
    /// What every process and every command is told beyond the rest.
    extra: Vec<(String, String)>,
}

impl Installation {
    /// Starts servers and roles and waits until every probe passes.
    pub(crate) async fn start(edges: usize, extra: &[(&str, &str)]) -> Self {
        let (postgres, nats) = tokio::join!(testkit::postgres_own(), testkit::nats_own());
        let database = postgres.database(&plexsphere_kernel::MIGRATOR).await;
        let folder = tempfile::tempdir().unwrap();
        let control = free_port().unwrap();
        let mut installation = Self {
            postgres,
            nats,
            http_ports: (0..edges).map(|_| free_port().unwrap()).collect(),
            https_ports: (0..edges).map(|_| free_port().unwrap()).collect(),
            control_port: control,
            database_url: database.url().to_owned(),
            folder,
            processes: Vec::new(),
            client: client(),
            extra: extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        let url = installation.database_url.clone();
        // The database outlives this handle: it goes with its server.
        std::mem::forget(database);
        installation.write_secrets();
        installation.add(
            Role::Control,
            &[("PLEXSPHERE_DATABASE_URL", &url), ("PLEXSPHERE_CONTROL_LISTEN", &at(control))],
            extra,
        );
        installation.add(Role::Pipelines, &[], extra);
        for index in 0..edges {
            let listen = [
                ("PLEXSPHERE_EDGE_PROXY_CONTROL_URL", format!("http://{}", at(control))),
                ("PLEXSPHERE_EDGE_LISTEN_HTTP", at(installation.http_ports[index])),
                ("PLEXSPHERE_EDGE_LISTEN_HTTPS", at(installation.https_ports[index])),
                ("PLEXSPHERE_TLS_CERT_FILE", installation.path("server.pem")),
                ("PLEXSPHERE_TLS_KEY_FILE", installation.path("server.key")),
            ];
            let listen: Vec<(&str, &str)> = listen.iter().map(|(name, value)| (*name, value.as_str())).collect();
            installation.add(Role::Edge(index), &listen, extra);
        }
        installation.ready().await;
        installation
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write_secrets(&self) {
        let write = |name: &str, text: &str| std::fs::write(self.folder.path().join(name), text).unwrap();
        write("root.key", &"ab".repeat(32));
        write("nsk.ring", &format!("1:{}\n", "cd".repeat(32)));
        write("signing.ring", &format!("1:{}\n", "ef".repeat(32)));
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let certified = rcgen::generate_simple_self_signed(names).unwrap();
        write("server.pem", &certified.cert.pem());
        write("server.key", &certified.signing_key.serialize_pem());
    }

    fn add(&mut self, role: Role, own: &[(&str, &str)], extra: &[(&str, &str)]) {
        let admin = free_port().unwrap();
        let (name, admin_key) = match role {
            Role::Control => ("control".to_owned(), "PLEXSPHERE_ADMIN_LISTEN"),
            Role::Pipelines => ("pipelines".to_owned(), "PLEXSPHERE_ADMIN_LISTEN"),
            Role::Edge(index) => (format!("edge-{index}"), "PLEXSPHERE_ADMIN_LISTEN"),
        };
        let word = name.split('-').next().unwrap().to_owned();
        let mut spec = ChildSpec::new(name.clone(), env!("CARGO_BIN_EXE_plexsphere"))
            .args([word])
            .env("PLEXSPHERE_NATS_URL", self.nats.url())
            .env(admin_key, at(admin))
            .env("PLEXSPHERE_CUSTODY_ROOT_KEY_FILE", self.path("root.key"))
            .env("PLEXSPHERE_CUSTODY_NSK_RING_FILE", self.path("nsk.ring"))
            .env("PLEXSPHERE_CUSTODY_SIGNING_RING_FILE", self.path("signing.ring"))
            .env("PLEXSPHERE_CONTROL_PUBLIC_BASE_URL", "https://localhost")
            .env("PLEXSPHERE_CONTROL_ENVIRONMENT", "dev")
            .env("PLEXSPHERE_CONTROL_BOOTSTRAP_TOKEN_FILE", self.path("admin.token"))
            .env("PLEXSPHERE_PIPELINES_FILE_FOLDER", self.path("telemetry"))
            .log_file(self.folder.path().join(format!("{name}.log")));
        for (name, value) in own.iter().chain(extra) {
            spec = spec.env(*name, *value);
        }
        let child = Child::spawn(spec.clone()).unwrap();
        self.processes.push(Process { role, spec, admin, child });
    }

    /// Waits until every probe of every role passes.
    pub(crate) async fn ready(&self) {
        for process in &self.processes {
            let url = format!("http://{}/readyz", at(process.admin));
            let mut last = String::new();
            let deadline = std::time::Instant::now() + Duration::from_secs(60);
            loop {
                assert!(
                    process.child.exit().is_none(),
                    "{:?} ended: {}",
                    process.role,
                    process.child.tail().join("\n")
                );
                if let Ok(answer) = self.client.get(&url).send().await {
                    let ok = answer.status().is_success();
                    last = answer.text().await.unwrap_or_default();
                    if ok {
                        break;
                    }
                }
                assert!(std::time::Instant::now() < deadline, "{:?} is not ready: {last}", process.role);
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        }
    }

    /// Kills a role with SIGKILL and starts it again at once.
    pub(crate) async fn kill_and_restart(&mut self, role: Role) {
        self.kill(role).await;
        self.start_again(role);
    }

    /// Kills a role with SIGKILL.
    pub(crate) async fn kill(&self, role: Role) {
        self.process(role).child.kill().await;
    }

    /// Starts a role that has ended.
    pub(crate) fn start_again(&mut self, role: Role) {
        let process = self.processes.iter_mut().find(|process| process.role == role).unwrap();
        process.child = Child::spawn(process.spec.clone()).unwrap();
    }

    /// Stops a role where it is, as SIGSTOP does, or lets it go on.
    pub(crate) fn freeze(&self, role: Role, frozen: bool) {
        let (pid, signal) = (self.pid(role), if frozen { libc::SIGSTOP } else { libc::SIGCONT });
        // SAFETY: a signal to a child of ours that has not been waited for.
        assert_eq!(unsafe { libc::kill(pid.try_into().unwrap(), signal) }, 0, "{role:?} takes the signal");
    }

    /// The edges.
    pub(crate) fn edges(&self) -> impl Iterator<Item = Role> + use<> {
        (0..self.http_ports.len()).map(Role::Edge)
    }

    /// A role's process.
    pub(crate) fn pid(&self, role: Role) -> u32 {
        self.process(role).child.pid()
    }

    /// What a role says of itself: the sum of a metric's samples whose labels contain `label`.
    pub(crate) async fn metric(&self, role: Role, name: &str, label: &str) -> u64 {
        let url = format!("http://{}/metrics", at(self.process(role).admin));
        let text = self.client.get(url).send().await.unwrap().text().await.unwrap();
        let samples = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    fn process(&self, role: Role) -> &Process {
        self.processes.iter().find(|process| process.role == role).unwrap()
    }

    /// Runs an operator's command beside control, with its database and keys; what it printed.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Result<Value, String> {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_plexsphere"))
            .args(arguments)
            .env("PLEXSPHERE_DATABASE_URL", &self.database_url)
            .env("PLEXSPHERE_CUSTODY_ROOT_KEY_FILE", self.path("root.key"))
            .env("PLEXSPHERE_CUSTODY_NSK_RING_FILE", self.path("nsk.ring"))
            .env("PLEXSPHERE_CUSTODY_SIGNING_RING_FILE", self.path("signing.ring"))
            .env("PLEXSPHERE_CONTROL_PUBLIC_BASE_URL", "https://localhost")
            .envs(self.extra.iter().map(|(name, value)| (name, value)))
            .output()
            .await
            .unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // Kept with the logs, for tests that read those.
        let log = self.folder.path().join(format!("command-{}.log", arguments.join("-").replace('/', "_")));
        std::fs::write(log, [output.stdout.as_slice(), output.stderr.as_slice()].concat()).unwrap();
        if !output.status.success() {
            return Err(said(&output.stderr));
        }
        Ok(serde_json::from_str(&said(&output.stdout)).unwrap_or_default())
    }

    /// The metrics that a role serves.
    pub(crate) async fn metrics(&self, role: Role) -> String {
        let process = self.processes.iter().find(|process| process.role == role).unwrap();
        let url = format!("http://{}/metrics", at(process.admin));
        self.client.get(url).send().await.unwrap().text().await.unwrap()
    }

    /// The last lines of a role's log.
    pub(crate) fn tail(&self, role: Role) -> String {
        self.process(role).child.tail().join("\n")
    }

    /// Where control listens.
    pub(crate) fn control_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.control_port).into()
    }

    /// How long all threads of a role have worked.
    pub(crate) fn cpu(&self, role: Role) -> Duration {
        let process = self.processes.iter().find(|process| process.role == role).unwrap();
        let threads = std::fs::read_dir(format!("/proc/{}/task", process.child.pid())).unwrap();
        threads.map(|thread| worked(&thread.unwrap().path())).sum()
    }

    /// Bytes that a role holds in memory.
    pub(crate) fn resident(&self, role: Role) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid(role))).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
    }

    /// Where the file sink writes.
    pub(crate) fn telemetry(&self) -> PathBuf {
        self.folder.path().join("telemetry")
    }

    /// The CA that clients believe.
    pub(crate) fn ca_cert(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    /// The first administrator's token.
    pub(crate) fn admin_token(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("admin.token")).unwrap().trim().to_owned()
    }

    /// Plain HTTP of an edge.
    pub(crate) fn http_url(&self, edge: usize) -> String {
        format!("http://127.0.0.1:{}", self.http_ports[edge])
    }

    /// HTTPS and HTTP/3 of an edge.
    pub(crate) fn https_url(&self, edge: usize) -> String {
        format!("https://localhost:{}", self.https_ports[edge])
    }

    /// Calls as the administrator through the first edge; asserts the status.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>, status: u16) -> Value {
        let method = method.parse().unwrap();
        let mut request =
            self.client.request(method, format!("{}{path}", self.http_url(0))).bearer_auth(self.admin_token());
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = send(request).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        answer.json()
    }

    /// Makes a Domain with a Project and returns their ids.
    pub(crate) async fn domain_and_project(&self, slug: &str, cidr: &str) -> (String, String) {
        let domain = json!({ "name": slug, "slug": slug, "mesh_cidr": cidr });
        let domain = self.call("POST", "/v1/domains", Some(domain), 201).await["id"].as_str().unwrap().to_owned();
        let project = json!({ "domain_id": domain, "name": slug, "slug": slug });
        let project = self.call("POST", "/v1/projects", Some(project), 201).await["id"].as_str().unwrap().to_owned();
        (domain, project)
    }

    /// Enrols a Node on a fresh Resource of a Project.
    pub(crate) async fn enrol(&self, project: &str, handle: &str) -> EnrolledNode {
        let resource = json!({ "origin": "adopted", "kind": "vm", "external_ref": handle });
        let resource = self.call("POST", &format!("/v1/projects/{project}/resources"), Some(resource), 201).await;
        let token = json!({ "kind": "node", "env_prefix": "dev", "ttl_seconds": 600 });
        let token = self.call("POST", &format!("/v1/projects/{project}/bootstrap-tokens"), Some(token), 201).await;
        let mut key = [0u8; 32];
        rand::RngCore::fill_bytes(&mut rand::rng(), &mut key);
        let body = json!({
            "bootstrap_token": token["token"],
            "project_id": project,
            "resource_handle": handle,
            "public_key": data_encoding::BASE64.encode(&key),
            "nonce": uuid::Uuid::from_bytes(key[..16].try_into().unwrap()).to_string(),
        });
        let answer = self.call("POST", "/v1/register", Some(body), 201).await;
        let node: plexsphere_wire::NodeId = answer["node_id"].as_str().unwrap().parse().unwrap();
        let nsk = data_encoding::BASE64.decode(answer["nsk"].as_str().unwrap().as_bytes()).unwrap();
        EnrolledNode {
            node,
            resource: resource["id"].as_str().unwrap().to_owned(),
            bearer: plexsphere_wire::nsk::render_bearer("plexd", node, nsk.as_slice().try_into().unwrap()).to_string(),
            signing_key: answer["signing_public_key"].as_str().unwrap().to_owned(),
            answer,
        }
    }
}

/// A Node as its agent knows itself.
pub(crate) struct EnrolledNode {
    pub(crate) node: plexsphere_wire::NodeId,
    pub(crate) resource: String,
    pub(crate) bearer: String,
    pub(crate) signing_key: String,
    pub(crate) answer: Value,
}

/// A client that follows no redirects and gives up in time.
pub(crate) fn client() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
}

/// How long a thread, by its folder under `/proc`, has been on the CPU; nothing when it has ended.
pub(crate) fn worked(thread: &Path) -> Duration {
    // Linux, Documentation/scheduler/sched-stats.rst: the first number counts nanoseconds.
    let text = std::fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0))
}

fn at(port: u16) -> String {
    format!("127.0.0.1:{port}")
}
