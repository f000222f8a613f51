//! A private directory tree, read once as a whole: that each name and each file in it can be decrypted.

use std::io::{self, Read};

use af_contract::ContentId;
use bytes::{Buf, Bytes};

use super::{Cipher, Opening, PrivateError};
use crate::disk::FileReadError;
use crate::unixfs::{Export, Listing, Node, TreeError};

/// Why a tree cannot be used as a private one.
#[derive(Debug, thiserror::Error)]
pub enum PrivateTreeError {
    /// Its blocks are no tree.
    #[error(transparent)]
    Blocks(#[from] FileReadError),
    /// Something in it cannot be decrypted.
    #[error("{id}: {source}")]
    Private {
        /// The file, or the directory with the name.
        id: ContentId,
        /// Why.
        source: PrivateError,
    },
}

/// Decrypts all of a tree, a segment at a time, and keeps nothing. It must have been found to be a tree within the
/// limits ([`crate::unixfs::Tree::check`]), which bound what is done here.
///
/// # Errors
/// When a name or a file cannot be decrypted, or what `read` returns.
pub fn check_tree(
    cipher: &Cipher,
    root: &ContentId,
    mut read: impl FnMut(&ContentId) -> Result<Bytes, FileReadError>,
) -> Result<(), PrivateTreeError> {
    let mut directories = vec![*root];
    while let Some(id) = directories.pop() {
        let mut listing = Listing::new(id);
        while let Some(id) = listing.wanted() {
            listing.feed(&read(&id)?).map_err(tree)?;
        }
        for entry in listing.finish().map_err(tree)?.entries() {
            cipher.open_entry(&entry.name).map_err(|source| PrivateTreeError::Private { id, source })?;
            let node = Node::decode(&entry.id, &read(&entry.id)?).map_err(FileReadError::from)?;
            match node.file_size() {
                Some(size) => check_file(cipher, entry.id, size, &mut read)?,
                None => directories.push(entry.id),
            }
        }
    }
    Ok(())
}

fn tree(error: impl Into<TreeError>) -> FileReadError {
    FileReadError::Tree(error.into())
}

fn check_file(
    cipher: &Cipher,
    id: ContentId,
    size: u64,
    read: &mut dyn FnMut(&ContentId) -> Result<Bytes, FileReadError>,
) -> Result<(), PrivateTreeError> {
    let stored = Stored { export: Export::new(id, size), read, block: Bytes::new() };
    let Err(error) = io::copy(&mut Opening::new(cipher, stored), &mut io::sink()) else { return Ok(()) };
    match error.downcast::<FileReadError>() {
        Ok(error) => Err(error.into()),
        Err(error) => {
            let source = error.downcast().unwrap_or(PrivateError::Length(size));
            Err(PrivateTreeError::Private { id, source })
        }
    }
}

/// A file's bytes, block by block.
struct Stored<'a> {
    export: Export,
    read: &'a mut dyn FnMut(&ContentId) -> Result<Bytes, FileReadError>,
    block: Bytes,
}

impl Read for Stored<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.block.is_empty() {
            let Some(id) = self.export.wanted() else { return Ok(0) };
            let block = (self.read)(&id).map_err(io::Error::other)?;
            self.block =
                self.export.feed(&block).map_err(|error| io::Error::other(FileReadError::from(error)))?;
        }
        let taken = self.block.len().min(into.len());
        self.block.copy_to_slice(into.get_mut(..taken).unwrap_or_default());
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    use super::super::new_key;
    use super::*;
    use crate::unixfs::{Tree, folder};

    type Blocks = HashMap<ContentId, Bytes>;

    fn folder_of(cipher: &Cipher) -> (ContentId, Blocks) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("inner")).unwrap();
        fs::write(dir.path().join("small"), "hello").unwrap();
        fs::write(dir.path().join("empty"), "").unwrap();
        fs::write(dir.path().join("inner/large"), vec![7; 2_500_000]).unwrap();
        let mut blocks = Blocks::new();
        let folder = folder::import_private(dir.path(), cipher, &mut |block| {
            blocks.insert(block.id, block.bytes);
            Ok(())
        });
        let folder = folder.unwrap();
        assert_eq!((folder.tree.files, folder.tree.directories), (3, 1));
        let tree = Tree::check(folder.root, |id| Ok::<_, TreeError>(blocks[id].clone())).unwrap();
        assert_eq!(tree, folder.tree, "what is counted is what is stored");
        (folder.root, blocks)
    }

    fn check(cipher: &Cipher, root: &ContentId, blocks: &Blocks) -> Result<(), PrivateTreeError> {
        check_tree(cipher, root, |id| blocks.get(id).cloned().ok_or(FileReadError::Missing(*id)))
    }

    #[test]
    fn a_private_folder_can_be_read_with_its_key_only() {
        let cipher = Cipher::new(&new_key().unwrap());
        let (root, blocks) = folder_of(&cipher);
        check(&cipher, &root, &blocks).unwrap();
        let other = Cipher::new(&new_key().unwrap());
        assert!(
            matches!(check(&other, &root, &blocks), Err(PrivateTreeError::Private { id, .. }) if id == root)
        );
        for block in blocks.values() {
            assert!(
                !["small", "inner", "large", "hello"]
                    .iter()
                    .any(|text| { block.windows(text.len()).any(|window| window == text.as_bytes()) })
            );
        }
        for id in blocks.keys() {
            let mut fewer = blocks.clone();
            fewer.remove(id);
            let missing = check(&cipher, &root, &fewer);
            assert!(
                matches!(missing, Err(PrivateTreeError::Blocks(FileReadError::Missing(missing))) if missing == *id)
            );
        }
    }

    #[test]
    fn a_file_that_is_not_encrypted_is_refused() {
        let cipher = Cipher::new(&new_key().unwrap());
        let mut blocks = Blocks::new();
        let mut put = |block: crate::car::Block| {
            blocks.insert(block.id, block.bytes);
            Ok(())
        };
        let id = crate::unixfs::import(&b"in clear"[..], &mut put).unwrap().root;
        let entry = crate::unixfs::Entry { name: cipher.seal_entry("a").unwrap(), id, size: 8 };
        let (root, _) = crate::unixfs::Directory::write(&[entry], &mut put).unwrap();
        let error = check(&cipher, &root, &blocks).unwrap_err();
        assert!(
            matches!(error, PrivateTreeError::Private { id: file, source: PrivateError::Format } if file == id)
        );
    }
}
