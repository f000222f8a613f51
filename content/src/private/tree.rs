//! A private directory tree, read once as a whole: that each name and each file in it can be decrypted.

use std::io::{self, Read};

use af_contract::ContentId;
use bytes::{Buf, Bytes};

use super::{Cipher, FileCipher, HEADER_BYTES, Opening, PrivateError};
use crate::disk::FileReadError;
use crate::unixfs::{Entry, Export, Listing, Node, TreeError};

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
        source: Box<PrivateError>,
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
            cipher
                .open_entry(&entry.name)
                .map_err(|source| PrivateTreeError::Private { id, source: Box::new(source) })?;
            let node = Node::decode(&entry.id, &read(&entry.id)?).map_err(FileReadError::from)?;
            match node.file_size() {
                Some(size) => check_file(cipher, entry.id, size, &mut read)?,
                None => directories.push(entry.id),
            }
        }
    }
    Ok(())
}

/// That a file, or the names of a directory, are encrypted with this key: what can be told by a few blocks, of content that is
/// too large to be decrypted as a whole for nothing.
///
/// # Errors
/// When they are not, or what `read` returns.
pub fn check_root(
    cipher: &Cipher,
    root: &ContentId,
    mut read: impl FnMut(&ContentId) -> Result<Bytes, FileReadError>,
) -> Result<(), PrivateTreeError> {
    let private = |source| PrivateTreeError::Private { id: *root, source: Box::new(source) };
    let block = read(root)?;
    if let Some(size) = Node::decode(root, &block).map_err(FileReadError::from)?.file_size() {
        let mut header = [0; HEADER_BYTES];
        let stored = Stored { export: Export::new(*root, size), read: &mut read, block: Bytes::new() };
        let mut header_only = stored.take(HEADER_BYTES as u64);
        let error = match header_only.read_exact(&mut header) {
            Ok(()) => return FileCipher::read(cipher, &header).map(drop).map_err(private),
            Err(error) => error,
        };
        return Err(match error.downcast::<FileReadError>() {
            Ok(error) => error.into(),
            Err(_) => private(PrivateError::Length(size)),
        });
    }
    let mut listing = Listing::new(*root);
    while let Some(id) = listing.wanted() {
        listing.feed(&read(&id)?).map_err(tree)?;
    }
    let directory = listing.finish().map_err(tree)?;
    let opened = |entry: &Entry| cipher.open_entry(&entry.name).map(drop).map_err(private);
    directory.entries().iter().try_for_each(opened)
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
            Err(PrivateTreeError::Private { id, source: Box::new(source) })
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
            matches!(error, PrivateTreeError::Private { id: file, source } if file == id && matches!(*source, PrivateError::Format))
        );
    }
}
