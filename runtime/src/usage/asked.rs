//! A request that was asked of a function or a site: counted once, however it ends.

use std::sync::Arc;

use ::http::{Response, StatusCode};
use http_body::Body;

use super::Counters;
use crate::http::{ResponseBody, Watcher};

/// From when it is asked. Dropped before its end, its client has given up, which counts as a request.
pub(crate) struct Asked {
    counters: Arc<Counters>,
    ended: bool,
}

/// How a request that was asked ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Answered, or refused for what its client did.
    Answered,
    /// With the failure of what was asked.
    Failed,
    /// The server had no room for it: it is nobody's request.
    Refused,
}

impl Asked {
    pub(crate) fn of(counters: Arc<Counters>) -> Self {
        Self { counters, ended: false }
    }

    /// There is an answer.
    pub(crate) fn end(&mut self, end: End) {
        if std::mem::replace(&mut self.ended, true) || end == End::Refused {
            return;
        }
        self.counters.requested();
        if end == End::Failed {
            self.counters.failed();
        }
    }

    /// Counts what is sent of the answer. `bodiless`: the client asked for its header only.
    pub(crate) fn watch(self, response: Response<ResponseBody>, bodiless: bool) -> Response<ResponseBody> {
        let has_none = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&response.status());
        if bodiless || has_none {
            return response;
        }
        let failed = response.status().is_server_error();
        if response.body().is_complete() {
            // It goes out as a whole, and mostly in one piece.
            self.counters.sent(response.body().size_hint().lower());
            return response;
        }
        response.map(|body| body.watched(Box::new(Sent { counters: self.counters.clone(), failed })))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.ended {
            self.counters.requested();
        }
    }
}

/// Looks on while an answer is sent.
struct Sent {
    counters: Arc<Counters>,
    /// Whether it counts as a failure already.
    failed: bool,
}

impl Watcher for Sent {
    fn sent(&mut self, bytes: usize) {
        self.counters.sent(bytes as u64);
    }

    fn broke(&mut self) {
        if !std::mem::replace(&mut self.failed, true) {
            self.counters.failed();
        }
    }
}
