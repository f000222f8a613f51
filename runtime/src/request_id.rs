//! Names each request, in its response and in the log.

use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use ulid::Ulid;

/// A ULID: 26 characters, sortable by time, unique over all edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(Ulid);

/// Random per process, so that counting up from it stays unique without asking for random bytes per request.
static NEXT: LazyLock<(u128, AtomicU64)> = LazyLock::new(|| (Ulid::generate().random(), AtomicU64::new(0)));

impl RequestId {
    /// A new id.
    #[must_use]
    pub fn next() -> Self {
        let (start, counter) = &*NEXT;
        let count = counter.fetch_add(1, Ordering::Relaxed);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or_default();
        Self(Ulid::from_parts(millis, start.wrapping_add(u128::from(count))))
    }

    /// For a response header.
    #[must_use]
    pub fn header(self) -> HeaderValue {
        let mut text = [0; ulid::ULID_LEN];
        let text = self.0.array_to_str(&mut text);
        HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_are_printable() {
        let (one, two) = (RequestId::next(), RequestId::next());
        assert_ne!(one, two);
        assert_eq!(one.header().to_str().unwrap(), one.to_string());
    }
}
