//! Blocks in a directory: sharded, written atomically, verified when read. Blocking: async callers use
//! a blocking thread.
//!
//! `DIR/ab/<cid>` holds a block, where `ab` are the CID's two characters before the last (the first
//! ones are the same for all). `DIR/staging/<n>/` holds the blocks of one upload until its
//! deployment is committed; what a crash leaves there is undone by [`DiskStore::recover`].

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use af_contract::limits::BLOCK_BYTES;
use af_contract::{Blake3Hash, Codec, ContentId};
use bytes::Bytes;

use crate::car::Block;
use crate::hash::{self, Mismatch};
use crate::staging::Staging;
use crate::traversal::TraversalError;
use crate::unixfs::{Exceeded, Export, ExportError, Node, NodeError, TreeError};

/// Why a block cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk failed, is full, or the directory is not ours.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are not what the id says: bit rot, or a claim that is wrong.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// A block file larger than a block may be.
    #[error("block {0} is larger than {BLOCK_BYTES} bytes")]
    TooLarge(ContentId),
}

/// Why a file cannot be read out of its blocks.
#[derive(Debug, thiserror::Error)]
pub enum FileReadError {
    /// A block is not in this store.
    #[error("block {0} is missing")]
    Missing(ContentId),
    /// A block cannot be read or is corrupt.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blocks are not a file.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A block is no node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The DAG is too large.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// The blocks are no directory tree within the limits.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// An upload holds a block that is no part of what it is an upload of.
    #[error("block {0} is not part of what is uploaded; leave it out")]
    Unused(ContentId),
    /// Every block is what its CID says, and yet the whole has another BLAKE3.
    #[error("the file has BLAKE3 {found}, not {expected}")]
    Blake3 {
        /// What the deployment recorded.
        expected: Blake3Hash,
        /// What the bytes have.
        found: Blake3Hash,
    },
}

impl From<TraversalError> for FileReadError {
    fn from(error: TraversalError) -> Self {
        match error {
            TraversalError::Node(error) => error.into(),
            TraversalError::Exceeded(error) => error.into(),
        }
    }
}

/// A directory of blocks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DiskStore {
    pub(crate) dir: PathBuf,
}

