//! One instance's view of its deployment's assets, whatever the version of WASI: opening, reading, listing.

use std::sync::{Arc, Mutex, PoisonError};

use af_content::private::{Cipher, Layout};
use af_content::unixfs::{Entry, Found, Node, Seek};
use af_contract::{Codec, ContentId};
use bytes::Bytes;
use tokio::sync::Semaphore;
use tracing::error;

use super::path::{self, Step};
use super::piped::Piped;
use super::private::LastFile;
use crate::content::{ContentStore, Loaded};
use crate::host::log::GuestLog;
use crate::sandbox::Meter;

/// Reads of one instance that may wait for the disk at the same time: one that opens everything at once
/// must not have the queue to itself.
const READS: usize = 4;

/// The assets of one deployment.
#[derive(Clone)]
pub struct Assets {
    /// Their directory.
    pub root: ContentId,
    /// Where they are.
    pub store: ContentStore,
    /// What they are encrypted with, if they are.
    pub cipher: Option<Cipher>,
}

/// What a handle stands for. Holds no content, so that handles cost nothing but themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The content, which is its identity, too: files with the same bytes are one.
    pub id: ContentId,
    /// What it is.
    pub kind: Kind,
}

/// What a place in a directory tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file of so many bytes.
    File(u64),
    /// A directory.
    Directory,
}

impl Descriptor {
    /// Bytes; none for a directory.
    pub fn size(self) -> u64 {
        match self.kind {
            Kind::File(size) => size,
            Kind::Directory => 0,
        }
    }

    /// Two numbers that are others for other content.
    pub fn hash(self) -> (u64, u64) {
        let number =
            |bytes: &[u8]| bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        // Content that stands in its id is no hash.
        let of_content = self.id.content().map(|content| *blake3::hash(content).as_bytes());
        let digest = of_content.as_ref().map_or(self.id.digest(), |hash| hash.as_slice());
        (number(digest.get(16..).unwrap_or_default()), number(digest))
    }
}

/// Why a guest's call fails, in the words of `wasi:filesystem/types.error-code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// No such name.
    #[error("there is no such file or directory")]
    NoEntry,
    /// A step leads into a file.
    #[error("it is not a directory")]
    NotDirectory,
    /// A directory has no bytes.
    #[error("it is a directory")]
    IsDirectory,
    /// Out of the directory that the path begins in.
    #[error("the path leads out of the directory")]
    NotPermitted,
    /// The path.
    #[error("the path is too long")]
    NameTooLong,
    /// A link, of which there are none.
    #[error("it is not a symbolic link")]
    Invalid,
    /// Assets never change.
    #[error("assets are read-only")]
    ReadOnly,
    /// The content is missing or corrupt; the operator is told.
    #[error("the content cannot be read")]
    Io,
    /// The call is over.
    #[error("the function is at a limit")]
    Stopped,
}

/// The assets as one instance sees them.
pub struct Files {
    assets: Assets,
    /// Of the request that the instance is answering.
    meter: Mutex<Arc<Meter>>,
    log: GuestLog,
    reads: Arc<Semaphore>,
    /// The part of a file that was read last: a guest that reads it piece by piece has it verified once,
    /// even if the cache has no room for it.
    last: Mutex<Option<(ContentId, Arc<Node>)>>,
    /// Likewise in clear, where it is encrypted.
    pub(super) last_file: Mutex<Option<LastFile>>,
    piped: Arc<Piped>,
}

impl Files {
    /// For an instance that answers its first request.
    pub fn new(assets: &Assets, meter: Arc<Meter>, log: GuestLog) -> Self {
        Self {
            assets: assets.clone(),
            meter: Mutex::new(meter),
            log,
            reads: Arc::new(Semaphore::new(READS)),
            last: Mutex::new(None),
            last_file: Mutex::new(None),
            piped: Arc::default(),
        }
    }

