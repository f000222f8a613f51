//! Any text is no Idempotency-Key, or one that is the same with quotes around it.

#![no_main]

#[path = "../../../control-api/src/domain/idempotency_key.rs"]
mod idempotency_key;

use idempotency_key::Key;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(key) = Key::parse(text) else { return };
    assert!((1..=255).contains(&key.0.len()) && key.0.bytes().all(|byte| byte.is_ascii_graphic()));
    assert_eq!(Key::parse(&format!("\"{}\"", key.0)), Ok(key));
});
