//! Packages of Node.js, pinned by a lock file with a SHA-512 per package, installed into a folder of the cache.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::error::LocalError;
use crate::progress::Progress;
use crate::supervise::{Child, ChildSpec, Exit};

use super::fetch::{LOOK, lock, sweep};
use super::{Artifact, Artifacts, Program};

/// The lock file's name.
const LOCK: &str = "package-lock.json";

/// What is to be installed: a name for the folder and for messages, and the files that lie beside `node_modules`, among
/// them `package.json` and `package-lock.json`.
#[derive(Debug, Clone, Copy)]
pub struct NodePackages {
    /// Letters, digits and dashes.
    pub name: &'static str,
    /// File names and their contents.
    pub files: &'static [(&'static str, &'static str)],
}

impl NodePackages {
    /// The folder name in the cache: other files are another folder.
    fn folder(&self) -> String {
        let mut hasher = Sha256::new();
        for (name, content) in self.files {
            hasher.update((name.len() as u64).to_be_bytes());
            hasher.update(name);
            hasher.update((content.len() as u64).to_be_bytes());
            hasher.update(content);
        }
        let digest = HEXLOWER.encode(&hasher.finalize());
        format!("{}-{}", self.name, digest.get(..16).unwrap_or_default())
    }

    /// Refuses a lock file that lets a package pass unchecked (I1).
    fn check_lock(&self) -> Result<(), LocalError> {
        let broken = |reason: &str| LocalError::Packages { name: self.name, reason: reason.to_owned() };
        let lock = self.files.iter().find(|(name, _)| *name == LOCK).map(|(_, content)| *content);
        let lock: serde_json::Value =
            serde_json::from_str(lock.unwrap_or_default()).map_err(|_| broken("its lock file cannot be read"))?;
        let packages = lock.get("packages").and_then(serde_json::Value::as_object);
        let packages = packages.ok_or_else(|| broken("its lock file names no packages"))?;
        let pinned = |package: &serde_json::Value| {
            package.get("integrity").and_then(serde_json::Value::as_str).is_some_and(|hash| hash.starts_with("sha512-"))
        };
        // The entry without a name is the folder itself.
        let unpinned = packages.iter().find(|(name, package)| !name.is_empty() && !pinned(package));
        unpinned.map_or(Ok(()), |(name, _)| Err(broken(&format!("{name} has no SHA-512 in its lock file"))))
    }
}

impl Artifacts {
    /// Makes sure that the packages are installed, and returns their folder. The first time downloads them with the npm
    /// that came with `node`; no script of theirs is run.
    ///
    /// # Errors
    /// [`LocalError::Packages`] when npm cannot have them, or one has another hash; [`LocalError::Io`].
    pub async fn node_packages(
        &self,
        node: &Program,
        packages: NodePackages,
        progress: &Progress,
    ) -> Result<PathBuf, LocalError> {
        let (cache, node, progress) = (self.cache.clone(), node.clone(), progress.clone());
        let work = tokio::task::spawn_blocking(move || install(&cache, &node, packages, &progress));
        match work.await {
            Ok(done) => done,
            Err(lost) => Err(LocalError::SetUp { what: "the fetching of packages", reason: lost.to_string() }),
        }
    }
}

/// npm's own entry, where every distribution of Node.js by its makers has it.
pub(super) fn npm_of(node: &Path) -> Option<PathBuf> {
    let npm = node.parent()?.parent()?.join("lib/node_modules/npm/bin/npm-cli.js");
    npm.is_file().then_some(npm)
}

