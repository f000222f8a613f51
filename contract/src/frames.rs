//! What a client may send beside requests, and a server beside answers. Frames of HTTP/2 that ask for nothing (RFC 9113, section 10.5), and messages of a
//! WebSocket, cost the server work all the same, and the libraries that read them go on for as long as a client sends. So there
//! is a budget of them. Knows where frames begin and end, and nothing of what they mean.

use std::ops::Deref;
use std::time::Instant;

/// What a connection may send at once, and more for each second: no client is known that pings more often.
const MOST: u32 = 5_000;
const PER_SECOND: u32 = 10;

/// For the header of each request or answer that the other end sends: trailers, updates of windows and of priorities.
const ANSWERED: u32 = 6;

/// For each piece of content that it sends: an update of both windows, and a ping that measures how far away it is, as gRPC has; and
/// so many bytes, for which there may be one more.
const CONTENT: u32 = 3;
const CONTENT_BYTES: usize = 1 << 10;

/// A request that is taken back has no answer, which would bring something: who does nothing else is ended (CVE-2023-44487), who wants
/// half of the answers is not.
const RESET: u32 = 4;

/// Settings change the windows of all streams.
const SETTINGS: u32 = 20;

/// What begins every connection of HTTP/2, bytes (RFC 9113, section 3.4).
const PREFACE: usize = 24;

/// Of a frame's header: its length, kind, flags and stream (RFC 9113, section 4.1).
const HEADER: usize = 9;

const KIND_DATA: u8 = 0;
const KIND_HEADERS: u8 = 1;
const KIND_RESET: u8 = 3;
const KIND_SETTINGS: u8 = 4;
const KIND_CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// More was sent than anybody needs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much is sent that asks for nothing")]
pub struct Flood;

/// What may still be sent that asks for nothing.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: u32,
    since: Instant,
}

impl Budget {
    /// A full one.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { left: MOST, since: now }
    }

    /// So much was sent. The time is asked for only where nothing is left.
    ///
    /// # Errors
    /// When it is too much.
    pub fn spend(&mut self, cost: u32, now: impl FnOnce() -> Instant) -> Result<(), Flood> {
        if self.left < cost {
            let now = now();
            let seconds = now.saturating_duration_since(self.since).as_secs();
            if seconds > 0 {
                self.earn(u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(PER_SECOND));
                self.since = now;
            }
        }
        self.left = self.left.checked_sub(cost).ok_or(Flood)?;
        Ok(())
    }

    /// So much more may be sent.
    pub fn earn(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(MOST);
    }
}

/// Where frames begin, in pieces as they arrive.
#[derive(Debug)]
struct Cutter {
    header: [u8; HEADER],
    /// Bytes of it that are there.
    begun: usize,
    /// Bytes until the next frame.
    rest: usize,
}

impl Cutter {
    /// So many bytes before the first frame.
    const fn new(rest: usize) -> Self {
        Self { header: [0; HEADER], begun: 0, rest }
    }

    /// Passes what belongs to the frame before. Whether that has ended.
    fn pass(&mut self, bytes: &mut &[u8]) -> bool {
        let passed = self.rest.min(bytes.len());
        self.rest -= passed;
        *bytes = bytes.get(passed..).unwrap_or_default();
        self.rest == 0
    }

    /// The kind, flags and length of the next frame, once its header is there.
    fn header(&mut self, bytes: &mut &[u8]) -> Option<(u8, u8, usize)> {
        while self.begun < HEADER {
            let (first, others) = bytes.split_first()?;
            if let Some(place) = self.header.get_mut(self.begun) {
                *place = *first;
            }
            self.begun += 1;
            *bytes = others;
        }
        self.begun = 0;
        let [high, middle, low, kind, flags, ..] = self.header;
        self.rest = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        Some((kind, flags, self.rest))
    }
}

/// The frames that one end of a connection sends, in pieces as they arrive.
#[derive(Debug)]
pub struct Frames {
    budget: Budget,
    read: Cutter,
    /// What goes to that end.
    written: Cutter,
    /// Whether a request's header has begun and not ended; until the preface is whole, that has.
    in_head: bool,
    /// Whether it ends with the frame that is being read.
    ends_head: bool,
    heads: u32,
}

