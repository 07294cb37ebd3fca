//! PostgreSQL on loopback, with a cluster of its own under a data folder.

mod cluster;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::artifacts::{Artifact, Installed, Program};
use crate::error::LocalError;
use crate::folder::{DataFolder, choose_port, new_password};
use crate::paths::Unprivileged;
use crate::server;
use crate::supervise::{Child, ChildSpec, Exit, Signal};

const NAME: &str = "postgres";
const SETTINGS: &str = "settings.json";
/// The superuser, and the database it finds.
const OWNER: &str = "plexsphere";
/// How often a start is tried with another port when a free one was snatched.
const PORT_TRIES: u32 = 5;

/// How PostgreSQL treats what it is given to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PostgresTuning {
    /// Commits survive a crash of the machine.
    #[default]
    Durable,
    /// Nothing is flushed, and passwords are hashed once only: for tests. Data survives a crash of the server, not
    /// one of the machine.
    Throwaway,
}

/// How to start PostgreSQL.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// Its folder, used by one run at a time.
    pub data: PathBuf,
    /// The port to listen on; a free one, kept for the next start, when `None`.
    pub port: Option<u16>,
    /// Safety against speed.
    pub tuning: PostgresTuning,
    /// A folder to keep a fresh cluster and its password in, which later new clusters are copied from. For tests.
    pub template: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Settings {
    port: u16,
    password: String,
}

/// A running PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    child: Child,
    spec: ChildSpec,
    settings: Settings,
    folder: DataFolder,
}

impl Postgres {
    /// Starts it, after creating its cluster when the folder is new: UTF-8, C.UTF-8 order where PostgreSQL has it built
    /// in (17 on), SCRAM passwords, a superuser and a database both called `plexsphere`.
    ///
    /// # Errors
    /// [`LocalError`], among them [`LocalError::NewerData`], [`LocalError::FolderInUse`], [`LocalError::PortTaken`].
    pub async fn start(installed: &Installed, options: PostgresOptions) -> Result<Self, LocalError> {
        let program = installed.get(Artifact::Postgres)?;
        let folder = DataFolder::take(&options.data)?;
        let user = Unprivileged::needed();
        if let Some(user) = &user {
            user.can_reach(&program.path)?;
            user.can_reach(folder.path())?;
        }
        let kept: Option<Settings> = folder.kept(SETTINGS)?;
        let mut password = kept.as_ref().map_or_else(new_password, |kept| kept.password.clone());
        let cluster = folder.join("cluster");
        if cluster.join("PG_VERSION").is_file() {
            cluster::check_version(&cluster, program.version.major)?;
            cluster::wait_for_predecessor(&cluster).await;
        } else {
            let new = cluster::NewCluster { program, user: user.as_ref(), tuning: options.tuning, place: &cluster };
            password = new.create(password, options.template.as_deref()).await?;
        }
        let mut tries = 0;
        loop {
            let port = choose_port(NAME, options.port, kept.as_ref().map(|kept| kept.port).filter(|_| tries == 0))?;
            let settings = Settings { port, password: password.clone() };
            let spec = spec(program, user.clone(), &folder, (port, options.tuning));
            tries += 1;
            match start(&spec, &cluster).await {
                Ok(child) => {
                    folder.keep(SETTINGS, &settings)?;
                    return Ok(Self { child, spec, settings, folder });
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

    /// The connection string of the superuser and the database `plexsphere`. It holds the password.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_for(OWNER, &self.settings.password, OWNER)
    }

    /// A connection string for another user or database. The parts must need no escaping in a URL.
    #[must_use]
    pub fn url_for(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.settings.port)
    }

    /// The superuser's password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.settings.password
    }

    /// Where it listens on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.settings.port
    }

    /// Its process.
    #[must_use]
    pub fn handle(&self) -> &Child {
        &self.child
    }

    /// Fast shutdown: sessions are ended, data is flushed; killed after `grace`.
    pub async fn stop(&self, grace: Duration) -> Exit {
        self.child.stop(grace).await
    }

    /// Kills it as a crash would, with all its backends.
    pub async fn kill9(&self) -> Exit {
        self.child.kill().await
    }

    /// Starts it again on the same port and data after it has ended; a running one is stopped first.
    ///
    /// # Errors
    /// As for [`Postgres::start`].
    pub async fn restart(&mut self) -> Result<(), LocalError> {
        self.child.stop(Duration::from_secs(20)).await;
        let cluster = self.folder.join("cluster");
        cluster::wait_for_predecessor(&cluster).await;
        self.child = start(&self.spec, &cluster).await?;
        Ok(())
    }
}

async fn start(spec: &ChildSpec, cluster: &Path) -> Result<Child, LocalError> {
    let status = cluster.join("postmaster.pid");
    server::start(NAME, spec.clone(), |pid| {
        let ready = cluster::is_ready(&status, pid);
        async move { ready }
    })
    .await
}

fn spec(
    program: &Program,
    user: Option<Unprivileged>,
    folder: &DataFolder,
    (port, tuning): (u16, PostgresTuning),
) -> ChildSpec {
    let port = format!("port={port}");
    let always = [
        "listen_addresses=127.0.0.1",
        port.as_str(),
        // A socket in a shared folder would be one more way in.
        "unix_socket_directories=",
        "password_encryption=scram-sha-256",
        "max_connections=200",
        "shared_buffers=128MB",
        "huge_pages=off",
        "timezone=UTC",
        "log_timezone=UTC",
        "logging_collector=off",
        "log_destination=stderr",
        "wal_level=replica",
        "max_wal_senders=0",
    ];
    let fast = ["fsync=off", "full_page_writes=off", "max_wal_size=256MB", "scram_iterations=1", "jit=off"];
    let extra: &[&str] = if tuning == PostgresTuning::Throwaway { &fast } else { &[] };
    let settings = always.iter().chain(extra).flat_map(|setting| ["-c", setting]);
    let mut spec = ChildSpec::new(NAME, &program.path)
        .args(["-D".into(), folder.join("cluster").into_os_string()])
        .args(settings)
        .env("LC_ALL", "C")
        .log_file(folder.join("server.log"));
    spec.run_as = user;
    spec.folder = Some(folder.join("cluster"));
    spec.stop_signal = Signal::Interrupt;
    // SIGKILL would leave its shared memory behind for ever; SIGQUIT ends it as fast and frees it.
    spec.orphan_signal = Signal::Quit;
    spec
}
