//! Child processes that are watched, logged and never left behind.
//!
//! Waiting and log reading run on plain threads, so that a child may be shared between runtimes (each test has its own).

mod fork;
mod log;

use std::ffi::OsString;
use std::fmt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::watch;

use crate::error::LocalError;
use crate::paths::Unprivileged;
use crate::posix;

use log::Tail;

/// How long the last log lines of a dead child are waited for.
const LOG_DRAIN: Duration = Duration::from_millis(300);

/// A signal a child understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: PostgreSQL's fast shutdown.
    Interrupt,
    /// SIGTERM: an orderly end for nearly everything else.
    Terminate,
    /// SIGQUIT: PostgreSQL's immediate shutdown, which still frees its shared memory.
    Quit,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGKILL.
    Kill,
}

impl Signal {
    fn number(self) -> i32 {
        match self {
            Self::Interrupt => libc::SIGINT,
            Self::Terminate => libc::SIGTERM,
            Self::Quit => libc::SIGQUIT,
            Self::Reload => libc::SIGHUP,
            Self::Kill => libc::SIGKILL,
        }
    }
}

/// What to run and how it is to end.
#[derive(Debug, Clone)]
pub struct ChildSpec {
    /// What messages call it.
    pub name: String,
    /// The program's file.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables set beside the inherited ones.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory; ours when `None`.
    pub folder: Option<PathBuf>,
    /// Where its output is appended; nowhere when `None`. The last lines are kept in memory either way.
    pub log_file: Option<PathBuf>,
    /// Another user to run as; needs root.
    pub run_as: Option<Unprivileged>,
    /// What asks it to end.
    pub stop_signal: Signal,
    /// What the kernel sends it when this process ends without having stopped it.
    pub orphan_signal: Signal,
}

impl ChildSpec {
    /// A child that ends on SIGTERM, and on SIGKILL when we die.
    #[must_use]
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            folder: None,
            log_file: None,
            run_as: None,
            stop_signal: Signal::Terminate,
            orphan_signal: Signal::Kill,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Appends the child's output to this file.
    #[must_use]
    pub fn log_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.log_file = Some(path.into());
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Its own group, so that a terminal's Ctrl-C reaches us alone and we stop the children in order.
        command.process_group(0);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        if let Some(user) = &self.run_as {
            // std drops the supplementary groups of root together with the user.
            command.uid(user.uid).gid(user.gid);
        }
        posix::die_with_parent(&mut command, self.orphan_signal.number());
        command
    }
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Its last log lines, oldest first.
    pub tail: Vec<String>,
}

impl Exit {
    fn new(status: Option<ExitStatus>, tail: Vec<String>) -> Self {
        Self { code: status.and_then(|s| s.code()), signal: status.and_then(|s| s.signal()), tail }
    }

    /// Whether it ended with code 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }

    /// The last few lines joined into one, for a message.
    #[must_use]
    pub fn last_lines(&self) -> String {
        join_last(&self.tail)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit status {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("status unknown"),
        }
    }
}

/// A running, or ended, child process. Clones share it; when the last clone goes, so does the process.
#[derive(Debug, Clone)]
pub struct Child {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    spec: ChildSpec,
    pid: u32,
    tail: Tail,
    exit: watch::Receiver<Option<Exit>>,
}

impl Child {
    /// Starts the child. It is in its own process group, and ends with this process.
    ///
    /// # Errors
    /// [`LocalError::Io`] when the program cannot be run or the log file cannot be opened.
    pub fn spawn(spec: ChildSpec) -> Result<Self, LocalError> {
        let log = spec.log_file.as_deref().map(log::open).transpose()?;
        let mut child = fork::spawn(spec.command()).map_err(LocalError::io("run", &spec.program))?;
        let pid = child.id();
        let tail = Tail::default();
        let (read, all_read) = mpsc::sync_channel(2);
        let outputs = [
            child.stdout.take().map(|out| Box::new(out) as Box<dyn std::io::Read + Send>),
            child.stderr.take().map(|out| Box::new(out) as Box<dyn std::io::Read + Send>),
        ];
        for output in outputs.into_iter().flatten() {
            log::follow(output, tail.clone(), log.clone(), read.clone())
                .map_err(LocalError::io("read the output of", &spec.program))?;
        }
        drop(read);
        let (tell, exit) = watch::channel(None);
        let waiter_tail = tail.clone();
        std::thread::Builder::new()
            .name(format!("wait-{}", spec.name))
            .spawn(move || {
                let status = child.wait().ok();
                for _ in 0..2 {
                    if all_read.recv_timeout(LOG_DRAIN).is_err() {
                        break;
                    }
                }
                tell.send_replace(Some(Exit::new(status, waiter_tail.lines())));
            })
            .map_err(LocalError::io("watch", &spec.program))?;
        tracing::debug!(server = spec.name, pid, "child started");
        Ok(Self { inner: Arc::new(Inner { spec, pid, tail, exit }) })
    }

    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.spec.name
    }

    /// Its process id, which is also its process group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.inner.pid
    }

    /// The last log lines, oldest first (at most 40).
    #[must_use]
    pub fn tail(&self) -> Vec<String> {
        self.inner.tail.lines()
    }

    /// How it ended, when it has.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        self.inner.exit.borrow().clone()
    }

    /// Resolves when the process has ended, however it did.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.inner.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone(),
            Err(_) => None,
        }
        .unwrap_or_else(|| Exit::new(None, self.tail()))
    }

    /// The death of this child as an error with its name, status and last lines.
    pub async fn died(&self) -> LocalError {
        let exit = self.exited().await;
        LocalError::Died { what: self.name().to_owned(), exit }
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        self.inner.signal(signal);
    }

    /// Asks it to end, and kills its whole group when it has not within `grace`.
    pub async fn stop(&self, grace: Duration) -> Exit {
        self.signal(self.inner.spec.stop_signal);
        if let Ok(exit) = tokio::time::timeout(grace, self.exited()).await {
            return exit;
        }
        tracing::info!(server = self.name(), "child did not stop in time and is killed");
        self.kill().await
    }

    /// Kills it and its group with SIGKILL, as a crash would.
    pub async fn kill(&self) -> Exit {
        self.signal(Signal::Kill);
        self.exited().await
    }
}

impl Inner {
    fn signal(&self, signal: Signal) {
        if self.exit.borrow().is_some() {
            return;
        }
        match signal {
            Signal::Kill => posix::kill_group(self.pid, libc::SIGKILL),
            Signal::Interrupt | Signal::Terminate | Signal::Quit | Signal::Reload => {
                posix::kill_process(self.pid, signal.number());
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.signal(self.spec.orphan_signal);
    }
}

/// Stops children one after the other: first what depends on the others, PostgreSQL last.
pub async fn stop_in_order(children: &[Child], grace: Duration) -> Vec<Exit> {
    let mut exits = Vec::with_capacity(children.len());
    for child in children {
        exits.push(child.stop(grace).await);
    }
    exits
}

/// The last eight lines as one, for a sentence.
pub(crate) fn join_last(lines: &[String]) -> String {
    let start = lines.len().saturating_sub(8);
    let last: Vec<&str> = lines.iter().skip(start).map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    if last.is_empty() { "(it wrote nothing)".to_owned() } else { last.join(" | ") }
}

#[cfg(test)]
mod tests;
