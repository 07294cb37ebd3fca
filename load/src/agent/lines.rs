//! Reads followed files on a thread of its own. The channel is bounded and the files are the buffer: while the platform
//! takes nothing, nothing is read, and nothing is lost.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use plexsphere_wire::Timestamp;
use tokio::sync::mpsc;

use crate::clock;
use crate::follow::{FileFollower, Start};

/// How often files are looked at.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// Lines that may wait between the thread and the sender.
const CHANNEL_LINES: usize = 1_000;

/// What the reading thread says.
#[derive(Debug)]
pub(super) enum Read {
    /// A complete line.
    Line { file: String, text: String, at: Timestamp },
    /// A file could not be read this time.
    Fault { file: String, reason: String },
}

/// Follows files from their present end. The thread ends when the receiver is gone.
pub(super) fn follow(paths: Vec<PathBuf>) -> mpsc::Receiver<Read> {
    let (sender, receiver) = mpsc::channel(CHANNEL_LINES);
    let mut followers: Vec<FileFollower> = paths.into_iter().map(|path| FileFollower::new(path, Start::End)).collect();
    if followers.is_empty() {
        return receiver;
    }
    thread::spawn(move || {
        let mut faults = vec![String::new(); followers.len()];
        while !sender.is_closed() {
            for (follower, last_fault) in followers.iter_mut().zip(&mut faults) {
                let file = follower.path().display().to_string();
                let reads = match follower.poll() {
                    Ok(lines) => {
                        last_fault.clear();
                        let at = clock::now();
                        lines.into_iter().map(|text| Read::Line { file: file.clone(), text, at }).collect()
                    }
                    // The same fault again is no news.
                    Err(error) if *last_fault == error.to_string() => Vec::new(),
                    Err(error) => {
                        *last_fault = error.to_string();
                        vec![Read::Fault { file, reason: last_fault.clone() }]
                    }
                };
                for read in reads {
                    if sender.blocking_send(read).is_err() {
                        return;
                    }
                }
            }
            thread::sleep(POLL_EVERY);
        }
    });
    receiver
}
