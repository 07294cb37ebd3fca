//! NATS with JetStream on loopback, storing under a data folder.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::artifacts::{Artifact, Installed};
use crate::error::LocalError;
use crate::folder::{DataFolder, choose_port, new_password, write_secret};
use crate::server;
use crate::supervise::{Child, ChildSpec, Exit};

const NAME: &str = "nats-server";
const SETTINGS: &str = "settings.json";
const CONFIG: &str = "nats.conf";
/// The largest message; the edge accepts no larger batch.
const MAX_PAYLOAD: &str = "8MB";
/// How often a start is tried with other ports when a free one was snatched.
const PORT_TRIES: u32 = 5;

/// An account with JetStream and one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatsAccount {
    /// The account's name: letters, digits and underscores.
    pub name: String,
    /// Its user: letters, digits and underscores.
    pub user: String,
    /// The user's password: letters and digits.
    pub password: String,
}

/// How to start NATS.
#[derive(Debug, Clone, Default)]
pub struct NatsOptions {
    /// Its folder, used by one run at a time.
    pub data: PathBuf,
    /// The port for clients; a free one, kept for the next start, when `None`.
    pub port: Option<u16>,
    /// The port for monitoring over HTTP; as above.
    pub monitor_port: Option<u16>,
    /// The accounts; one called `PLEXSPHERE`, its password generated and kept, when empty.
    pub accounts: Vec<NatsAccount>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Settings {
    port: u16,
    monitor_port: u16,
    system_password: String,
    account: NatsAccount,
}

/// A running NATS.
#[derive(Debug)]
pub struct Nats {
    child: Child,
    spec: ChildSpec,
    settings: Settings,
    folder: DataFolder,
}

impl Nats {
    /// Starts it. JetStream flushes every message before it acknowledges (`sync_interval: always`), messages are at
    /// most 8 MB, and nobody connects without a password.
    ///
    /// # Errors
    /// [`LocalError`], among them [`LocalError::FolderInUse`], [`LocalError::PortTaken`], [`LocalError::DiedAtStart`].
    pub async fn start(installed: &Installed, options: NatsOptions) -> Result<Self, LocalError> {
        let program = installed.get(Artifact::Nats)?;
        let folder = DataFolder::take(&options.data)?;
        let kept: Option<Settings> = folder.kept(SETTINGS)?;
        let system_password = kept.as_ref().map_or_else(new_password, |kept| kept.system_password.clone());
        let account = options.accounts.first().cloned().unwrap_or_else(|| NatsAccount {
            name: "PLEXSPHERE".to_owned(),
            user: "plexsphere".to_owned(),
            password: kept.as_ref().map_or_else(new_password, |kept| kept.account.password.clone()),
        });
        let accounts =
            if options.accounts.is_empty() { std::slice::from_ref(&account) } else { options.accounts.as_slice() };
        let mut spec = ChildSpec::new(NAME, &program.path)
            .args(["-c".into(), folder.join(CONFIG).into_os_string()])
            .log_file(folder.join("server.log"));
        spec.folder = Some(folder.path().to_owned());
        let mut tries = 0;
        loop {
            let last = kept.as_ref().filter(|_| tries == 0);
            let settings = Settings {
                port: choose_port(NAME, options.port, last.map(|kept| kept.port))?,
                monitor_port: choose_port(NAME, options.monitor_port, last.map(|kept| kept.monitor_port))?,
                system_password: system_password.clone(),
                account: account.clone(),
            };
            write_secret(&folder.join(CONFIG), config(&folder.join("jetstream"), &settings, accounts).as_bytes())?;
            tries += 1;
            match start(&spec, settings.port).await {
                Ok(child) => {
                    folder.keep(SETTINGS, &settings)?;
                    return Ok(Self { child, spec, settings, folder });
                }
                Err(error) if server::lost_its_port(&error) => match options.port.or(options.monitor_port) {
                    Some(port) => return Err(LocalError::PortTaken { what: NAME, port }),
                    None if tries < PORT_TRIES => {}
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
    }

    /// The first account: its user and password.
    #[must_use]
    pub fn account(&self) -> &NatsAccount {
        &self.settings.account
    }

    /// `nats://127.0.0.1:port`, without user and password.
    #[must_use]
    pub fn address(&self) -> String {
        format!("nats://127.0.0.1:{}", self.settings.port)
    }

    /// `nats://user:password@127.0.0.1:port` of the first account. Not every client reads the user out of a URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_for(&self.settings.account)
    }

    /// The same for another account.
    #[must_use]
    pub fn url_for(&self, account: &NatsAccount) -> String {
        format!("nats://{}:{}@127.0.0.1:{}", account.user, account.password, self.settings.port)
    }

    /// `http://127.0.0.1:port` of the monitoring endpoints (`/healthz`, `/varz`, `/jsz`).
    #[must_use]
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.settings.monitor_port)
    }

    /// Where it listens on 127.0.0.1 for clients.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.settings.port
    }

    /// Its process.
    #[must_use]
    pub fn handle(&self) -> &Child {
        &self.child
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.folder.path()
    }

    /// Asks it to end; killed after `grace`.
    pub async fn stop(&self, grace: Duration) -> Exit {
        self.child.stop(grace).await
    }

    /// Kills it as a crash would.
    pub async fn kill9(&self) -> Exit {
        self.child.kill().await
    }

    /// Starts it again on the same ports and data after it has ended; a running one is stopped first.
    ///
    /// # Errors
    /// As for [`Nats::start`].
    pub async fn restart(&mut self) -> Result<(), LocalError> {
        self.child.stop(Duration::from_secs(20)).await;
        self.child = start(&self.spec, self.settings.port).await?;
        Ok(())
    }
}

async fn start(spec: &ChildSpec, port: u16) -> Result<Child, LocalError> {
    server::start(NAME, spec.clone(), |_| greets(port)).await
}

/// Whether the server sends its greeting. It listens only after JetStream has recovered.
async fn greets(port: u16) -> bool {
    let greeting = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let mut start = [0_u8; 4];
        stream.read_exact(&mut start).await.ok()?;
        (&start == b"INFO").then_some(())
    };
    tokio::time::timeout(Duration::from_secs(1), greeting).await.ok().flatten().is_some()
}

fn config(store: &Path, settings: &Settings, accounts: &[NatsAccount]) -> String {
    let mut text = format!(
        "listen: 127.0.0.1:{}\nhttp: 127.0.0.1:{}\nserver_name: plexsphere-local\nmax_payload: {MAX_PAYLOAD}\n\
         jetstream {{\n  store_dir: {}\n  sync_interval: always\n}}\n\
         system_account: SYS\naccounts {{\n  SYS {{ users: [ {{ user: sys, password: \"{}\" }} ] }}\n",
        settings.port,
        settings.monitor_port,
        quoted(&store.to_string_lossy()),
        settings.system_password,
    );
    for NatsAccount { name, user, password } in accounts {
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "  {name} {{ jetstream: enabled, users: [ {{ user: \"{user}\", password: \"{password}\" }} ] }}"
        );
    }
    text.push_str("}\n");
    text
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl NatsAccount {
    /// Makes `count` accounts named after `prefix`.
    #[must_use]
    pub fn numbered(prefix: &str, count: usize) -> Vec<Self> {
        (0..count)
            .map(|index| Self {
                name: format!("{prefix}{index}"),
                user: format!("{}{index}", prefix.to_ascii_lowercase()),
                password: new_password(),
            })
            .collect()
    }
}
