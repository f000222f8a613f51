//! Our CIDs are those that the UnixFS profiles of IPIP-499, `unixfs-v1-2025` and `unixfs-v0-2015`, publish.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

use std::io::{self, Read};

use af_content::unixfs::{self, Directory, Entry, Profile};

/// The generator of the published vectors: the ChaCha20 key stream (RFC 8439) with SHA-256 of the seed as
/// key and nonce 0. Here and not a crate's, because that crate is deep in the tree of the program:
/// with another feature of it, everything would be compiled twice.
struct KeyStream {
    state: [u32; 16],
    block: Vec<u8>,
}

impl KeyStream {
    fn new(seed: &str) -> Self {
        let key = ring::digest::digest(&ring::digest::SHA256, seed.as_bytes());
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
        let mut state = [0; 16];
        state[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
        for (to, from) in state[4..12].iter_mut().zip(key.as_ref().chunks(4)) {
            *to = word(from);
        }
        Self { state, block: Vec::new() }
    }

    fn next_block(&mut self) -> impl Iterator<Item = u8> + use<> {
        let mut x = self.state;
        let mut quarter = |a: usize, b: usize, c: usize, d: usize| {
            for (sum, with, rotate, by) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
                x[sum] = x[sum].wrapping_add(x[with]);
                x[rotate] = (x[rotate] ^ x[sum]).rotate_left(by);
            }
        };
        for _ in 0..10 {
            (0..4).for_each(|i| quarter(i, 4 + i, 8 + i, 12 + i));
            (0..4).for_each(|i| quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4));
        }
        let start = self.state;
        self.state[12] += 1;
        x.into_iter().zip(start).flat_map(|(x, start)| x.wrapping_add(start).to_le_bytes())
    }
}

impl Read for KeyStream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.block.is_empty() {
            for _ in 0..1024 {
                let block = self.next_block();
                self.block.extend(block);
            }
        }
        let size = out.len().min(self.block.len());
        out[..size].copy_from_slice(&self.block[..size]);
        self.block.drain(..size);
        Ok(size)
    }
}

fn root(seed: &str, size: u64) -> String {
    root_as(Profile::V1, KeyStream::new(seed).take(size))
}

fn root_of_v0(seed: &str, size: u64) -> String {
    root_as(Profile::V0, KeyStream::new(seed).take(size))
}

fn root_as(profile: Profile, file: impl Read) -> String {
    profile.cid(&unixfs::import_as(profile, file, |_| Ok(())).unwrap().root).to_string()
}

#[test]
fn hello_world_has_a_cid_in_each_profile() {
    let of = |profile| root_as(profile, &b"hello world"[..]);
    assert_eq!(of(Profile::V1), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
    assert_eq!(of(Profile::V0), "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD");
    // The IPIP has no vectors of this one: a raw block by its BLAKE3, which b3sum says begins with d74981efa70a0c88.
    assert_eq!(of(Profile::V1Blake3), "bafkr4igxjga67jykbseaxdmmdgc5a5o3zp3htom2l6mrjznk7fvyggu6eq");
}

#[test]
fn one_chunk_of_v0_is_one_node() {
    assert_eq!(root_of_v0("chunk-v0-seed", 256 << 10), "QmWmRj3dFDZdb6ABvbmKhEL6TmPbAfBZ1t5BxsEyJrcZhE");
    assert_eq!(
        root_of_v0("chunk-v0-seed", (256 << 10) + 1),
        "QmYyLxtzZyW22zpoVAtKANLRHpDjZtNeDjQdJrcQNWoRkJ"
    );
}

#[test]
fn a_node_of_v0_has_174_links() {
    let full = 174 * (256 << 10);
    assert_eq!(root_of_v0("v0-seed", full), "QmUbBALi174SnogsUzLpYbD4xPiBSFANF4iztWCsHbMKh2");
    assert_eq!(root_of_v0("v0-seed", full + 1), "QmV81WL765sC8DXsRhE5fJv2rwhS4icHRaf3J9Zk5FdRnW");
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

/// A directory of files that hold an `x` each, with names of these lengths; and of how many blocks it is.
fn directory(profile: Profile, lengths: impl Iterator<Item = usize>) -> (String, usize) {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz01234567890-_";
    let mut size = 0;
    let file = unixfs::import_as(profile, &b"x"[..], |block| {
        size += block.bytes.len() as u64;
        Ok(())
    });
    let file = file.unwrap().root;
    let letters = io::BufReader::new(KeyStream::new(&format!("hamt-{profile}")));
    let mut letters = letters.bytes().map(Result::unwrap);
    let mut name = |length| -> String {
        letters
            .by_ref()
            .take(length)
            .map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]))
            .collect()
    };
    let entries: Vec<_> = lengths.map(|length| Entry { name: name(length), id: file, size }).collect();
    let mut blocks = 0;
    let (root, _) = Directory::write_as(profile, &entries, &mut |_| {
        blocks += 1;
        Ok(())
    })
    .unwrap();
    (profile.cid(&root).to_string(), blocks)
}

fn directory_of_v1(last: usize) -> (String, usize) {
    directory(Profile::V1, std::iter::repeat_n(11, 4765).chain([last]))
}

#[test]
fn a_directory_of_256_kib_is_one_node() {
    let root = "bafybeic3h7rwruealwxkacabdy45jivq2crwz6bufb5ljwupn36gicplx4";
    assert_eq!(directory_of_v1(21), (root.to_owned(), 1));
}

#[test]
fn one_byte_more_is_sharded() {
    let (root, blocks) = directory_of_v1(22);
    assert_eq!(root, "bafybeiegvuterwurhdtkikfhbxcldohmxp566vpjdofhzmnhv6o4freidu");
    assert!(blocks > 256, "{blocks}");
}

#[test]
fn a_directory_of_v0_is_sharded_by_its_names_and_cids() {
    let plain = directory(Profile::V0, std::iter::repeat_n(30, 4096));
    assert_eq!(plain, ("QmX5GtRk3TSSEHtdrykgqm4eqMEn3n2XhfkFAis5fjyZmN".to_owned(), 1));
    let (root, blocks) = directory(Profile::V0, std::iter::repeat_n(31, 4033));
    assert_eq!(root, "QmeMiJzmhpJAUgynAcxTQYek5PPKgdv3qEvFsdV3XpVnvP");
    assert!(blocks > 256, "{blocks}");
}