    /// The instance answers another request from here on.
    pub fn renew(&self, meter: Arc<Meter>) {
        *self.meter.lock().unwrap_or_else(PoisonError::into_inner) = meter;
    }

    /// Streams that the guest gave away.
    pub fn piped(&self) -> &Arc<Piped> {
        &self.piped
    }

    /// The directory that all paths begin in.
    pub fn root(&self) -> Descriptor {
        Descriptor { id: self.assets.root, kind: Kind::Directory }
    }

    /// What a path leads to.
    ///
    /// # Errors
    /// When there is nothing, or the path leads out of `from`.
    pub async fn find(&self, from: Descriptor, path: &str) -> Result<Descriptor, FileError> {
        let mut trail = vec![from];
        for step in path::steps(path)? {
            let Some(here) = trail.last().copied() else { return Err(FileError::NotPermitted) };
            if here.kind != Kind::Directory {
                return Err(FileError::NotDirectory);
            }
            match step {
                Step::Stay => {}
                Step::Back => drop(trail.pop()),
                Step::Into(name) => trail.push(self.child(here, name).await?),
            }
        }
        trail.pop().ok_or(FileError::NotPermitted)
    }

    /// A file's bytes from `offset` to the end of their block; none at the end of the file.
    ///
    /// # Errors
    /// When it is no file, or its content cannot be read.
    pub async fn read(&self, file: Descriptor, offset: u64) -> Result<Bytes, FileError> {
        match &self.assets.cipher {
            Some(cipher) => self.read_private(cipher, file, offset).await,
            None => self.read_stored(file, offset).await,
        }
    }

