//! Reads files and directories for the edge itself, at no guest's cost: what is in memory at once, the rest from
//! the disk, by a bounded number of reads.

use std::sync::Arc;

use af_content::unixfs::{Directory, DirectoryError, Found, Node, Seek};
use af_contract::ContentId;
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{ContentStore, Loaded, ReadError};

/// Reads that may wait for the disk at the same time. What a client who has gone asked for is read to its end, so
/// this is also what is left behind at most.
const READS: usize = 64;

/// Reads out of a store. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    store: ContentStore,
    reads: Arc<Semaphore>,
}

/// A file's identity and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Its root.
    pub id: ContentId,
    /// Bytes.
    pub size: u64,
}

/// How far a place in a file can be followed within memory.
enum Way {
    To(Bytes),
    /// To a block that has to be read.
    Until(Seek),
}

impl Reader {
    /// Of a store.
    #[must_use]
    pub fn new(store: ContentStore) -> Self {
        Self { store, reads: Arc::new(Semaphore::new(READS)) }
    }

    /// The same without what would have to be fetched.
    #[must_use]
    pub fn here(&self) -> Self {
        Self { store: self.store.here(), reads: self.reads.clone() }
    }

    /// A file or directory.
    ///
    /// # Errors
    /// When it is missing or corrupt, or no node.
    pub async fn load(&self, id: ContentId) -> Result<Loaded, ReadError> {
        if let Some(loaded) = self.store.cached(&id) {
            return Ok(loaded);
        }
        let permit = self.reads.clone().acquire_owned().await?;
        self.store.fetch(id, None, permit).await
    }

    /// A directory.
    ///
    /// # Errors
    /// As [`Self::load`], or when it is a file.
    pub async fn directory(&self, id: ContentId) -> Result<Arc<Directory>, ReadError> {
        match self.load(id).await? {
            Loaded::Directory(directory) => Ok(directory),
            Loaded::File(_) => Err(DirectoryError::NotADirectory(id).into()),
        }
    }

    /// A file's bytes from `offset` to the end of their block; none at the end of the file.
    ///
    /// # Errors
    /// When a block is missing or corrupt, or the file is not as long as it should be.
    pub async fn bytes(&self, file: File, offset: u64) -> Result<Bytes, ReadError> {
        let mut seek = Seek::new(file.id, file.size, offset);
        loop {
            seek = match self.follow(seek)? {
                Way::To(bytes) => return Ok(bytes),
                Way::Until(seek) => seek,
            };
            // By what was read, and not by what is in memory then, which may have no room for it.
            let node = file_node(seek.wanted(), self.load(seek.wanted()).await?)?;
            seek = match seek.step(&node)? {
                Found::Bytes(bytes) => return Ok(bytes),
                Found::Deeper(deeper) => deeper,
            };
        }
    }

    /// As [`Self::bytes`], if nothing has to be waited for.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub fn bytes_now(&self, file: File, offset: u64) -> Result<Option<Bytes>, ReadError> {
        Ok(match self.follow(Seek::new(file.id, file.size, offset))? {
            Way::To(bytes) => Some(bytes),
            Way::Until(_) => None,
        })
    }

    /// Begins to read the next block on the way to `offset`, unless it is in memory or others are waiting.
    pub fn read_ahead(&self, file: File, offset: u64) {
        // What is wrong with it is told to whoever gets there.
        if let Ok(Way::Until(seek)) = self.follow(Seek::new(file.id, file.size, offset))
            && let Ok(permit) = self.reads.clone().try_acquire_owned()
        {
            self.store.fetch_ahead(seek.wanted(), permit);
        }
    }

    fn follow(&self, mut seek: Seek) -> Result<Way, ReadError> {
        while let Some(loaded) = self.store.cached(&seek.wanted()) {
            match seek.step(&*file_node(seek.wanted(), loaded)?)? {
                Found::Bytes(bytes) => return Ok(Way::To(bytes)),
                Found::Deeper(deeper) => seek = deeper,
            }
        }
        Ok(Way::Until(seek))
    }
}

fn file_node(id: ContentId, loaded: Loaded) -> Result<Arc<Node>, ReadError> {
    match loaded {
        Loaded::File(node) => Ok(node),
        Loaded::Directory(_) => Err(DirectoryError::NotAFile(id).into()),
    }
}
