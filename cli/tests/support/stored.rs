//! What tests of stored content share.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Home, ok};

/// So many bytes, no two blocks of which are the same.
pub fn bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed * 2 + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..size.div_ceil(8)).flat_map(|_| next()).take(size).collect()
}

pub fn storage(home: &Home, args: &[&str]) -> Command {
    let mut af = home.af();
    af.args(["--json", "storage"]).args(args);
    af
}

pub fn said(command: &mut Command) -> Value {
    serde_json::from_str(&ok(command)).unwrap()
}

pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
