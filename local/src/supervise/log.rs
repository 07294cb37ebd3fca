//! A child's output: appended to a file, its last lines kept.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use parking_lot::Mutex;

use crate::error::LocalError;

/// How many lines are kept in memory.
const KEPT_LINES: usize = 40;
/// How much of one line is kept in memory, in bytes.
const KEPT_BYTES: u64 = 4 * 1024;

/// The last lines of both outputs, in the order they arrived.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Tail {
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.lock().iter().cloned().collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.lines.lock();
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Opens the log file for appending.
pub(super) fn open(path: &Path) -> Result<Arc<File>, LocalError> {
    OpenOptions::new().create(true).append(true).open(path).map(Arc::new).map_err(LocalError::io("open the log", path))
}

/// Reads `output` on a thread of its own until it ends, then says so through `done`.
pub(super) fn follow(
    output: Box<dyn Read + Send>,
    tail: Tail,
    file: Option<Arc<File>>,
    done: SyncSender<()>,
) -> io::Result<()> {
    std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        loop {
            line.clear();
            // A server that never ends its line must not grow our memory.
            match reader.by_ref().take(KEPT_BYTES).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            if let Some(file) = &file {
                // A full disk must not stop us from draining the pipe, or the server would block on it.
                let _ = (&**file).write_all(&line);
            }
            tail.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        let _ = done.send(());
    })?;
    Ok(())
}
