//! The REST API does what its document says, whatever it is sent: no 5xx, no status, type or form that is not documented.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{Home, Server, fetched, ok};

/// It writes no CARs, and waits for the end of a log that is followed; both have tests of their own.
const LEFT_OUT: [&str; 5] = [
    "/v1/functions/{function}/logs",
    "/store",
    "/v1/functions/{function}/deployments",
    "/v1/sites/{site}/deployments",
    "/v1/projects/{project}/storage/blocks",
];

fn run(program: &Path, server: &Server, dir: &Path, ids: &[(&str, &str)], options: &[&str]) {
    let mut config = String::from("[parameters]\n");
    for (name, id) in ids {
        config.push_str(&format!("\"path.{name}\" = \"{id}\"\n"));
    }
    std::fs::write(dir.join("schemathesis.toml"), config).unwrap();
    let mut command = Command::new(program);
    command.current_dir(dir).args(["--config-file", "schemathesis.toml", "run"]);
    command.arg(format!("{}/openapi.json", server.api));
    command.args(["--header", &format!("Authorization: Bearer {}", server.token())]);
    command.args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]);
    command.args([
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        "20",
        "--seed",
        "1",
        "--request-timeout",
        "30",
        "--no-color",
    ]);
    for path in LEFT_OUT {
        command.args(["--exclude-path", path]);
    }
    let output = command.args(options).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // "1737 generated, 1737 passed": a document of which it understands nothing passes, too.
    let tried = said.lines().find_map(|line| line.trim().split_once(" generated,"));
    let tried: u32 = tried.unwrap().0.parse().unwrap();
    assert!(tried > 100, "{said}");
}

#[test]
fn the_api_does_what_its_document_says() {
    let home = Home::new();
    let Some(program) = fetched("schemathesis", "schemathesis") else { return };
    let dir = tempfile::tempdir().unwrap();
    let server = home.up(&["--api-rate-limit", "10000"]);
    let json =
        |args: &[&str]| serde_json::from_str::<Value>(&ok(home.af().arg("--json").args(args))).unwrap();
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    let organization = id(&json(&["orgs", "list"])[0]);
    let function = json(&["functions", "create", "-n", "fuzzed"]);
    let site = id(&json(&["sites", "create", "-n", "pages"]));
    let domain = id(&json(&["domains", "add", "www.example.com", "--function", "fuzzed"]));
    let plan = id(&json(&["admin", "plans", "set", "small"]));
    let ids = [
        ("project", function["projectId"].as_str().unwrap()),
        ("organization", &organization),
        ("function", &id(&function)),
        ("site", &site),
        ("domain", &domain),
        ("plan", &plan),
    ];
    // With what there is, as long as it is there; then without.
    run(&program, &server, dir.path(), &ids, &["--exclude-method", "DELETE"]);
    run(&program, &server, dir.path(), &[], &["--include-method", "DELETE"]);
    assert!(!home.logged().contains("a request failed"), "{}", home.logged());
}
