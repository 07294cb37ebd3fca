//! The one thread that forks.
//!
//! The kernel ties the parent-death signal to the thread that forked. A child forked from a worker thread, or from the
//! thread of a test, would die with that thread. This thread ends when the process does, and not before.

use std::io;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

struct Job {
    command: Command,
    reply: SyncSender<io::Result<Child>>,
}

/// Forks from the long-lived thread and waits for the result; it takes a few milliseconds.
pub(super) fn spawn(command: Command) -> io::Result<Child> {
    static FORKER: OnceLock<SyncSender<Job>> = OnceLock::new();
    let forker = FORKER.get_or_init(|| {
        let (send, receive) = sync_channel(8);
        // When the thread cannot be made, the receiver goes with the closure and every send below fails.
        let _ = std::thread::Builder::new().name("fork".to_owned()).spawn(move || work(&receive));
        send
    });
    let gone = || io::Error::other("the thread that starts processes is gone");
    let (reply, answer) = sync_channel(1);
    forker.send(Job { command, reply }).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

fn work(jobs: &Receiver<Job>) {
    while let Ok(mut job) = jobs.recv() {
        let _ = job.reply.send(job.command.spawn());
    }
}
