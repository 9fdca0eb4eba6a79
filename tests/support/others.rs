//! What other users of the host may do with what a program has made.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Gives everybody what a program would let them have, in this process and those that it starts.
#[allow(unsafe_code)]
pub fn let_in() {
    // SAFETY: umask has no pointers.
    unsafe { libc::umask(0) };
}

/// Nothing below this directory is for others than its user and group.
pub fn kept_out(directory: &Path) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let entry = entry.expect("an entry");
        let (path, metadata) = (entry.path(), entry.metadata().expect("its metadata"));
        let mode = metadata.permissions().mode();
        assert!(mode & 0o007 == 0, "{} has mode {:o}", path.display(), mode & 0o777);
        if metadata.is_dir() {
            kept_out(&path);
        }
    }
}
