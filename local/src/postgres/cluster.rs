//! The cluster folder: created by one rename, owned by the user who runs the server.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::artifacts::Program;
use crate::error::LocalError;
use crate::folder::write_secret;
use crate::paths::Unprivileged;
use crate::posix;

use super::{OWNER, PostgresTuning};

/// How long a server of an earlier run, told to end when that run died, is waited for.
const PREDECESSOR: Duration = Duration::from_secs(15);

/// A cluster to be made.
pub(super) struct NewCluster<'a> {
    pub(super) program: &'a Program,
    pub(super) user: Option<&'a Unprivileged>,
    pub(super) tuning: PostgresTuning,
    pub(super) place: &'a Path,
}

impl NewCluster<'_> {
    /// Makes the cluster beside its place and renames it there, so that an interrupted first start leaves nothing.
    /// Returns the superuser's password: `password`, or that of the template.
    pub(super) async fn create(&self, password: String, template: Option<&Path>) -> Result<String, LocalError> {
        let made = self.place.with_extension("new");
        if made.exists() {
            fs::remove_dir_all(&made).map_err(LocalError::io("remove", &made))?;
        }
        let password = match template.map(Template::new) {
            Some(template) if template.password.is_file() => {
                self.copy(&template.cluster, &made)?;
                fs::read_to_string(&template.password).map_err(LocalError::io("read", &template.password))?
            }
            template => {
                self.init(&made, &password).await?;
                if let Some(template) = template {
                    template.keep(&made, &password)?;
                }
                password
            }
        };
        fs::rename(&made, self.place).map_err(LocalError::io("rename to", self.place))?;
        Ok(password)
    }

    async fn init(&self, made: &Path, password: &str) -> Result<(), LocalError> {
        fs::create_dir(made).map_err(LocalError::io("create", made))?;
        self.own(made)?;
        fs::set_permissions(made, Permissions::from_mode(0o700)).map_err(LocalError::io("set the mode of", made))?;
        let secret = made.with_extension("password");
        let write = || {
            let _ = fs::remove_file(&secret);
            let mut file = fs::File::options().create_new(true).write(true).mode(0o600).open(&secret)?;
            file.write_all(password.as_bytes())
        };
        write().map_err(LocalError::io("write", &secret))?;
        self.own(&secret)?;
        let mut command = Command::new(self.program.beside("initdb"));
        command.arg("-D").arg(made).arg("--pwfile").arg(&secret);
        command.args(["-U", OWNER, "-E", "UTF8", "--locale=C", "-A", "scram-sha-256", "--no-instructions"]);
        if self.program.version.major >= 17 {
            command.args(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
        }
        if self.tuning == PostgresTuning::Throwaway {
            command.args(["--no-sync", "-c", "scram_iterations=1"]);
        }
        let output = self.run("initdb", command, None).await;
        let _ = fs::remove_file(&secret);
        output?;
        self.single(made, &format!("CREATE DATABASE {OWNER} OWNER {OWNER}")).await
    }

    /// Runs one statement in a server that listens nowhere.
    async fn single(&self, cluster: &Path, statement: &str) -> Result<(), LocalError> {
        let mut command = Command::new(&self.program.path);
        command.args(["--single", "-j", "-c", "fsync=off", "-D"]).arg(cluster).arg("postgres");
        // With -j a statement ends with a semicolon and an empty line.
        let output = self.run("postgres --single", command, Some(format!("{statement};\n\n"))).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("ERROR:") || said.contains("FATAL:") {
            return Err(LocalError::SetUp { what: "postgres", reason: last_line(&output) });
        }
        Ok(())
    }

    async fn run(&self, what: &'static str, mut command: Command, input: Option<String>) -> Result<Output, LocalError> {
        command.env("LC_ALL", "C").current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        let program = PathBuf::from(command.get_program());
        let work = tokio::task::spawn_blocking(move || -> io::Result<Output> {
            let mut child = command.spawn()?;
            if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
                stdin.write_all(input.as_bytes())?;
            }
            child.wait_with_output()
        });
        let output = work.await.map_err(io::Error::other).and_then(|done| done);
        let output = output.map_err(LocalError::io("run", &program))?;
        if output.status.success() {
            return Ok(output);
        }
        if String::from_utf8_lossy(&output.stderr).contains("No space left on device") {
            return Err(LocalError::DiskFull { path: self.place.to_owned() });
        }
        Err(LocalError::SetUp { what, reason: last_line(&output) })
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<(), LocalError> {
        copy_tree(from, to).map_err(LocalError::io("copy a fresh cluster to", to))?;
        for_each_entry(to, &|path| self.own(path))
    }

    fn own(&self, path: &Path) -> Result<(), LocalError> {
        self.user.map_or(Ok(()), |user| {
            chown(path, Some(user.uid), Some(user.gid)).map_err(LocalError::io("change the owner of", path))
        })
    }
}

