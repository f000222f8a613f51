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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::sync::Arc;

    use af_content::car::Block;
    use af_content::private::{SEGMENT_BYTES, new_key};
    use af_content::unixfs::{Directory, Entry, folder, import};
    use af_content::{DiskStore, Staging};
    use af_contract::Limits;

    use super::super::files::Assets;
    use super::*;
    use crate::content::ContentStore;
    use crate::host::log::GuestLog;
    use crate::logs::Logger;
    use crate::metrics::Metrics;
    use crate::request_id::RequestId;
    use crate::sandbox::Meter;

    /// Blocks of one node.
    struct Node {
        blocks: DiskStore,
        _dir: tempfile::TempDir,
    }

    impl Node {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { blocks: DiskStore::open(dir.path()).unwrap(), _dir: dir }
        }

        fn store<T>(&self, write: impl FnOnce(&mut dyn FnMut(Block) -> io::Result<()>) -> T) -> T {
            let staging: Staging = self.blocks.stage().unwrap();
            let written = write(&mut |block| staging.put(&block).map_err(io::Error::other));
            staging.commit().unwrap().finish().unwrap();
            written
        }

        fn files(&self, root: ContentId, cipher: &Cipher) -> Files {
            let meter = Arc::new(Meter::new(&Limits::default()));
            let log =
                GuestLog::new(&Logger::of_tests(), RequestId::next(), 1000, &Arc::new(Metrics::default()));
            let store = ContentStore::new(self.blocks.clone());
            Files::new(&Assets { root, store, cipher: Some(cipher.clone()) }, meter, log)
        }
    }

    fn cipher() -> Cipher {
        Cipher::new(&new_key().unwrap())
    }

    fn large() -> Vec<u8> {
        (0..1_200_000_usize).map(|n| (n ^ n >> 8 ^ n >> 16).to_le_bytes()[0]).collect()
    }

    /// `nested/large` and `empty`.
    fn folder_of(node: &Node, cipher: &Cipher) -> ContentId {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("nested")).unwrap();
        fs::write(dir.path().join("nested/large"), large()).unwrap();
        fs::write(dir.path().join("empty"), "").unwrap();
        node.store(|sink| folder::import_private(dir.path(), cipher, sink)).unwrap().root
    }

    fn wait<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn any_place_of_a_file_is_read_alone_and_the_rest_of_its_segment_at_once() {
        let (node, cipher, large) = (Node::new(), cipher(), large());
        let files = node.files(folder_of(&node, &cipher), &cipher);
        wait(async {
            let file = files.find(files.root(), "nested/large").await.unwrap();
            assert_eq!(file.size(), large.len() as u64);
            let places = [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, 7 * SEGMENT_BYTES + 9, large.len() - 1, 0];
            // The ones of 15 and 16 lie in two blocks.
            for place in places.into_iter().chain([15 * SEGMENT_BYTES, 16 * SEGMENT_BYTES + 5]) {
                let bytes = files.read(file, place as u64).await.unwrap();
                let end = large.len().min((place / SEGMENT_BYTES + 1) * SEGMENT_BYTES);
                assert!(bytes == large[place..end], "{place}");
                assert_eq!(files.read_now(file, end as u64 - 1).unwrap().unwrap(), &large[end - 1..end]);
            }
            assert_eq!(files.read_now(file, 5 * SEGMENT_BYTES as u64), Ok(None));
            assert_eq!(files.read(file, large.len() as u64).await.unwrap(), "");
            let empty = files.find(files.root(), "empty").await.unwrap();
            assert_eq!((empty.size(), files.read(empty, 0).await), (0, Ok(Bytes::new())));
            assert_eq!(files.read(files.root(), 0).await, Err(FileError::IsDirectory));
            assert_eq!(files.find(files.root(), &"x".repeat(200)).await, Err(FileError::NoEntry));
            let mut names = Vec::new();
            while let Some((name, _)) = files.entry(files.root(), names.len()).await.unwrap() {
                names.push(name);
            }
            names.sort();
            assert_eq!(names, ["empty", "nested"]);
        });
    }

    #[test]
    fn another_key_finds_no_name_and_lists_none() {
        let (node, cipher) = (Node::new(), cipher());
        let files = node.files(folder_of(&node, &cipher), &self::cipher());
        wait(async {
            assert_eq!(files.find(files.root(), "empty").await, Err(FileError::NoEntry));
            assert_eq!(files.entry(files.root(), 0).await, Err(FileError::Io));
        });
    }

    #[test]
    fn what_cannot_be_decrypted_is_an_error_and_no_bytes() {
        let (node, cipher) = (Node::new(), cipher());
        let mut sealed = Vec::new();
        let mut sealing = af_content::private::Sealing::new(&cipher, &b"hello"[..]).unwrap();
        io::Read::read_to_end(&mut sealing, &mut sealed).unwrap();
        let mut changed = sealed.clone();
        changed[HEADER_BYTES] ^= 1;
        // Each is a valid block, which somebody has put where the file was.
        let root = node.store(|sink| {
            let stored = [
                ("well", &sealed[..]),
                ("changed", &changed),
                ("clear", &[b'x'; 100]),
                ("cut", b"af-priv\x01"),
            ];
            let entries = stored.map(|(name, bytes)| {
                let file = import(bytes, &mut *sink).unwrap();
                Entry { name: cipher.seal_entry(name).unwrap(), id: file.root, size: file.size }
            });
            Directory::write(&entries, sink).unwrap().0
        });
        let files = node.files(root, &cipher);
        wait(async {
            let well = files.find(files.root(), "well").await.unwrap();
            assert_eq!(files.read(well, 1).await.unwrap(), "ello");
            assert_eq!(files.find(files.root(), "cut").await, Err(FileError::Io));
            for name in ["changed", "clear"] {
                let file = files.find(files.root(), name).await.unwrap();
                assert_eq!(files.read(file, 0).await, Err(FileError::Io), "{name}");
            }
        });
    }
}
