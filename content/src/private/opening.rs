//! Decrypting a file: as it is read, one segment in memory; or a whole one that is in memory.

use std::io::{self, Read};

use super::sealing::{Chunks, Output};
use super::{Cipher, FileCipher, HEADER_BYTES, Layout, PrivateError, SEGMENT_BYTES, TAG_BYTES};

/// A segment with its tag.
const STORED_SEGMENT_BYTES: usize = SEGMENT_BYTES + TAG_BYTES;

/// Decrypts a whole file.
///
/// # Errors
/// When any part of it was changed, left out or added, or it is encrypted with another key.
pub fn open(cipher: &Cipher, stored: &[u8]) -> Result<Vec<u8>, PrivateError> {
    let (header, _) = stored.split_first_chunk().ok_or(PrivateError::Length(stored.len() as u64))?;
    let file = FileCipher::read(cipher, header)?;
    let layout = Layout::of_stored(stored.len() as u64)?;
    let body = stored.get(HEADER_BYTES..).unwrap_or_default();
    let mut clear = Vec::with_capacity(stored.len());
    let mut segment = Vec::with_capacity(STORED_SEGMENT_BYTES);
    for (number, encrypted) in body.chunks(STORED_SEGMENT_BYTES).enumerate() {
        let number = u32::try_from(number).map_err(|_| PrivateError::TooLarge)?;
        segment.clear();
        segment.extend_from_slice(encrypted);
        let end = clear.len() as u64 + encrypted.len().saturating_sub(TAG_BYTES) as u64;
        file.open(number, end == layout.size(), &mut segment)?;
        clear.extend_from_slice(&segment);
    }
    Ok(clear)
}

/// An encrypted file, decrypted as it is read. Each byte that it gives was in the file; that the file is complete is
/// known when it ends. Its errors have a [`PrivateError`] within.
#[derive(Debug)]
pub struct Opening<R> {
    cipher: Cipher,
    chunks: Chunks<R>,
    /// Known when the header was read.
    file: Option<FileCipher>,
    output: Output,
    stored: u64,
    failed: bool,
}

impl<R: Read> Opening<R> {
    /// Of an encrypted file.
    #[must_use]
    pub fn new(cipher: &Cipher, stored: R) -> Self {
        let chunks = Chunks::new(stored, STORED_SEGMENT_BYTES);
        Self {
            cipher: cipher.clone(),
            chunks,
            file: None,
            output: Output::default(),
            stored: 0,
            failed: false,
        }
    }

    fn advance(&mut self) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                let mut header = [0; HEADER_BYTES];
                self.chunks.from().read_exact(&mut header).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => invalid(PrivateError::Format),
                    _ => error,
                })?;
                self.stored = HEADER_BYTES as u64;
                self.file.insert(FileCipher::read(&self.cipher, &header).map_err(invalid)?)
            }
        };
        let Some((number, last)) = self.chunks.next(self.output.renew())? else { return Ok(()) };
        let segment = &mut self.output.bytes;
        self.stored += segment.len() as u64;
        if last {
            Layout::of_stored(self.stored).map_err(invalid)?;
        }
        file.open(number, last, segment).map_err(invalid)
    }
}

impl<R: Read> Read for Opening<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // Who reads on after an error must not take it for the end.
        if self.failed {
            return Err(io::Error::other("the file could not be decrypted"));
        }
        if self.output.is_empty() {
            self.failed = true;
            self.advance()?;
            self.failed = false;
        }
        Ok(self.output.take(into))
    }
}

