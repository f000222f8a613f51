//! A folder of this machine as a directory of UnixFS: what a deployment may have as its assets, or a reason why not.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use af_contract::{ContentId, limits};

use super::directory::{Directory, Entry, is_name};
use super::file;
use super::tree::{Tree, TreeError};
use crate::car::Block;
use crate::private::{Cipher, Layout, PrivateError, Sealing};

/// The one name with a dot that is published: what well-known URIs are (RFC 8615).
const WELL_KNOWN: &str = ".well-known";

/// A folder's identity, and what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The directory's CID.
    pub root: ContentId,
    /// What is in it.
    pub tree: Tree,
    /// Files and folders that were left out, because their names begin with a dot.
    pub hidden: usize,
}

/// Why a folder cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It, or something in it, cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Points to somewhere else, perhaps outside.
    #[error("{} is a symbolic link; put the file itself there", .0.display())]
    Symlink(PathBuf),
    /// A device, pipe or socket.
    #[error("{} is neither a file nor a directory; remove it", .0.display())]
    Special(PathBuf),
    /// A name that is no text.
    #[error("{} has a name that is not UTF-8; rename it", .0.display())]
    Name(PathBuf),
    /// Something cannot be encrypted.
    #[error("{} cannot be private: {source}", path.display())]
    Private {
        /// What.
        path: PathBuf,
        /// Why.
        source: PrivateError,
    },
    /// More than the limits allow.
    #[error(transparent)]
    Limit(#[from] TreeError),
}

/// Reads a folder and hands its blocks, files before the directories that they are in, to `sink`.
///
/// # Errors
/// When something in it cannot be read or published, there is too much of it, or what `sink` returns.
pub fn import(dir: &Path, sink: &mut dyn FnMut(Block) -> io::Result<()>) -> Result<Folder, FolderError> {
    import_within(dir, limits::ASSETS_BYTES, sink)
}

/// As [`import`], of a folder whose files may have so many bytes together.
///
/// # Errors
/// As [`import`].
pub fn import_within(
    dir: &Path,
    most_bytes: u64,
    sink: &mut dyn FnMut(Block) -> io::Result<()>,
) -> Result<Folder, FolderError> {
    Import { sink, most_bytes, cipher: None, tree: Tree::default(), hidden: 0 }.folder(dir)
}

/// As [`import`], with all names and files encrypted. What is counted is what is stored.
///
/// # Errors
/// As [`import`], and when a name is too long to be sealed.
pub fn import_private(
    dir: &Path,
    cipher: &Cipher,
    sink: &mut dyn FnMut(Block) -> io::Result<()>,
) -> Result<Folder, FolderError> {
    let most_bytes = limits::ASSETS_BYTES;
    Import { sink, most_bytes, cipher: Some(cipher), tree: Tree::default(), hidden: 0 }.folder(dir)
}

struct Import<'a> {
    sink: &'a mut dyn FnMut(Block) -> io::Result<()>,
    most_bytes: u64,
    /// Where all is to be encrypted.
    cipher: Option<&'a Cipher>,
    tree: Tree,
    hidden: usize,
}

impl Import<'_> {
    fn folder(mut self, dir: &Path) -> Result<Folder, FolderError> {
        let root = self.directory(dir, 0)?.id;
        Ok(Folder { root, tree: self.tree, hidden: self.hidden })
    }

    fn directory(&mut self, dir: &Path, depth: usize) -> Result<Entry, FolderError> {
        if depth > limits::ASSETS_DEPTH {
            return Err(TreeError::TooDeep.into());
        }
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir).map_err(reading(dir))? {
            let path = entry.map_err(reading(dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).filter(|name| is_name(name));
            let name = name.ok_or_else(|| FolderError::Name(path.clone()))?.to_owned();
            if name.starts_with('.') && name != WELL_KNOWN {
                self.hidden += 1;
                continue;
            }
            let name = match self.cipher {
                Some(cipher) => cipher.seal_entry(&name).map_err(encrypting(&path))?,
                None => name,
            };
            entries.push(Entry { name, ..self.entry(&path, depth)? });
        }
        let (id, size) = Directory::write(&entries, self.sink).map_err(reading(dir))?;
        Ok(Entry { name: String::new(), id, size })
    }

    /// Without its name.
    fn entry(&mut self, path: &Path, depth: usize) -> Result<Entry, FolderError> {
        if self.tree.files + self.tree.directories >= limits::ASSETS_ENTRIES {
            return Err(TreeError::TooManyEntries.into());
        }
        let meta = path.symlink_metadata().map_err(reading(path))?;
        match meta.file_type() {
            kind if kind.is_symlink() => Err(FolderError::Symlink(path.to_owned())),
            kind if kind.is_dir() => {
                self.tree.directories += 1;
                self.directory(path, depth + 1)
            }
            kind if kind.is_file() => {
                self.tree.files += 1;
                self.file(path, meta.len())
            }
            _ => Err(FolderError::Special(path.to_owned())),
        }
    }

    fn file(&mut self, path: &Path, length: u64) -> Result<Entry, FolderError> {
        // Before it is read: somebody may have named the folder of all their films.
        let length = if self.cipher.is_some() { Layout::new(length).stored() } else { length };
        self.add(length)?;
        let file = BufReader::new(File::open(path).map_err(reading(path))?);
        let file: Box<dyn Read> = match self.cipher {
            Some(cipher) => Box::new(Sealing::new(cipher, file).map_err(encrypting(path))?),
            None => Box::new(file),
        };
        let mut size = 0_u64;
        let counted = |block: Block| {
            size += block.bytes.len() as u64;
            (self.sink)(block)
        };
        let summary = file::import(file, counted).map_err(reading(path))?;
        self.add(summary.size.saturating_sub(length))?;
        Ok(Entry { name: String::new(), id: summary.root, size })
    }

    fn add(&mut self, bytes: u64) -> Result<(), FolderError> {
        self.tree.bytes = self.tree.bytes.saturating_add(bytes);
        if self.tree.bytes > self.most_bytes { Err(TreeError::TooLarge.into()) } else { Ok(()) }
    }
}

