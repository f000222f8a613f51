//! Files of a private deployment: found by sealed names, and decrypted one segment at a time, within the guest's own call
//! (64 KiB take some 50 µs). Blocks are cached as they are stored; each instance keeps the segment that it read last.

use std::sync::PoisonError;

use af_content::private::{Cipher, FileCipher, HEADER_BYTES, Layout, PrivateError, Segment};
use af_contract::ContentId;
use bytes::Bytes;

use super::files::{Descriptor, FileError, Files, Kind};

/// The private file that an instance read last.
pub struct LastFile {
    id: ContentId,
    file: FileCipher,
    segment: Segment,
    /// Of the segment, in clear.
    bytes: Bytes,
}

impl LastFile {
    /// What it has at `offset`, up to the segment's end; none when that is in another segment.
    fn at(&self, offset: u64) -> Option<Bytes> {
        let from = usize::try_from(offset.checked_sub(self.segment.begin)?).ok()?;
        (from < self.bytes.len()).then(|| self.bytes.slice(from..))
    }
}

impl Files {
    /// A private file's bytes from `offset` to the end of their segment; none at the end of the file.
    pub(super) async fn read_private(
        &self,
        cipher: &Cipher,
        file: Descriptor,
        offset: u64,
    ) -> Result<Bytes, FileError> {
        if let Some(bytes) = self.read_private_now(file, offset)? {
            return Ok(bytes);
        }
        let tell = |error: PrivateError| self.tell(file.id, &error);
        let layout = Layout::new(file.size());
        let Some(segment) = layout.segment(offset).map_err(tell)? else { return Ok(Bytes::new()) };
        let stored = Descriptor { kind: Kind::File(layout.stored()), ..file };
        let keys = match self.known_file(file.id) {
            Some(keys) => keys,
            None => {
                let header = self.gather(stored, 0, HEADER_BYTES).await?;
                let header = header.first_chunk().ok_or(PrivateError::Format).map_err(tell)?;
                FileCipher::read(cipher, header).map_err(tell)?
            }
        };
        let mut bytes = self.gather(stored, segment.stored_at, segment.stored_bytes).await?;
        keys.open(segment.number, segment.last, &mut bytes).map_err(tell)?;
        let last = LastFile { id: file.id, file: keys, segment, bytes: bytes.into() };
        let bytes = last.at(offset).unwrap_or_default();
        *self.last_file.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
        Ok(bytes)
    }

    /// As [`Self::read_private`], if it is in the segment that was read last.
    pub(super) fn read_private_now(&self, file: Descriptor, offset: u64) -> Result<Option<Bytes>, FileError> {
        if file.kind == Kind::Directory {
            return Err(FileError::IsDirectory);
        }
        if offset >= file.size() {
            return Ok(Some(Bytes::new()));
        }
        let last = self.last_file.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(last.as_ref().filter(|last| last.id == file.id).and_then(|last| last.at(offset)))
    }

    fn known_file(&self, id: ContentId) -> Option<FileCipher> {
        let last = self.last_file.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|last| last.id == id).map(|last| last.file.clone())
    }

    /// Some bytes of a stored file, which may lie in several blocks.
    async fn gather(&self, stored: Descriptor, from: u64, count: usize) -> Result<Vec<u8>, FileError> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            let part = self.read_stored(stored, from + bytes.len() as u64).await?;
            if part.is_empty() {
                return Err(self.tell(stored.id, &PrivateError::Length(stored.size())));
            }
            let taken = part.len().min(count - bytes.len());
            bytes.extend_from_slice(part.get(..taken).unwrap_or_default());
        }
        Ok(bytes)
    }
}
