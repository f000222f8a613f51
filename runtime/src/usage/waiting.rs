//! What was counted and is not known to be told: in memory, and in a file, so that a process that ends tells it after its next start.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use af_contract::edge::{USAGE_RECORDS, UsageBatch};
use af_contract::{Usage, UsageRecord};
use serde::{Deserialize, Serialize};
use tracing::error;

use crate::request_id::RequestId;

const FILE: &str = "usage.json";

/// Records that wait while nobody takes them. Of more, a subject's further hours count for one that waits.
const RECORDS: usize = 100_000;

/// What waits.
pub(super) struct Waiting {
    source: String,
    /// Of the last batch that was made.
    number: u64,
    /// On its way: it stays as it is until it is known to be taken.
    batch: Option<UsageBatch>,
    records: BTreeMap<(Arc<str>, i64), Usage>,
    /// Whether the file has something else.
    changed: bool,
}

/// What is in the file.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    batch: Option<UsageBatch>,
    records: Vec<UsageRecord>,
}

/// What is to be written down, and where.
pub(super) struct Writing {
    path: PathBuf,
    kept: Kept,
}

impl Waiting {
    /// What an earlier process left in a directory.
    ///
    /// # Errors
    /// When the file cannot be read. One that has something else is put aside, and the operator is told.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(FILE);
        let kept = match fs::read(&path) {
            Ok(text) => read(&path, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(error),
        };
        // Another source for each start, so that a file which was put back by its operator hides no newer batch.
        let source = RequestId::next().to_string();
        let mut waiting =
            Self { source, number: 0, batch: kept.batch, records: BTreeMap::new(), changed: false };
        for UsageRecord { subject, hour, usage } in kept.records {
            waiting.records.entry((subject.into(), hour)).or_default().add(&usage);
        }
        Ok(waiting)
    }

    /// Adds what was used within this hour.
    pub fn add(&mut self, subject: Arc<str>, hour: i64, usage: &Usage) {
        let mut key = (subject, hour);
        if self.records.len() >= RECORDS && !self.records.contains_key(&key) {
            let of = (key.0.clone(), i64::MIN)..=(key.0.clone(), i64::MAX);
            if let Some((known, _)) = self.records.range(of).next_back() {
                key = known.clone();
            }
        }
        self.records.entry(key).or_default().add(usage);
        self.changed = true;
    }

    /// The batch that is to be told next, until it is [`Self::told`]; none: nothing waits.
    pub fn batch(&mut self) -> Option<&UsageBatch> {
        if self.batch.is_none() && !self.records.is_empty() {
            let mut records = Vec::new();
            while records.len() < USAGE_RECORDS
                && let Some(((subject, hour), usage)) = self.records.pop_first()
            {
                records.push(UsageRecord { subject: subject.to_string(), hour, usage });
            }
            self.number += 1;
            self.batch = Some(UsageBatch { source: self.source.clone(), number: self.number, records });
            self.changed = true;
        }
        self.batch.as_ref()
    }

    /// The batch was taken, or never will be.
    pub fn told(&mut self) -> Option<UsageBatch> {
        self.changed = true;
        self.batch.take()
    }

    /// Records that wait.
    pub fn len(&self) -> usize {
        self.records.len() + self.batch.as_ref().map_or(0, |batch| batch.records.len())
    }

    /// What is to be written down; none: the file has it.
    pub fn changes(&mut self, dir: &Path) -> Option<Writing> {
        std::mem::take(&mut self.changed).then(|| {
            let record = |((subject, hour), usage): (&(Arc<str>, i64), &Usage)| UsageRecord {
                subject: subject.to_string(),
                hour: *hour,
                usage: *usage,
            };
            let kept = Kept { batch: self.batch.clone(), records: self.records.iter().map(record).collect() };
            Writing { path: dir.join(FILE), kept }
        })
    }

    /// It could not be written down.
    pub fn unwritten(&mut self) {
        self.changed = true;
    }
}

