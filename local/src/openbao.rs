//! OpenBao on loopback, initialised and unsealed, with the two engines plexsphere uses.

mod api;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::artifacts::{Artifact, Installed};
use crate::error::LocalError;
use crate::folder::{DataFolder, choose_port, write_secret};
use crate::server;
use crate::supervise::{Child, ChildSpec, Exit};

use api::Api;

const NAME: &str = "bao";
const SETTINGS: &str = "settings.json";
const KEYS: &str = "keys.json";
const CONFIG: &str = "bao.hcl";
/// How often a start is tried with other ports when a free one was snatched.
const PORT_TRIES: u32 = 5;

/// Where OpenBao keeps what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpenBaoStorage {
    /// Raft on one node: survives a restart.
    #[default]
    Raft,
    /// Memory: for tests; gone with the process.
    Memory,
}

/// How to start OpenBao.
#[derive(Debug, Clone, Default)]
pub struct OpenBaoOptions {
    /// Its folder, used by one run at a time.
    pub data: PathBuf,
    /// The port to listen on; a free one, kept for the next start, when `None`.
    pub port: Option<u16>,
    /// Whether it outlives its process.
    pub storage: OpenBaoStorage,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Settings {
    port: u16,
    cluster_port: u16,
}

#[derive(Clone, Serialize, Deserialize)]
struct Keys {
    unseal_key: String,
    root_token: String,
}

/// A running, unsealed OpenBao.
pub struct OpenBao {
    child: Child,
    spec: ChildSpec,
    settings: Settings,
    keys: Keys,
    folder: DataFolder,
}

impl OpenBao {
    /// Starts it; the first time initialises it with one unseal key, every time unseals it, and makes sure that KV-v2
    /// is mounted at `secret/` and transit at `transit/`. Key and root token lie in the data folder with mode 0600.
    ///
    /// # Errors
    /// [`LocalError`], among them [`LocalError::FolderInUse`], [`LocalError::PortTaken`], [`LocalError::SetUp`].
    pub async fn start(installed: &Installed, options: OpenBaoOptions) -> Result<Self, LocalError> {
        let program = installed.get(Artifact::OpenBao)?;
        let folder = DataFolder::take(&options.data)?;
        let store = folder.join("raft");
        std::fs::create_dir_all(&store).map_err(LocalError::io("create", &store))?;
        let kept: Option<Settings> = folder.kept(SETTINGS)?;
        let mut spec = ChildSpec::new(NAME, &program.path)
            .args(["server".into(), format!("-config={}", folder.join(CONFIG).display())])
            .log_file(folder.join("server.log"));
        spec.folder = Some(folder.path().to_owned());
        let mut tries = 0;
        loop {
            let last = kept.filter(|_| tries == 0);
            let settings = Settings {
                port: choose_port(NAME, options.port, last.map(|kept| kept.port))?,
                cluster_port: choose_port(NAME, None, last.map(|kept| kept.cluster_port))?,
            };
            write_secret(&folder.join(CONFIG), config(&store, settings, options.storage).as_bytes())?;
            tries += 1;
            let started = start(&spec, settings.port).await;
            match started {
                Ok(child) => {
                    folder.keep(SETTINGS, &settings)?;
                    let keys = open(&child, &folder, settings.port).await?;
                    return Ok(Self { child, spec, settings, keys, folder });
                }
                Err(error) if server::lost_its_port(&error) => match options.port {
                    Some(port) => return Err(LocalError::PortTaken { what: NAME, port }),
                    None if tries < PORT_TRIES => {}
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        base(self.settings.port)
    }

    /// The root token. Keep it out of logs.
    #[must_use]
    pub fn root_token(&self) -> &str {
        &self.keys.root_token
    }

    /// Mounts another KV-v2 engine.
    ///
    /// # Errors
    /// [`LocalError::SetUp`] with what OpenBao said.
    pub async fn mount_kv2(&self, path: &str) -> Result<(), LocalError> {
        self.api()?.mount(path, "kv", Some("2")).await
    }

    /// Mounts another transit engine.
    ///
    /// # Errors
    /// [`LocalError::SetUp`] with what OpenBao said.
    pub async fn mount_transit(&self, path: &str) -> Result<(), LocalError> {
        self.api()?.mount(path, "transit", None).await
    }

    /// Its process.
    #[must_use]
    pub fn handle(&self) -> &Child {
        &self.child
    }

    /// Asks it to end; killed after `grace`.
    pub async fn stop(&self, grace: Duration) -> Exit {
        self.child.stop(grace).await
    }

    /// Kills it as a crash would.
    pub async fn kill9(&self) -> Exit {
        self.child.kill().await
    }

    /// Starts it again on the same port and data after it has ended, and unseals it; a running one is stopped first.
    ///
    /// # Errors
    /// As for [`OpenBao::start`].
    pub async fn restart(&mut self) -> Result<(), LocalError> {
        self.child.stop(Duration::from_secs(20)).await;
        self.child = start(&self.spec, self.settings.port).await?;
        self.keys = open(&self.child, &self.folder, self.settings.port).await?;
        Ok(())
    }

    fn api(&self) -> Result<Api, LocalError> {
        Api::new(&base(self.settings.port), Some(&self.keys.root_token))
    }
}

impl std::fmt::Debug for OpenBao {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenBao").field("child", &self.child).finish_non_exhaustive()
    }
}

fn base(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

async fn start(spec: &ChildSpec, port: u16) -> Result<Child, LocalError> {
    let api = Api::new(&base(port), None)?;
    server::start(NAME, spec.clone(), |_| {
        let api = api.clone();
        async move { api.answers().await }
    })
    .await
}

/// Initialises when that was never done, unseals, and mounts what is missing.
async fn open(child: &Child, folder: &DataFolder, port: u16) -> Result<Keys, LocalError> {
    let set_up = async {
        let api = Api::new(&base(port), None)?;
        let keys = if api.is_initialised().await? {
            folder.kept(KEYS)?.ok_or_else(|| LocalError::Damaged {
                path: folder.join(KEYS),
                reason: "it is gone, and without it OpenBao's data cannot be opened".to_owned(),
            })?
        } else {
            let (unseal_key, root_token) = api.initialise().await?;
            let keys = Keys { unseal_key, root_token };
            folder.keep(KEYS, &keys)?;
            keys
        };
        api.unseal(&keys.unseal_key).await?;
        let api = Api::new(&base(port), Some(&keys.root_token))?;
        api.until_active().await?;
        let mounted = api.mounts().await?;
        if !mounted.iter().any(|path| path == "secret/") {
            api.mount("secret", "kv", Some("2")).await?;
        }
        if !mounted.iter().any(|path| path == "transit/") {
            api.mount("transit", "transit", None).await?;
        }
        Ok(keys)
    };
    tokio::select! {
        exit = child.exited() => Err(LocalError::DiedAtStart { what: NAME.to_owned(), exit }),
        keys = set_up => keys,
    }
}

fn config(store: &Path, settings: Settings, storage: OpenBaoStorage) -> String {
    let Settings { port, cluster_port } = settings;
    let storage = match storage {
        OpenBaoStorage::Raft => format!(
            // One voter elects itself; the long defaults only make the first start slow.
            "storage \"raft\" {{\n  path = {:?}\n  node_id = \"local\"\n  performance_multiplier = 1\n}}\n",
            store.to_string_lossy()
        ),
        OpenBaoStorage::Memory => "storage \"inmem\" {}\n".to_owned(),
    };
    format!(
        "disable_mlock = true\nui = false\napi_addr = \"http://127.0.0.1:{port}\"\n\
         cluster_addr = \"http://127.0.0.1:{cluster_port}\"\n\
         listener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  cluster_address = \"127.0.0.1:{cluster_port}\"\n  \
         tls_disable = true\n}}\n{storage}"
    )
}
