//! A server's data folder: its lock, its settings, its secrets and its ports.

use std::fs::{self, File, Permissions};
use std::io::{Read, Seek, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use data_encoding::HEXLOWER;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::LocalError;

/// A folder that this run has to itself, until it is dropped.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Creates the folder when it is not there, and takes it.
    ///
    /// Other users may pass through it (PostgreSQL's must, under root), but not list it; each secret has its own mode.
    pub(crate) fn take(path: &Path) -> Result<Self, LocalError> {
        fs::create_dir_all(path).map_err(LocalError::io("create", path))?;
        fs::set_permissions(path, Permissions::from_mode(0o711)).map_err(LocalError::io("set the mode of", path))?;
        let path = fs::canonicalize(path).map_err(LocalError::io("find", path))?;
        let lock = Self::lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    fn lock(path: &Path) -> Result<File, LocalError> {
        let place = path.join("lock");
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&place)
            .map_err(LocalError::io("open the lock", &place))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(LocalError::FolderInUse { path: path.to_owned(), pid: holder.trim().parse().ok() });
            }
            Err(fs::TryLockError::Error(source)) => return Err(LocalError::io("lock", &place)(source)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(LocalError::io("write", &place))?;
        Ok(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads what [`DataFolder::keep`] wrote; `None` when it never did.
    pub(crate) fn kept<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, LocalError> {
        let path = self.join(name);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| LocalError::Damaged { path, reason: error.to_string() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LocalError::io("read", &path)(error)),
        }
    }

    /// Writes settings that may hold secrets: mode 0600, replaced by one rename, on the disk when this returns.
    pub(crate) fn keep<T: Serialize>(&self, name: &str, value: &T) -> Result<(), LocalError> {
        let path = self.join(name);
        let text = serde_json::to_vec_pretty(value)
            .map_err(|error| LocalError::Damaged { path: path.clone(), reason: error.to_string() })?;
        write_secret(&path, &text)
    }
}

/// Writes a file only its owner can read, by one rename.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), LocalError> {
    let new = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let _ = fs::remove_file(&new);
        let mut file = File::options().create_new(true).write(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(LocalError::io("write", path))
}

/// 192 random bits as hexadecimal digits: fit for a URL, a SQL literal and a configuration file without quoting.
pub(crate) fn new_password() -> String {
    HEXLOWER.encode(&rand::random::<[u8; 24]>())
}

/// A port on 127.0.0.1 that nobody listens on now. Another process may take it before it is used: retry.
///
/// # Errors
/// [`LocalError::Io`] when not even a random port can be had.
pub fn free_port() -> Result<u16, LocalError> {
    // Below the range that systems hand out to outgoing connections, so that none takes the port before it is bound.
    let begin = NEXT_PORT.get_or_init(|| AtomicU16::new(u16::try_from(std::process::id() % 12_000).unwrap_or(0)));
    for _ in 0..PORT_TRIES {
        let port = 15_000 + begin.fetch_add(1, Ordering::Relaxed) % 12_000;
        if is_free(port) {
            return Ok(port);
        }
    }
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    listen().map(|address| address.port()).map_err(LocalError::io("listen on", Path::new("127.0.0.1")))
}

/// How many ports are tried before the system is asked for one.
const PORT_TRIES: usize = 200;

/// The next port to try; each process begins elsewhere.
static NEXT_PORT: OnceLock<AtomicU16> = OnceLock::new();

pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The port that was asked for, which must be free; else the one of the last run if it is; else any.
pub(crate) fn choose_port(what: &'static str, asked: Option<u16>, last: Option<u16>) -> Result<u16, LocalError> {
    match (asked, last) {
        (Some(port), _) if is_free(port) => Ok(port),
        (Some(port), _) => Err(LocalError::PortTaken { what, port }),
        (None, Some(port)) if is_free(port) => Ok(port),
        (None, _) => free_port(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_names_the_process_that_uses_it() {
        let folder = tempfile::tempdir().unwrap();
        let held = DataFolder::take(folder.path()).unwrap();
        let refused = DataFolder::take(folder.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("in use by another run (process {})", std::process::id())), "{refused}");
        drop(held);
        DataFolder::take(folder.path()).unwrap();
    }

    #[test]
    fn kept_settings_are_private_and_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::take(folder.path()).unwrap();
        assert_eq!(data.kept::<u16>("settings.json").unwrap(), None);
        data.keep("settings.json", &7_u16).unwrap();
        data.keep("settings.json", &8_u16).unwrap();
        assert_eq!(data.kept::<u16>("settings.json").unwrap(), Some(8));
        let mode = fs::metadata(data.join("settings.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(data.join("settings.json"), "{").unwrap();
        assert!(data.kept::<u16>("settings.json").unwrap_err().to_string().contains("is damaged"));
    }

    #[test]
    fn a_port_that_was_asked_for_must_be_free_and_the_last_one_need_not() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let refused = choose_port("nats-server", Some(port), None).unwrap_err().to_string();
        assert!(
            refused.starts_with(&format!("port {port} on 127.0.0.1 is already taken, so nats-server")),
            "{refused}"
        );
        assert_ne!(choose_port("nats-server", None, Some(port)).unwrap(), port);
        drop(taken);
        assert_eq!(choose_port("nats-server", None, Some(port)).unwrap(), port);
    }
}
