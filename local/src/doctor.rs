//! Looks at this machine and says what is missing, before anything is started.

use std::path::Path;

use crate::artifacts::{Artifact, Artifacts, Origin, Pin};
use crate::folder::free_port;
use crate::paths::{Paths, Unprivileged};
use crate::posix;

/// Below this the servers cannot be unpacked, in bytes.
const LEAST_DISK: u64 = 512 << 20;
/// Below this a first day of data may not fit, in bytes.
const GOOD_DISK: u64 = 4 << 30;
/// Below this a small fleet runs out of connections.
const GOOD_FILES: u64 = 4_096;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// It works, with a limit the sentence names.
    Warn,
    /// It will not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// A short name, stable for scripts.
    pub name: &'static str,
    /// The verdict.
    pub outcome: Outcome,
    /// What was found, and what to do about it.
    pub sentence: String,
}

/// Looks at everything a local run needs. Starts nothing and fetches nothing; may take a second.
#[must_use]
pub fn doctor(paths: &Paths, artifacts: &Artifacts) -> Vec<Check> {
    let servers = [Artifact::Postgres, Artifact::Nats, Artifact::OpenBao];
    let mut missing = false;
    let mut checks: Vec<Check> = servers.iter().map(|artifact| server(artifacts, *artifact, &mut missing)).collect();
    checks.extend(python(artifacts, missing));
    checks.push(disk("cache disk", &paths.cache));
    checks.push(disk("data disk", &paths.data));
    checks.push(loopback());
    checks.push(open_files());
    checks.push(user(paths));
    checks
}

fn check(name: &'static str, outcome: Outcome, sentence: impl Into<String>) -> Check {
    Check { name, outcome, sentence: sentence.into() }
}

fn server(artifacts: &Artifacts, artifact: Artifact, missing: &mut bool) -> Check {
    let name = artifact.program();
    match artifacts.present(artifact) {
        Ok(Some(program)) => {
            let origin = match program.origin {
                Origin::Path => "on the PATH",
                Origin::Cache => "in the cache",
            };
            check(name, Outcome::Ok, format!("{} {origin}: {}", program.version, program.path.display()))
        }
        Ok(None) => {
            *missing = true;
            match Pin::here(artifact) {
                Some(pin) => {
                    let megabytes = pin.bytes.div_ceil(1_000_000);
                    let sentence = format!("not here yet; {} ({megabytes} MB) will be fetched", pin.label());
                    check(name, Outcome::Warn, sentence)
                }
                None => {
                    let least = artifact.least_version();
                    let sentence =
                        format!("nothing is pinned for this machine; put {name} {least} or newer on the PATH");
                    check(name, Outcome::Fail, sentence)
                }
            }
        }
        Err(error) => check(name, Outcome::Fail, error.to_string()),
    }
}

/// Python matters only while a server is missing.
fn python(artifacts: &Artifacts, needed: bool) -> [Check; 2] {
    let bad = if needed { Outcome::Fail } else { Outcome::Warn };
    let Some(python) = artifacts.python() else {
        let hint = crate::artifacts::install_hint("python3", "python3");
        return [
            check("python3", bad, format!("not on the PATH; it fetches missing servers ({hint})")),
            check("pip", bad, "not looked at without python3"),
        ];
    };
    let pip = artifacts.pip().map_or_else(
        || {
            let hint = crate::artifacts::install_hint("python3-pip", "py3-pip");
            check("pip", bad, format!("{} has none; it fetches missing servers ({hint})", python.display()))
        },
        |version| check("pip", Outcome::Ok, version),
    );
    [check("python3", Outcome::Ok, python.display().to_string()), pip]
}

fn disk(name: &'static str, folder: &Path) -> Check {
    // The folder may not be there yet; its nearest ancestor lies on the same disk.
    let place = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match posix::free_bytes(place) {
        Ok(free) => {
            let outcome = match free {
                free if free < LEAST_DISK => Outcome::Fail,
                free if free < GOOD_DISK => Outcome::Warn,
                _ => Outcome::Ok,
            };
            check(name, outcome, format!("{} MB free at {}", free / 1_000_000, folder.display()))
        }
        Err(error) => check(name, Outcome::Warn, format!("free space at {} is unknown: {error}", folder.display())),
    }
}

fn loopback() -> Check {
    match free_port() {
        Ok(_) => check("loopback", Outcome::Ok, "ports on 127.0.0.1 can be listened on"),
        Err(error) => check("loopback", Outcome::Fail, error.to_string()),
    }
}

fn open_files() -> Check {
    match posix::open_file_limit() {
        Ok(limit) if limit >= GOOD_FILES => check("open files", Outcome::Ok, format!("at most {limit}")),
        Ok(limit) => {
            let sentence = format!("at most {limit}; raise it with ulimit -n {GOOD_FILES} for more than a small fleet");
            check("open files", Outcome::Warn, sentence)
        }
        Err(error) => check("open files", Outcome::Warn, format!("the limit is unknown: {error}")),
    }
}

fn user(paths: &Paths) -> Check {
    let Some(user) = Unprivileged::needed() else {
        return check("user", Outcome::Ok, "not root; every server runs as this user");
    };
    for folder in [&paths.cache, &paths.data] {
        if let Err(error) = user.can_reach(folder) {
            return check("user", Outcome::Fail, error.to_string());
        }
    }
    let sentence = format!("root; PostgreSQL will run as {} (uid {})", user.name, user.uid);
    check("user", Outcome::Ok, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(checks: &[Check], name: &str) -> Check {
        checks.iter().find(|check| check.name == name).unwrap().clone()
    }

    #[test]
    fn without_servers_or_python_the_doctor_says_what_to_install() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths { cache: folder.path().join("cache"), data: folder.path().join("data") };
        let artifacts = Artifacts::new(&paths).with_search_path(folder.path());
        let checks = doctor(&paths, &artifacts);
        assert_eq!(find(&checks, "postgres").outcome, Outcome::Warn);
        assert_eq!(find(&checks, "python3").outcome, Outcome::Fail);
        assert_eq!(find(&checks, "pip").outcome, Outcome::Fail);
        assert_eq!(find(&checks, "loopback").outcome, Outcome::Ok);
        assert!(find(&checks, "data disk").sentence.contains("MB free at "));
    }
}
