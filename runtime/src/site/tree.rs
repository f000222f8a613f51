//! Where a path leads in a site's tree of files.
//!
//! A file answers at its own path. Besides, `/name` is `name.html`, and `/name/` is `name/index.html`; whoever asks
//! for one of the two where only the other is there is sent to it, so that relative links in it are right.

use std::sync::Arc;

use af_content::serving::path::{self, FilePath};
use af_content::unixfs::{Directory, DirectoryError, NodeError};
use af_contract::{Codec, ContentId, limits};

use crate::content::{File, Loaded, ReadError, Reader};

const INDEX: &str = "index.html";

const HTML: &str = ".html";

/// A site's files.
#[derive(Clone)]
pub struct Tree {
    root: ContentId,
    reader: Reader,
}

/// A file and the way to it.
pub struct Page {
    /// What it is.
    pub file: File,
    /// Of the directories that it is in, and its own, as they are in the tree.
    pub names: Vec<String>,
    /// The directories, the root first.
    pub directories: Vec<Step>,
}

/// A directory on the way.
#[derive(Clone)]
pub struct Step {
    /// Its CID.
    pub id: ContentId,
    /// Its entries.
    pub directory: Arc<Directory>,
}

/// Where a path leads.
pub enum Place {
    /// To a file.
    Page(Page),
    /// To a file whose path is another one, relative to the path that was asked for.
    Elsewhere(String, Page),
    /// Nowhere.
    Nowhere(Trail),
}

/// As far as a path leads: names of directories, and the directories, of which there is one more.
#[derive(Clone)]
pub struct Trail {
    names: Vec<String>,
    directories: Vec<Step>,
}

/// What an entry of a directory is.
enum Entry {
    File(File),
    Directory(Step),
}

impl Tree {
    /// Under a root.
    pub fn new(root: ContentId, reader: Reader) -> Self {
        Self { root, reader }
    }

    /// Its root.
    pub fn root(&self) -> ContentId {
        self.root
    }

    /// Reads its files.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Where a path leads.
    ///
    /// # Errors
    /// When a directory on the way cannot be read.
    pub async fn find(&self, path: &FilePath<'_>) -> Result<Place, ReadError> {
        let mut trail = self.trail().await?;
        let Some((last, before)) = path.names().split_last() else { return self.index(trail).await };
        for name in before {
            let Some(Entry::Directory(step)) = self.entry(&trail, name).await? else {
                return Ok(Place::Nowhere(trail));
            };
            trail.push(name, step);
            // The deepest that an upload may be; what a client can ask for costs no more.
            if trail.directories.len() > limits::ASSETS_DEPTH {
                return Ok(Place::Nowhere(trail));
            }
        }
        self.last(trail, last, path.ends_with_slash()).await
    }

    /// The root's trail.
    ///
    /// # Errors
    /// When the root cannot be read or is a file.
    pub async fn trail(&self) -> Result<Trail, ReadError> {
        // Of a file or a document nothing need be read to know.
        if self.root.codec() != Codec::DagPb {
            return Err(DirectoryError::NotADirectory(self.root).into());
        }
        let directory = self.reader.directory(self.root).await?;
        Ok(Trail { names: Vec::new(), directories: vec![Step { id: self.root, directory }] })
    }

    /// The file of this name in the directory that a trail ends in.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn page(&self, trail: &Trail, name: &str) -> Result<Option<Page>, ReadError> {
        let Some(Entry::File(file)) = self.entry(trail, name).await? else { return Ok(None) };
        Ok(Some(trail.clone().page(file, name)))
    }

    /// A copy of a page's file, beside it and with something behind its name.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn beside(&self, page: &Page, suffix: &str) -> Result<Option<File>, ReadError> {
        let (Some(step), Some(name)) = (page.directories.last(), page.names.last()) else { return Ok(None) };
        match self.entry_of(step, &format!("{name}{suffix}")).await? {
            Some(Entry::File(file)) => Ok(Some(file)),
            _ => Ok(None),
        }
    }

    async fn last(&self, trail: Trail, name: &str, slash: bool) -> Result<Place, ReadError> {
        let entry = self.entry(&trail, name).await?;
        let directory = match entry {
            // Nothing is in a file.
            Some(Entry::File(file)) if !slash => return Ok(Place::Page(trail.page(file, name))),
            Some(Entry::Directory(step)) => Some(trail.clone().with(name, step)),
            _ => None,
        };
        let index = match &directory {
            Some(inner) => self.page(inner, INDEX).await?,
            None => None,
        };
        let html = self.page(&trail, &format!("{name}{HTML}")).await?;
        Ok(match (slash, html, index) {
            (false, Some(html), _) => Place::Page(html),
            (true, _, Some(index)) => Place::Page(index),
            (false, None, Some(index)) => Place::Elsewhere(relative("./", name, "/"), index),
            (true, Some(html), None) => Place::Elsewhere(relative("../", name, ""), html),
            (_, None, None) => Place::Nowhere(directory.unwrap_or(trail)),
        })
    }

    async fn index(&self, trail: Trail) -> Result<Place, ReadError> {
        Ok(self.page(&trail, INDEX).await?.map_or(Place::Nowhere(trail), Place::Page))
    }

    async fn entry(&self, trail: &Trail, name: &str) -> Result<Option<Entry>, ReadError> {
        match trail.directories.last() {
            Some(step) => self.entry_of(step, name).await,
            None => Ok(None),
        }
    }

    async fn entry_of(&self, step: &Step, name: &str) -> Result<Option<Entry>, ReadError> {
        let Some(entry) = step.directory.find(name) else { return Ok(None) };
        // A raw block's size was checked when it came in, and is checked again when it is read.
        if entry.id.codec() == Codec::Raw {
            return Ok(Some(Entry::File(File { id: entry.id, size: entry.size })));
        }
        match self.reader.load(entry.id).await {
            Ok(Loaded::Directory(directory)) => Ok(Some(Entry::Directory(Step { id: entry.id, directory }))),
            Ok(Loaded::File(node)) => {
                let size = node.file_size().unwrap_or_default();
                Ok(Some(Entry::File(File { id: entry.id, size })))
            }
            // Never followed: nothing leads out of a site, nor round in it.
            Err(ReadError::Node(NodeError::Symlink(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Trail {
    /// The trails of the directories that it leads through, the last one first.
    pub fn upwards(mut self) -> impl Iterator<Item = Self> {
        std::iter::from_fn(move || {
            let here = (!self.directories.is_empty()).then(|| self.clone());
            self.directories.pop();
            self.names.pop();
            here
        })
    }

    fn push(&mut self, name: &str, step: Step) {
        self.names.push(name.to_owned());
        self.directories.push(step);
    }

    fn with(mut self, name: &str, step: Step) -> Self {
        self.push(name, step);
        self
    }

    fn page(mut self, file: File, name: &str) -> Page {
        self.names.push(name.to_owned());
        Page { file, names: self.names, directories: self.directories }
    }
}

/// A reference to a sibling. Relative, so that it is right wherever the site's root is, and never names a host.
fn relative(before: &str, name: &str, after: &str) -> String {
    let mut location = String::from(before);
    path::encode(name, &mut location);
    location + after
}
