//! No bytes of a peer make the reader of bitswap's messages panic, and what it has read it would write and read again.

#![no_main]

#[path = "../../../content/src/bitswap/message.rs"]
mod message;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use message::{BLOCKS, ENTRIES, Message, Version};

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = Message::decode(Bytes::copy_from_slice(bytes)) else { return };
    assert!(read.wants.len() <= ENTRIES && read.presences.len() <= ENTRIES && read.blocks.len() <= BLOCKS);
    let data: usize = read.blocks.iter().map(|block| block.data.len()).sum();
    assert!(data <= bytes.len(), "blocks are parts of the message");
    let framed = read.encode(Version::V1_2);
    let (size, body) = unsigned_varint::decode::u64(&framed).unwrap();
    assert_eq!(size, body.len() as u64);
    assert_eq!(Message::decode(Bytes::copy_from_slice(body)).unwrap(), read);
});