    /// As [`Self::read`], if nothing has to be waited for.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_now(&self, file: Descriptor, offset: u64) -> Result<Option<Bytes>, FileError> {
        match &self.assets.cipher {
            Some(_) => self.read_private_now(file, offset),
            None => self.read_stored_now(file, offset),
        }
    }

    /// As [`Self::read`], of the bytes as they are stored.
    pub(super) async fn read_stored(&self, file: Descriptor, offset: u64) -> Result<Bytes, FileError> {
        let Some(mut seek) = start(file, offset)? else { return Ok(Bytes::new()) };
        loop {
            let node = self.node(seek.wanted()).await?;
            match self.step(seek, &node)? {
                Found::Bytes(bytes) => return Ok(bytes),
                Found::Deeper(deeper) => seek = deeper,
            }
        }
    }

    fn read_stored_now(&self, file: Descriptor, offset: u64) -> Result<Option<Bytes>, FileError> {
        let Some(mut seek) = start(file, offset)? else { return Ok(Some(Bytes::new())) };
        loop {
            let Some(Loaded::File(node)) = self.known(&seek.wanted()) else { return Ok(None) };
            match self.step(seek, &node)? {
                Found::Bytes(bytes) => return Ok(Some(bytes)),
                Found::Deeper(deeper) => seek = deeper,
            }
        }
    }

    /// A directory's entry, by its number; none after the last.
    ///
    /// # Errors
    /// When it is no directory, or content cannot be read.
    pub async fn entry(
        &self,
        directory: Descriptor,
        number: usize,
    ) -> Result<Option<(String, Descriptor)>, FileError> {
        if directory.kind != Kind::Directory {
            return Err(FileError::NotDirectory);
        }
        let Loaded::Directory(listed) = self.load(directory.id).await? else { return Err(FileError::Io) };
        let Some(entry) = listed.entries().get(number) else { return Ok(None) };
        let name = match &self.assets.cipher {
            Some(cipher) => {
                cipher.open_entry(&entry.name).map_err(|error| self.tell(directory.id, &error))?
            }
            None => entry.name.clone(),
        };
        Ok(Some((name, self.describe(entry).await?)))
    }

    async fn child(&self, directory: Descriptor, name: &str) -> Result<Descriptor, FileError> {
        let Loaded::Directory(listed) = self.load(directory.id).await? else { return Err(FileError::Io) };
        let entry = match &self.assets.cipher {
            // There is no file with a name that cannot be sealed.
            Some(cipher) => cipher.seal_entry(name).ok().and_then(|name| listed.find(&name)),
            None => listed.find(name),
        };
        self.describe(entry.ok_or(FileError::NoEntry)?).await
    }

    async fn describe(&self, entry: &Entry) -> Result<Descriptor, FileError> {
        // A raw block's size was checked when it came in, and is checked again when it is read.
        if entry.id.codec() == Codec::Raw {
            return self.file(entry.id, entry.size);
        }
        match self.load(entry.id).await? {
            Loaded::Directory(_) => Ok(Descriptor { id: entry.id, kind: Kind::Directory }),
            Loaded::File(node) => self.file(entry.id, node.file_size().unwrap_or_default()),
        }
    }

    /// A file that is stored as so many bytes.
    fn file(&self, id: ContentId, stored: u64) -> Result<Descriptor, FileError> {
        let size = match &self.assets.cipher {
            Some(_) => Layout::of_stored(stored).map_err(|error| self.tell(id, &error))?.size(),
            None => stored,
        };
        Ok(Descriptor { id, kind: Kind::File(size) })
    }

    async fn node(&self, id: ContentId) -> Result<Arc<Node>, FileError> {
        match self.load(id).await? {
            Loaded::File(node) => Ok(node),
            Loaded::Directory(_) => Err(FileError::Io),
        }
    }

    fn step(&self, seek: Seek, node: &Arc<Node>) -> Result<Found, FileError> {
        let found = seek.step(node).map_err(|error| self.tell(seek.wanted(), &error))?;
        if let Found::Bytes(_) = found {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((seek.wanted(), node.clone()));
        }
        Ok(found)
    }

    fn known(&self, id: &ContentId) -> Option<Loaded> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.as_ref() {
            Some((known, node)) if known == id => Some(Loaded::File(node.clone())),
            _ => self.assets.store.cached(id),
        }
    }

    async fn load(&self, id: ContentId) -> Result<Loaded, FileError> {
        if let Some(loaded) = self.known(&id) {
            return Ok(loaded);
        }
        let permit = self.reads.clone().acquire_owned().await.map_err(|_| FileError::Stopped)?;
        let meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let loaded = self.assets.store.fetch(id, Some(meter.clone()), permit).await;
        // Here and not only at the next tick of the clock: a guest may do nothing but read.
        if meter.exceeded().is_some() {
            return Err(FileError::Stopped);
        }
        loaded.map_err(|error| self.tell(id, &error))
    }

    /// The operator is told what is wrong with which content, the guest that there is something.
    pub(super) fn tell(&self, content: ContentId, error: &dyn std::error::Error) -> FileError {
        let (logger, id) = self.log.names();
        let function = logger.function();
        error!(function, request_id = %id, %content, %error, "a function's assets cannot be read");
        FileError::Io
    }
}

