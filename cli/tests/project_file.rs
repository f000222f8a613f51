//! `af.config` of a project in the working directory: its functions are created, deployed and routed as it says.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::process::Command;

use serde_json::Value;
use support::{Home, guest, ok, refused};

/// A project's directory, with one file in it.
struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    fn new(name: &str, text: &str) -> Self {
        let project = Self { dir: tempfile::tempdir().unwrap() };
        project.write(name, text);
        std::fs::copy(guest("hello-rust"), project.dir.path().join("hello.wasm")).unwrap();
        project
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn af(&self, home: &Home, args: &[&str]) -> Command {
        let mut af = home.af();
        af.current_dir(self.dir.path()).args(args);
        af
    }

    fn json(&self, home: &Home, args: &[&str]) -> Value {
        serde_json::from_str(&ok(self.af(home, args).arg("--json"))).unwrap()
    }
}

#[tokio::test]
async fn a_users_file_is_applied_by_a_deploy_and_listed() {
    let home = Home::new();
    let server = home.up(&[]);
    let project = Project::new(
        "af.config.json",
        r#"{"functions": [{
            "name": "hello", "type": "function", "path": "hello.wasm",
            "routes": {"/z/*": {"response": {"status": 200, "body": "from the table"}}, "/a": "https://api.example.com"},
            "triggers": [{"cron": "@yearly", "path": "/tick"}]
        }]}"#,
    );
    let deployed = project.json(&home, &["functions", "deploy", "--create"]);
    assert_eq!(
        (&deployed["routes"], &deployed["deployment"]["triggers"][0]["path"]),
        (&"changed".into(), &"/tick".into())
    );
    let shown = project.json(&home, &["functions", "get", "-n", "hello"]);
    let patterns: Vec<&String> = shown["routes"].as_object().unwrap().keys().collect();
    assert_eq!(patterns, ["/z/*", "/a"], "in the order of the file");
    while server.get("hello", "/z/1").await.text().await.unwrap() != "from the table" {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.get("hello", "/").await.text().await.unwrap(), "Hello from Rust and WASI 0.2!\n");

    let again = ok(&mut project.af(&home, &["functions", "deploy"]));
    assert!(again.contains("unchanged, from af.config.json"), "{again}");
    let text = std::fs::read_to_string(project.dir.path().join("af.config.json")).unwrap();
    let turned =
        r#""/a": "https://api.example.com", "/z/*": {"response": {"status": 200, "body": "from the table"}}"#;
    let (before, rest) = text.split_once(r#""/z/*""#).unwrap();
    let (_, after) = rest.split_once(r#"example.com""#).unwrap();
    project.write("af.config.json", &format!("{before}{turned}{after}"));
    let again = project.json(&home, &["functions", "deploy"]);
    assert_eq!(again["routes"], "changed", "their order matters");

    project.write(
        "af.config.json",
        r#"{"functions": [{"name": "hello", "routes": {"/b": "https://b.example"}}]}"#,
    );
    let (_, said) = refused(&mut project.af(&home, &["functions", "deploy"]));
    assert!(said.contains("say which component to deploy with --path"), "{said}");
    ok(&mut project.af(&home, &["functions", "update", "-n", "hello"]));
    let shown = project.json(&home, &["functions", "get", "-n", "hello"]);
    assert_eq!(shown["routes"], serde_json::json!({ "/b": "https://b.example" }));

    project.write(
        "af.config.json",
        r#"{"functions": [{"name": "hello", "routes": {"/c": "https://c.example"}}]}"#,
    );
    ok(&mut project.af(&home, &["functions", "update", "-n", "hello", "--status", "INACTIVE"]));
    let shown = project.json(&home, &["functions", "get", "-n", "hello"]);
    assert_eq!(shown["routes"], serde_json::json!({ "/b": "https://b.example" }), "only what was asked for");
}

#[tokio::test]
async fn create_takes_routes_from_a_program_and_options_come_first() {
    let home = Home::new();
    let _server = home.up(&[]);
    let project = Project::new(
        "af.config.js",
        "const routes = { '/api/*': 'https://api.example.com' };
         export default { functions: ['one', 'two'].map((name) => ({ name, type: 'function', routes })) };",
    );
    let made = project.json(&home, &["functions", "create", "-n", "one"]);
    assert_eq!(made["routes"], serde_json::json!({ "/api/*": "https://api.example.com" }));
    let made = project
        .json(&home, &["functions", "create", "-n", "two", "--routes", r#"{"/x": "https://x.example"}"#]);
    assert_eq!(made["routes"], serde_json::json!({ "/x": "https://x.example" }));
    let made = project.json(&home, &["functions", "create", "-n", "three"]);
    assert_eq!(made["routes"], Value::Null, "the file does not know it");
    let (_, said) = refused(&mut project.af(&home, &["functions", "deploy", "-p", "hello.wasm"]));
    assert!(said.contains("say which function with --name; af.config.js has one, two"), "{said}");
}

#[tokio::test]
async fn a_file_with_a_mistake_stops_a_deploy_before_anything_is_sent() {
    let home = Home::new();
    let _server = home.up(&[]);
    let project = Project::new("af.config.json", r#"{"functions": [{"name": "hello", "rotes": {}}]}"#);
    let (code, said) =
        refused(&mut project.af(&home, &["functions", "deploy", "--create", "-p", "hello.wasm"]));
    assert!(code == 1 && said.contains("af.config.json: functions[0]: unknown field `rotes`"), "{said}");
    assert!(ok(&mut project.af(&home, &["functions", "list"])).contains("no functions yet"));
}

#[tokio::test]
async fn a_site_is_built_and_deployed_as_the_file_says() {
    let home = Home::new();
    let server = home.up(&[]);
    let project = Project::new(
        "af.config.json",
        r#"{"sites": [{"slug": "pages", "distDir": "dist", "buildCommand": "mkdir -p dist && echo built > dist/index.html && echo noise"}]}"#,
    );
    let deployed = project.json(&home, &["sites", "deploy", "--create"]);
    assert!(deployed["deployment"]["cid"].is_string(), "{deployed}");
    assert_eq!(server.get("pages", "/").await.text().await.unwrap(), "built\n");

    project.write(
        "af.config.json",
        r#"{"sites": [{"slug": "pages", "distDir": "dist", "buildCommand": "exit 3"}]}"#,
    );
    let (_, said) = refused(&mut project.af(&home, &["sites", "deploy"]));
    assert!(said.contains("buildCommand failed") && said.contains("exit 3"), "{said}");
    let (_, said) = refused(&mut project.af(&home, &["sites", "deploy", "-n", "other"]));
    assert!(said.contains("--path"), "{said}");
}
