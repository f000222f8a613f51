//! Paths of guests, which lead from an open directory down, and never out of it.

use super::files::FileError;

/// A longer path is refused, as by Linux (PATH_MAX): each of its steps is work within one call of the guest's.
const PATH_BYTES: usize = 4096;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Into an entry.
    Into(&'a str),
    /// Back to the directory before.
    Back,
    /// Nowhere, but only a directory can be stood in: `.`, and what a slash at the end says.
    Stay,
}

/// The steps of a relative path.
///
/// # Errors
/// When the path is empty, too long, or absolute.
pub fn steps(path: &str) -> Result<impl Iterator<Item = Step<'_>>, FileError> {
    match path {
        "" => Err(FileError::NoEntry),
        _ if path.len() > PATH_BYTES => Err(FileError::NameTooLong),
        _ if path.starts_with('/') => Err(FileError::NotPermitted),
        _ => Ok(path.split('/').map(|part| match part {
            "" | "." => Step::Stay,
            ".." => Step::Back,
            name => Step::Into(name),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(path: &str) -> Vec<Step<'_>> {
        steps(path).unwrap().collect()
    }

    #[test]
    fn a_path_is_its_steps() {
        assert_eq!(parsed("a/b.txt"), [Step::Into("a"), Step::Into("b.txt")]);
        assert_eq!(parsed("."), [Step::Stay]);
        assert_eq!(
            parsed("a//../b/"),
            [Step::Into("a"), Step::Stay, Step::Back, Step::Into("b"), Step::Stay]
        );
        assert_eq!(parsed("..."), [Step::Into("...")]);
    }

    #[test]
    fn what_is_no_relative_path_is_refused() {
        assert_eq!(steps("").err(), Some(FileError::NoEntry));
        assert_eq!(steps("/etc").err(), Some(FileError::NotPermitted));
        assert_eq!(steps(&"a/".repeat(2049)).err(), Some(FileError::NameTooLong));
    }
}
