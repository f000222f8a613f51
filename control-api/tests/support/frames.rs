//! Frames of HTTP/2, as a client writes them (RFC 9113).
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

/// ENHANCE_YOUR_CALM (section 7)
pub const CALM: u32 = 11;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Methods in HPACK's static table.
pub const GET: u8 = 0x82;
pub const POST: u8 = 0x83;

/// Section 4.1.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A request over http for a host, in HPACK's static table.
pub fn header(method: u8, host: &str, path: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    let path = [&[0x04, length(path)], path.as_bytes()].concat();
    [&[method, 0x86], &path[..], &[0x41, length(host)], host.as_bytes()].concat()
}

/// The id of a client's stream, counted from 0.
pub fn stream(number: u32) -> u32 {
    number * 2 + 1
}
