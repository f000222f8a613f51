//! Where the segments of an encrypted file are. Arithmetic only.

use super::{HEADER_BYTES, PrivateError, SEGMENT_BYTES, TAG_BYTES};

const HEADER: u64 = HEADER_BYTES as u64;
const SEGMENT: u64 = SEGMENT_BYTES as u64;
const TAG: u64 = TAG_BYTES as u64;

/// A file's length, from which all places in it follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    size: u64,
}

/// One segment of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Counts from 0.
    pub number: u32,
    /// Whether the file ends with it.
    pub last: bool,
    /// Where its bytes begin in the file.
    pub begin: u64,
    /// Where it begins in the encrypted file.
    pub stored_at: u64,
    /// Its length there, the tag included.
    pub stored_bytes: usize,
}

impl Layout {
    /// Of a file of so many bytes.
    #[must_use]
    pub const fn new(size: u64) -> Self {
        Self { size }
    }

    /// Of a file that has so many bytes when it is encrypted.
    ///
    /// # Errors
    /// When no file has.
    pub fn of_stored(stored: u64) -> Result<Self, PrivateError> {
        let wrong = || PrivateError::Length(stored);
        let body = stored.checked_sub(HEADER).ok_or_else(wrong)?;
        let size = body.checked_sub(body.div_ceil(SEGMENT + TAG) * TAG).ok_or_else(wrong)?;
        let layout = Self { size };
        // A last segment without bytes, or with a part of its tag, would come from no file.
        if layout.stored() == stored { Ok(layout) } else { Err(wrong()) }
    }

    /// Of the file, bytes.
    #[must_use]
    pub const fn size(self) -> u64 {
        self.size
    }

    /// Of the encrypted file, bytes.
    #[must_use]
    pub const fn stored(self) -> u64 {
        let tags = self.segments().saturating_mul(TAG);
        self.size.saturating_add(HEADER).saturating_add(tags)
    }

    /// The segment that has the byte at `offset`; none when the file has no such byte.
    ///
    /// # Errors
    /// When the file has more segments than can be numbered.
    pub fn segment(self, offset: u64) -> Result<Option<Segment>, PrivateError> {
        if offset >= self.size {
            return Ok(None);
        }
        let index = offset / SEGMENT;
        let number = u32::try_from(index).map_err(|_| PrivateError::TooLarge)?;
        let begin = index * SEGMENT;
        let bytes = (self.size - begin).min(SEGMENT);
        Ok(Some(Segment {
            number,
            last: begin + bytes == self.size,
            begin,
            stored_at: HEADER + index * (SEGMENT + TAG),
            stored_bytes: usize::try_from(bytes + TAG).map_err(|_| PrivateError::TooLarge)?,
        }))
    }

    /// An empty file has one, too.
    const fn segments(self) -> u64 {
        if self.size == 0 { 1 } else { self.size.div_ceil(SEGMENT) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_follow_from_each_other() {
        let mut stored = Vec::new();
        for size in (0..40).chain(SEGMENT - 20..SEGMENT + 20).chain(3 * SEGMENT - 20..3 * SEGMENT + 20) {
            let layout = Layout::new(size);
            assert_eq!(Layout::of_stored(layout.stored()).unwrap(), layout, "{size}");
            stored.push(layout.stored());
        }
        for wrong in (0..HEADER + TAG).chain(HEADER + SEGMENT + TAG + 1..=HEADER + SEGMENT + 2 * TAG) {
            assert!(!stored.contains(&wrong));
            assert!(matches!(Layout::of_stored(wrong), Err(PrivateError::Length(_))), "{wrong}");
        }
        assert!(Layout::of_stored(u64::MAX).is_ok_and(|layout| layout.segment(u64::MAX / 2).is_err()));
    }

    proptest::proptest! {
        #[test]
        fn segments_cover_the_file_and_nothing_else(size in 0u64..5 * SEGMENT) {
            let layout = Layout::new(size);
            let (mut offset, mut stored, mut number, mut ended) = (0, HEADER, 0, size == 0);
            while let Some(segment) = layout.segment(offset).unwrap() {
                proptest::prop_assert!(!ended);
                proptest::prop_assert_eq!((segment.number, segment.begin, segment.stored_at), (number, offset, stored));
                let bytes = segment.stored_bytes as u64 - TAG;
                proptest::prop_assert_eq!(layout.segment(offset + bytes - 1).unwrap(), Some(segment));
                offset += bytes;
                stored += segment.stored_bytes as u64;
                number += 1;
                ended = segment.last;
            }
            proptest::prop_assert!(ended && offset == size);
            proptest::prop_assert!(size == 0 || stored == layout.stored());
        }
    }
}