/// The way to a place in a file; none when there is nothing at it.
fn start(file: Descriptor, offset: u64) -> Result<Option<Seek>, FileError> {
    match file.kind {
        Kind::Directory => Err(FileError::IsDirectory),
        Kind::File(size) => Ok((offset < size).then(|| Seek::new(file.id, size, offset))),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use af_content::DiskStore;
    use af_content::car::Block;
    use af_content::unixfs::{self, Directory};
    use af_contract::Limits;

    use super::*;
    use crate::logs::Logger;
    use crate::metrics::Metrics;
    use crate::request_id::RequestId;

    /// `a`, `nested/b` and `nested/deep/c`; and `private`, which is beside them on the same node.
    struct Node {
        files: Files,
        private: ContentId,
        meter: Arc<Meter>,
        dir: tempfile::TempDir,
    }

    impl Node {
        fn new(limits: &Limits) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let blocks = DiskStore::open(dir.path()).unwrap();
            let staging = blocks.stage().unwrap();
            let mut put = |block: Block| staging.put(&block).map_err(io::Error::other);
            let mut file = |name: &str| {
                let id = unixfs::import(name.as_bytes(), &mut put).unwrap().root;
                Entry { name: name.into(), id, size: name.len() as u64 }
            };
            let [a, b, c, private] = ["a", "b", "c", "private"].map(&mut file);
            let directory = |name: &str, entries: &[Entry]| {
                let mut put = |block: Block| staging.put(&block).map_err(io::Error::other);
                let (id, size) = Directory::write(entries, &mut put).unwrap();
                Entry { name: name.into(), id, size }
            };
            let nested = directory("nested", &[b, directory("deep", &[c])]);
            let root = directory("", &[a, nested]).id;
            staging.commit().unwrap().finish().unwrap();
            let meter = Arc::new(Meter::new(limits));
            let log =
                GuestLog::new(&Logger::of_tests(), RequestId::next(), 1000, &Arc::new(Metrics::default()));
            let assets = Assets { root, store: ContentStore::new(blocks), cipher: None };
            Self { files: Files::new(&assets, meter.clone(), log), private: private.id, meter, dir }
        }

        fn rot(&self, content: &[u8]) {
            let id = af_content::identify(Codec::Raw, content).to_string();
            for shard in std::fs::read_dir(self.dir.path()).unwrap() {
                let path = shard.unwrap().path().join(&id);
                if path.exists() {
                    std::fs::write(path, "?").unwrap();
                }
            }
        }
    }

    fn wait<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn what_was_read_is_known_at_once() {
        let node = Node::new(&Limits::default());
        wait(async {
            let file = node.files.find(node.files.root(), "nested/deep/c").await.unwrap();
            assert_eq!(node.files.read_now(file, 0), Ok(None));
            assert_eq!(node.files.read(file, 0).await.unwrap(), "c");
            assert_eq!(node.files.read_now(file, 0).unwrap().unwrap(), "c");
            assert_eq!(node.files.read_now(file, 1).unwrap().unwrap(), "");
            assert_eq!(node.files.read_now(file, u64::MAX).unwrap().unwrap(), "");
        });
        assert!(node.meter.cpu_time() > std::time::Duration::ZERO, "it was paid for");
    }

    #[test]
    fn a_corrupt_block_is_an_error_and_only_that() {
        let node = Node::new(&Limits::default());
        node.rot(b"c");
        wait(async {
            let root = node.files.root();
            let file = node.files.find(root, "nested/deep/c").await.unwrap();
            assert_eq!(node.files.read(file, 0).await, Err(FileError::Io));
            let file = node.files.find(root, "nested/b").await.unwrap();
            assert_eq!(node.files.read(file, 0).await.unwrap(), "b");
        });
    }

    #[test]
    fn who_has_nothing_left_reads_nothing() {
        let node = Node::new(&Limits { cpu_ms: 0, ..Limits::default() });
        wait(async {
            assert_eq!(node.files.find(node.files.root(), "a").await, Err(FileError::Stopped));
            let meter = Arc::new(Meter::new(&Limits::default()));
            node.files.renew(meter);
            node.files.find(node.files.root(), "a").await.unwrap();
        });
    }

    proptest::proptest! {
        #[test]
        fn no_path_leads_out(steps in proptest::collection::vec("a|b|c|nested|deep|private|\\.|\\.\\.|", 0..12)) {
            let node = Node::new(&Limits::default());
            let path = steps.join("/");
            wait(async {
                let root = node.files.root();
                if let Ok(found) = node.files.find(root, &path).await {
                    assert_ne!(found.id, node.private);
                }
                let Ok(inner) = node.files.find(root, "nested/deep").await else { panic!("it is there") };
                if let Ok(found) = node.files.find(inner, &path).await {
                    let within = found.id == inner.id || found.kind == Kind::File(1);
                    assert!(within, "{path} leads to {found:?}");
                }
            });
        }
    }
}
