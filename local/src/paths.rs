//! Where things lie on this machine, and who runs PostgreSQL when we are root.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::LocalError;
use crate::posix;

/// The two folders everything lives under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Unpacked servers; may be deleted at any time that no server runs.
    pub cache: PathBuf,
    /// What the servers store, and their settings and secrets.
    pub data: PathBuf,
}

impl Paths {
    /// Finds the folders: `PLEXSPHERE_CACHE_DIR` and `PLEXSPHERE_DATA_DIR` first; as root `/var/cache/plexsphere` and
    /// `/var/lib/plexsphere`, because PostgreSQL then runs as another user who must pass; else the XDG folders.
    ///
    /// # Errors
    /// [`LocalError::NoFolder`] when there is neither a variable nor a home.
    pub fn discover() -> Result<Self, LocalError> {
        Self::from_environment(&|name| std::env::var_os(name).filter(|value| !value.is_empty()), posix::is_root())
    }

    fn from_environment(get: &dyn Fn(&str) -> Option<OsString>, root: bool) -> Result<Self, LocalError> {
        let folder = |own: &'static str, system: &str, xdg: &str, home: &str, what: &'static str| {
            if let Some(named) = get(own) {
                return Ok(PathBuf::from(named));
            }
            if root {
                return Ok(Path::new(system).join("plexsphere"));
            }
            get(xdg)
                .map(PathBuf::from)
                .or_else(|| get("HOME").map(|dir| Path::new(&dir).join(home)))
                .map(|dir| dir.join("plexsphere"))
                .ok_or(LocalError::NoFolder { what, variable: own })
        };
        Ok(Self {
            cache: folder("PLEXSPHERE_CACHE_DIR", "/var/cache", "XDG_CACHE_HOME", ".cache", "cached servers")?,
            data: folder("PLEXSPHERE_DATA_DIR", "/var/lib", "XDG_DATA_HOME", ".local/share", "data")?,
        })
    }
}

/// The user PostgreSQL runs as when this process is root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unprivileged {
    /// Its name, for messages.
    pub name: String,
    /// User id, never 0.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Unprivileged {
    /// `None` unless this process is root; then `postgres` when the machine has it, else `nobody`.
    #[must_use]
    pub fn needed() -> Option<Self> {
        posix::is_root().then(|| Self::choose(&std::fs::read_to_string("/etc/passwd").unwrap_or_default()))
    }

    fn choose(passwd: &str) -> Self {
        let find = |wanted: &str| {
            passwd.lines().find_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next()?;
                let uid: u32 = fields.nth(1)?.parse().ok()?;
                let gid: u32 = fields.next()?.parse().ok()?;
                (name == wanted && uid != 0).then(|| Self { name: name.to_owned(), uid, gid })
            })
        };
        find("postgres").or_else(|| find("nobody")).unwrap_or_else(|| Self {
            name: "nobody".to_owned(),
            uid: 65_534,
            gid: 65_534,
        })
    }

    /// Checks that this user can enter every folder on the way to `path`.
    ///
    /// # Errors
    /// [`LocalError::Unreachable`] with the first folder that keeps it out.
    pub fn can_reach(&self, path: &Path) -> Result<(), LocalError> {
        let mut way: Vec<_> = path.ancestors().collect();
        way.reverse();
        for folder in way {
            let Ok(meta) = std::fs::metadata(folder) else { continue };
            let bit = if meta.uid() == self.uid {
                0o100
            } else if meta.gid() == self.gid {
                0o010
            } else {
                0o001
            };
            if meta.is_dir() && meta.mode() & bit == 0 {
                return Err(LocalError::Unreachable { user: self.name.clone(), path: folder.to_owned() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(vars: &[(&str, &str)], root: bool) -> Result<Paths, LocalError> {
        let get = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        Paths::from_environment(&get, root)
    }

    #[test]
    fn a_named_folder_wins_over_every_default() {
        let vars = [("PLEXSPHERE_CACHE_DIR", "/c"), ("PLEXSPHERE_DATA_DIR", "/d"), ("HOME", "/home/u")];
        for root in [false, true] {
            let paths = from(&vars, root).unwrap();
            assert_eq!(paths, Paths { cache: "/c".into(), data: "/d".into() });
        }
    }

    #[test]
    fn root_works_in_the_system_folders_and_a_user_in_the_xdg_ones() {
        assert_eq!(from(&[("HOME", "/root")], true).unwrap().cache, Path::new("/var/cache/plexsphere"));
        assert_eq!(from(&[("HOME", "/home/u")], false).unwrap().cache, Path::new("/home/u/.cache/plexsphere"));
        let xdg = [("HOME", "/home/u"), ("XDG_CACHE_HOME", "/x")];
        assert_eq!(from(&xdg, false).unwrap().cache, Path::new("/x/plexsphere"));
        assert_eq!(
            from(&[], false).unwrap_err().to_string(),
            "there is no folder for cached servers: set PLEXSPHERE_CACHE_DIR"
        );
    }

    #[test]
    fn the_postgres_user_is_preferred_and_root_is_never_chosen() {
        let passwd = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/x\npostgres:x:101:104::/:/x\n";
        assert_eq!(Unprivileged::choose(passwd).uid, 101);
        assert_eq!(Unprivileged::choose("postgres:x:0:0::/:/x\nnobody:x:99:98::/:/x").gid, 98);
        assert_eq!(Unprivileged::choose("").uid, 65_534);
    }
}
