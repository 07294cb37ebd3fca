//! Follows log files by name, through rotation and truncation.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::records::MAX_LINE_BYTES;

/// The most bytes read in one [`FileFollower::poll`].
const READ_BYTES: usize = 1024 * 1024;

/// Where following begins in a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At its first byte.
    Beginning,
    /// Behind its last byte.
    End,
}

/// One file followed by name, as `tail -F` does.
///
/// A line counts when its line feed is there. A line longer than 16 KiB is cut and the rest of it skipped. A file that
/// is not there yet, or gone, is waited for and then read from its beginning.
#[derive(Debug)]
pub struct FileFollower {
    path: PathBuf,
    open: Option<Open>,
    start: Start,
    line: Vec<u8>,
    /// Whether bytes of the current line were skipped already.
    overlong: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    identity: (u64, u64),
    position: u64,
}

impl FileFollower {
    /// Follows `path`; the file is opened at the first poll.
    #[must_use]
    pub const fn new(path: PathBuf, start: Start) -> Self {
        Self { path, open: None, start, line: Vec::new(), overlong: false }
    }

    /// The file's name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what was added since the last poll, at most 1 MiB, and returns the complete lines, empty ones left out.
    ///
    /// # Errors
    /// An I/O error other than a missing file; following can go on afterwards.
    pub fn poll(&mut self) -> io::Result<Vec<String>> {
        if self.open.is_none() && !self.reopen()? {
            return Ok(Vec::new());
        }
        let mut lines = Vec::new();
        let read = self.read(&mut lines)?;
        if read < READ_BYTES && self.replaced()? {
            // The old file was read to its end: a rotation loses nothing that was written before it.
            self.finish_partial(&mut lines);
            self.start = Start::Beginning;
            self.open = None;
            if self.reopen()? {
                self.read(&mut lines)?;
            }
        }
        Ok(lines)
    }

    /// Opens the file by name; `false` when it is not there.
    fn reopen(&mut self) -> io::Result<bool> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.start = Start::Beginning;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let position = match self.start {
            Start::Beginning => 0,
            Start::End => file.seek(SeekFrom::End(0))?,
        };
        self.open = Some(Open { file, identity: (metadata.dev(), metadata.ino()), position });
        Ok(true)
    }

    /// Whether another file stands under the name now. No file is no replacement: the old one may still grow.
    fn replaced(&self) -> io::Result<bool> {
        let Some(open) = &self.open else { return Ok(false) };
        match std::fs::metadata(&self.path) {
            Ok(metadata) => Ok((metadata.dev(), metadata.ino()) != open.identity),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn read(&mut self, lines: &mut Vec<String>) -> io::Result<usize> {
        let Some(open) = &mut self.open else { return Ok(0) };
        if open.file.metadata()?.len() < open.position {
            open.position = open.file.seek(SeekFrom::Start(0))?;
            self.line.clear();
            self.overlong = false;
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(READ_BYTES).unwrap_or(u64::MAX);
        let read = (&mut open.file).take(limit).read_to_end(&mut bytes)?;
        open.position += u64::try_from(read).unwrap_or(0);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    self.append(end);
                    self.finish_partial(lines);
                }
                None => self.append(piece),
            }
        }
        Ok(read)
    }

    fn append(&mut self, bytes: &[u8]) {
        let room = MAX_LINE_BYTES.saturating_sub(self.line.len());
        self.overlong |= bytes.len() > room;
        self.line.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn finish_partial(&mut self, lines: &mut Vec<String>) {
        let bytes = std::mem::take(&mut self.line);
        let cut = std::mem::take(&mut self.overlong);
        let bytes = if cut { whole_characters(&bytes) } else { bytes.strip_suffix(b"\r").unwrap_or(&bytes) };
        if !bytes.is_empty() {
            lines.push(String::from_utf8_lossy(bytes).into_owned());
        }
    }
}

/// The bytes without a character that was cut in two at their end.
fn whole_characters(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => bytes.get(..error.valid_up_to()).unwrap_or(bytes),
        Ok(_) | Err(_) => bytes,
    }
}

#[cfg(test)]
mod tests;
