//! Key-value entries of all projects of this node, in one file (redb). Reads see the last commit; writes
//! go to one thread, which commits all that wait as one: what was answered is on the disk.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use af_contract::limits::{BATCH, KEY_BYTES, KEYS, PROJECT_STORE_BYTES, VALUE_BYTES};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

/// Project, store and key, each with its length in front, so that no two share entries.
const ENTRIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entries");

/// Bytes that a project's entries have, by project.
const USAGE: TableDefinition<&str, u64> = TableDefinition::new("usage");

/// What an entry costs besides its key and value: bounds how many small ones there can be.
const OVERHEAD_BYTES: u64 = 64;

/// Of the file, in memory.
const CACHE_BYTES: usize = 32 << 20;

/// Writes that wait for the thread, then callers wait. Also the most that one commit has.
const QUEUE: usize = 64;

/// Writes per second and project. A burst may have as many at once.
const WRITES: NonZeroU32 = NonZeroU32::new(1000).unwrap();

/// Values of one batch together, bytes.
const BATCH_BYTES: usize = 4 << 20;

/// Why an operation was refused or failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The key is empty or too long.
    #[error("a key has 1 to {KEY_BYTES} bytes, not {0}")]
    Key(usize),
    /// The value is too long.
    #[error("a value has at most {VALUE_BYTES} bytes, not {0}")]
    Value(usize),
    /// Too many keys at once.
    #[error("a batch has at most {BATCH} keys, not {0}")]
    Batch(usize),
    /// The values of a batch are too much.
    #[error("the values of a batch have at most {BATCH_BYTES} bytes together; take fewer")]
    BatchBytes,
    /// A counter's value is none.
    #[error("the value is no number that this can count on")]
    Number,
    /// The project has all that it may have.
    #[error("the project's key-value stores are full: they may have {PROJECT_STORE_BYTES} bytes")]
    Full,
    /// Too many writes per second.
    #[error("the project writes too often; at most {WRITES} times a second")]
    Rate,
    /// The disk or the file.
    #[error("the key-value store failed; try again")]
    Failed(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

/// A change that happens as a whole.
#[derive(Debug)]
pub enum Change {
    /// Sets values.
    Set(Vec<(String, Vec<u8>)>),
    /// Removes entries, those that are there.
    Delete(Vec<String>),
    /// Adds to a number, which is 0 when it is not there. Numbers are decimal text.
    Increment(String, i128),
    /// Sets a value, if it is still this one.
    Swap {
        /// Of the entry.
        key: String,
        /// What it was.
        expected: Option<Vec<u8>>,
        /// What it becomes.
        value: Vec<u8>,
    },
}

/// What came of a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is done.
    Done,
    /// The counter's new value.
    Number(i128),
    /// It is another value by now, and was left alone.
    Conflict(Option<Vec<u8>>),
}

/// One store of one project.
#[derive(Clone, Debug)]
pub struct Namespace {
    project: Arc<str>,
    prefix: Vec<u8>,
}

impl Namespace {
    /// Names are shorter than 256 bytes.
    pub fn new(project: &Arc<str>, store: &str) -> Self {
        let mut prefix = Vec::with_capacity(project.len() + store.len() + 2);
        for name in [project.as_ref(), store] {
            prefix.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            prefix.extend_from_slice(name.as_bytes());
        }
        Self { project: project.clone(), prefix }
    }

    fn entry(&self, key: &str) -> Result<Vec<u8>, StoreError> {
        if !(1..=KEY_BYTES).contains(&key.len()) {
            return Err(StoreError::Key(key.len()));
        }
        Ok([self.prefix.as_slice(), key.as_bytes()].concat())
    }
}

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

