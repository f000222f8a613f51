//! Any bytes are UnixFS nodes or refused, and whatever tree they unfold into is within the limits of assets.

#![no_main]

use std::collections::HashMap;

use af_content::unixfs::{Node, Tree, TreeError};
use af_contract::{Codec, ContentId, limits};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: Vec<(u8, Vec<u8>)>| {
    let mut blocks = HashMap::<ContentId, Bytes>::new();
    let mut root = None;
    for (kind, mut bytes) in input {
        // A block can link to the one before it, which the fuzzer could not guess.
        if let (Some(id), true) = (root, kind & 2 != 0) {
            let id: ContentId = id;
            let cid = id.to_cid().to_bytes();
            let mut link = vec![0x12, cid.len() as u8 + 7, 0x0a, cid.len() as u8];
            link.extend(cid);
            link.extend([0x12, 1, kind, 0x18, 5]);
            link.extend(bytes);
            bytes = link;
        }
        let codec = if kind & 1 == 0 { Codec::Raw } else { Codec::DagPb };
        let id = af_content::identify(codec, &bytes);
        if let Ok(node) = Node::decode(&id, &Bytes::from(bytes.clone())) {
            assert!(node.links().count() <= bytes.len());
        }
        blocks.insert(id, bytes.into());
        root = Some(id);
    }
    let Some(root) = root else { return };
    let read = |id: &ContentId| blocks.get(id).cloned().ok_or(TreeError::FileTooDeep(*id));
    if let Ok(tree) = Tree::check(root, read) {
        assert!(tree.files + tree.directories <= limits::ASSETS_ENTRIES);
        assert!(tree.bytes <= limits::ASSETS_BYTES);
    }
});