fn install(cache: &Path, node: &Program, packages: NodePackages, progress: &Progress) -> Result<PathBuf, LocalError> {
    let broken = |reason: String| LocalError::Packages { name: packages.name, reason };
    packages.check_lock()?;
    let folder = packages.folder();
    let place = cache.join(&folder);
    // A folder in the cache is complete (I2).
    if place.is_dir() {
        return Ok(place);
    }
    fs::create_dir_all(cache).map_err(LocalError::io("create", cache))?;
    let _lock = lock(&cache.join(format!(".{folder}.lock")))?;
    if place.is_dir() {
        return Ok(place);
    }
    if node.artifact != Artifact::Node {
        return Err(broken(format!("{} does not run packages of Node.js", node.artifact.program())));
    }
    let npm = npm_of(&node.path).ok_or_else(|| broken("this Node.js has no npm".to_owned()))?;
    let prefix = format!(".fetch-{folder}-");
    sweep(cache, &prefix);
    let work =
        tempfile::Builder::new().prefix(&prefix).tempdir_in(cache).map_err(LocalError::io("write into", cache))?;
    let tree = work.path().join("tree");
    fs::create_dir(&tree).map_err(LocalError::io("create", &tree))?;
    for (name, content) in packages.files {
        let path = tree.join(name);
        fs::write(&path, content).map_err(LocalError::io("write", &path))?;
    }
    let _step = progress.step(&format!("fetching the packages of {}", packages.name), 0);
    // Its own cache: nothing is left in the user's, and nothing there is believed.
    let mut spec = ChildSpec::new("npm", &node.path)
        .args([npm.as_os_str(), OsStr::new("ci")])
        .args(["--ignore-scripts", "--no-audit", "--no-fund", "--no-progress", "--no-update-notifier"])
        .args(["--loglevel=error", "--fetch-retries=2", "--fetch-timeout=20000", "--cache"])
        .args([work.path().join("npm")]);
    spec.folder = Some(tree.clone());
    let npm = Child::spawn(spec)?;
    let exit = loop {
        if let Some(exit) = npm.exit() {
            break exit;
        }
        std::thread::sleep(LOOK);
    };
    if !exit.is_success() {
        return Err(broken(reason(&exit)));
    }
    fs::rename(&tree, &place).map_err(LocalError::io("rename to", &place))?;
    Ok(place)
}

/// The line that says why, rather than the one that says where its log is.
fn reason(exit: &Exit) -> String {
    let said = |text: &str| exit.tail.iter().find(|line| line.contains(text));
    let line = said("EINTEGRITY").or_else(|| said("npm error")).or_else(|| exit.tail.last());
    line.map_or_else(|| exit.to_string(), |line| line.trim_start_matches("npm error ").trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(lock: &'static str) -> NodePackages {
        NodePackages { name: "x", files: Box::leak(Box::new([("package.json", "{}"), (LOCK, lock)])) }
    }

    #[test]
    fn a_lock_file_that_lets_a_package_pass_unchecked_is_refused() {
        let check = |lock| packages(lock).check_lock().map_err(|error| error.to_string());
        let pinned = r#"{"packages":{"":{},"node_modules/a":{"integrity":"sha512-x"}}}"#;
        assert_eq!(check(pinned), Ok(()));
        for lock in [
            r#"{"packages":{"":{},"node_modules/a":{}}}"#,
            r#"{"packages":{"node_modules/a":{"integrity":"sha1-x"}}}"#,
            r#"{"dependencies":{}}"#,
            "",
        ] {
            assert!(check(lock).unwrap_err().starts_with("the packages of x cannot be had"), "{lock}");
        }
    }

    #[test]
    fn other_files_are_another_folder() {
        assert_ne!(packages("{}").folder(), packages("{ }").folder());
        assert_eq!(packages("{}").folder(), packages("{}").folder());
    }

    #[test]
    fn npms_reason_is_the_line_that_says_it() {
        let tail =
            ["npm error code EINTEGRITY", "npm error sha512-a integrity checksum failed", "npm error A complete log"];
        let exit = Exit { code: Some(1), signal: None, tail: tail.map(str::to_owned).to_vec() };
        assert_eq!(reason(&exit), "code EINTEGRITY");
    }
}
