//! Key-value entries of all projects of this node, in one file (redb). Reads see the last commit; writes
//! go to one thread, which commits all that wait as one: what was answered is on the disk.

mod change;
mod copy;
mod writer;

use std::fs::File;
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use af_contract::limits::KEYS;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Database, ReadableDatabase, TableDefinition, TableError};
use tokio::sync::{mpsc, oneshot};

use self::change::{BATCH_BYTES, check_batch, failed};
pub use self::change::{Change, Changed, Namespace, StoreError};
pub use self::copy::CopyError;
use self::writer::{QUEUE, Write, write_all};

/// Project, store and key, each with its length in front, so that no two share entries.
const ENTRIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entries");

/// Of the file, in memory.
const CACHE_BYTES: usize = 32 << 20;

/// Writes per second and project. A burst may have as many at once.
const WRITES: NonZeroU32 = NonZeroU32::new(1000).unwrap();

/// The entries. Cheap to clone.
#[derive(Clone)]
pub struct KeyValue {
    inner: Arc<Inner>,
}

struct Inner {
    database: Arc<Database>,
    writer: Option<Writer>,
    rate: DefaultKeyedRateLimiter<Arc<str>>,
}

struct Writer {
    writes: mpsc::Sender<Write>,
    thread: JoinHandle<()>,
}

impl Drop for Inner {
    /// Lets go of the file when what waits is written.
    fn drop(&mut self) {
        if let Some(Writer { writes, thread }) = self.writer.take() {
            drop(writes);
            if thread.join().is_err() {
                tracing::error!("the thread that writes key-value entries had panicked");
            }
        }
    }
}

impl KeyValue {
    /// Opens or makes the file; without a path, entries are in memory and end with the process.
    ///
    /// # Errors
    /// When the file cannot be used, or there are no threads.
    pub fn open(path: Option<&Path>) -> Result<Self, StoreError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = match path {
            Some(path) => builder.create_with_backend(own_file(path, Former::Stays)?),
            None => builder.create_with_backend(InMemoryBackend::new()),
        };
        let database = Arc::new(database.map_err(failed)?);
        let (writes, waiting) = mpsc::channel(QUEUE);
        let written = database.clone();
        let thread = std::thread::Builder::new().name("key-value".into());
        let thread = thread.spawn(move || write_all(&written, waiting)).map_err(failed)?;
        let writer = Some(Writer { writes, thread });
        let inner = Inner { database, writer, rate: RateLimiter::keyed(Quota::per_second(WRITES)) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Values of keys, in their order.
    ///
    /// # Errors
    /// When a key or their number is not one, or the values are too much.
    pub async fn read(
        &self,
        namespace: Namespace,
        keys: Vec<String>,
    ) -> Result<Vec<(String, Option<Vec<u8>>)>, StoreError> {
        check_batch(keys.len())?;
        self.blocking(move |database| {
            let Some(entries) = open_entries(database)? else {
                return Ok(keys.into_iter().map(|key| (key, None)).collect());
            };
            let mut found = Vec::with_capacity(keys.len());
            let mut bytes = 0;
            for key in keys {
                let value = entries.get(namespace.entry(&key)?.as_slice()).map_err(failed)?;
                let value = value.map(|value| value.value().to_vec());
                bytes += value.as_ref().map_or(0, Vec::len);
                if bytes > BATCH_BYTES {
                    return Err(StoreError::BatchBytes);
                }
                found.push((key, value));
            }
            Ok(found)
        })
        .await
    }

    /// Keys after `after`, in order, and whether there are more. At most [`KEYS`].
    ///
    /// # Errors
    /// When the file fails.
    pub async fn keys(
        &self,
        namespace: Namespace,
        after: Option<String>,
    ) -> Result<(Vec<String>, bool), StoreError> {
        self.blocking(move |database| {
            let Some(entries) = open_entries(database)? else { return Ok((Vec::new(), false)) };
            let mut from = namespace.prefix.clone();
            // The smallest key that is greater.
            from.extend(after.iter().flat_map(|after| after.bytes().chain([0])));
            let mut keys = Vec::new();
            for entry in entries.range(from.as_slice()..).map_err(failed)? {
                let (key, _) = entry.map_err(failed)?;
                let Some(key) = key.value().strip_prefix(namespace.prefix.as_slice()) else { break };
                if keys.len() == KEYS {
                    return Ok((keys, true));
                }
                keys.push(String::from_utf8_lossy(key).into_owned());
            }
            Ok((keys, false))
        })
        .await
    }

    /// Changes entries. When it returns, they are on the disk.
    ///
    /// # Errors
    /// When the change is refused, or the disk fails; nothing is changed then.
    pub async fn write(&self, namespace: Namespace, change: Change) -> Result<Changed, StoreError> {
        let writes = change.check(&namespace)?;
        let Some(writes) = NonZeroU32::new(writes) else { return Ok(Changed::Done) };
        let granted = self.inner.rate.check_key_n(&namespace.project, writes);
        if !matches!(granted, Ok(Ok(()))) {
            self.inner.rate.retain_recent();
            return Err(StoreError::Rate);
        }
        let (done, result) = oneshot::channel();
        // It is there until the last clone is dropped.
        if let Some(writer) = &self.inner.writer {
            writer.writes.send(Write { namespace, change, done }).await.map_err(failed)?;
        }
        result.await.map_err(failed)?
    }

    async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let database = self.inner.database.clone();
        tokio::task::spawn_blocking(move || work(&database)).await.map_err(failed)?
    }
}

/// What becomes of a file that is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Former {
    Stays,
    Goes,
}

/// A file that nobody else may read, where it is a new one.
fn own_file(path: &Path, former: Former) -> Result<FileBackend, StoreError> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(former == Former::Goes).mode(0o600);
    FileBackend::new(options.open(path).map_err(failed)?).map_err(failed)
}

type Entries = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// `None` before the first write.
fn open_entries(database: &Database) -> Result<Option<Entries>, StoreError> {
    match database.begin_read().map_err(failed)?.open_table(ENTRIES) {
        Ok(entries) => Ok(Some(entries)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests;
