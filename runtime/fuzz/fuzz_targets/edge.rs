//! What strangers send in an edge's name, and what comes in the control plane's: nothing of it is believed or crashes.
#![no_main]

use std::str::FromStr;

use af_contract::edge::{FeedPage, JoinRequest, JoinToken, KeyPair, Logs, Proof, Share};
use af_contract::logs::LINE_BYTES;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(pair) = KeyPair::generate().and_then(|document| KeyPair::from_pkcs8(&document)) else { return };
    let key = pair.public();
    if let Ok(share) = Share::new() {
        assert!(share.open("proof", &key, bytes).is_err());
    }
    let _page = FeedPage::read(bytes);
    if let Ok(request) = serde_json::from_slice::<JoinRequest>(bytes) {
        assert!(request.verify(b"a secret that nobody knows").is_err());
    }
    if let Ok(logs) = serde_json::from_slice::<Logs>(bytes) {
        for line in logs.lines.into_iter().filter_map(|line| line.read(None, 1)) {
            assert!((0..=1).contains(&line.at) && line.text.len() <= LINE_BYTES + '…'.len_utf8());
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(proof) = Proof::read(text) {
        assert!(proof.verify(&key, &key, 0).is_err());
    }
    if let Ok(token) = JoinToken::from_str(text) {
        assert!(token.check(&key).is_err());
    }
});
