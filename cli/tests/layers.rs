//! Who may reach what: the crates' borders, held against the dependency tree.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

use std::process::Command;

/// Names of all crates that a package's normal dependencies reach.
fn reached(package: &str) -> Vec<String> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let output = tree.args(["--package", package]).current_dir(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn no_crate_reaches_what_it_must_not() {
    let rules: [(&str, &[&str]); 4] = [
        ("af-contract", &["tokio", "hyper", "sqlx", "wasmtime", "axum"]),
        ("af-content", &["sqlx", "axum", "wasmtime"]),
        ("af-runtime", &["sqlx", "axum", "async-graphql", "af-control-api"]),
        ("af-control-api", &["wasmtime", "af-runtime"]),
    ];
    for (package, forbidden) in rules {
        let reached = reached(package);
        assert!(reached.len() > 5, "{package} reaches nothing: {reached:?}");
        for name in forbidden {
            assert!(!reached.iter().any(|crate_| crate_ == name), "{package} reaches {name}");
        }
    }
}
