//! Handing a secret over in a file.

use std::io::{Error, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes a secret to a file that its owner alone may read. The file must not be there: what stands at a path that was
/// mistyped is somebody's, and a link would lead elsewhere.
///
/// # Errors
/// With the path; then nothing of the secret is left.
pub(super) fn write_new(path: &Path, secret: &str) -> std::io::Result<()> {
    let named = |error: Error| {
        let why = match error.kind() {
            ErrorKind::AlreadyExists => "it is there already; move it away and start again".to_owned(),
            _ => error.to_string(),
        };
        Error::new(error.kind(), format!("{}: {why}", path.display()))
    };
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(named)?;
    let written = file.write_all(secret.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        let _ = std::fs::remove_file(path);
        named(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_secret_is_the_owners_alone_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        write_new(&path, "secret").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "secret");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let refused = write_new(&path, "other").unwrap_err().to_string();
        assert!(refused.contains("admin.token: it is there already"), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "secret");
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("elsewhere"), folder.path().join("admin.token"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(write_new(&link, "secret").is_err());
        assert!(!target.exists());
    }
}
