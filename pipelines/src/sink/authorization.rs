//! A credential that lives in a file and may change there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;
use reqwest::header::HeaderValue;

/// The file's content as a header, read again when the file changes.
pub(super) struct Authorization {
    path: PathBuf,
    cached: Mutex<Option<(Stamp, HeaderValue)>>,
}

/// What changes when a file is written or replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    length: u64,
}

/// Why there is no credential to send. Never quotes the content.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizationError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The content is empty or no header value.
    #[error("{0} holds no header value")]
    NotAHeader(PathBuf),
}

// === impl Authorization ===

impl Authorization {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), cached: Mutex::new(None) }
    }

    pub(super) fn header(&self) -> Result<HeaderValue, AuthorizationError> {
        let failed = |source| AuthorizationError::Io { path: self.path.clone(), source };
        let metadata = fs::metadata(&self.path).map_err(failed)?;
        let stamp = Stamp { modified: metadata.modified().map_err(failed)?, length: metadata.len() };
        let mut cached = self.cached.lock();
        if let Some((read_at, value)) = cached.as_ref()
            && *read_at == stamp
        {
            return Ok(value.clone());
        }
        let content = fs::read_to_string(&self.path).map_err(failed)?;
        let mut value = HeaderValue::from_str(content.trim())
            .ok()
            .filter(|value| !value.is_empty())
            .ok_or_else(|| AuthorizationError::NotAHeader(self.path.clone()))?;
        value.set_sensitive(true);
        *cached = Some((stamp, value.clone()));
        Ok(value)
    }
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorization").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_read_again_and_an_empty_one_is_no_credential() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let authorization = Authorization::new(&path);
        assert!(matches!(authorization.header(), Err(AuthorizationError::Io { .. })));
        fs::write(&path, "Bearer one\n").unwrap();
        assert_eq!(authorization.header().unwrap(), "Bearer one");
        fs::write(&path, "Bearer second\n").unwrap();
        assert_eq!(authorization.header().unwrap(), "Bearer second");
        fs::write(&path, " \n").unwrap();
        assert!(matches!(authorization.header(), Err(AuthorizationError::NotAHeader(_))));
    }
}
