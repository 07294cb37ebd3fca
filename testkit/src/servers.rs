//! Programs and folders for the servers of this test process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use plexsphere_local::{Artifact, Artifacts, Installed, LocalError, Paths, Progress, free_bytes};
use tokio::sync::OnceCell;

/// Panics with the sentence of the error (T3).
pub(crate) fn started<T>(what: &str, result: Result<T, LocalError>) -> T {
    result.unwrap_or_else(|error| panic!("{what} for the tests: {error}"))
}

/// The program of one server, fetched when it is not on this machine yet.
pub(crate) async fn installed(artifact: Artifact) -> &'static Installed {
    static POSTGRES: OnceCell<Installed> = OnceCell::const_new();
    static NATS: OnceCell<Installed> = OnceCell::const_new();
    static OPENBAO: OnceCell<Installed> = OnceCell::const_new();
    let cell = match artifact {
        Artifact::Postgres => &POSTGRES,
        Artifact::Nats => &NATS,
        Artifact::OpenBao => &OPENBAO,
        Artifact::SeaweedFs | Artifact::Node => panic!("{} is not among the shared servers", artifact.program()),
    };
    let ensure = || async {
        let artifacts = Artifacts::new(&paths());
        started(artifact.program(), artifacts.ensure(&[artifact], &Progress::stderr()).await)
    };
    cell.get_or_init(ensure).await
}

/// The cache folder is the user's; the data folder is never used by tests.
pub(crate) fn paths() -> Paths {
    started("folders", Paths::discover())
}

/// Free space that makes a memory file system fit for databases, in bytes.
const ROOMY: u64 = 2 << 30;

/// A new folder for one server of this process, on the disk.
pub(crate) fn new_folder(name: &str) -> PathBuf {
    static FOLDER: OnceLock<(PathBuf, File)> = OnceLock::new();
    numbered(&FOLDER.get_or_init(|| process_folder(&std::env::temp_dir())).0, name)
}

/// A new folder for one server of this process, in memory where there is room: a database is made five times as fast.
pub(crate) fn new_fast_folder(name: &str) -> PathBuf {
    static FOLDER: OnceLock<(PathBuf, File)> = OnceLock::new();
    let memory = Path::new("/dev/shm");
    // In a container it often is a mere 64 MB.
    if !free_bytes(memory).is_ok_and(|free| free >= ROOMY) {
        return new_folder(name);
    }
    numbered(&FOLDER.get_or_init(|| process_folder(memory)).0, name)
}

fn numbered(folder: &Path, name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    folder.join(format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// The folder of this process, held by a lock for as long as the process lives. Folders that nobody holds any more are
/// left over from earlier processes and are removed here.
fn process_folder(parent: &Path) -> (PathBuf, File) {
    let root = parent.join(format!("plexsphere-tests-{}", user()));
    make_passable(&root);
    sweep(&root);
    let path = root.join(format!("{}-{:08x}", std::process::id(), fresh()));
    make_passable(&path);
    // It appears locked, or another process could sweep the folder between the two steps.
    let (new, held) = (path.join("held.new"), path.join("held"));
    let lock = File::create(&new).expect("a lock in the tests' folder");
    lock.try_lock().expect("the lock of a new folder");
    fs::rename(new, held).expect("the lock takes its place");
    (path, lock)
}

/// Who runs the tests: another user's folder cannot be written to. Where there is no `/proc`, temporary folders are each
/// user's own anyway.
fn user() -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").map_or(0, |process| process.uid())
}

/// A number that differs between runs, without the clock: the address space is laid out at random.
fn fresh() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    let hash = RandomState::new().hash_one(std::process::id());
    u32::try_from(hash & 0xffff_ffff).unwrap_or_default()
}

fn sweep(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        // No lock file yet: another process is between making its folder and locking it.
        let Ok(lock) = File::open(entry.path().join("held")) else { continue };
        if lock.try_lock().is_ok() {
            // A server that is just ending may still write; the next process tries again.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// PostgreSQL may run as another user, who must pass through.
fn make_passable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(path).expect("a folder for the tests' servers");
    // Another user's folder cannot be changed, and need not be.
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o755));
}
