//! A gateway of Arweave: it finds archives, which are CARs, by the tag with their root, and gives any part of them. An
//! archive is read from its beginning, a window at a time; where each of its blocks is, is remembered, so that a block is
//! found by its own id as soon as its parents were read.

mod lookup;
mod reading;
mod shelf;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use af_contract::ContentId;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::Client;
use reqwest::redirect::Policy;
use tokio::sync::Semaphore;
use url::Url;

use self::reading::Window;
use self::shelf::{Archive, Found, Shelf};
use super::gateway::shown;
use super::{Source, SourceError, http};
use crate::hash::Hashed;

/// Gateways with a host per item send there.
const REDIRECTS: usize = 3;

/// A gateway of Arweave.
pub struct Arweave {
    name: String,
    base: Url,
    client: Client,
    owner: Option<String>,
    shelf: Mutex<Shelf>,
    /// One archive is read at a time, whoever waits for it.
    reading: Semaphore,
}

impl Arweave {
    /// The gateway at `base`, such as `https://arweave.net`. Archives count whoever made them, or those only that belong to
    /// the address `owner`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(base: Url, owner: Option<String>) -> Result<Self, SourceError> {
        let client = http::client(|builder| builder.redirect(Policy::limited(REDIRECTS)))?;
        let name = format!("arweave {}", shown(&base));
        let (shelf, reading) = (Mutex::default(), Semaphore::new(1));
        Ok(Self { name, base, client, owner, shelf, reading })
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn find(&self, id: ContentId) -> Result<Bytes, SourceError> {
        if let Some(bytes) = self.known(id).await? {
            return Ok(bytes);
        }
        let Ok(_turn) = self.reading.acquire().await else {
            return Err(SourceError::Busy { status: None, after: None });
        };
        // What others waited for may have been it.
        if let Some(bytes) = self.known(id).await? {
            return Ok(bytes);
        }
        let expecting = self.shelf().expecting(id);
        if let Some(archive) = expecting
            && let Some(bytes) = self.read_until(&archive, id).await?
        {
            return Ok(bytes);
        }
        match self.open(id).await {
            Err(SourceError::NotFound) => {}
            opened => return opened,
        }
        // It may be deep in a DAG of which this node has the upper part already.
        let expected = self.shelf().expected();
        for root in expected {
            // What is known already is in an archive that would be expecting this block.
            let unknown = self.shelf().find(root).is_none();
            if unknown {
                match self.open(root).await {
                    Ok(_) | Err(SourceError::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
            let archive = self.shelf().of(root);
            if let Some(archive) = archive
                && let Some(bytes) = self.read_until(&archive, id).await?
            {
                return Ok(bytes);
            }
        }
        Err(SourceError::NotFound)
    }

    /// A block that an archive is known to have.
    async fn known(&self, id: ContentId) -> Result<Option<Bytes>, SourceError> {
        let found = self.shelf().find(id);
        match found {
            None => Ok(None),
            Some(Found::Here(bytes)) => Ok(Some(bytes)),
            Some(Found::There { item, from, size }) => self.part(&item, from, size).await.map(Some),
        }
    }

    /// Reads on until there is this block. What comes on the way is kept for a moment: it is asked for next.
    async fn read_until(&self, archive: &Arc<Archive>, id: ContentId) -> Result<Option<Bytes>, SourceError> {
        // A connection that was left open may have ended meanwhile, which is nobody's fault.
        if let Some(window) = archive.take_window() {
            match self.read_window(archive, window, id).await {
                Ok(None) => {}
                Err(error) if !error.is_lie() => {}
                decided => return decided,
            }
        }
        while let Some(window) = self.window(archive).await? {
            if let Some(bytes) = self.read_window(archive, window, id).await? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// Reads one window until there is this block, and leaves the rest for the next one.
    async fn read_window(
        &self,
        archive: &Arc<Archive>,
        mut window: Window,
        id: ContentId,
    ) -> Result<Option<Bytes>, SourceError> {
        loop {
            match window.next().await {
                Ok(Some((block, at))) => {
                    archive.enter(&block, at, window.position())?;
                    self.shelf().remember(&block);
                    if block.id == id {
                        archive.leave_window(window);
                        return Ok(Some(block.bytes));
                    }
                }
                Ok(None) => {
                    if window.is_end() {
                        archive.ends();
                    }
                    return Ok(None);
                }
                Err(error) => {
                    if error.is_lie() {
                        self.shelf().drop_archive(archive);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// The root of an archive that begins with it. The archive is on the shelf from now on.
    async fn open(&self, root: ContentId) -> Result<Bytes, SourceError> {
        if self.shelf().is_missing(root) {
            return Err(SourceError::NotFound);
        }
        let mut failed = SourceError::NotFound;
        for item in self.lookup(root).await? {
            let archive = Arc::new(Archive::new(item, root));
            let opened = match self.window(&archive).await {
                Ok(Some(window)) => self.read_window(&archive, window, root).await,
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            match opened {
                Ok(Some(bytes)) => {
                    self.shelf().put(archive);
                    return Ok(bytes);
                }
                // Anybody can write the tag: one archive that is none is not all there are.
                Ok(None) => failed = SourceError::Unexpected("an archive without its root".to_owned()),
                Err(error) => failed = error,
            }
        }
        if matches!(failed, SourceError::NotFound) {
            self.shelf().misses(root);
        }
        Err(failed)
    }
}

/// Hashing more than that takes milliseconds, which are not the reactor's.
const HASHED_AT_ONCE: usize = 16 << 10;

/// What a source sent for a block, hashed.
async fn hashed(id: ContentId, bytes: Bytes) -> Result<Hashed, SourceError> {
    let small = bytes.len() <= HASHED_AT_ONCE;
    let hash = move || Hashed::as_asked(&id, bytes);
    if small {
        return Ok(hash());
    }
    let hashed = tokio::task::spawn_blocking(hash).await;
    hashed.map_err(|error| SourceError::Unreachable(Box::new(error)))
}

impl Source for Arweave {
    fn name(&self) -> &str {
        &self.name
    }

    fn block(&self, id: ContentId) -> BoxFuture<'_, Result<Hashed, SourceError>> {
        async move { hashed(id, self.find(id).await?).await }.boxed()
    }

    fn expect(&self, root: ContentId) {
        self.shelf().expect(root);
    }

    fn done(&self, root: ContentId) {
        self.shelf().done(root);
    }
}

impl fmt::Debug for Arweave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
