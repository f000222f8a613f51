//! The strict reading of one header: only what every server and proxy reads in the same way passes.

use af_contract::limits;
use memchr::memchr;

use super::refusal::Refusal;

/// How the bytes after a header are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes, perhaps none.
    Sized(u64),
    /// Chunks.
    Chunked,
}

/// Judges a whole header, the empty line at its end included.
pub fn judge(head: &[u8]) -> Result<Body, Refusal> {
    let mut lines = Lines(head);
    let old = request_line(lines.next().unwrap_or_default())?;
    let (mut length, mut chunked, mut count) = (None, false, 0);
    for line in lines.take_while(|line| !line.is_empty()) {
        count += 1;
        let (name, value) = field(line)?;
        // By length first: nearly no other header has theirs.
        if name.len() == 14 && name.eq_ignore_ascii_case(b"content-length") {
            if length.replace(number(value)?).is_some() {
                return Err(Refusal::Length);
            }
        } else if name.len() == 17 && name.eq_ignore_ascii_case(b"transfer-encoding") {
            if old || std::mem::replace(&mut chunked, true) {
                return Err(Refusal::NotChunked);
            }
            coding(value)?;
        }
    }
    if count > limits::HEADER_COUNT {
        return Err(Refusal::HeaderTooLarge);
    }
    match (length, chunked) {
        (Some(_), true) => Err(Refusal::TwoFramings),
        (None, true) => Ok(Body::Chunked),
        (length, false) => Ok(Body::Sized(length.unwrap_or_default())),
    }
}

/// A header line's name and value.
pub fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let (name, value) = split(line, b':').ok_or(Refusal::HeaderName)?;
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(Refusal::HeaderName);
    }
    // Without a branch per byte, so that the compiler reads many at once.
    let bad = value.iter().fold(false, |bad, b| bad | ((*b < 0x20) & (*b != b'\t')) | (*b == 0x7f));
    if bad { Err(Refusal::HeaderValue) } else { Ok((name, value)) }
}

/// Lines that end with CR LF, without it. What is left behind the last one is not a line.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (line, rest) = split(self.0, b'\n')?;
        self.0 = rest;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let (before, rest) = bytes.split_at_checked(memchr(at, bytes)?)?;
    Some((before, rest.get(1..)?))
}

/// Whether it is HTTP/1.0.
fn request_line(line: &[u8]) -> Result<bool, Refusal> {
    let (method, rest) = split(line, b' ').ok_or(Refusal::RequestLine)?;
    let (target, version) = split(rest, b' ').ok_or(Refusal::RequestLine)?;
    let printable = target.iter().fold(true, |good, b| good & (*b > 0x20) & (*b < 0x7f));
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) || target.is_empty() || !printable {
        return Err(Refusal::RequestLine);
    }
    if target.len() > limits::URL_BYTES {
        return Err(Refusal::UrlTooLong);
    }
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        [b'H', b'T', b'T', b'P', b'/', major, rest @ ..] if major.is_ascii_digit() => match rest {
            [] => Err(Refusal::Version),
            [b'.', minor] if minor.is_ascii_digit() => Err(Refusal::Version),
            _ => Err(Refusal::RequestLine),
        },
        _ => Err(Refusal::RequestLine),
    }
}

fn number(value: &[u8]) -> Result<u64, Refusal> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::Length);
    }
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.ok_or(Refusal::Length)
}

fn coding(value: &[u8]) -> Result<(), Refusal> {
    let mut codings = value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    if !codings.next().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked")) {
        return Err(Refusal::NotChunked);
    }
    match codings.next() {
        None => Ok(()),
        Some(before) if before.eq_ignore_ascii_case(b"chunked") => Err(Refusal::NotChunked),
        Some(_) => Err(Refusal::UnknownCoding),
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)) == Some(&true)
}

#[expect(clippy::indexing_slicing, reason = "evaluated when this is compiled")]
const TOKEN: [bool; 256] = {
    let others = b"!#$%&'*+-.^_`|~";
    let mut table = [false; 256];
    let mut byte = u8::MAX;
    while byte > 0 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte -= 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};
