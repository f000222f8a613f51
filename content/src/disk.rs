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
use crate::unixfs::{self, Export, ExportError};

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
    /// An upload holds a block that is no part of its file.
    #[error("block {0} is not part of the file")]
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

/// A directory of blocks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DiskStore {
    dir: PathBuf,
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

    /// The block, checked against its id, or `None` when it is not here.
    ///
    /// # Errors
    /// When the disk fails, or the stored bytes no longer match.
    pub fn block(&self, id: &ContentId) -> Result<Option<Bytes>, StoreError> {
        let Some(bytes) = self.block_unverified(id)? else { return Ok(None) };
        hash::verify(id, &bytes)?;
        Ok(Some(bytes))
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
        Ok(Staging { store: self.clone(), dir })
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

    /// All blocks of the file DAG under `root`, the root included. What is missing has no links here.
    ///
    /// # Errors
    /// When the disk fails or a block is corrupt or no node: then the set is not complete.
    pub fn dag(&self, root: &ContentId, into: &mut BTreeSet<ContentId>) -> Result<(), FileReadError> {
        let mut pending = vec![*root];
        while let Some(id) = pending.pop() {
            if !into.insert(id) || id.codec() != Codec::DagPb {
                continue;
            }
            if let Some(bytes) = self.block(&id)? {
                pending.extend(unixfs::links(&id, &bytes)?);
            }
        }
        Ok(())
    }

    fn block_unverified(&self, id: &ContentId) -> Result<Option<Bytes>, StoreError> {
        read_block(&self.path(id), id)
    }

    fn remove_staged(&self, dir: &Path, live: &BTreeSet<ContentId>) -> Result<usize, StoreError> {
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

    fn shard_dir(&self, id: &ContentId) -> PathBuf {
        let text = id.to_string();
        let shard = text.get(text.len().saturating_sub(3)..text.len() - 1).unwrap_or("__");
        self.dir.join(shard)
    }

    fn path(&self, id: &ContentId) -> PathBuf {
        self.shard_dir(id).join(id.to_string())
    }
}

/// The blocks of one upload, invisible until committed. Dropping it removes them.
#[derive(Debug)]
pub struct Staging {
    store: DiskStore,
    dir: tempfile::TempDir,
}

impl Staging {
    /// Adds a block that was verified when it was decoded or made.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put(&self, block: &Block) -> Result<(), StoreError> {
        let path = self.dir.path().join(block.id.to_string());
        if path.exists() {
            return Ok(());
        }
        let partial = self.dir.path().join("partial");
        let mut file = File::create(&partial).map_err(at("writing", &partial))?;
        file.write_all(&block.bytes).map_err(at("writing", &partial))?;
        file.sync_data().map_err(at("writing", &partial))?;
        fs::rename(&partial, &path).map_err(at("writing", &path))
    }

    /// The whole file under `root`, out of this upload's own blocks, which are all to be used for it.
    ///
    /// # Errors
    /// When a block is missing or of no use, or the blocks are no file of at most `max_bytes`.
    pub fn file(&self, root: &ContentId, max_bytes: u64) -> Result<Vec<u8>, FileReadError> {
        let mut unused = self.ids()?;
        let file = export(root, max_bytes, |id| {
            unused.remove(id);
            read_block(&self.dir.path().join(id.to_string()), id)
        })?;
        match unused.first() {
            Some(id) => Err(FileReadError::Unused(*id)),
            None => Ok(file),
        }
    }

    /// Makes the blocks visible and durable. They stay listed in the staging directory until the
    /// returned value is finished, so that a crash before the deployment's row is committed can be undone.
    ///
    /// # Errors
    /// When the disk fails; then nothing new is visible.
    pub fn commit(self) -> Result<Committed, StoreError> {
        let published = self.publish();
        // From here on the directory outlives this value, whatever happens: it is the list of what
        // the next start removes if no deployment needs it.
        let committed = Committed { dir: self.dir.keep(), store: self.store };
        published.map(|()| committed)
    }

    fn publish(&self) -> Result<(), StoreError> {
        let dir = self.dir.path();
        let mut shards = BTreeSet::new();
        sync_dir(dir)?;
        for id in self.ids()? {
            let (shard, path) = (self.store.shard_dir(&id), self.store.path(&id));
            fs::create_dir_all(&shard).map_err(at("making", &shard))?;
            // Link and rename, not just link: a rotten copy that is already there is replaced.
            let link = dir.join("link");
            fs::hard_link(dir.join(id.to_string()), &link).map_err(at("linking", &link))?;
            fs::rename(&link, &path).map_err(at("writing", &path))?;
            // Renaming one link of a file onto another does nothing and leaves both.
            if link.exists() {
                fs::remove_file(&link).map_err(at("removing", &link))?;
            }
            shards.insert(shard);
        }
        shards.iter().try_for_each(|shard| sync_dir(shard))?;
        sync_dir(&self.store.dir)
    }

    fn ids(&self) -> Result<BTreeSet<ContentId>, StoreError> {
        let dir = self.dir.path();
        let mut ids = BTreeSet::new();
        for entry in fs::read_dir(dir).map_err(at("listing", dir))? {
            let name = entry.map_err(at("listing", dir))?.file_name();
            ids.extend(name.to_str().and_then(|name| ContentId::parse(name).ok()));
        }
        Ok(ids)
    }
}

/// Blocks that are visible, of a deployment that is not committed yet. Dropping it leaves their list
/// to the next start's [`DiskStore::recover`].
#[derive(Debug)]
#[must_use = "finish or undo it"]
pub struct Committed {
    store: DiskStore,
    dir: PathBuf,
}

impl Committed {
    /// The deployment is committed: forget the list of its blocks.
    ///
    /// # Errors
    /// When the disk fails; the next start then finds the list, and that its blocks are live.
    pub fn finish(self) -> Result<(), StoreError> {
        fs::remove_dir_all(&self.dir).map_err(at("removing", &self.dir))
    }

    /// The deployment was not committed: remove its blocks, except those in `live`.
    ///
    /// # Errors
    /// When the disk fails; the next start then removes them.
    pub fn undo(self, live: &BTreeSet<ContentId>) -> Result<(), StoreError> {
        self.store.remove_staged(&self.dir, live)?;
        self.finish()
    }
}

fn export(
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

fn read_block(path: &Path, id: &ContentId) -> Result<Option<Bytes>, StoreError> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() > BLOCK_BYTES as u64 => return Err(StoreError::TooLarge(*id)),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at("reading", path)(error)),
    }
    fs::read(path).map(|bytes| Some(bytes.into())).map_err(at("reading", path))
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at("syncing", dir))
}

fn at<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unixfs::FileSummary;

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
    fn an_upload_holds_its_file_and_nothing_else() {
        let (_dir, store) = store();
        let file = vec![3; 1_500_000];
        let (staging, summary) = staged(&store, &file);
        assert!(staging.file(&summary.root, 1 << 30).unwrap() == file);
        let extra = identify_raw(b"ballast");
        staging.put(&Block { id: extra, bytes: Bytes::from_static(b"ballast") }).unwrap();
        assert!(
            matches!(staging.file(&summary.root, 1 << 30), Err(FileReadError::Unused(id)) if id == extra)
        );
        assert!(matches!(staging.file(&identify_raw(b"?"), 10), Err(FileReadError::Missing(_))));
    }

    fn identify_raw(bytes: &[u8]) -> ContentId {
        hash::identify(Codec::Raw, bytes)
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
}
