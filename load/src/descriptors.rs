//! Room for many connections.

use std::mem::MaybeUninit;

/// Raises the process's limit on open files to what it may be raised to; a Node over HTTP/1.1 holds up to five
/// connections. Failing to is no error: connections that do not fit show in the result.
pub(crate) fn raise_limit() {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: `limit` is room for one result, which a return of 0 says was written; it is read only then.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) == 0 {
            let mut limit = limit.assume_init();
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}
