//! What is deployed and stored in tests: the smallest component, a directory, and CARs.

use af_content::car::{self, Block};
use af_content::unixfs::{self, Directory, Entry};
use af_contract::ContentId;

/// The smallest component that answers HTTP, as text.
pub const COMPONENT: &str = "(component (component $c) (instance $i (instantiate $c)) (export \"wasi:http/incoming-handler@0.2.3\" (instance $i)))";

pub fn car_of(roots: &[ContentId], blocks: &[Block]) -> Vec<u8> {
    let mut out = car::encode_header(roots);
    for block in blocks {
        out.extend(car::encode_block_prefix(&block.id, block.bytes.len()));
        out.extend_from_slice(&block.bytes);
    }
    out
}

/// A directory with one file, and its CAR.
pub fn directory(text: &[u8]) -> (ContentId, Vec<u8>) {
    let mut blocks = Vec::new();
    let mut put = |block: Block| {
        blocks.push(block);
        Ok(())
    };
    let id = unixfs::import(text, &mut put).unwrap().root;
    let entry = Entry { name: "index.html".into(), id, size: text.len() as u64 };
    let root = Directory::write(&[entry], &mut put).unwrap().0;
    (root, car_of(&[root], &blocks))
}
