//! What functions log, on its way from an edge to whoever reads it.

use std::sync::Arc;

/// Bytes of a line's text; what is longer is cut.
pub const LINE_BYTES: usize = 8 << 10;

/// A line of a function's log. The text is what the function wrote, whatever that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// `fn_…`
    pub function: Arc<str>,
    /// `dep_…`
    pub deployment: Arc<str>,
    /// The request's id; `ID+2` for a line of this request or of one of two others in the same instance.
    pub request: String,
    /// When it was written, milliseconds since 1970 UTC.
    pub at: i64,
    /// `stdout`, `stderr`, a level of `wasi:logging` (`trace`, `debug`, `info`, `warn`, `error`, `critical`), or `platform`:
    /// the edge says that the function ran into a limit.
    pub stream: &'static str,
    /// Without its end; at most [`LINE_BYTES`], and an ellipsis where it was cut.
    pub text: String,
}

/// Takes lines while a function waits: quickly, without ever waiting for a reader.
pub trait LogSink: Send + Sync + 'static {
    /// Takes one.
    fn take(&self, line: LogLine);
}

/// As much of a text as a line has.
#[must_use]
pub fn bounded(mut text: String) -> String {
    if text.len() > LINE_BYTES {
        text.truncate(text.floor_char_boundary(LINE_BYTES));
        text.push('…');
        // Lines are kept, and what they are counted as is their length.
        text.shrink_to_fit();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_between_characters() {
        let fits = "x".repeat(LINE_BYTES);
        assert_eq!(bounded(fits.clone()), fits);
        let cut = bounded("ü".repeat(LINE_BYTES));
        assert_eq!(cut, format!("{}…", "ü".repeat(LINE_BYTES / 2)));
        assert_eq!(bounded(format!("x{}", "ü".repeat(LINE_BYTES))).len(), LINE_BYTES - 1 + "…".len());
    }
}
