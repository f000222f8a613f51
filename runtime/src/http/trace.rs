//! W3C trace context: a request belongs to the trace that its client says, or to a new one, and the function is told.

use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use ::http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `00-` and 32, 16 and 2 digits with dashes between them.
const LENGTH: usize = 55;

/// The flags that version 00 of the format knows: sampled, and that the id is random.
const FLAGS: u8 = 0b11;

/// One request's place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    /// Of the edge's own part, under which the function's belong.
    span: u64,
    flags: u8,
}

impl TraceContext {
    /// Reads what the client sent, and puts the edge's own place in its stead.
    pub fn enter(headers: &mut HeaderMap) -> Self {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let sent = match (values.next(), values.next()) {
            (Some(value), None) => parse(value.as_bytes()),
            _ => None,
        };
        if sent.is_none() {
            // It belongs to the trace that cannot be read (section 3.3 of the recommendation).
            headers.remove(TRACESTATE);
        }
        let (trace, flags) = sent.unwrap_or_else(|| {
            let high = u128::from(random());
            (high << 64 | u128::from(random()), 0b10)
        });
        let context = Self { trace, span: random(), flags };
        headers.insert(TRACEPARENT, context.header());
        context
    }

    /// The trace's id, as logs have it.
    pub fn trace(self) -> impl fmt::Display {
        struct Id(u128);
        impl fmt::Display for Id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
        Id(self.trace)
    }

    fn header(self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let (_, rest) = text.split_at_mut(3);
        let (trace, rest) = rest.split_at_mut(32);
        let (_, rest) = rest.split_at_mut(1);
        let (span, rest) = rest.split_at_mut(16);
        let (_, flags) = rest.split_at_mut(1);
        hex(trace, &self.trace.to_be_bytes());
        hex(span, &self.span.to_be_bytes());
        hex(flags, &[self.flags]);
        // Digits and dashes are a header value.
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// The trace's id and flags.
fn parse(text: &[u8]) -> Option<(u128, u8)> {
    let (known, more) = text.split_at_checked(LENGTH)?;
    let [version, trace, span, flags] = parts(known)?;
    let version = u8::try_from(number(version)?).ok()?;
    // Later versions may have more behind another dash.
    let fits = match version {
        0 => more.is_empty(),
        255 => false,
        _ => more.is_empty() || more.starts_with(b"-"),
    };
    let (trace, span) = (number(trace)?, number(span)?);
    let flags = u8::try_from(number(flags)?).ok()?;
    (fits && trace != 0 && span != 0).then_some((trace, flags & FLAGS))
}

fn parts(text: &[u8]) -> Option<[&[u8]; 4]> {
    let mut parts = text.split(|byte| *byte == b'-');
    let parts = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let lengths = parts.map(<[u8]>::len);
    (lengths == [2, 32, 16, 2]).then_some(parts)
}

/// Of lower-case hexadecimal digits.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

fn hex(out: &mut [u8], bytes: &[u8]) {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
}

/// Unique, and spread evenly so that one in so many can be sampled by it; no secret. Never zero. It is SplitMix64, from
/// a start that each process draws, so that a request costs no call of the kernel.
fn random() -> u64 {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(getrandom::u64().unwrap_or(1)));
    let mut value = NEXT.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (value ^ (value >> 31)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn entered(value: &str) -> (TraceContext, HeaderMap) {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, value.parse().unwrap());
        headers.insert(TRACESTATE, HeaderValue::from_static("a=b"));
        (TraceContext::enter(&mut headers), headers)
    }

    #[test]
    fn a_trace_goes_on_under_a_new_span() {
        let (context, headers) = entered(SENT);
        assert_eq!(context.trace().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let told = headers.get(TRACEPARENT).unwrap().to_str().unwrap();
        assert!(told.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && told.ends_with("-01"), "{told}");
        assert_ne!(told, SENT);
        assert!(parse(told.as_bytes()).is_some());
        assert!(headers.contains_key(TRACESTATE));
    }

    #[test]
    fn what_is_no_trace_context_begins_a_new_one() {
        for wrong in [
            "",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            let (context, headers) = entered(wrong);
            assert_ne!(context.trace().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736", "{wrong}");
            assert!(!headers.contains_key(TRACESTATE), "{wrong}");
        }
        assert!(parse(b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").is_some());
    }
}