struct Write {
    namespace: Namespace,
    change: Change,
    done: oneshot::Sender<Result<Changed, StoreError>>,
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
            Some(path) => builder.create(path),
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

impl Change {
    /// How many entries it writes.
    fn check(&self, namespace: &Namespace) -> Result<u32, StoreError> {
        let key = |key: &String| namespace.entry(key).map(drop);
        let value = |value: &Vec<u8>| match value.len() {
            length if length > VALUE_BYTES => Err(StoreError::Value(length)),
            _ => Ok(()),
        };
        let writes = match self {
            Self::Set(entries) => {
                check_batch(entries.len())?;
                entries.iter().try_for_each(|(name, bytes)| key(name).and(value(bytes)))?;
                if entries.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > BATCH_BYTES {
                    return Err(StoreError::BatchBytes);
                }
                entries.len()
            }
            Self::Delete(keys) => {
                check_batch(keys.len())?;
                keys.iter().try_for_each(key)?;
                keys.len()
            }
            Self::Increment(name, _) => key(name).map(|()| 1)?,
            Self::Swap { key: name, value: bytes, .. } => key(name).and(value(bytes)).map(|()| 1)?,
        };
        u32::try_from(writes).map_err(|_| StoreError::Batch(writes))
    }
}

fn check_batch(keys: usize) -> Result<(), StoreError> {
    if keys > BATCH { Err(StoreError::Batch(keys)) } else { Ok(()) }
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

/// The writing thread. Ends when nobody can send any more.
fn write_all(database: &Database, mut waiting: mpsc::Receiver<Write>) {
    let mut writes = Vec::with_capacity(QUEUE);
    while waiting.blocking_recv_many(&mut writes, QUEUE) > 0 {
        let (writes, results) = commit(database, std::mem::take(&mut writes));
        for (done, result) in writes.into_iter().zip(results) {
            // Nobody waits for it any more when the guest has gone.
            let _gone = done.send(result);
        }
    }
}

type Done = oneshot::Sender<Result<Changed, StoreError>>;

/// Makes all changes that can be made, as one.
fn commit(database: &Database, writes: Vec<Write>) -> (Vec<Done>, Vec<Result<Changed, StoreError>>) {
    let (done, changes): (Vec<_>, Vec<_>) =
        writes.into_iter().map(|write| (write.done, (write.namespace, write.change))).unzip();
    let count = changes.len();
    let committed = database.begin_write().map_err(failed).and_then(|transaction| {
        let results = apply(&transaction, changes)?;
        transaction.commit().map_err(failed)?;
        Ok(results)
    });
    let results = committed.unwrap_or_else(|error| {
        tracing::error!(error = %error, cause = ?std::error::Error::source(&error), "key-value writes failed");
        vec![Err(error); count].into_iter().map(|result: Result<(), _>| result.map(|()| Changed::Done)).collect()
    });
    (done, results)
}

/// Fails only when the file does: then nothing is committed.
fn apply(
    transaction: &WriteTransaction,
    changes: Vec<(Namespace, Change)>,
) -> Result<Vec<Result<Changed, StoreError>>, StoreError> {
    let entries = transaction.open_table(ENTRIES).map_err(failed)?;
    let usage = transaction.open_table(USAGE).map_err(failed)?;
    let mut tables = Tables { entries, usage, used: HashMap::new() };
    let mut results = Vec::with_capacity(changes.len());
    for (namespace, change) in changes {
        results.push(match tables.change(&namespace, change) {
            Err(StoreError::Failed(error)) => return Err(StoreError::Failed(error)),
            result => result,
        });
    }
    for (project, used) in &tables.used {
        tables.usage.insert(project.as_ref(), used).map_err(failed)?;
    }
    Ok(results)
}

struct Tables<'a> {
    entries: redb::Table<'a, &'static [u8], &'static [u8]>,
    usage: redb::Table<'a, &'static str, u64>,
    /// Of the projects that were touched.
    used: HashMap<Arc<str>, u64>,
}

impl Tables<'_> {
    fn change(&mut self, namespace: &Namespace, change: Change) -> Result<Changed, StoreError> {
        match change {
            Change::Set(entries) => {
                self.room_for(namespace, &entries)?;
                for (key, value) in entries {
                    self.put(namespace, &key, Some(&value))?;
                }
            }
            Change::Delete(keys) => {
                for key in keys {
                    self.put(namespace, &key, None)?;
                }
            }
            Change::Increment(key, delta) => {
                let number = match self.value(namespace, &key)? {
                    Some(value) => {
                        std::str::from_utf8(&value).ok().and_then(|text| text.parse::<i128>().ok())
                    }
                    None => Some(0),
                };
                // Both drafts' numbers fit.
                let range = i128::from(i64::MIN)..=i128::from(u64::MAX);
                let number = number.and_then(|number| number.checked_add(delta));
                let number = number.filter(|number| range.contains(number)).ok_or(StoreError::Number)?;
                let entry = (key, number.to_string().into_bytes());
                self.room_for(namespace, std::slice::from_ref(&entry))?;
                self.put(namespace, &entry.0, Some(&entry.1))?;
                return Ok(Changed::Number(number));
            }
            Change::Swap { key, expected, value } => {
                let current = self.value(namespace, &key)?;
                if current != expected {
                    return Ok(Changed::Conflict(current));
                }
                let entry = (key, value);
                self.room_for(namespace, std::slice::from_ref(&entry))?;
                self.put(namespace, &entry.0, Some(&entry.1))?;
            }
        }
        Ok(Changed::Done)
    }

