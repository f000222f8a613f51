//! What a store has, and removing some of it. Which blocks nobody needs is decided by whoever asks.

use std::fs;
use std::io;
use std::time::SystemTime;

use af_contract::ContentId;

use crate::disk::{DiskStore, StoreError, at};

/// A block as its file says.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Which.
    pub id: ContentId,
    /// Bytes.
    pub size: u64,
    /// When its file was written.
    pub written: SystemTime,
}

impl DiskStore {
    /// The names of the directories that hold blocks: some hundreds.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn shards(&self) -> Result<Vec<String>, StoreError> {
        let mut shards = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(at("listing", &self.dir))? {
            let name = entry.map_err(at("listing", &self.dir))?.file_name();
            // The other one is that of uploads.
            shards.extend(name.into_string().ok().filter(|name| name.len() == 2));
        }
        Ok(shards)
    }

    /// The blocks of one of [`Self::shards`].
    ///
    /// # Errors
    /// When the disk fails.
    pub fn shard(&self, name: &str) -> Result<Vec<Stored>, StoreError> {
        let dir = self.dir.join(name);
        let mut blocks = Vec::new();
        for entry in fs::read_dir(&dir).map_err(at("listing", &dir))? {
            let entry = entry.map_err(at("listing", &dir))?;
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| ContentId::parse(name).ok()) else { continue };
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(at("reading", &entry.path())(error)),
            };
            let written = meta.modified().map_err(at("reading", &entry.path()))?;
            blocks.push(Stored { id, size: meta.len(), written });
        }
        Ok(blocks)
    }

    /// Removes what is no block from one of [`Self::shards`]: writes that a crash cut off before `cutoff`.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn clean(&self, shard: &str, cutoff: SystemTime) -> Result<(), StoreError> {
        let dir = self.dir.join(shard);
        for entry in fs::read_dir(&dir).map_err(at("listing", &dir))? {
            let entry = entry.map_err(at("listing", &dir))?;
            let is_block = entry.file_name().to_str().is_some_and(|name| ContentId::parse(name).is_ok());
            // One that is gone meanwhile has become a block.
            let written = entry.metadata().and_then(|meta| meta.modified());
            if !is_block && written.is_ok_and(|written| written <= cutoff) {
                fs::remove_file(entry.path()).map_err(at("removing", &entry.path()))?;
            }
        }
        Ok(())
    }

    /// The length of a block that is here; its bytes are not looked at.
    #[must_use]
    pub fn size(&self, id: &ContentId) -> Option<u64> {
        if let Some(content) = id.content() {
            return Some(content.len() as u64);
        }
        fs::metadata(self.path(id)).ok().map(|meta| meta.len())
    }

    /// Removes a block; one that is gone is no error. A removal that a power cut undoes is made again by the next sweep.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove(&self, id: &ContentId) -> Result<(), StoreError> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("removing", &path)(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unixfs;

    #[test]
    fn every_block_is_listed_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = DiskStore::open(dir.path()).unwrap();
        let staging = store.stage().unwrap();
        for n in 0..50_u8 {
            unixfs::import(&[n][..], |block| staging.put(&block).map_err(io::Error::other)).unwrap();
        }
        let ids = staging.ids().unwrap();
        staging.commit().unwrap().finish().unwrap();
        let listed = || {
            let shards = store.shards().unwrap();
            shards.iter().flat_map(|shard| store.shard(shard).unwrap()).map(|stored| stored.id).collect()
        };
        assert_eq!(ids, listed());
        let dir = store.dir.join(&store.shards().unwrap()[0]);
        fs::write(dir.join(".tmp1"), "cut off").unwrap();
        store.clean(&store.shards().unwrap()[0], SystemTime::UNIX_EPOCH).unwrap();
        assert!(dir.join(".tmp1").exists(), "it may still become one");
        store
            .clean(&store.shards().unwrap()[0], SystemTime::now() + std::time::Duration::from_secs(1))
            .unwrap();
        assert!(!dir.join(".tmp1").exists());
        assert_eq!(ids, listed());
        for id in &ids {
            assert_eq!(store.size(id), Some(1));
            store.remove(id).unwrap();
            store.remove(id).unwrap();
        }
        assert_eq!(listed(), std::collections::BTreeSet::new());
    }
}
