//! Writes changes: one thread, which commits all that wait as one.

use std::collections::HashMap;
use std::sync::Arc;

use af_contract::limits::PROJECT_STORE_BYTES;
use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::ENTRIES;
use super::change::{Change, Changed, Namespace, StoreError, failed};

/// Bytes that a project's entries have, by project.
pub(super) const USAGE: TableDefinition<&str, u64> = TableDefinition::new("usage");

/// What an entry costs besides its key and value: bounds how many small ones there can be.
const OVERHEAD_BYTES: u64 = 64;

/// Writes that wait for the thread, then callers wait. Also the most that one commit has.
pub(super) const QUEUE: usize = 64;

pub(super) struct Write {
    pub(super) namespace: Namespace,
    pub(super) change: Change,
    pub(super) done: oneshot::Sender<Result<Changed, StoreError>>,
}

/// The writing thread. Ends when nobody can send any more.
pub(super) fn write_all(database: &Database, mut waiting: mpsc::Receiver<Write>) {
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

pub(super) fn size(key: &str, value: usize) -> u64 {
    (key.len() as u64).saturating_add(value as u64).saturating_add(OVERHEAD_BYTES)
}
