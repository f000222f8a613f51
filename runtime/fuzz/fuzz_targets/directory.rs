//! Whatever blocks a directory is made of: it is listed within bounds or refused, a name that is looked up is the one that the
//! listing has, and a walk over it comes to each block once.

#![no_main]

use std::collections::{HashMap, HashSet};

use af_content::traversal::{DagBounds, Traversal};
use af_content::unixfs::{Directory, Listing, Looked, Lookup, Node};
use af_contract::{Codec, ContentId, limits};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

const BOUNDS: DagBounds = DagBounds { bytes: 1 << 20, blocks: 1_000 };

type Blocks = HashMap<ContentId, Bytes>;

/// A shard or directory with these links, and bytes that are put where its data is.
type Part<'a> = (bool, Vec<(u8, &'a str, u8)>, &'a [u8]);

fuzz_target!(|input: (Vec<Part<'_>>, &str)| {
    let (parts, name) = input;
    let mut blocks = Blocks::new();
    let mut ids = vec![af_content::identify(Codec::Raw, b"leaf")];
    blocks.insert(ids[0], Bytes::from_static(b"leaf"));
    for (sharded, links, data) in parts {
        let node = Bytes::from(encoded(sharded, &links, data, &ids));
        // Some stand in their links.
        let inline = ContentId::inline(Codec::DagPb, &node).filter(|_| data.len() % 2 == 1);
        let id = inline.unwrap_or_else(|| af_content::identify(Codec::DagPb, &node));
        blocks.insert(id, node);
        ids.push(id);
    }
    let Some(root) = ids.last().copied() else { return };
    walk(root, &blocks);
    let Some(directory) = listed(root, &blocks) else { return };
    assert!(directory.entries().len() <= limits::ASSETS_ENTRIES);
    for name in directory.entries().iter().take(100).map(|entry| entry.name.as_str()).chain([name]) {
        // A shard may have a name where its hash does not lead: then it is listed and not found, and never another one.
        if let Some(found) = looked_up(root, name, &blocks) {
            assert_eq!(directory.find(name).map(|entry| entry.id), Some(found));
        }
    }
});

/// Prefixes of shards are two hex digits, of which the fuzzer may choose.
fn encoded(sharded: bool, links: &[(u8, &str, u8)], data: &[u8], ids: &[ContentId]) -> Vec<u8> {
    let mut out = Vec::new();
    for (prefix, name, to) in links {
        let cid = ids[usize::from(*to) % ids.len()].to_cid().to_bytes();
        let name = if sharded { format!("{prefix:02X}{name}") } else { (*name).to_owned() };
        let link = [field(1, &cid), field(2, name.as_bytes())].concat();
        out.extend(field(2, &link));
    }
    let fixed: &[u8] = if sharded { &[8, 5, 0x28, 0x22, 0x30, 0x80, 0x02] } else { &[8, 1] };
    out.extend(field(1, &[fixed, data].concat()));
    out
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    out.extend(unsigned_varint::encode::usize(bytes.len(), &mut unsigned_varint::encode::usize_buffer()));
    out.extend_from_slice(bytes);
    out
}

fn listed(root: ContentId, blocks: &Blocks) -> Option<Directory> {
    let mut listing = Listing::new(root);
    while let Some(id) = listing.wanted() {
        listing.feed(blocks.get(&id)?).ok()?;
    }
    listing.finish().ok()
}

fn looked_up(root: ContentId, name: &str, blocks: &Blocks) -> Option<ContentId> {
    let mut lookup = Lookup::new(root, name);
    loop {
        let node = Node::decode(&lookup.wanted(), blocks.get(&lookup.wanted())?).ok()?;
        match lookup.step(node).ok()? {
            Looked::Found(entry) => return Some(entry.id),
            Looked::Deeper(deeper) => lookup = deeper,
            Looked::Nothing | Looked::File => return None,
        }
    }
}

fn walk(root: ContentId, blocks: &Blocks) {
    let mut traversal = Traversal::new(root, BOUNDS);
    let mut seen = HashSet::new();
    while let Some(visit) = traversal.next() {
        assert!(seen.insert(visit.id), "each block once");
        let Some(block) = blocks.get(&visit.id) else { return };
        if traversal.arrived(visit, block).is_err() {
            return;
        }
    }
    assert_eq!(traversal.waiting(), 0);
    assert!(seen.len() <= blocks.len());
}
