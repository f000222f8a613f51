//! All entries of a file at one moment, for a backup, and a new file of them.

use std::io;
use std::path::Path;

use af_contract::limits::{KEY_BYTES, VALUE_BYTES};
use redb::{Database, ReadableTable, WriteTransaction};

use super::change::failed;
use super::writer::{USAGE, size};
use super::{CACHE_BYTES, ENTRIES, Former, KeyValue, StoreError, open_entries, own_file};

/// Why entries were not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file of the entries.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Where they go, or where they come from.
    #[error("the entries cannot be handed on")]
    Stream(#[from] io::Error),
    /// What comes in is none.
    #[error("this is no entry of a key-value store")]
    Entry,
}

impl KeyValue {
    /// Hands on all entries, names of their project and store in front of the key, in their order, as they are at one moment, while
    /// functions go on. Returns how many. Blocks.
    ///
    /// # Errors
    /// When the file fails, and those of `take`.
    pub fn copy(&self, mut take: impl FnMut(&[u8], &[u8]) -> io::Result<()>) -> Result<u64, CopyError> {
        let Some(entries) = open_entries(&self.inner.database)? else { return Ok(0) };
        let mut count = 0;
        for entry in entries.range::<&[u8]>(..).map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            take(key.value(), value.value())?;
            count += 1;
        }
        Ok(count)
    }

    /// Makes a new file of such entries; what is at `path` is replaced. Returns how many there were. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written, and those of `entries`; the file is of no use then.
    pub fn make(
        path: &Path,
        entries: impl Iterator<Item = io::Result<(Vec<u8>, Vec<u8>)>>,
    ) -> Result<u64, CopyError> {
        // Only one that is empty is a new one.
        let file = own_file(path, Former::Goes)?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(file);
        let database = database.map_err(failed)?;
        let transaction = database.begin_write().map_err(failed)?;
        let count = fill(&transaction, entries)?;
        transaction.commit().map_err(failed)?;
        Ok(count)
    }
}

fn fill(
    transaction: &WriteTransaction,
    entries: impl Iterator<Item = io::Result<(Vec<u8>, Vec<u8>)>>,
) -> Result<u64, CopyError> {
    let mut table = transaction.open_table(ENTRIES).map_err(failed)?;
    let mut usage = transaction.open_table(USAGE).map_err(failed)?;
    let mut count = 0;
    for entry in entries {
        let (key, value) = entry?;
        let (project, name) = parts(&key).ok_or(CopyError::Entry)?;
        if value.len() > VALUE_BYTES
            || table.insert(key.as_slice(), value.as_slice()).map_err(failed)?.is_some()
        {
            return Err(CopyError::Entry);
        }
        let used = usage.get(project).map_err(failed)?.map_or(0, |used| used.value());
        usage.insert(project, used.saturating_add(size(name, value.len()))).map_err(failed)?;
        count += 1;
    }
    Ok(count)
}

/// Project and key of what `Namespace::entry` makes.
fn parts(entry: &[u8]) -> Option<(&str, &str)> {
    let (project, rest) = named(entry)?;
    let (_store, key) = named(rest)?;
    let key = std::str::from_utf8(key).ok()?;
    (1..=KEY_BYTES).contains(&key.len()).then_some((project, key))
}

fn named(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(name).ok()?, rest))
}