/// A fresh cluster and its password, kept for later clusters.
struct Template<'a> {
    folder: &'a Path,
    cluster: PathBuf,
    password: PathBuf,
}

impl<'a> Template<'a> {
    fn new(folder: &'a Path) -> Self {
        Self { folder, cluster: folder.join("cluster"), password: folder.join("password") }
    }

    /// Keeps a copy by one rename; when another process does the same, one of the two wins.
    fn keep(&self, cluster: &Path, password: &str) -> Result<(), LocalError> {
        let parent = self.folder.parent().unwrap_or(self.folder);
        fs::create_dir_all(parent).map_err(LocalError::io("create", parent))?;
        let work = tempfile::tempdir_in(parent).map_err(LocalError::io("write into", parent))?;
        let copy = work.path().join("copy");
        fs::create_dir(&copy).map_err(LocalError::io("create", &copy))?;
        let place = copy.join("cluster");
        copy_tree(cluster, &place).map_err(LocalError::io("copy a fresh cluster to", &place))?;
        write_secret(&copy.join("password"), password.as_bytes())?;
        match fs::rename(&copy, self.folder) {
            Err(error) if !self.password.is_file() => Err(LocalError::io("rename to", self.folder)(error)),
            _ => Ok(()),
        }
    }
}

/// Refuses a cluster that another major version wrote.
pub(super) fn check_version(cluster: &Path, ours: u32) -> Result<(), LocalError> {
    let file = cluster.join("PG_VERSION");
    let text = fs::read_to_string(&file).map_err(LocalError::io("read", &file))?;
    let found: u32 = text
        .trim()
        .parse()
        .map_err(|_| LocalError::Damaged { path: file, reason: "it names no version of PostgreSQL".to_owned() })?;
    let path = cluster.to_owned();
    match found.cmp(&ours) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(LocalError::NewerData { path, found, ours }),
        std::cmp::Ordering::Less => Err(LocalError::OlderData { path, found, ours }),
    }
}

/// Whether the server with this process id has written that it accepts connections.
pub(super) fn is_ready(status: &Path, pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(status) else { return false };
    let mut lines = text.lines();
    lines.next() == Some(pid.to_string().as_str()) && lines.nth(6).is_some_and(|state| state.trim() == "ready")
}

/// Waits for the server of a run that was killed: it was told to end, and ends soon.
pub(super) async fn wait_for_predecessor(cluster: &Path) {
    let read = || -> Option<u32> {
        fs::read_to_string(cluster.join("postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()
    };
    let until = Instant::now() + PREDECESSOR;
    while let Some(pid) = read() {
        // Without /proc the pid alone has to do; with it, a pid that another program got since is not waited for.
        let other = fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() != "postgres");
        if other || !posix::process_exists(pid) || Instant::now() > until {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let telling = |line: &&&str| ["error:", "ERROR:", "FATAL:"].iter().any(|word| line.contains(word));
    let line = lines.iter().rev().find(telling).or(lines.last());
    line.map_or_else(|| output.status.to_string(), |line| (*line).to_owned())
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &place)?;
        } else {
            fs::copy(entry.path(), &place)?;
        }
    }
    Ok(())
}

fn for_each_entry(path: &Path, act: &dyn Fn(&Path) -> Result<(), LocalError>) -> Result<(), LocalError> {
    act(path)?;
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(LocalError::io("read", path))? {
            let entry = entry.map_err(LocalError::io("read", path))?;
            for_each_entry(&entry.path(), act)?;
        }
    }
    Ok(())
}