impl DiskStore {
    /// Opens a store, making the directory when it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let store = Self { dir: dir.into() };
        let staging = store.staging_dir();
        fs::create_dir_all(&staging).map_err(at("making", &staging))?;
        Ok(store)
    }

    /// The block, checked against its id, or `None` when it is not here. What stands in its id is always here, and so it is
    /// for all that follows.
    ///
    /// # Errors
    /// When the disk fails, or the stored bytes no longer match.
    pub fn block(&self, id: &ContentId) -> Result<Option<Bytes>, StoreError> {
        let Some(bytes) = self.block_unverified(id)? else { return Ok(None) };
        hash::verify(id, &bytes)?;
        Ok(Some(bytes))
    }

    /// The block, which has to be here.
    ///
    /// # Errors
    /// When it is not, or as [`Self::block`].
    pub fn read(&self, id: &ContentId) -> Result<Bytes, FileReadError> {
        self.block(id)?.ok_or(FileReadError::Missing(*id))
    }

    /// Whether a block is here, which reading may still find rotten.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn has(&self, id: &ContentId) -> Result<bool, StoreError> {
        if id.is_inline() {
            return Ok(true);
        }
        let path = self.path(id);
        path.try_exists().map_err(at("looking for", &path))
    }

    /// A whole file of at most `max_bytes`, checked against the BLAKE3 that its deployment recorded.
    ///
    /// The blocks' own hashes were checked when they came in; here the BLAKE3 of the whole stands for
    /// all of them at a twentieth of the cost, and only when it differs are they checked one by one.
    ///
    /// # Errors
    /// When a block is missing or corrupt, or the whole is not a file or has another BLAKE3.
    pub fn file(
        &self,
        root: &ContentId,
        blake3: &Blake3Hash,
        max_bytes: u64,
    ) -> Result<Vec<u8>, FileReadError> {
        let unverified = export(root, max_bytes, |id| self.block_unverified(id));
        match unverified {
            Ok(bytes) if Blake3Hash::from(blake3::hash(&bytes)) == *blake3 => return Ok(bytes),
            Err(error @ FileReadError::Missing(_)) => return Err(error),
            _ => {}
        }
        let bytes = export(root, max_bytes, |id| self.block(id))?;
        let found = Blake3Hash::from(blake3::hash(&bytes));
        if found == *blake3 { Ok(bytes) } else { Err(FileReadError::Blake3 { expected: *blake3, found }) }
    }

    /// Adds one block, visible at once. It is not synced: what a power cut makes of it is noticed when it is read, and it
    /// came from somebody who still has it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn keep(&self, block: &Block) -> Result<(), StoreError> {
        if block.id.is_inline() {
            return Ok(());
        }
        let (shard, path) = (self.shard_dir(&block.id), self.path(&block.id));
        fs::create_dir_all(&shard).map_err(at("making", &shard))?;
        let mut partial = tempfile::NamedTempFile::new_in(&shard).map_err(at("writing", &path))?;
        partial.write_all(&block.bytes).map_err(at("writing", &path))?;
        partial.persist(&path).map_err(|error| at("writing", &path)(error.error))?;
        Ok(())
    }

    /// Starts an upload. Nothing of it is visible before [`Staging::commit`].
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn stage(&self) -> Result<Staging, StoreError> {
        let parent = self.staging_dir();
        let dir = tempfile::Builder::new()
            .prefix("upload-")
            .tempdir_in(&parent)
            .map_err(at("making a directory in", &parent))?;
        Ok(Staging::new(self.clone(), dir))
    }

    /// Undoes what uploads cut off by a crash left behind: their blocks go, except those in `live`.
    /// Call before anything is staged. Returns the number of blocks removed.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn recover(&self, live: &BTreeSet<ContentId>) -> Result<usize, StoreError> {
        let parent = self.staging_dir();
        let mut removed = 0;
        for entry in fs::read_dir(&parent).map_err(at("listing", &parent))? {
            let dir = entry.map_err(at("listing", &parent))?.path();
            removed += self.remove_staged(&dir, live)?;
            fs::remove_dir_all(&dir).map_err(at("removing", &dir))?;
        }
        Ok(removed)
    }

    /// Whether a crash left uploads that [`Self::recover`] has to undo.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn needs_recovery(&self) -> Result<bool, StoreError> {
        let parent = self.staging_dir();
        Ok(fs::read_dir(&parent).map_err(at("listing", &parent))?.next().is_some())
    }

    /// All blocks of the file or directory under `root`, the root included. Of a block of bytes it is not asked whether it is here.
    /// How many there are was bounded when they came, and is not looked at again: who asks has to know all that is needed.
    ///
    /// # Errors
    /// When the disk fails or a node is missing, corrupt or none: then the set is not complete.
    pub fn dag(&self, root: &ContentId, into: &mut BTreeSet<ContentId>) -> Result<(), FileReadError> {
        match self.dag_here(root, into)?.first() {
            Some(missing) => Err(FileReadError::Missing(*missing)),
            None => Ok(()),
        }
    }

    /// As [`Self::dag`], as far as it is here. The nodes that are not: what is under them is not in the set, and is added by asking for
    /// each of them once it is here.
    ///
    /// # Errors
    /// When the disk fails or a node is corrupt or none: then the set is not complete.
    pub fn dag_here(
        &self,
        root: &ContentId,
        into: &mut BTreeSet<ContentId>,
    ) -> Result<Vec<ContentId>, FileReadError> {
        let (mut pending, mut missing) = (vec![*root], Vec::new());
        // What stands in links is no block, and may link to some.
        let mut inline = BTreeSet::new();
        let mut known = |id: &ContentId| if id.is_inline() { !inline.insert(*id) } else { !into.insert(*id) };
        known(root);
        while let Some(id) = pending.pop() {
            if id.codec() != Codec::DagPb {
                continue;
            }
            match self.block(&id)? {
                Some(bytes) => pending.extend(Node::decode(&id, &bytes)?.links().filter(|link| !known(link))),
                None => missing.push(id),
            }
        }
        Ok(missing)
    }

    fn block_unverified(&self, id: &ContentId) -> Result<Option<Bytes>, StoreError> {
        read_block(&self.path(id), id)
    }

    pub(crate) fn remove_staged(&self, dir: &Path, live: &BTreeSet<ContentId>) -> Result<usize, StoreError> {
        let mut removed = 0;
        for entry in fs::read_dir(dir).map_err(at("listing", dir))? {
            let name = entry.map_err(at("listing", dir))?.file_name();
            // A file under another name is a block whose write was cut off; it has no copy elsewhere.
            let Some(id) = name.to_str().and_then(|name| ContentId::parse(name).ok()) else { continue };
            let path = self.path(&id);
            if !live.contains(&id) && path.exists() {
                fs::remove_file(&path).map_err(at("removing", &path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn staging_dir(&self) -> PathBuf {
        self.dir.join("staging")
    }

    pub(crate) fn shard_dir(&self, id: &ContentId) -> PathBuf {
        let text = id.to_string();
        let shard = text.get(text.len().saturating_sub(3)..text.len() - 1).unwrap_or("__");
        self.dir.join(shard)
    }

    pub(crate) fn path(&self, id: &ContentId) -> PathBuf {
        self.shard_dir(id).join(id.to_string())
    }
}

pub(crate) fn export(
    root: &ContentId,
    max_bytes: u64,
    mut read: impl FnMut(&ContentId) -> Result<Option<Bytes>, StoreError>,
) -> Result<Vec<u8>, FileReadError> {
    let mut export = Export::new(*root, max_bytes);
    let mut file = Vec::new();
    while let Some(id) = export.wanted() {
        let block = read(&id)?.ok_or(FileReadError::Missing(id))?;
        file.extend_from_slice(&export.feed(&block)?);
    }
    Ok(file)
}

pub(crate) fn read_block(path: &Path, id: &ContentId) -> Result<Option<Bytes>, StoreError> {
    if let Some(content) = id.content() {
        return Ok(Some(Bytes::copy_from_slice(content)));
    }
    match fs::metadata(path) {
        Ok(meta) if meta.len() > BLOCK_BYTES as u64 => return Err(StoreError::TooLarge(*id)),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at("reading", path)(error)),
    }
    fs::read(path).map(|bytes| Some(bytes.into())).map_err(at("reading", path))
}

/// A file or directory.
pub(crate) fn sync_path(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(at("syncing", path))
}

pub(crate) fn at<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unixfs::{self, Directory, Entry, FileSummary};

    fn store() -> (tempfile::TempDir, DiskStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = DiskStore::open(dir.path()).unwrap();
        (dir, store)
    }

    fn staged(store: &DiskStore, file: &[u8]) -> (Staging, FileSummary) {
        let staging = store.stage().unwrap();
        let summary = unixfs::import(file, |block| staging.put(&block).map_err(io::Error::other)).unwrap();
        (staging, summary)
    }

    fn saved(store: &DiskStore, file: &[u8]) -> FileSummary {
        let (staging, summary) = staged(store, file);
        staging.commit().unwrap().finish().unwrap();
        summary
    }

    #[test]
    fn a_file_round_trips_and_is_invisible_until_committed() {
        let (_dir, store) = store();
        let file = vec![3; 2_500_000];
        let (staging, summary) = staged(&store, &file);
        assert!(matches!(
            store.file(&summary.root, &summary.blake3, 1 << 30),
            Err(FileReadError::Missing(id)) if id == summary.root
        ));
        staging.commit().unwrap().finish().unwrap();
        assert!(store.file(&summary.root, &summary.blake3, 1 << 30).unwrap() == file);
        assert!(!store.needs_recovery().unwrap());
    }

    #[test]
    fn a_rotten_block_is_named_and_a_new_upload_heals_it() {
        let (_dir, store) = store();
        let summary = saved(&store, b"hello world");
        fs::write(store.path(&summary.root), b"hello w0rld").unwrap();
        assert!(matches!(store.block(&summary.root), Err(StoreError::Mismatch(_))));
        let error = store.file(&summary.root, &summary.blake3, 100).unwrap_err();
        assert!(matches!(error, FileReadError::Store(StoreError::Mismatch(_))), "{error}");
        saved(&store, b"hello world");
        assert_eq!(store.file(&summary.root, &summary.blake3, 100).unwrap(), b"hello world");
    }

    #[test]
    fn a_wrong_blake3_is_refused() {
        let (_dir, store) = store();
        let summary = saved(&store, b"hello world");
        let wrong = Blake3Hash([0; 32]);
        assert!(matches!(store.file(&summary.root, &wrong, 100), Err(FileReadError::Blake3 { .. })));
    }

    #[test]
    fn recovery_removes_what_no_deployment_needs() {
        let (_dir, store) = store();
        let kept = saved(&store, b"kept");
        // A crash between making blocks visible and committing the row: nothing is dropped in order.
        let (staging, lost) = staged(&store, &vec![1; 1_500_000]);
        staging.put(&Block { id: kept.root, bytes: Bytes::from_static(b"kept") }).unwrap();
        drop(staging.commit().unwrap());
        assert!(store.needs_recovery().unwrap());
        let live = BTreeSet::from([kept.root]);
        assert_eq!(store.recover(&live).unwrap(), 3);
        assert!(store.block(&lost.root).unwrap().is_none());
        assert!(store.block(&kept.root).unwrap().is_some());
        assert!(!store.needs_recovery().unwrap());
    }

    #[test]
    fn undo_keeps_blocks_that_are_live() {
        let (_dir, store) = store();
        let first = saved(&store, b"shared");
        let (again, _) = staged(&store, b"shared");
        again.commit().unwrap().undo(&BTreeSet::from([first.root])).unwrap();
        assert!(store.block(&first.root).unwrap().is_some());
        let (again, _) = staged(&store, b"shared");
        again.commit().unwrap().undo(&BTreeSet::new()).unwrap();
        assert!(store.block(&first.root).unwrap().is_none());
    }

    #[test]
    fn the_dag_of_a_file_is_its_root_and_leaves() {
        let (_dir, store) = store();
        let mut file = vec![1; 1_048_576];
        file.extend(vec![2; 1_048_576]);
        let summary = saved(&store, &file);
        let mut dag = BTreeSet::new();
        store.dag(&summary.root, &mut dag).unwrap();
        assert_eq!(dag.len(), 3);
        fs::write(store.path(&summary.root), b"rot").unwrap();
        store.dag(&summary.root, &mut BTreeSet::new()).unwrap_err();
    }

    #[test]
    fn the_dag_of_a_directory_is_all_that_is_in_it() {
        let (_dir, store) = store();
        let staging = store.stage().unwrap();
        let mut put = |block: Block| staging.put(&block).map_err(io::Error::other);
        let file = unixfs::import(&vec![1; 1_500_000][..], &mut put).unwrap().root;
        let file = |name: &str| Entry { name: name.into(), id: file, size: 1_500_000 };
        let (inner, size) = Directory::write(&[file("a")], &mut put).unwrap();
        // So many that they are sharded.
        let mut entries: Vec<_> = (0..6000).map(|n| file(&format!("name-{n}"))).collect();
        entries.push(Entry { name: "inner".into(), id: inner, size });
        let (root, _) = Directory::write(&entries, &mut put).unwrap();
        let staged = staging.ids().unwrap();
        assert!(staged.len() > 200, "{}", staged.len());
        staging.commit().unwrap().finish().unwrap();
        let mut dag = BTreeSet::new();
        store.dag(&root, &mut dag).unwrap();
        assert_eq!(dag, staged);
    }
}
