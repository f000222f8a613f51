//! The blocks of one upload: invisible while they come, looked at as a whole, then visible in one step.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use af_contract::ContentId;
use bytes::Bytes;

use crate::car::Block;
use crate::disk::{DiskStore, FileReadError, StoreError, at, export, read_block, sync_path};
use crate::unixfs::Tree;

/// So many files are synced one by one; more of them with their whole file system, whatever else was written
/// to it: 10,000 small ones take 18 s one by one, and one second together.
const FEW: usize = 64;

/// The blocks of one upload, invisible until committed. Dropping it removes them.
#[derive(Debug)]
pub struct Staging {
    store: DiskStore,
    dir: tempfile::TempDir,
}

impl Staging {
    pub(crate) fn new(store: DiskStore, dir: tempfile::TempDir) -> Self {
        Self { store, dir }
    }

    /// Adds a block that was verified when it was decoded or made. It is durable after [`Self::sync`].
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put(&self, block: &Block) -> Result<(), StoreError> {
        let path = self.dir.path().join(block.id.to_string());
        if block.id.is_inline() || path.exists() {
            return Ok(());
        }
        let partial = self.dir.path().join("partial");
        let mut file = File::create(&partial).map_err(at("writing", &partial))?;
        file.write_all(&block.bytes).map_err(at("writing", &partial))?;
        fs::rename(&partial, &path).map_err(at("writing", &path))
    }

    /// Makes the blocks durable, still invisible. [`Self::commit`] does so, too; what was done before, while
    /// nobody waits for it, is not done again.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&self) -> Result<(), StoreError> {
        let dir = self.dir.path();
        let blocks: Vec<PathBuf> = self.ids()?.iter().map(|id| dir.join(id.to_string())).collect();
        sync(&blocks, dir)?;
        sync_path(dir)
    }

    /// Looks at what came.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn inspect(&self) -> Result<Inspection<'_>, StoreError> {
        Ok(Inspection { staging: self, unused: self.ids()? })
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
        self.sync()?;
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
        sync(&shards.into_iter().collect::<Vec<_>>(), &self.store.dir)?;
        sync_path(&self.store.dir)
    }

    /// A block of this upload. It was verified when it came.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn block(&self, id: &ContentId) -> Result<Option<Bytes>, StoreError> {
        read_block(&self.dir.path().join(id.to_string()), id)
    }

    /// Bytes of all blocks of this upload, each once.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        let dir = self.dir.path();
        self.ids()?.iter().try_fold(0_u64, |sum, id| {
            let path = dir.join(id.to_string());
            let block = fs::metadata(&path).map_err(at("reading", &path))?;
            Ok(sum.saturating_add(block.len()))
        })
    }

    /// All blocks of this upload.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn ids(&self) -> Result<BTreeSet<ContentId>, StoreError> {
        let dir = self.dir.path();
        let mut ids = BTreeSet::new();
        for entry in fs::read_dir(dir).map_err(at("listing", dir))? {
            let name = entry.map_err(at("listing", dir))?.file_name();
            ids.extend(name.to_str().and_then(|name| ContentId::parse(name).ok()));
        }
        Ok(ids)
    }
}

/// Syncs files or directories in `dir`.
fn sync(paths: &[PathBuf], dir: &Path) -> Result<(), StoreError> {
    if paths.len() <= FEW {
        return paths.iter().try_for_each(|path| sync_path(path));
    }
    let synced = File::open(dir).and_then(|dir| Ok(rustix::fs::syncfs(dir)?));
    synced.map_err(at("syncing", dir))
}

/// What an upload's blocks make up, out of these blocks alone. Knows which of them were of use.
#[derive(Debug)]
pub struct Inspection<'a> {
    staging: &'a Staging,
    unused: BTreeSet<ContentId>,
}

impl Inspection<'_> {
    /// The whole file under `root`.
    ///
    /// # Errors
    /// When a block is missing, or the blocks are no file of at most `max_bytes`.
    pub fn file(&mut self, root: &ContentId, max_bytes: u64) -> Result<Vec<u8>, FileReadError> {
        export(root, max_bytes, |id| self.block(id))
    }

    /// The directory tree under `root`, which a deployment may have as its assets.
    ///
    /// # Errors
    /// When a block is missing or no valid node, or there is too much of them.
    pub fn tree(&mut self, root: &ContentId) -> Result<Tree, FileReadError> {
        Tree::check(*root, |id| self.read(id))
    }

    /// One block of what came.
    ///
    /// # Errors
    /// When it is missing.
    pub fn read(&mut self, id: &ContentId) -> Result<Bytes, FileReadError> {
        self.block(id)?.ok_or(FileReadError::Missing(*id))
    }

    /// Says that nothing else was to be uploaded.
    ///
    /// # Errors
    /// When there is a block that was of no use.
    pub fn finish(self) -> Result<(), FileReadError> {
        match self.unused.first() {
            Some(id) => Err(FileReadError::Unused(*id)),
            None => Ok(()),
        }
    }

    fn block(&mut self, id: &ContentId) -> Result<Option<Bytes>, StoreError> {
        self.unused.remove(id);
        self.staging.block(id)
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

#[cfg(test)]
mod tests {
    use std::io;

    use af_contract::Codec;

    use super::*;
    use crate::unixfs::{self, Directory, Entry};

    fn put(staging: &Staging) -> impl FnMut(Block) -> io::Result<()> + '_ {
        |block| staging.put(&block).map_err(io::Error::other)
    }

    #[test]
    fn an_upload_holds_its_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let staging = DiskStore::open(dir.path()).unwrap().stage().unwrap();
        let file = vec![3; 1_500_000];
        let root = unixfs::import(&file[..], put(&staging)).unwrap().root;
        let mut inspection = staging.inspect().unwrap();
        assert!(inspection.file(&root, 1 << 30).unwrap() == file);
        inspection.finish().unwrap();
        let extra = crate::identify(Codec::Raw, b"ballast");
        staging.put(&Block { id: extra, bytes: Bytes::from_static(b"ballast") }).unwrap();
        let mut inspection = staging.inspect().unwrap();
        inspection.file(&root, 1 << 30).unwrap();
        assert!(matches!(inspection.finish(), Err(FileReadError::Unused(id)) if id == extra));
        let missing = crate::identify(Codec::Raw, b"?");
        assert!(matches!(staging.inspect().unwrap().file(&missing, 10), Err(FileReadError::Missing(_))));
    }

    #[test]
    fn an_upload_may_hold_a_file_and_a_tree_that_share_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let staging = DiskStore::open(dir.path()).unwrap().stage().unwrap();
        let root = unixfs::import(&b"hello"[..], put(&staging)).unwrap().root;
        let entry = Entry { name: "hello".into(), id: root, size: 5 };
        let (tree, _) = Directory::write(&[entry], &mut put(&staging)).unwrap();
        let mut inspection = staging.inspect().unwrap();
        inspection.file(&root, 10).unwrap();
        assert_eq!(inspection.tree(&tree).unwrap(), Tree { files: 1, directories: 0, bytes: 5 });
        inspection.finish().unwrap();
        let mut inspection = staging.inspect().unwrap();
        inspection.file(&root, 10).unwrap();
        assert!(matches!(inspection.finish(), Err(FileReadError::Unused(id)) if id == tree));
    }
}
