//! Programs on the PATH: taken when new enough and when they really start.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::paths::Unprivileged;

use super::{Artifact, Origin, Program, Version};

/// The first program on `search` that fits; one that is too old, or does not start, is passed over.
pub(super) fn on_path(search: &OsStr, artifact: Artifact) -> Option<Program> {
    executables(search, artifact.program()).find_map(|path| probe(&path, artifact, Origin::Path))
}

/// The first executable file of this name.
pub(super) fn executable(search: &OsStr, name: &str) -> Option<PathBuf> {
    executables(search, name).next()
}

/// Starts the program to ask its version, as the user who will run it.
pub(super) fn probe(path: &Path, artifact: Artifact, origin: Origin) -> Option<Program> {
    // A link on the PATH may stand apart from its neighbours: PostgreSQL finds its parts from its real place.
    let path = std::fs::canonicalize(path).ok()?;
    let argument = match artifact {
        Artifact::Postgres | Artifact::Nats | Artifact::Node => "--version",
        Artifact::OpenBao | Artifact::SeaweedFs => "version",
    };
    let mut command = Command::new(&path);
    command.arg(argument).stdin(Stdio::null());
    if artifact == Artifact::Postgres {
        if !["initdb", "pg_ctl"].iter().all(|name| path.with_file_name(name).is_file()) {
            return None;
        }
        if let Some(user) = Unprivileged::needed() {
            command.uid(user.uid).gid(user.gid);
        }
    }
    if artifact == Artifact::Node {
        super::node::npm_of(&path)?;
    }
    let output = command.output().ok().filter(|output| output.status.success())?;
    let version = Version::find_in(&String::from_utf8_lossy(&output.stdout))?;
    if version < artifact.least_version() {
        tracing::debug!(program = %path.display(), %version, "program on the path is too old");
        return None;
    }
    Some(Program { artifact, path, version, origin })
}

fn executables<'a>(search: &'a OsStr, name: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
    std::env::split_paths(search).map(move |folder| folder.join(name)).filter(|path| {
        path.is_absolute()
            && std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}
