//! Our CIDs are those that the UnixFS profile `unixfs-v1-2025` (IPIP-499) publishes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

use std::io::{self, Read};

use af_content::unixfs;
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};

/// The generator of the published vectors: the ChaCha20 key stream under SHA-256 of the seed.
struct KeyStream(ChaCha20);

impl KeyStream {
    fn new(seed: &str) -> Self {
        let key = ring::digest::digest(&ring::digest::SHA256, seed.as_bytes());
        let key: [u8; 32] = key.as_ref().try_into().unwrap();
        Self(ChaCha20::new(&key.into(), &[0; 12].into()))
    }
}

impl Read for KeyStream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        out.fill(0);
        self.0.apply_keystream(out);
        Ok(out.len())
    }
}

fn root(seed: &str, size: u64) -> String {
    unixfs::import(KeyStream::new(seed).take(size), |_| Ok(())).unwrap().root.to_string()
}

#[test]
fn one_chunk_is_a_raw_block() {
    assert_eq!(root("chunk-v1-seed", 1 << 20), "bafkreiacndfy443ter6qr2tmbbdhadvxxheowwf75s6zehscklu6ezxmta");
}

#[test]
fn one_byte_more_is_a_node_with_two_leaves() {
    assert_eq!(
        root("chunk-v1-seed", (1 << 20) + 1),
        "bafybeigmix7t42i6jacydtquhet7srwvgpizfg7gjbq7627d35mjomtu64"
    );
}

#[test]
fn one_gibibyte_fills_one_node() {
    assert_eq!(root("v1-2025-seed", 1 << 30), "bafybeihmf37wcuvtx4hpu7he5zl5qaf2ineo2lqlfrapokkm5zzw7zyhvm");
}

#[test]
fn one_byte_more_needs_a_second_level() {
    assert_eq!(
        root("v1-2025-seed", (1 << 30) + 1),
        "bafybeibdsi225ugbkmpbdohnxioyab6jsqrmkts3twhpvfnzp77xtzpyhe"
    );
}
