//! A data item: what is signed of it, and what stands before its data. Items made here have no target and no anchor, so
//! that the same data under the same key are the same item wherever signatures allow that.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ring::digest::{SHA256, digest};

use super::deep_hash::{Blob, DIGEST, list};
use super::key::Key;
use super::tags::Tags;

/// What is signed.
#[must_use]
pub fn signed(key: &Key, tags: &Tags, data: Blob) -> [u8; DIGEST] {
    list([
        Blob::of(b"dataitem"),
        Blob::of(b"1"),
        Blob::of(key.kind().to_string().as_bytes()),
        Blob::of(key.owner()),
        Blob::default(),
        Blob::default(),
        Blob::of(&tags.bytes),
        data,
    ])
}

/// What stands before the data.
#[must_use]
pub fn head(key: &Key, tags: &Tags, signature: &[u8]) -> Vec<u8> {
    let mut head = key.kind().to_le_bytes().to_vec();
    head.extend_from_slice(signature);
    head.extend_from_slice(key.owner());
    // No target, no anchor.
    head.extend_from_slice(&[0, 0]);
    head.extend_from_slice(&tags.count.to_le_bytes());
    head.extend_from_slice(&(tags.bytes.len() as u64).to_le_bytes());
    head.extend_from_slice(&tags.bytes);
    head
}

/// What the item is called on Arweave: 43 characters.
#[must_use]
pub fn id(signature: &[u8]) -> String {
    BASE64.encode(digest(&SHA256, signature))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ans104::TagError;

    /// The seed is that of the first test vector of RFC 8032.
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

    fn item(key: &Key, tags: &[(&str, &str)], data: &[u8]) -> Vec<u8> {
        let tags = Tags::new(tags).unwrap();
        let signature = key.sign(&signed(key, &tags, Blob::of(data))).unwrap();
        let mut item = head(key, &tags, &signature);
        item.extend_from_slice(data);
        item
    }

    fn take<'a>(bytes: &mut &'a [u8], size: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(size);
        *bytes = rest;
        taken
    }

    fn number(bytes: &mut &[u8]) -> u64 {
        u64::from_le_bytes(take(bytes, 8).try_into().unwrap())
    }

    fn long(bytes: &mut &[u8]) -> usize {
        let (doubled, rest) = unsigned_varint::decode::u64(bytes).unwrap();
        *bytes = rest;
        assert_eq!(doubled % 2, 0);
        usize::try_from(doubled / 2).unwrap()
    }

    /// Reads an item of an Ed25519 key as the standard says it is written: its tags and data, if its signature is right.
    fn read(mut item: &[u8]) -> (Vec<(String, String)>, Vec<u8>) {
        let rest = &mut item;
        assert_eq!(take(rest, 2), [2, 0]);
        let (signature, owner) = (take(rest, 64), take(rest, 32));
        assert_eq!(take(rest, 2), [0, 0]);
        let (count, size) = (number(rest), number(rest));
        let written = take(rest, usize::try_from(size).unwrap());
        let (mut tags, mut avro) = (Vec::new(), written);
        if count > 0 {
            assert_eq!(long(&mut avro) as u64, count);
            for _ in 0..count {
                let mut text = || {
                    let size = long(&mut avro);
                    String::from_utf8(take(&mut avro, size).to_vec()).unwrap()
                };
                tags.push((text(), text()));
            }
            assert_eq!(long(&mut avro), 0);
        }
        assert!(avro.is_empty());
        let parts = [b"dataitem", &b"1"[..], b"2", owner, b"", b"", written, rest].map(Blob::of);
        let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, owner);
        key.verify(&list(parts), signature).unwrap();
        (tags, rest.to_vec())
    }

    #[test]
    fn a_deep_hash_is_what_arbundles_computes() {
        // `deepHash(["dataitem", "1", "", "hello"])` of @dha-team/arbundles 1.0.4.
        let hash = list([b"dataitem", &b"1"[..], b"", b"hello"].map(Blob::of));
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "4f75373ede5fd05d11495780724f35e47a8960dd023469b0fa2a41315d29334288162518713dbdac1288d16a0b5f50cd"
        );
    }

    #[test]
    fn an_item_of_an_ed25519_key_is_the_one_that_arbundles_makes() {
        let key = Key::parse(KEY.as_bytes()).unwrap();
        let tags = [("Content-Type", "application/vnd.ipld.car"), ("App-Name", "af")];
        let item = item(&key, &tags, b"some data");
        // Of `createData` and `sign` with the same seed, in @dha-team/arbundles 1.0.4.
        assert_eq!(id(&item[2..66]), "Aru_OPLT08aZMi2pqTaSGKAVEqOiwguIgOsAQRxjrOs");
        let digest = BASE64.encode(digest(&SHA256, &item));
        assert_eq!(digest, "EugFzWhzV1NIB3GE0iCV2V78qHA33FaJCQ3s9upY3wY");
    }

    #[test]
    fn tags_beyond_the_bounds_are_refused() {
        let long = "x".repeat(3073);
        assert_eq!(Tags::new(&[("", "v")]), Err(TagError::Length(0)));
        assert_eq!(Tags::new(&[("n", "v"), ("n", "")]), Err(TagError::Length(1)));
        assert_eq!(Tags::new(&[("n", &long)]), Err(TagError::Length(0)));
        assert_eq!(Tags::new(&[("n", "v"); 129]), Err(TagError::Count(129)));
        assert!(matches!(Tags::new(&[("n", &long[..3000]); 2]), Err(TagError::Total(_))));
    }

    proptest! {
        #[test]
        fn any_tags_and_data_round_trip(
            tags in prop::collection::vec(("\\PC{1,40}", "\\PC{1,40}"), 0..10), data: Vec<u8>,
        ) {
            let key = Key::parse(KEY.as_bytes()).unwrap();
            let pairs: Vec<_> = tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            prop_assert_eq!(read(&item(&key, &pairs, &data)), (tags, data));
        }
    }
}
