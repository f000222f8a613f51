//! Encrypting a file as it is read: one segment in memory, whatever its length.

use std::io::{self, Read};

use super::{Cipher, FileCipher, PrivateError, SEGMENT_BYTES};

/// A file, encrypted as it is read.
#[derive(Debug)]
pub struct Sealing<R> {
    chunks: Chunks<R>,
    file: FileCipher,
    output: Output,
}

impl<R: Read> Sealing<R> {
    /// Of a file in clear.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new(cipher: &Cipher, file: R) -> Result<Self, PrivateError> {
        let chunks = Chunks::new(file, SEGMENT_BYTES);
        let file = FileCipher::create(cipher)?;
        let output = Output { bytes: file.header().to_vec(), at: 0 };
        Ok(Self { chunks, file, output })
    }
}

impl<R: Read> Read for Sealing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.output.is_empty()
            && let Some((number, last)) = self.chunks.next(self.output.renew())?
        {
            self.file.seal(number, last, &mut self.output.bytes).map_err(io::Error::other)?;
        }
        Ok(self.output.take(into))
    }
}

/// Cuts what it reads into pieces of the same length, and knows which is the last: of a reader without bytes, too,
/// there is one.
#[derive(Debug)]
pub(super) struct Chunks<R> {
    from: R,
    size: usize,
    /// The byte behind the piece before, by which it was not the last.
    ahead: Option<u8>,
    /// Of the next piece; none after the last.
    next: Option<u32>,
}

impl<R: Read> Chunks<R> {
    pub(super) const fn new(from: R, size: usize) -> Self {
        Self { from, size, ahead: None, next: Some(0) }
    }

    /// What it reads, for what comes before the pieces.
    pub(super) const fn from(&mut self) -> &mut R {
        &mut self.from
    }

    /// Reads the next piece, and says its number and whether it is the last.
    pub(super) fn next(&mut self, into: &mut Vec<u8>) -> io::Result<Option<(u32, bool)>> {
        let Some(number) = self.next else { return Ok(None) };
        into.extend(self.ahead.take());
        let wanted = self.size + 1 - into.len();
        self.from.by_ref().take(wanted as u64).read_to_end(into)?;
        let last = into.len() <= self.size;
        if !last {
            self.ahead = into.pop();
        }
        let following = || number.checked_add(1).ok_or_else(|| io::Error::other(PrivateError::TooLarge));
        self.next = if last { None } else { Some(following()?) };
        Ok(Some((number, last)))
    }
}

/// Bytes that wait to be taken.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) bytes: Vec<u8>,
    at: usize,
}

impl Output {
    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// For the next bytes.
    pub(super) fn renew(&mut self) -> &mut Vec<u8> {
        self.bytes.clear();
        self.at = 0;
        &mut self.bytes
    }

    pub(super) fn take(&mut self, into: &mut [u8]) -> usize {
        let left = self.bytes.get(self.at..).unwrap_or_default();
        let taken = left.len().min(into.len());
        if let (Some(into), Some(from)) = (into.get_mut(..taken), left.get(..taken)) {
            into.copy_from_slice(from);
        }
        self.at += taken;
        taken
    }
}
