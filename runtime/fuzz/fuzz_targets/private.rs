//! Any bytes are refused as a private file, in one piece and as a stream alike; and whatever is done to a real one, it is
//! that file or refused.

#![no_main]

use std::io::Read;

use af_content::private::{Cipher, Layout, Opening, Sealing, open};
use af_contract::ContentKey;
use libfuzzer_sys::fuzz_target;

/// What is done to an encrypted file.
#[derive(Debug)]
enum Change {
    Flip,
    Cut,
    Insert,
    Repeat,
}

fn apply(stored: &mut Vec<u8>, change: &Change, at: usize, bytes: &[u8]) {
    let at = at % (stored.len() + 1);
    match change {
        Change::Flip => {
            if let Some(byte) = stored.get_mut(at) {
                *byte ^= bytes.first().copied().unwrap_or(1);
            }
        }
        Change::Cut => stored.truncate(at),
        Change::Insert => drop(stored.splice(at..at, bytes.iter().copied())),
        Change::Repeat => stored.extend_from_within(at..),
    }
}

fn both(cipher: &Cipher, stored: &[u8]) -> Option<Vec<u8>> {
    let whole = open(cipher, stored).ok();
    let mut streamed = Vec::new();
    let ended = Opening::new(cipher, stored).read_to_end(&mut streamed).is_ok();
    assert_eq!(whole, ended.then_some(streamed));
    if whole.is_some() {
        assert!(Layout::of_stored(stored.len() as u64).is_ok());
    }
    whole
}

fuzz_target!(|input: (u8, u32, u32, Vec<u8>)| {
    let (kind, size, at, bytes) = input;
    let cipher = Cipher::new(&ContentKey::new([7; 32]));
    assert!(both(&cipher, &bytes).is_none());
    let name = String::from_utf8_lossy(&bytes);
    assert!(cipher.open_entry(&name).is_err());
    if let Ok(sealed) = cipher.seal_entry(&name) {
        assert_eq!(cipher.open_entry(&sealed).unwrap(), name);
    }

    let file: Vec<u8> =
        bytes.iter().copied().chain([7].into_iter().cycle()).take(size as usize % 200_000).collect();
    let mut stored = Vec::new();
    Sealing::new(&cipher, &file[..]).unwrap().read_to_end(&mut stored).unwrap();
    let real = stored.clone();
    let change = [Change::Flip, Change::Cut, Change::Insert, Change::Repeat];
    apply(&mut stored, &change[kind as usize % 4], at as usize, &bytes);
    let opened = both(&cipher, &stored);
    assert_eq!(opened, (stored == real).then_some(file));
});