impl Writing {
    /// Replaces the file, at once or not at all. Blocks.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write(&self) -> io::Result<()> {
        let partial = self.path.with_extension("partial");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(&serde_json::to_vec(&self.kept)?)?;
        file.sync_all()?;
        fs::rename(&partial, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn read(path: &Path, text: &[u8]) -> io::Result<Kept> {
    let is_valid = |kept: &Kept| {
        let batch = kept.batch.iter().flat_map(|batch| &batch.records);
        batch.chain(&kept.records).all(UsageRecord::is_valid)
    };
    match serde_json::from_slice(text).ok().filter(is_valid) {
        Some(kept) => Ok(kept),
        None => {
            let aside = path.with_extension("unreadable");
            error!(path = %aside.display(), "what an earlier process counted of functions cannot be read, and is put aside; nobody is told of it");
            fs::rename(path, &aside)?;
            Ok(Kept::default())
        }
    }
}

#[cfg(test)]
mod tests {
    use af_contract::usage::HOUR;

    use super::*;

    fn used(requests: u64) -> Usage {
        Usage { requests, ..Usage::default() }
    }

    fn requests(batch: &UsageBatch) -> u64 {
        batch.records.iter().map(|record| record.usage.requests).sum()
    }

    #[test]
    fn a_batch_stays_as_it_is_until_it_was_told_also_after_another_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut waiting = Waiting::open(dir.path()).unwrap();
        assert!(waiting.batch().is_none() && waiting.changes(dir.path()).is_none());
        waiting.add("fn_1".into(), 0, &used(1));
        waiting.add("fn_1".into(), 0, &used(2));
        waiting.add("fn_1".into(), HOUR, &used(4));
        let first = waiting.batch().unwrap().clone();
        assert_eq!((first.number, first.records.len(), requests(&first)), (1, 2, 7));
        waiting.add("fn_1".into(), HOUR, &used(8));
        waiting.changes(dir.path()).unwrap().write().unwrap();
        assert!(waiting.changes(dir.path()).is_none());

        let mut waiting = Waiting::open(dir.path()).unwrap();
        assert_eq!(waiting.batch(), Some(&first));
        assert_eq!(waiting.len(), 3);
        assert_eq!(waiting.told(), Some(first.clone()));
        let second = waiting.batch().unwrap().clone();
        assert_eq!((second.number, requests(&second)), (1, 8));
        assert_ne!(second.source, first.source, "a source is of one start");
        waiting.told();
        assert!(waiting.batch().is_none());
        waiting.changes(dir.path()).unwrap().write().unwrap();
        assert_eq!(Waiting::open(dir.path()).unwrap().len(), 0);
    }

    #[test]
    fn batches_are_bounded_and_so_is_what_waits() {
        let dir = tempfile::tempdir().unwrap();
        let mut waiting = Waiting::open(dir.path()).unwrap();
        for number in 0..RECORDS {
            waiting.add(format!("fn_{number}").into(), 0, &used(1));
        }
        // A further hour of one that waits counts for the one that is there.
        waiting.add("fn_7".into(), HOUR, &used(1));
        assert_eq!(waiting.len(), RECORDS);
        let mut told = 0;
        while let Some(batch) = waiting.batch() {
            assert!(batch.records.len() <= USAGE_RECORDS && batch.records.iter().all(UsageRecord::is_valid));
            told += requests(batch);
            waiting.told();
        }
        assert_eq!(told, RECORDS as u64 + 1);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        for text in [
            "{",
            "{\"batch\":null,\"records\":[{\"subject\":\"\\u0000\",\"hour\":0,\"requests\":1,\"errors\":0,\"cpuUs\":0,\"wallUs\":0,\"sentBytes\":0}]}",
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(Waiting::open(dir.path()).unwrap().len(), 0);
            assert_eq!(fs::read_to_string(path.with_extension("unreadable")).unwrap(), text);
            assert!(!path.exists());
        }
    }
}
