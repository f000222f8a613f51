//! What functions log, on its way from an edge to whoever reads it.

mod outbox;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::outbox::{Bounds, Outbox};

/// Bytes of a line's text; what is longer is cut.
pub const LINE_BYTES: usize = 8 << 10;

/// What lines may be of: standard output and error, levels of `wasi:logging`, and the platform's own.
const STREAMS: [&str; 9] =
    ["stdout", "stderr", "trace", "debug", "info", "warn", "error", "critical", "platform"];

/// Characters of an id, which are ASCII; those of requests may have a `+2`.
const ID: usize = 64;

/// Lines of which an edge can say at once that they are lost: what clients get of it is an integer of 32 bits.
const MISSED: u64 = 1 << 30;

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
    /// The name of the edge of its own that it is from; none: the edge is in the control plane's process.
    pub edge: Option<Arc<str>>,
    /// So many lines of this function before this one were lost on their way.
    pub missed: u64,
}

/// A line of a function's log as an edge sends it, as JSON. Which edge that is, its proof says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SentLine {
    /// `fn_…`
    pub function: String,
    /// `dep_…`
    pub deployment: String,
    /// As [`LogLine::request`].
    pub request: String,
    /// By the edge's clock.
    pub at: i64,
    /// As [`LogLine::stream`].
    pub stream: String,
    /// As [`LogLine::text`].
    pub text: String,
    /// As [`LogLine::missed`].
    #[serde(default, skip_serializing_if = "is_none")]
    pub missed: u64,
}

const fn is_none(missed: &u64) -> bool {
    *missed == 0
}

impl SentLine {
    /// The line, from this edge; none: it is not as lines are. `now`: no line is from later than that.
    #[must_use]
    pub fn read(self, edge: Option<Arc<str>>, now: i64) -> Option<LogLine> {
        let is_id = |text: &str| {
            text.len() <= ID
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-+".contains(&byte))
        };
        let stream = STREAMS.into_iter().find(|stream| *stream == self.stream)?;
        let is_one = [&self.function, &self.deployment, &self.request].into_iter().all(|id| is_id(id));
        is_one.then(|| LogLine {
            function: self.function.into(),
            deployment: self.deployment.into(),
            request: self.request,
            at: self.at.min(now).max(0),
            stream,
            text: bounded(self.text),
            edge,
            missed: self.missed.min(MISSED),
        })
    }
}

impl From<&LogLine> for SentLine {
    fn from(line: &LogLine) -> Self {
        Self {
            function: line.function.to_string(),
            deployment: line.deployment.to_string(),
            request: line.request.clone(),
            at: line.at,
            stream: line.stream.to_owned(),
            text: line.text.clone(),
            missed: line.missed,
        }
    }
}

/// Takes lines while a function waits: quickly, without ever waiting for a reader.
pub trait LogSink: Send + Sync + 'static {
    /// Takes one.
    fn take(&self, line: LogLine);
}

/// As much of a text as a line has.
#[must_use]
pub fn bounded(mut text: String) -> String {
    // What was bounded before stays as it is.
    if text.len() > LINE_BYTES + '…'.len_utf8() || (text.len() > LINE_BYTES && !text.ends_with('…')) {
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
        assert_eq!(bounded(cut.clone()), cut);
        assert_eq!(bounded(format!("x{}", "ü".repeat(LINE_BYTES))).len(), LINE_BYTES - 1 + "…".len());
    }
    #[test]
    fn what_an_edge_sends_is_a_line_within_bounds_or_none() {
        let sent = SentLine {
            function: "fn_1".into(),
            deployment: "dep_1".into(),
            request: "01ARZ3NDEKTSV4RRFFQ69G5FAV+2".into(),
            at: 7,
            stream: "warn".into(),
            text: "sold out".into(),
            missed: 3,
        };
        let line = sent.clone().read(Some("one".into()), 10).unwrap();
        assert_eq!((SentLine::from(&line), line.edge.as_deref()), (sent.clone(), Some("one")));
        let later = |at| SentLine { at, ..sent.clone() }.read(None, 10).unwrap().at;
        assert_eq!((later(11), later(i64::MIN)), (10, 0));
        let many = SentLine { missed: u64::MAX, ..sent.clone() };
        assert_eq!(many.read(None, 10).unwrap().missed, MISSED);
        let long = SentLine { text: "x".repeat(LINE_BYTES * 2), ..sent.clone() };
        assert_eq!(long.read(None, 10).unwrap().text.len(), LINE_BYTES + "…".len());
        for none in [
            SentLine { stream: "shouted".into(), ..sent.clone() },
            SentLine { function: "fn_1\n".into(), ..sent.clone() },
            SentLine { deployment: "é".into(), ..sent.clone() },
            SentLine { request: "0".repeat(65), ..sent },
        ] {
            assert_eq!(none.read(None, 10), None);
        }
    }
}
