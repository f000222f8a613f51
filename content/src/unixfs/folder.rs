//! A folder of this machine as a directory of UnixFS: what a deployment may have as its assets, or a reason why not.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use af_contract::{ContentId, limits};

use super::chunking::Chunking;
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

/// How a folder is read.
#[derive(Clone, Copy, Debug)]
pub struct FolderTerms<'a> {
    /// How files and directories become blocks.
    pub chunking: Chunking,
    /// What all files together may have, as they are stored.
    pub most_bytes: u64,
    /// Where all is to be encrypted.
    pub cipher: Option<&'a Cipher>,
}

impl Default for FolderTerms<'_> {
    fn default() -> Self {
        Self { chunking: Chunking::default(), most_bytes: limits::ASSETS_BYTES, cipher: None }
    }
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
    import_as(&FolderTerms::default(), dir, sink)
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
    import_as(&FolderTerms { cipher: Some(cipher), ..FolderTerms::default() }, dir, sink)
}

/// As [`import`], on these terms.
///
/// # Errors
/// As [`import`], and when a name is too long to be sealed.
pub fn import_as(
    terms: &FolderTerms<'_>,
    dir: &Path,
    sink: &mut dyn FnMut(Block) -> io::Result<()>,
) -> Result<Folder, FolderError> {
    Import { sink, terms, tree: Tree::default(), hidden: 0 }.folder(dir)
}

struct Import<'a> {
    sink: &'a mut dyn FnMut(Block) -> io::Result<()>,
    terms: &'a FolderTerms<'a>,
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
            let name = match self.terms.cipher {
                Some(cipher) => cipher.seal_entry(&name).map_err(encrypting(&path))?,
                None => name,
            };
            entries.push(Entry { name, ..self.entry(&path, depth)? });
        }
        let (id, size) =
            Directory::write_as(self.terms.chunking, &entries, self.sink).map_err(reading(dir))?;
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
        let length = if self.terms.cipher.is_some() { Layout::new(length).stored() } else { length };
        self.add(length)?;
        let file = BufReader::new(File::open(path).map_err(reading(path))?);
        let file: Box<dyn Read> = match self.terms.cipher {
            Some(cipher) => Box::new(Sealing::new(cipher, file).map_err(encrypting(path))?),
            None => Box::new(file),
        };
        let mut size = 0_u64;
        let counted = |block: Block| {
            size += block.bytes.len() as u64;
            (self.sink)(block)
        };
        let summary = file::import_as(self.terms.chunking, file, counted).map_err(reading(path))?;
        self.add(summary.size.saturating_sub(length))?;
        Ok(Entry { name: String::new(), id: summary.root, size })
    }

    fn add(&mut self, bytes: u64) -> Result<(), FolderError> {
        self.tree.bytes = self.tree.bytes.saturating_add(bytes);
        if self.tree.bytes > self.terms.most_bytes { Err(TreeError::TooLarge.into()) } else { Ok(()) }
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
    use std::collections::BTreeMap;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::super::directory::tests::Blocks;
    use super::super::{Export, Listing, Node, Profile};
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

    /// All files of a tree by their paths, read out of its blocks; directories end with a slash.
    fn read_back(root: ContentId, path: &str, blocks: &Blocks, into: &mut BTreeMap<String, Vec<u8>>) {
        let node = Node::decode(&root, &blocks[&root]).unwrap();
        if node.file_size().is_some() {
            let (mut export, mut bytes) = (Export::new(root, 1 << 30), Vec::new());
            while let Some(id) = export.wanted() {
                bytes.extend_from_slice(&export.feed(&blocks[&id]).unwrap());
            }
            into.insert(path.to_owned(), bytes);
            return;
        }
        into.insert(format!("{path}/"), Vec::new());
        let mut listing = Listing::new(root);
        while let Some(id) = listing.wanted() {
            listing.feed(&blocks[&id]).unwrap();
        }
        for entry in listing.finish().unwrap().entries() {
            read_back(entry.id, &format!("{path}/{}", entry.name), blocks, into);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(24))]
        #[test]
        fn any_tree_round_trips_in_each_profile(
            files in proptest::collection::btree_map("[a-cé]{1,2}(/[a-z%]{1,3}){0,3}", 0usize..700_000, 0..12),
            profile in 0usize..3,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut expected = BTreeMap::from([("/".to_owned(), Vec::new())]);
            for (path, size) in files {
                let file = dir.path().join(&path);
                // A directory may be where the file was to be, or the other way round: then there is no such file.
                if fs::create_dir_all(file.parent().unwrap()).is_err() || file.is_dir() {
                    continue;
                }
                let bytes: Vec<u8> = (0..size).map(|n| (n ^ n >> 9 ^ size).to_le_bytes()[0]).collect();
                fs::write(&file, &bytes).unwrap();
                expected.insert(format!("/{path}"), bytes);
                for (at, _) in path.match_indices('/') {
                    expected.insert(format!("/{}/", &path[..at]), Vec::new());
                }
            }
            let mut blocks = Blocks::new();
            let terms = FolderTerms { chunking: Profile::ALL[profile].into(), ..FolderTerms::default() };
            let folder = import_as(&terms, dir.path(), &mut |block| {
                crate::verify(&block.id, &block.bytes).unwrap();
                blocks.insert(block.id, block.bytes);
                Ok(())
            });
            let mut found = BTreeMap::new();
            read_back(folder.unwrap().root, "", &blocks, &mut found);
            proptest::prop_assert!(found == expected, "{:?} {:?}", found.keys(), expected.keys());
        }
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
