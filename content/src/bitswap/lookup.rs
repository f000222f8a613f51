//! Answers of the store to what a peer wants.

use af_contract::Cid;
use bytes::Bytes;
use tracing::warn;

use super::ledgers::{Job, Looked};
use super::message::{Message, Payload, Prefix, Presence, WantKind};
use super::stream::content_id;
use crate::disk::DiskStore;

/// Blocks of one message, so that a slow peer gets something soon, and others get a turn. The last one may exceed it.
const MESSAGE_BLOCKS: usize = 512 << 10;

/// What an id and its frame take in a message, at most.
const ENTRY_BYTES: usize = 64;

/// What was found.
#[derive(Debug)]
pub struct Found {
    pub looked: Looked,
    blocks: Vec<(Cid, Bytes)>,
    present: Vec<Cid>,
}

/// Looks wants up, one after the other, until there is enough for a message. Blocking.
pub fn look_up(store: &DiskStore, jobs: Vec<Job>) -> Found {
    let looked = Looked { found: Vec::new(), missing: Vec::new(), left: Vec::new() };
    let mut found = Found { looked, blocks: Vec::new(), present: Vec::new() };
    let mut size = 0;
    for job in jobs {
        if size >= MESSAGE_BLOCKS {
            found.looked.left.push(job);
            continue;
        }
        match found.look(store, &job) {
            Some(bytes) => {
                size += bytes;
                found.looked.found.push(job);
            }
            None => found.looked.missing.push(job),
        }
    }
    found
}

impl Found {
    /// The bytes of the block, if it is here and to be sent.
    fn look(&mut self, store: &DiskStore, job: &Job) -> Option<usize> {
        let id = content_id(&job.cid)?;
        let answer = match job.kind {
            WantKind::Have => store.has(&id).map(|has| has.then_some(None)),
            WantKind::Block => store.block(&id).map(|block| block.map(Some)),
        };
        let answer = answer.unwrap_or_else(|error| {
            warn!(error = &error as &dyn std::error::Error, "a block that a peer wants cannot be read");
            None
        });
        match answer? {
            None => {
                self.present.push(job.cid);
                Some(0)
            }
            Some(bytes) => {
                let size = bytes.len();
                self.blocks.push((job.cid, bytes));
                Some(size)
            }
        }
    }

    /// What the answer will take.
    pub fn size(&self) -> usize {
        let blocks = self.blocks.iter().map(|(_, bytes)| bytes.len() + ENTRY_BYTES).sum::<usize>();
        blocks + (self.present.len() + self.looked.missing.len()) * ENTRY_BYTES
    }

    /// The answer, of what is still wanted, and with what else is to be said.
    pub fn message(self, mut presences: Vec<Presence>) -> Message {
        let wanted = |cid: &Cid| self.looked.found.iter().any(|job| job.cid == *cid);
        let present = self.present.iter().filter(|cid| wanted(cid));
        presences.extend(present.map(|cid| Presence { cid: *cid, has: true }));
        let blocks = self.blocks.iter().filter(|(cid, _)| wanted(cid));
        let payload = |(cid, data): &(Cid, Bytes)| Payload { prefix: Prefix::of(cid), data: data.clone() };
        Message { blocks: blocks.map(payload).collect(), presences, ..Message::default() }
    }
}
