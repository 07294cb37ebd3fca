//! The server programs: found on the PATH when they fit, else fetched, checked and unpacked.

mod fetch;
mod find;
mod node;
mod pins;
mod unpack;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::LocalError;
use crate::paths::Paths;
use crate::progress::Progress;

pub(crate) use fetch::install_hint;
pub use node::NodePackages;
pub use pins::Pin;

/// A server this machine may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Artifact {
    /// PostgreSQL: `postgres` with `initdb` and `pg_ctl` beside it.
    Postgres,
    /// NATS with JetStream: `nats-server`.
    Nats,
    /// OpenBao: `bao`.
    OpenBao,
    /// SeaweedFS: `weed`, an object store. Optional.
    SeaweedFs,
    /// Node.js: `node` with npm, which runs the identity provider of the tests. Optional.
    Node,
}

impl Artifact {
    /// The program's file name.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Nats => "nats-server",
            Self::OpenBao => "bao",
            Self::SeaweedFs => "weed",
            Self::Node => "node",
        }
    }

    /// The least version that has what we use. NATS 2.15 commits batches in groups; SeaweedFS is started as `weed mini`.
    #[must_use]
    pub fn least_version(self) -> Version {
        match self {
            Self::Postgres => Version::new(16, 0, 0),
            Self::Nats => Version::new(2, 15, 0),
            Self::OpenBao => Version::new(2, 2, 0),
            Self::SeaweedFs => Version::new(4, 48, 0),
            Self::Node => Version::new(20, 19, 0),
        }
    }
}

/// A server's version. PostgreSQL has two parts; its third is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First part.
    pub major: u32,
    /// Second part.
    pub minor: u32,
    /// Third part.
    pub patch: u32,
}

impl Version {
    /// Joins three parts.
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// The first thing in `text` that looks like a version with at least two parts.
    pub(crate) fn find_in(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let word = word.trim_start_matches('v').trim_end_matches(',');
            let mut parts = word.split('.').map(|part| {
                let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
                digits.parse::<u32>().ok()
            });
            let major = parts.next()??;
            let minor = parts.next()??;
            Some(Self::new(major, minor, parts.next().flatten().unwrap_or(0)))
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Where a program came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was on the PATH.
    Path,
    /// It was unpacked into the cache folder.
    Cache,
}

/// A server program that runs on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Which server.
    pub artifact: Artifact,
    /// Its file.
    pub path: PathBuf,
    /// What it says its version is.
    pub version: Version,
    /// Where it came from.
    pub origin: Origin,
}

impl Program {
    /// A program that lies in the same folder, such as `initdb` beside `postgres`.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(name)
    }
}

/// The programs that were asked for.
#[derive(Debug, Clone, Default)]
pub struct Installed {
    programs: Vec<Program>,
}

impl Installed {
    /// All of them, in the order they were asked for.
    #[must_use]
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// One of them.
    ///
    /// # Errors
    /// [`LocalError::SetUp`] when it was not among those asked for.
    pub fn get(&self, artifact: Artifact) -> Result<&Program, LocalError> {
        self.programs.iter().find(|program| program.artifact == artifact).ok_or(LocalError::SetUp {
            what: artifact.program(),
            reason: "it was not among the servers asked for".to_owned(),
        })
    }
}

/// Finds and fetches server programs.
#[derive(Debug, Clone)]
pub struct Artifacts {
    cache: PathBuf,
    search: OsString,
}

impl Artifacts {
    /// Looks on this process's PATH, and unpacks into the cache folder of `paths`.
    #[must_use]
    pub fn new(paths: &Paths) -> Self {
        Self { cache: paths.cache.clone(), search: std::env::var_os("PATH").unwrap_or_default() }
    }

    /// Looks on this list of folders, separated as in PATH, instead.
    #[must_use]
    pub fn with_search_path(mut self, search: impl Into<OsString>) -> Self {
        self.search = search.into();
        self
    }

    /// Makes sure that each of `wanted` can run here. A first fetch takes as long as its download (PostgreSQL 14 MB,
    /// NATS 7 MB, OpenBao 75 MB); later calls take milliseconds.
    ///
    /// # Errors
    /// Any of the fetching kinds of [`LocalError`].
    pub async fn ensure(&self, wanted: &[Artifact], progress: &Progress) -> Result<Installed, LocalError> {
        let (artifacts, wanted, progress) = (self.clone(), wanted.to_vec(), progress.clone());
        let work = tokio::task::spawn_blocking(move || artifacts.ensure_blocking(&wanted, &progress));
        match work.await {
            Ok(done) => done,
            Err(lost) => Err(LocalError::SetUp { what: "the fetching of servers", reason: lost.to_string() }),
        }
    }

    fn ensure_blocking(&self, wanted: &[Artifact], progress: &Progress) -> Result<Installed, LocalError> {
        let mut programs = Vec::with_capacity(wanted.len());
        for &artifact in wanted {
            let program = match self.present(artifact)? {
                Some(program) => program,
                None => fetch::fetch(&self.cache, &self.search, artifact, progress)?,
            };
            programs.push(program);
        }
        Ok(Installed { programs })
    }

    /// The program when it is here already, without fetching anything.
    ///
    /// # Errors
    /// None today; kept for cache folders that cannot be read.
    pub fn present(&self, artifact: Artifact) -> Result<Option<Program>, LocalError> {
        if let Some(program) = find::on_path(&self.search, artifact) {
            return Ok(Some(program));
        }
        Ok(Pin::here(artifact).and_then(|pin| fetch::cached(&self.cache, pin)))
    }

    /// The interpreter that would fetch, when there is one.
    #[must_use]
    pub fn python(&self) -> Option<PathBuf> {
        find::executable(&self.search, "python3")
    }

    /// What pip says of itself, when there is one.
    #[must_use]
    pub fn pip(&self) -> Option<String> {
        self.python().and_then(|python| fetch::pip_version(&python))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_each_server_prints() {
        let read = |text| Version::find_in(text).map(|version| version.to_string());
        assert_eq!(read("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)").as_deref(), Some("15.18.0"));
        assert_eq!(read("nats-server: v2.15.1").as_deref(), Some("2.15.1"));
        assert_eq!(read("v24.19.0\n").as_deref(), Some("24.19.0"));
        assert_eq!(read("OpenBao v2.7.2 (9e0a0d3c), committed 2026-10-26").as_deref(), Some("2.7.2"));
        assert_eq!(read("postgres (PostgreSQL) 19devel.x"), None);
        assert!(Version::new(2, 9, 30) < Version::new(2, 15, 0));
    }
}
