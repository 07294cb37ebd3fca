//! Writing for people and scripts. A reader that went away is no fault of ours.

use std::io::Write as _;

/// One line on stdout: data.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// One line on stderr: anything else.
pub(crate) fn tell(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
