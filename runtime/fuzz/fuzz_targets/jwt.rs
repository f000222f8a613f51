//! Any text is no token, or one that has no other spelling and says the same when what it says is written and read.

#![no_main]

#[path = "../../../control-api/src/domain/jwt.rs"]
mod jwt;

use jwt::{Unverified, encoded, unsigned};
use serde_json::json;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(token) = Unverified::parse(text) else { return };
    assert_eq!(text, format!("{}.{}", token.signed, encoded(&token.signature)));
    let Some(claims) = token.claims() else { return };
    let again = format!("{}.", unsigned(&json!({ "alg": "HS256" }), &claims).expect("claims are JSON"));
    if let Some(token) = Unverified::parse(&again) {
        assert_eq!(token.claims(), Some(claims));
    }
});
