//! Checks exported segments by themselves: neither the database nor this installation is asked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use uuid::Uuid;

use crate::chain::{ChainCheck, Divergence, Exported, GENESIS, Head, fixed};
use crate::mirror::Line;

/// A folder of folders deeper than this is not looked through.
const DEEPEST: usize = 8;

/// Why an export cannot be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum ExportFault {
    /// A file or folder cannot be read.
    #[error("{path} cannot be read", path = .0.display())]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// A line is no entry.
    #[error("{path} line {line} is no exported entry", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// There is nothing to check.
    #[error("there is no `.ndjson` file in {path}", path = .0.display())]
    Empty(PathBuf),
}

/// What the export of one chain proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedChain {
    /// The chain's anchor.
    pub chain: Uuid,
    /// The first place.
    pub from: i64,
    /// The last place that holds.
    pub to: i64,
    /// The hash there: compare it with what was noted elsewhere.
    pub hash: [u8; 32],
    /// Where it does not hold.
    pub divergence: Option<Divergence>,
}

/// Checks a segment, or every segment below a folder; those of one folder are one chain. A walk that does not begin at
/// place 1 takes its first entry's predecessor on trust.
///
/// # Errors
/// [`ExportFault`] when the files are no export; an export that does not hold is a finding.
pub fn verify_export(path: &Path) -> Result<Vec<ExportedChain>, ExportFault> {
    let mut folders: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    if path.is_dir() {
        collect(path, 0, &mut folders)?;
    } else {
        folders.insert(PathBuf::new(), vec![path.to_owned()]);
    }
    if folders.is_empty() {
        return Err(ExportFault::Empty(path.to_owned()));
    }
    folders.into_values().map(|files| chain(&files)).collect()
}

fn collect(folder: &Path, depth: usize, folders: &mut BTreeMap<PathBuf, Vec<PathBuf>>) -> Result<(), ExportFault> {
    let unreadable = |error| ExportFault::Unreadable(folder.to_owned(), error);
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        entries.push(entry.map_err(unreadable)?.path());
    }
    entries.sort();
    for path in entries {
        if path.is_dir() && depth < DEEPEST {
            collect(&path, depth + 1, folders)?;
        } else if path.extension().is_some_and(|extension| extension == "ndjson") {
            folders.entry(folder.to_owned()).or_default().push(path);
        }
    }
    Ok(())
}

/// The walk over the files of one chain, which names and places put in order.
#[derive(Default)]
struct Walk {
    found: Option<(ExportedChain, ChainCheck)>,
}

fn chain(files: &[PathBuf]) -> Result<ExportedChain, ExportFault> {
    let mut walk = Walk::default();
    for path in files {
        let file = File::open(path).map_err(|error| ExportFault::Unreadable(path.clone(), error))?;
        for (number, line) in (1..).zip(BufReader::new(file).lines()) {
            let line = line.map_err(|error| ExportFault::Unreadable(path.clone(), error))?;
            walk.line(&line).ok_or_else(|| ExportFault::Malformed { path: path.clone(), line: number })?;
        }
    }
    match (walk.found, files.first()) {
        (Some((chain, _)), _) => Ok(chain),
        (None, path) => Err(ExportFault::Empty(path.cloned().unwrap_or_default())),
    }
}

impl Walk {
    /// `None` when the line is no entry.
    fn line(&mut self, text: &str) -> Option<()> {
        let line: Line = serde_json::from_str(text).ok()?;
        let prev_hash = HEXLOWER.decode(line.prev_hash.as_bytes()).ok().filter(|hash| hash.len() == 32)?;
        let entry_hash = HEXLOWER.decode(line.entry_hash.as_bytes()).ok().filter(|hash| hash.len() == 32)?;
        let canonical = BASE64.decode(line.canonical_bytes.as_bytes()).ok()?;
        let (found, check) = match &mut self.found {
            Some(found) => found,
            empty => {
                let chain = anchor_of(&canonical)?;
                let before = if line.seq == 1 { GENESIS } else { fixed(&prev_hash) };
                let last = Head { seq: line.seq - 1, hash: before };
                let begun = ExportedChain { chain, from: line.seq, to: last.seq, hash: before, divergence: None };
                empty.insert((begun, ChainCheck::behind(last)))
            }
        };
        if found.divergence.is_some() {
            return Some(());
        }
        let entry = Exported { seq: line.seq, prev_hash: &prev_hash, entry_hash: &entry_hash, canonical: &canonical };
        match check.exported(found.chain, &entry) {
            Ok(()) => (found.to, found.hash) = (check.last().seq, check.last().hash),
            Err(divergence) => found.divergence = Some(divergence),
        }
        Some(())
    }
}

fn anchor_of(canonical: &[u8]) -> Option<Uuid> {
    #[derive(serde::Deserialize)]
    struct Says {
        chain: Uuid,
    }
    serde_json::from_slice::<Says>(canonical).ok().map(|says| says.chain)
}
