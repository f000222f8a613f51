//! Any text and bytes are a content id or refused; one that is shows itself as others do, and is the same again when it is read.

#![no_main]

use af_contract::{Cid, ContentId, INLINE_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (text, bytes) = input;
    if let Ok(id) = ContentId::parse(text) {
        check(&id);
    }
    let mut rest = bytes;
    if let Ok(cid) = Cid::read_bytes(&mut rest) {
        assert!(cid.hash().digest().len() <= INLINE_BYTES);
        if let Ok(id) = ContentId::try_from(cid) {
            check(&id);
        }
    }
});

fn check(id: &ContentId) {
    let text = id.to_string();
    assert_eq!(text, id.to_cid().to_string());
    assert_eq!(ContentId::parse(&text).expect("as it was shown"), *id);
    assert_eq!(ContentId::try_from(id.to_cid()).expect("as a CID"), *id);
    if let Some(v0) = id.to_cid_v0() {
        assert_eq!(ContentId::parse(&v0.to_string()).expect("of version 0"), *id);
    }
    match id.content() {
        Some(content) => assert!(content.len() <= INLINE_BYTES && af_content::verify(id, content).is_ok()),
        None => assert_eq!(id.digest().len(), 32),
    }
}
