//! Any bytes are refused, or are the one canonical encoding of their manifest.

#![no_main]

use af_contract::{ContentId, Manifest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::decode(bytes) {
        assert_eq!(manifest.encode().expect("it was encoded"), bytes);
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(id) = ContentId::parse(text)
    {
        assert_eq!(ContentId::parse(&id.to_string()).expect("its own text"), id);
    }
});