impl Frames {
    /// A client's, before the first byte, which is the preface's.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self {
            budget: Budget::new(now),
            read: Cutter::new(PREFACE),
            written: Cutter::new(0),
            in_head: true,
            ends_head: true,
            heads: 0,
        }
    }

    /// A server's, which has no preface but gets one.
    #[must_use]
    pub const fn of_server(now: Instant) -> Self {
        Self { read: Cutter::new(0), written: Cutter::new(PREFACE), ..Self::new(now) }
    }

    /// Looks at the next bytes.
    ///
    /// # Errors
    /// When they are too many frames that ask for nothing. Nothing more is to be read then.
    pub fn read(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), Flood> {
        while self.read.pass(&mut bytes) {
            if std::mem::take(&mut self.ends_head) {
                self.in_head = false;
            }
            let Some((kind, flags, length)) = self.read.header(&mut bytes) else { break };
            let has = |flag: u8| flags & flag != 0;
            if kind == KIND_HEADERS {
                self.in_head = true;
                self.heads = self.heads.wrapping_add(1);
            }
            self.ends_head = matches!(kind, KIND_HEADERS | KIND_CONTINUATION) && has(END_HEADERS);
            let cost = match kind {
                KIND_DATA if length > 0 || has(END_STREAM) => 0,
                KIND_RESET => RESET,
                KIND_SETTINGS => SETTINGS,
                _ => 1,
            };
            self.budget.spend(cost, &now)?;
        }
        Ok(())
    }

    /// So many bytes of these pieces went to that end, which may answer them.
    pub fn wrote(&mut self, pieces: &[impl Deref<Target = [u8]>], count: usize) {
        let mut left = count;
        for piece in pieces {
            let bytes = piece.get(..left.min(piece.len())).unwrap_or_default();
            left -= bytes.len();
            self.wrote_one(bytes);
        }
    }

    fn wrote_one(&mut self, mut bytes: &[u8]) {
        while self.written.pass(&mut bytes) {
            let Some((kind, _, length)) = self.written.header(&mut bytes) else { break };
            self.budget.earn(match kind {
                KIND_HEADERS => ANSWERED,
                KIND_DATA => CONTENT + u32::try_from(length / CONTENT_BYTES).unwrap_or(u32::MAX - CONTENT),
                _ => 0,
            });
        }
    }

    /// Whether the preface or a request's header has begun and not ended.
    #[must_use]
    pub const fn is_in_head(&self) -> bool {
        self.in_head
    }

    /// How many headers have begun; it wraps around.
    #[must_use]
    pub const fn heads(&self) -> u32 {
        self.heads
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], &vec![7; payload]].concat()
    }

    fn begun() -> (Frames, Instant) {
        let now = Instant::now();
        let mut frames = Frames::new(now);
        assert!(frames.is_in_head());
        frames.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", || now).unwrap();
        assert!(!frames.is_in_head());
        (frames, now)
    }

    /// How many of them are read.
    fn most(kind: u8, flags: u8, payload: usize) -> u32 {
        let (mut frames, now) = begun();
        let frame = frame(kind, flags, payload);
        (0..2 * MOST).take_while(|_| frames.read(&frame, || now).is_ok()).map(|_| 1).sum()
    }

    #[test]
    fn what_asks_for_nothing_has_an_end() {
        for (kind, payload) in [(2, 5), (6, 8), (8, 4), (9, 100), (0x42, 3)] {
            assert_eq!(most(kind, 0, payload), MOST, "{kind}");
        }
        assert_eq!(most(KIND_DATA, 0, 0), MOST);
        assert_eq!(most(KIND_SETTINGS, 0, 6), MOST / SETTINGS);
        assert_eq!(most(KIND_RESET, 0, 4), MOST / RESET);
        assert_eq!(most(KIND_DATA, 0, 1), 2 * MOST, "content");
        assert_eq!(most(KIND_DATA, END_STREAM, 0), 2 * MOST, "the end");
    }

    #[test]
    fn time_and_answers_bring_more() {
        let (mut frames, mut now) = begun();
        // Without a payload, which a client owes after the header at which it was ended.
        let ping = frame(6, 0, 0);
        let sent = |frames: &mut Frames, now: Instant| {
            (0..2 * MOST).take_while(|_| frames.read(&ping, || now).is_ok()).map(|_| 1).sum::<u32>()
        };
        assert_eq!(sent(&mut frames, now), MOST);
        now += Duration::from_secs(3);
        assert_eq!(sent(&mut frames, now), 3 * PER_SECOND);
        frames.wrote_one(&[frame(6, 1, 8), frame(KIND_SETTINGS, 1, 0), frame(8, 0, 4)].concat());
        assert_eq!(sent(&mut frames, now), 0, "what only answers the like");
        frames.wrote_one(&frame(KIND_HEADERS, END_HEADERS, 20));
        assert_eq!(sent(&mut frames, now), ANSWERED);
        frames.wrote_one(&frame(KIND_DATA, 0, 5));
        assert_eq!(sent(&mut frames, now), CONTENT);
        frames.wrote_one(&frame(KIND_DATA, 0, 2 * CONTENT_BYTES));
        assert_eq!(sent(&mut frames, now), CONTENT + 2);
        now += Duration::from_secs(1 << 40);
        assert_eq!(sent(&mut frames, now), MOST, "no more than at first");
    }

    #[test]
    fn a_client_that_takes_back_all_it_asks_for_is_ended() {
        let (mut frames, now) = begun();
        let asked = frame(KIND_HEADERS, END_HEADERS, 20);
        let taken_back = [asked.clone(), frame(KIND_RESET, 0, 4)].concat();
        let count = (0..2 * MOST).take_while(|_| frames.read(&taken_back, || now).is_ok());
        assert_eq!(count.map(|_| 1).sum::<u32>(), MOST / (1 + RESET));
        // Who wants half of it goes on.
        let (mut frames, now) = begun();
        for _ in 0..10 * MOST {
            frames.read(&taken_back, || now).unwrap();
            frames.read(&asked, || now).unwrap();
            frames.wrote_one(&frame(KIND_HEADERS, END_HEADERS, 20));
        }
    }

    #[test]
    fn a_client_may_ping_for_each_piece_that_it_gets() {
        let (mut frames, now) = begun();
        let told = [frame(6, 0, 8), frame(8, 0, 4), frame(8, 0, 4)].concat();
        for _ in 0..10 * MOST {
            let content = frame(KIND_DATA, 0, 5);
            let pieces: Vec<&[u8]> = content.chunks(3).collect();
            frames.wrote(&pieces, 7);
            frames.wrote_one(&content[7..]);
            frames.read(&told, || now).unwrap();
        }
    }

    #[test]
    fn a_server_answers_as_often_as_it_is_asked() {
        let now = Instant::now();
        let mut frames = Frames::of_server(now);
        frames.wrote_one(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let asked = frame(KIND_HEADERS, END_HEADERS, 30);
        let answer = [frame(KIND_HEADERS, END_HEADERS, 9), frame(KIND_DATA, END_STREAM, 5)].concat();
        for _ in 0..3 * MOST {
            frames.wrote_one(&asked);
            frames.read(&answer, || now).unwrap();
        }
        let unasked = (0..2 * MOST).take_while(|_| frames.read(&answer, || now).is_ok());
        assert_eq!(unasked.map(|_| 1).sum::<u32>(), MOST - 1, "after the last answer");
    }

    proptest! {
        #[test]
        fn it_matters_not_how_frames_are_cut(kinds in prop::collection::vec((0_u8..11, 0_u8..8, 0_usize..40), 0..60), piece in 1_usize..50) {
            let bytes: Vec<u8> = kinds.iter().flat_map(|(kind, flags, payload)| frame(*kind, *flags, *payload)).collect();
            let ((mut whole, now), (mut parts, _)) = (begun(), begun());
            whole.read(&bytes, || now).unwrap();
            for piece in bytes.chunks(piece) {
                parts.read(piece, || now).unwrap();
            }
            prop_assert_eq!((whole.budget.left, whole.in_head, whole.heads), (parts.budget.left, parts.in_head, parts.heads));
            let last = kinds.iter().rfind(|(kind, flags, _)| *kind == 1 || *kind == 9 && flags & 4 != 0);
            prop_assert_eq!(whole.in_head, last.is_some_and(|(_, flags, _)| flags & 4 == 0));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..4_000)) {
            let now = Instant::now();
            let _read = Frames::new(now).read(&bytes, || now);
        }
    }
}
