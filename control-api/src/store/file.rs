//! Who may read the database's file: its owner alone.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use tracing::warn;

/// Makes the file where there is none, for its owner alone; SQLite gives the files beside it the same mode. Of one that others
/// may read, only that is said: whoever made it may want it so.
///
/// # Errors
/// When it can be neither made nor looked at.
pub(super) fn for_its_owner(path: &Path) -> std::io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_made) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mode = path.metadata()?.permissions().mode();
            if mode & 0o077 != 0 {
                warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "others on this machine may read the database; chmod 600 it");
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}
