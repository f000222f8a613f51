//! What may be asked of a store, and what comes of it.

use std::sync::Arc;

use af_contract::limits::{BATCH, KEY_BYTES, PROJECT_STORE_BYTES, VALUE_BYTES};

use super::WRITES;

/// Values of one batch together, bytes.
pub(super) const BATCH_BYTES: usize = 4 << 20;

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
    pub(super) project: Arc<str>,
    pub(super) prefix: Vec<u8>,
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

    pub(super) fn entry(&self, key: &str) -> Result<Vec<u8>, StoreError> {
        if !(1..=KEY_BYTES).contains(&key.len()) {
            return Err(StoreError::Key(key.len()));
        }
        Ok([self.prefix.as_slice(), key.as_bytes()].concat())
    }
}

impl Change {
    /// How many entries it writes.
    pub(super) fn check(&self, namespace: &Namespace) -> Result<u32, StoreError> {
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

pub(super) fn check_batch(keys: usize) -> Result<(), StoreError> {
    if keys > BATCH { Err(StoreError::Batch(keys)) } else { Ok(()) }
}

pub(super) fn failed(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Failed(Arc::new(error))
}
