//! Follows a connection's bytes from request to request, so that every header is judged before the HTTP library has
//! its last byte. It keeps nothing but a header that has arrived in part.
//!
//! Why a second reading: hyper takes a request that has both a length and a transfer coding for a chunked one, drops
//! the length, and tells nobody; a bare LF ends a line for it; and what it refuses, it refuses without a word of why.

use af_contract::limits;
use memchr::memchr_iter;

use super::head::{self, Body};
use super::refusal::Refusal;

/// The request line and all header lines together: what hyper may keep of them, too.
pub const HEAD_BYTES: usize = limits::HEADER_BYTES + limits::URL_BYTES;

/// All chunk extensions of one body, bytes; nobody uses them but to make servers work.
const EXTENSION_BYTES: u32 = 4 << 10;

/// Digits of a chunk's size: all that a `u64` has.
const SIZE_DIGITS: u8 = 16;

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Sized(u64),
    Chunk(Chunk),
}

/// A place in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size { size: u64, digits: u8 },
    Extension { size: u64 },
    SizeEnd { size: u64 },
    Data(u64),
    DataEnd,
    DataEnded,
    Trailers,
}

/// Where in a connection's bytes we are.
#[derive(Debug)]
pub struct Framing {
    state: State,
    /// Of a header or of trailers that have not ended yet.
    partial: Vec<u8>,
    /// Where its last line begins.
    line: usize,
    extensions: u32,
    heads: u32,
    /// Whether an empty line was left out before this request.
    skipped: bool,
}

impl Default for Framing {
    fn default() -> Self {
        Self { state: State::Head, partial: Vec::new(), line: 0, extensions: 0, heads: 0, skipped: false }
    }
}

impl Framing {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// When they are no request that may be read. Nothing that comes later means anything then.
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<(), Refusal> {
        while !bytes.is_empty() {
            let used = match self.state {
                State::Head => self.head(bytes)?,
                State::Sized(left) => {
                    let used = fitting(left, bytes.len());
                    self.state = rest(left, used).map_or(State::Head, State::Sized);
                    used
                }
                State::Chunk(chunk) => self.chunk(chunk, bytes)?,
            };
            bytes = bytes.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// Whether a header has begun and not ended.
    pub fn is_in_head(&self) -> bool {
        self.state == State::Head && !self.partial.is_empty()
    }

    /// Headers that have ended, wrapping around.
    pub fn heads(&self) -> u32 {
        self.heads
    }

    fn head(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let Some(used) = self.lines(bytes, HEAD_BYTES)? else {
            let url = limits::URL_BYTES + "CONNECT  HTTP/1.1\r\n".len();
            let endless = self.line == 0 && self.partial.len() > url;
            return if endless { Err(Refusal::UrlTooLong) } else { Ok(bytes.len()) };
        };
        let whole = bytes.get(..used).unwrap_or_default();
        let body = if self.partial.is_empty() {
            self.judge(whole)?
        } else {
            self.partial.extend_from_slice(whole);
            let whole = std::mem::take(&mut self.partial);
            self.judge(&whole)?
        };
        let Some(body) = body else { return Ok(used) };
        self.heads = self.heads.wrapping_add(1);
        self.state = match body {
            Body::Sized(0) => State::Head,
            Body::Sized(length) => State::Sized(length),
            Body::Chunked => {
                self.extensions = 0;
                State::Chunk(Chunk::Size { size: 0, digits: 0 })
            }
        };
        Ok(used)
    }

    /// Nothing where there is one empty line before a request, which is tolerated (RFC 9112, section 2.2).
    fn judge(&mut self, head: &[u8]) -> Result<Option<Body>, Refusal> {
        if head == b"\r\n" && !std::mem::replace(&mut self.skipped, true) {
            return Ok(None);
        }
        self.skipped = false;
        head::judge(head).map(Some)
    }

    /// How many bytes there are up to the empty line. Without one, all are kept for the next time.
    fn lines(&mut self, bytes: &[u8], most: usize) -> Result<Option<usize>, Refusal> {
        let before = self.partial.len();
        for at in memchr_iter(b'\n', bytes) {
            let previous = match at.checked_sub(1) {
                Some(previous) => bytes.get(previous),
                None => self.partial.last(),
            };
            if previous != Some(&b'\r') {
                return Err(Refusal::LineEnd);
            }
            let end = before + at + 1;
            if end - self.line == 2 {
                self.line = 0;
                return if end > most { Err(Refusal::HeaderTooLarge) } else { Ok(Some(at + 1)) };
            }
            self.line = end;
        }
        if before + bytes.len() > most {
            return Err(Refusal::HeaderTooLarge);
        }
        self.partial.extend_from_slice(bytes);
        Ok(None)
    }

    fn chunk(&mut self, chunk: Chunk, bytes: &[u8]) -> Result<usize, Refusal> {
        let first = bytes.first().copied().unwrap_or_default();
        let (next, used) = match chunk {
            Chunk::Size { size, digits } => (size_digit(size, digits, first)?, 1),
            Chunk::Extension { size } => {
                self.extensions += 1;
                match first {
                    _ if self.extensions > EXTENSION_BYTES => return Err(Refusal::Chunk),
                    b'\r' => (Chunk::SizeEnd { size }, 1),
                    b'\t' | 0x20..=0x7e | 0x80.. => (chunk, 1),
                    _ => return Err(Refusal::Chunk),
                }
            }
            Chunk::SizeEnd { size } if first == b'\n' => match size {
                0 => (Chunk::Trailers, 1),
                size => (Chunk::Data(size), 1),
            },
            Chunk::Data(left) => {
                let used = fitting(left, bytes.len());
                (rest(left, used).map_or(Chunk::DataEnd, Chunk::Data), used)
            }
            Chunk::DataEnd if first == b'\r' => (Chunk::DataEnded, 1),
            Chunk::DataEnded if first == b'\n' => (Chunk::Size { size: 0, digits: 0 }, 1),
            Chunk::Trailers => return self.trailers(bytes),
            Chunk::SizeEnd { .. } | Chunk::DataEnd | Chunk::DataEnded => return Err(Refusal::Chunk),
        };
        self.state = State::Chunk(next);
        Ok(used)
    }

    fn trailers(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let Some(used) = self.lines(bytes, limits::HEADER_BYTES)? else { return Ok(bytes.len()) };
        self.partial.extend_from_slice(bytes.get(..used).unwrap_or_default());
        let all = std::mem::take(&mut self.partial);
        let text = all.strip_suffix(b"\r\n").unwrap_or(&all);
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            head::field(line.strip_suffix(b"\r").unwrap_or(line))?;
        }
        self.state = State::Head;
        Ok(used)
    }
}

fn size_digit(size: u64, digits: u8, byte: u8) -> Result<Chunk, Refusal> {
    let digit = match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        b'\r' if digits > 0 => return Ok(Chunk::SizeEnd { size }),
        b';' if digits > 0 => return Ok(Chunk::Extension { size }),
        _ => return Err(Refusal::Chunk),
    };
    if digits == SIZE_DIGITS {
        return Err(Refusal::Chunk);
    }
    Ok(Chunk::Size { size: (size << 4) | u64::from(digit), digits: digits + 1 })
}

/// How many of the bytes at hand belong to what is left.
fn fitting(left: u64, at_hand: usize) -> usize {
    usize::try_from(left).map_or(at_hand, |left| left.min(at_hand))
}

/// What is left after that, if anything.
fn rest(left: u64, used: usize) -> Option<u64> {
    left.checked_sub(u64::try_from(used).ok()?).filter(|rest| *rest > 0)
}

#[cfg(test)]
mod tests;