fn reading(path: &Path) -> impl Fn(io::Error) -> FolderError + '_ {
    move |source| FolderError::Read { path: path.to_owned(), source }
}

fn encrypting(path: &Path) -> impl Fn(PrivateError) -> FolderError + '_ {
    move |source| FolderError::Private { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::super::directory::tests::Blocks;
    use super::*;

    fn imported(dir: &Path) -> Result<(Folder, Blocks), FolderError> {
        let mut blocks = Blocks::new();
        let folder = import(dir, &mut |block| {
            blocks.insert(block.id, block.bytes);
            Ok(())
        })?;
        Ok((folder, blocks))
    }

    #[test]
    fn a_folder_is_a_tree_that_the_server_accepts() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::create_dir(at("empty")).unwrap();
        fs::write(at("a/b/large"), vec![7; 2_500_000]).unwrap();
        fs::write(at("a/index.html"), "hello").unwrap();
        fs::write(at("é"), "").unwrap();
        let (folder, blocks) = imported(dir.path()).unwrap();
        assert_eq!(folder.tree, Tree { files: 3, directories: 3, bytes: 2_500_005 });
        assert_eq!(folder.hidden, 0);
        let mut read = 0;
        let tree = Tree::check(folder.root, |id| {
            read += 1;
            Ok::<_, TreeError>(blocks[id].clone())
        });
        assert_eq!(tree.unwrap(), folder.tree);
        assert!(read >= blocks.len());
        assert_eq!(imported(dir.path()).unwrap().0, folder, "the same again");
    }

    #[test]
    fn names_with_a_dot_stay_private() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at(".git/objects")).unwrap();
        fs::create_dir_all(at(".well-known")).unwrap();
        fs::write(at(".well-known/security.txt"), "x").unwrap();
        fs::write(at(".well-known/.secret"), "x").unwrap();
        fs::write(at(".env"), "SECRET=x").unwrap();
        symlink("/etc/passwd", at(".link")).unwrap();
        let (folder, _) = imported(dir.path()).unwrap();
        assert_eq!(folder.tree, Tree { files: 1, directories: 1, bytes: 1 });
        assert_eq!(folder.hidden, 4);
    }

    #[test]
    fn what_is_no_file_is_refused_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        let link = dir.path().join("a/passwd");
        symlink("/etc/passwd", &link).unwrap();
        let error = imported(dir.path()).unwrap_err();
        assert!(error.to_string().contains(&link.display().to_string()), "{error}");
        assert!(matches!(error, FolderError::Symlink(_)));
        fs::remove_file(&link).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(&link).unwrap();
        assert!(matches!(imported(dir.path()), Err(FolderError::Special(_))));
        drop(socket);
        fs::remove_file(&link).unwrap();
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        assert!(matches!(imported(dir.path()), Err(FolderError::Name(_))));
        assert!(matches!(imported(&dir.path().join("none")), Err(FolderError::Read { .. })));
    }

    #[test]
    fn the_limits_hold_here_as_on_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let large = File::create(dir.path().join("large")).unwrap();
        large.set_len(limits::ASSETS_BYTES + 1).unwrap();
        assert!(matches!(imported(dir.path()), Err(FolderError::Limit(TreeError::TooLarge))));
        let deep = tempfile::tempdir().unwrap();
        fs::create_dir_all(deep.path().join("a/".repeat(limits::ASSETS_DEPTH))).unwrap();
        imported(deep.path()).unwrap();
        fs::create_dir_all(deep.path().join("a/".repeat(limits::ASSETS_DEPTH + 1))).unwrap();
        assert!(matches!(imported(deep.path()), Err(FolderError::Limit(TreeError::TooDeep))));
        let many = tempfile::tempdir().unwrap();
        for n in 0..=limits::ASSETS_ENTRIES {
            File::create(many.path().join(n.to_string())).unwrap();
        }
        assert!(matches!(imported(many.path()), Err(FolderError::Limit(TreeError::TooManyEntries))));
    }
}
