//! Handing a token over in a file.

use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes an API token to a file that its owner alone may read. The file must not be there, unless it holds an earlier
/// token: what else stands at a path that was mistyped is somebody's, and a link would lead elsewhere.
///
/// # Errors
/// With the path; then nothing of the secret is left.
pub(super) fn write_new(path: &Path, secret: &str) -> std::io::Result<()> {
    if holds_token(path) {
        std::fs::remove_file(path)?;
    }
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

/// Whether a plain file holds the text of an API token and nothing else.
fn holds_token(path: &Path) -> bool {
    let plain = std::fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.len() <= MAX_TOKEN_BYTES);
    let mut text = String::new();
    let read = |text: &mut String| std::fs::File::open(path)?.take(MAX_TOKEN_BYTES).read_to_string(text);
    plain && read(&mut text).is_ok() && text.starts_with("psk_") && text.bytes().all(|byte| byte.is_ascii_graphic())
}

const MAX_TOKEN_BYTES: u64 = 256;

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
    fn an_earlier_token_gives_way_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        write_new(&path, "psk_dev_one").unwrap();
        write_new(&path, "psk_dev_two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "psk_dev_two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
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