    /// Whether these entries fit, before any of them is written. What they replace counts as well.
    fn room_for(&mut self, namespace: &Namespace, entries: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
        let more = entries.iter().map(|(key, value)| size(key, value.len())).sum::<u64>();
        let used = self.used(&namespace.project)?;
        if used.saturating_add(more) > PROJECT_STORE_BYTES { Err(StoreError::Full) } else { Ok(()) }
    }

    fn value(&self, namespace: &Namespace, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.entries.get(namespace.entry(key)?.as_slice()).map_err(failed)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn put(&mut self, namespace: &Namespace, key: &str, value: Option<&[u8]>) -> Result<(), StoreError> {
        let entry = namespace.entry(key)?;
        let old = match value {
            Some(value) => self.entries.insert(entry.as_slice(), value),
            None => self.entries.remove(entry.as_slice()),
        };
        let freed = old.map_err(failed)?.map_or(0, |old| size(key, old.value().len()));
        let taken = value.map_or(0, |value| size(key, value.len()));
        let used = self.used(&namespace.project)?;
        self.used.insert(namespace.project.clone(), used.saturating_add(taken).saturating_sub(freed));
        Ok(())
    }

    fn used(&self, project: &Arc<str>) -> Result<u64, StoreError> {
        if let Some(used) = self.used.get(project) {
            return Ok(*used);
        }
        Ok(self.usage.get(project.as_ref()).map_err(failed)?.map_or(0, |used| used.value()))
    }
}

fn size(key: &str, value: usize) -> u64 {
    (key.len() as u64).saturating_add(value as u64).saturating_add(OVERHEAD_BYTES)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Failed(Arc::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(name: &str) -> Arc<str> {
        name.into()
    }

    fn set(key: &str, value: &[u8]) -> Change {
        Change::Set(vec![(key.into(), value.into())])
    }

    async fn get(store: &KeyValue, namespace: &Namespace, key: &str) -> Option<Vec<u8>> {
        let mut found = store.read(namespace.clone(), vec![key.into()]).await.unwrap();
        found.pop().unwrap().1
    }

    #[tokio::test]
    async fn what_was_written_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyvalue.redb");
        let namespace = Namespace::new(&project("p"), "s");
        let store = KeyValue::open(Some(&path)).unwrap();
        store.write(namespace.clone(), set("key", b"value")).await.unwrap();
        drop(store);
        let store = KeyValue::open(Some(&path)).unwrap();
        assert_eq!(get(&store, &namespace, "key").await.as_deref(), Some(&b"value"[..]));
    }

    #[tokio::test]
    async fn projects_and_stores_do_not_see_each_other() {
        let store = KeyValue::open(None).unwrap();
        let one = Namespace::new(&project("p"), "sx");
        // Without lengths, these would be the same bytes.
        let others = [Namespace::new(&project("ps"), "x"), Namespace::new(&project("p"), "s")];
        store.write(one.clone(), set("key", b"1")).await.unwrap();
        for other in others {
            assert_eq!(get(&store, &other, "key").await, None);
            assert_eq!(get(&store, &other, "xkey").await, None);
            assert_eq!(store.keys(other, None).await.unwrap(), (vec![], false));
        }
        assert_eq!(store.keys(one, None).await.unwrap(), (vec!["key".into()], false));
    }

    #[tokio::test]
    async fn counting_at_the_same_time_loses_nothing() {
        let store = KeyValue::open(None).unwrap();
        let namespace = Namespace::new(&project("p"), "s");
        let count = || store.write(namespace.clone(), Change::Increment("n".into(), 2));
        futures::future::join_all((0..100).map(|_| count())).await;
        assert_eq!(count().await.unwrap(), Changed::Number(202));
        store.write(namespace.clone(), set("n", b"no number")).await.unwrap();
        assert!(matches!(count().await, Err(StoreError::Number)));
        store.write(namespace.clone(), set("n", u64::MAX.to_string().as_bytes())).await.unwrap();
        assert!(matches!(count().await, Err(StoreError::Number)));
    }

    #[tokio::test]
    async fn a_swap_happens_only_to_what_was_expected() {
        let store = KeyValue::open(None).unwrap();
        let namespace = Namespace::new(&project("p"), "s");
        let swap = |expected: Option<&[u8]>, value: &[u8]| {
            let (expected, value) = (expected.map(<[u8]>::to_vec), value.to_vec());
            store.write(namespace.clone(), Change::Swap { key: "k".into(), expected, value })
        };
        assert_eq!(swap(None, b"1").await.unwrap(), Changed::Done);
        assert_eq!(swap(None, b"2").await.unwrap(), Changed::Conflict(Some(b"1".to_vec())));
        assert_eq!(swap(Some(b"1"), b"3").await.unwrap(), Changed::Done);
        assert_eq!(get(&store, &namespace, "k").await.as_deref(), Some(&b"3"[..]));
    }

    #[tokio::test]
    async fn a_project_has_a_bound_and_deleting_makes_room() {
        let store = KeyValue::open(None).unwrap();
        let namespace = Namespace::new(&project("p"), "s");
        let megabyte = vec![7; VALUE_BYTES];
        let batch = |number: u32| {
            let entry = |part| (format!("{number}-{part}"), megabyte.clone());
            Change::Set((0..4).map(entry).collect())
        };
        let mut written = 0;
        while store.write(namespace.clone(), batch(written)).await.is_ok() {
            written += 1;
        }
        assert!(matches!(store.write(namespace.clone(), batch(written)).await, Err(StoreError::Full)));
        assert_eq!(written, 63, "of 64, since keys count too");
        let other = Namespace::new(&project("q"), "s");
        store.write(other, set("k", b"v")).await.unwrap();
        store
            .write(namespace.clone(), Change::Delete((0..4).map(|part| format!("0-{part}")).collect()))
            .await
            .unwrap();
        store.write(namespace, batch(written)).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_too_much_is_refused_at_the_door() {
        let store = KeyValue::open(None).unwrap();
        let namespace = Namespace::new(&project("p"), "s");
        let write = |change| store.write(namespace.clone(), change);
        assert!(matches!(write(set("", b"v")).await, Err(StoreError::Key(0))));
        assert!(matches!(write(set(&"k".repeat(513), b"v")).await, Err(StoreError::Key(513))));
        assert!(matches!(write(set("k", &vec![0; (1 << 20) + 1])).await, Err(StoreError::Value(_))));
        let keys = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        assert!(matches!(write(Change::Delete(keys(101))).await, Err(StoreError::Batch(101))));
        assert!(matches!(store.read(namespace.clone(), keys(101)).await, Err(StoreError::Batch(101))));
        let mut refused = false;
        for _ in 0..20 {
            refused |= matches!(write(Change::Delete(keys(100))).await, Err(StoreError::Rate));
        }
        assert!(refused, "2,000 writes at once");
    }

    #[tokio::test]
    async fn keys_come_in_pages() {
        let store = KeyValue::open(None).unwrap();
        let namespace = Namespace::new(&project("p"), "s");
        for page in 0..11 {
            let entries = (0..99).map(|number| (format!("{page:02}-{number:02}"), vec![]));
            // More than the rate allows at once would be refused.
            let change = Change::Set(entries.collect());
            if store.write(namespace.clone(), change).await.is_err() {
                break;
            }
        }
        let (first, more) = store.keys(namespace.clone(), None).await.unwrap();
        let (rest, end) = store.keys(namespace.clone(), first.last().cloned()).await.unwrap();
        assert_eq!((first.len(), more || rest.is_empty(), end), (first.len(), true, false));
        let mut all = first;
        all.extend(rest);
        assert!(all.len() >= 990 && all.is_sorted(), "{}", all.len());
    }
}