fn invalid(error: PrivateError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::super::{Sealing, new_key};
    use super::*;

    fn cipher() -> Cipher {
        Cipher::new(&new_key().unwrap())
    }

    fn sealed(cipher: &Cipher, file: &[u8]) -> Vec<u8> {
        let mut stored = Vec::new();
        Sealing::new(cipher, file).unwrap().read_to_end(&mut stored).unwrap();
        stored
    }

    fn streamed(cipher: &Cipher, stored: &[u8]) -> io::Result<Vec<u8>> {
        let mut clear = Vec::new();
        Opening::new(cipher, stored).read_to_end(&mut clear)?;
        Ok(clear)
    }

    fn assert_refused(cipher: &Cipher, stored: &[u8], what: &str) {
        assert!(open(cipher, stored).is_err(), "{what}");
        let error = streamed(cipher, stored).expect_err(what);
        assert!(error.downcast::<PrivateError>().is_ok(), "{what}");
    }

    fn bytes(size: usize) -> Vec<u8> {
        (0..size).map(|n| (n ^ n >> 8 ^ n >> 16).to_le_bytes()[0]).collect()
    }

    /// Of an encrypted file: its header, and its segments.
    fn parts(stored: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (header, body) = stored.split_at(HEADER_BYTES);
        (header.to_vec(), body.chunks(STORED_SEGMENT_BYTES).map(<[u8]>::to_vec).collect())
    }

    #[test]
    fn any_length_round_trips() {
        let cipher = cipher();
        for size in [0, 1, 15, 16, 17, 1000]
            .into_iter()
            .chain([1, 2, 3].into_iter().flat_map(|n| n * SEGMENT_BYTES - 17..=n * SEGMENT_BYTES + 17))
        {
            let file = bytes(size);
            let stored = sealed(&cipher, &file);
            assert_eq!(stored.len() as u64, Layout::new(size as u64).stored());
            assert!(open(&cipher, &stored).unwrap() == file, "{size}");
            assert!(streamed(&cipher, &stored).unwrap() == file, "{size}");
        }
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let cipher = cipher();
        let stored = sealed(&cipher, &bytes(100));
        for at in 0..stored.len() {
            let mut damaged = stored.clone();
            damaged[at] ^= 1 << (at % 8);
            assert_refused(&cipher, &damaged, &format!("byte {at}"));
            assert_refused(&cipher, &stored[..at], &format!("cut at {at}"));
        }
        for more in [&b"\0"[..], &[0; 16], &[0; 17], &stored] {
            assert_refused(&cipher, &[&stored, more].concat(), "made longer");
        }
    }

    #[test]
    fn segments_hold_at_their_place_in_their_file_only() {
        let cipher = cipher();
        let file = bytes(3 * SEGMENT_BYTES);
        let stored = sealed(&cipher, &file);
        let (header, segments) = parts(&stored);
        assert_eq!(segments.len(), 3, "the last one is full");
        let again = parts(&sealed(&cipher, &file));
        let arrange = |header: &[u8], order: &[&Vec<u8>]| -> Vec<u8> {
            order.iter().fold(header.to_vec(), |mut all, segment| {
                all.extend_from_slice(segment);
                all
            })
        };
        let [a, b, c] = &segments[..] else { panic!("three") };
        assert!(open(&cipher, &arrange(&header, &[a, b, c])).unwrap() == file);
        for wrong in [&[a, c, b][..], &[b, a, c], &[a, b], &[a, c], &[b, c], &[a, a, b, c], &[a, b, c, c]] {
            assert_refused(&cipher, &arrange(&header, wrong), &format!("{} segments", wrong.len()));
        }
        assert_refused(&cipher, &arrange(&header, &[a, &again.1[1], c]), "another file's");
        assert_refused(&cipher, &arrange(&again.0, &[a, b, c]), "another file's header");
        assert_refused(&cipher, &header, "no segment");
    }

    #[test]
    fn another_key_is_named_and_refused() {
        let (mine, theirs) = (cipher(), cipher());
        let stored = sealed(&mine, b"hello");
        let error = open(&theirs, &stored).unwrap_err();
        assert!(
            matches!(error, PrivateError::Key { expected, found } if expected == *theirs.id() && found == *mine.id())
        );
        // Who writes another id over it has changed what the segments are bound to.
        let mut renamed = stored;
        renamed[8..40].copy_from_slice(&theirs.id().0);
        assert_refused(&theirs, &renamed, "another id");
        assert!(matches!(open(&mine, &[0; 100]), Err(PrivateError::Format)));
    }

    #[test]
    fn who_reads_on_after_an_error_does_not_see_an_end() {
        let cipher = cipher();
        let mut stored = sealed(&cipher, &bytes(2 * SEGMENT_BYTES));
        stored.pop();
        let mut opening = Opening::new(&cipher, &stored[..]);
        let mut clear = vec![0; SEGMENT_BYTES];
        opening.read_exact(&mut clear).unwrap();
        for _ in 0..3 {
            opening.read(&mut clear).unwrap_err();
        }
    }

    #[test]
    fn nothing_of_a_file_shows() {
        let cipher = cipher();
        let secret = b"a secret that stands in this file";
        let stored = sealed(&cipher, &secret.repeat(5000));
        assert!(!stored.windows(8).any(|window| secret.windows(8).any(|part| part == window)));
        assert_ne!(stored, sealed(&cipher, &secret.repeat(5000)), "no two are alike");
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(32))]
        #[test]
        fn any_file_round_trips_and_any_segment_is_read_alone(size in 0usize..4 * SEGMENT_BYTES, at: u64) {
            let (cipher, file) = (cipher(), bytes(size));
            let stored = sealed(&cipher, &file);
            proptest::prop_assert!(open(&cipher, &stored).unwrap() == file);
            let one = FileCipher::read(&cipher, stored.first_chunk().unwrap()).unwrap();
            let layout = Layout::of_stored(stored.len() as u64).unwrap();
            let offset = at % (size as u64 + 1);
            let Some(segment) = layout.segment(offset).unwrap() else {
                proptest::prop_assert_eq!(offset, size as u64);
                return Ok(());
            };
            let from = usize::try_from(segment.stored_at).unwrap();
            let mut alone = stored[from..from + segment.stored_bytes].to_vec();
            one.open(segment.number, segment.last, &mut alone).unwrap();
            let begin = usize::try_from(segment.begin).unwrap();
            proptest::prop_assert!(alone == file[begin..begin + alone.len()]);
        }

        #[test]
        fn any_change_is_noticed(size in 0usize..3 * SEGMENT_BYTES, at: usize, bit in 0u8..8, cut: usize) {
            let cipher = cipher();
            let stored = sealed(&cipher, &bytes(size));
            let mut damaged = stored.clone();
            let place = at % damaged.len();
            damaged[place] ^= 1 << bit;
            assert_refused(&cipher, &damaged, "flipped");
            assert_refused(&cipher, &stored[..cut % stored.len()], "cut");
            let mut shorter = stored;
            shorter.remove(place);
            assert_refused(&cipher, &shorter, "a byte left out");
        }

        #[test]
        fn any_bytes_are_refused(bytes: Vec<u8>) {
            assert_refused(&cipher(), &bytes, "never encrypted");
        }
    }
}
