//! The tap on what functions log: whoever listens in this process gets each line, besides this server's own log. While nobody
//! does, a line costs one load more, and a request without lines nothing.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use af_contract::logs::bounded;
use af_contract::{LogLine, LogSink};

/// Of one edge. Clones are one.
#[derive(Clone, Default)]
pub struct Tap {
    sink: Arc<OnceLock<Arc<dyn LogSink>>>,
}

impl Tap {
    /// From now on, `sink` gets every line. Only the first one does.
    pub fn open(&self, sink: Arc<dyn LogSink>) {
        let _only_the_first = self.sink.set(sink);
    }
}

/// Whose lines they are: a deployment's, of a function. Made once for each deployment.
pub struct Logger {
    function: Arc<str>,
    deployment: Arc<str>,
    tap: Tap,
}

impl Logger {
    /// Of the deployment `dep_…` of the function `fn_…`.
    #[must_use]
    pub fn new(function: &str, deployment: &str, tap: &Tap) -> Self {
        Self { function: function.into(), deployment: deployment.into(), tap: tap.clone() }
    }

    #[cfg(test)]
    pub(crate) fn of_tests() -> Arc<Self> {
        Arc::new(Self::new("fn_1", "dep_1", &Tap::default()))
    }

    /// `fn_…`
    #[must_use]
    pub fn function(&self) -> &str {
        &self.function
    }

    /// Hands a line to whoever listens.
    pub(crate) fn tell(&self, request: impl ToString, stream: &'static str, text: impl ToString) {
        let Some(sink) = self.tap.sink.get() else { return };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        sink.take(LogLine {
            function: self.function.clone(),
            deployment: self.deployment.clone(),
            request: request.to_string(),
            at: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            stream,
            text: bounded(text.to_string()),
            edge: None,
            missed: 0,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use tokio::io::AsyncWriteExt;
    use wasmtime_wasi::cli::StdoutStream;

    use super::*;
    use crate::host::log::GuestLog;
    use crate::metrics::Metrics;
    use crate::request_id::RequestId;

    /// Writes down what it is told.
    #[derive(Default)]
    struct Recorder(Mutex<Vec<LogLine>>);

    impl LogSink for Recorder {
        fn take(&self, line: LogLine) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    }

    #[tokio::test]
    async fn whoever_listens_gets_every_line_as_it_is_logged() {
        let (tap, recorder) = (Tap::default(), Arc::new(Recorder::default()));
        let logger = Arc::new(Logger::new("fn_1", "dep_1", &tap));
        let id = RequestId::next();
        let log = GuestLog::new(&logger, id, 60, &Arc::new(Metrics::default()));
        log.message("info", "", "nobody listens yet");
        tap.open(recorder.clone());
        let mut stdout = Box::into_pin(log.stdout().async_stream());
        stdout.write_all(b"one\nhalf a ").await.unwrap();
        log.message("warn", "shop", "sold out\n");
        stdout.write_all(b"line\nand far more than may be logged").await.unwrap();
        log.limit("cpu_limit", "too much");
        let told = recorder.0.lock().unwrap();
        let said: Vec<_> = told.iter().map(|line| (line.stream, line.text.as_str())).collect();
        let expected = [
            ("stdout", "one"),
            ("warn", "shop: sold out"),
            ("stdout", "[the log limit of this request is reached; the rest is dropped]"),
            ("stdout", "half a line"),
            ("platform", "[cpu_limit: too much]"),
        ];
        assert_eq!(said, expected);
        let first = told.first().unwrap();
        assert_eq!(
            (&*first.function, &*first.deployment, &first.request),
            ("fn_1", "dep_1", &id.to_string())
        );
        assert!(first.at > 1_700_000_000_000);
    }
}
