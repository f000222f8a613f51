//! The README's journey, with the real binary, over real HTTP, with the real components.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::path::Path;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::Value;
use support::{Home, guest, ok, refused};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn create_deploy_call_roll_back_and_delete() {
    let home = Home::new();
    let server = home.up(&[]);
    let af = |args: &[&str]| ok(home.af().args(args));
    let deploy = |name: &str, file: &str| {
        ok(home.af().args(["--json", "functions", "deploy", "-n", name, "-p"]).arg(guest(file)))
    };

    assert!(af(&["whoami"]).contains("owner"));
    af(&["functions", "create", "-n", "hello"]);
    let missing = server.get("hello", "/").await;
    assert_eq!(missing.status(), 404, "created, but without code");

    let first: Value = serde_json::from_str(&deploy("hello", "hello-rust")).unwrap();
    let answer = server.get("hello", "/").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain");
    assert_eq!(answer.headers()["af-deployment"], first["deployment"]["manifestCid"].as_str().unwrap());
    assert_eq!(answer.text().await.unwrap(), "Hello from Rust and WASI 0.2!\n");

    deploy("hello", "hello-rust-p3");
    assert_eq!(server.get("hello", "/").await.text().await.unwrap(), "Hello from Rust and WASI 0.3!\n");
    let deployments: Value =
        serde_json::from_str(&af(&["--json", "functions", "deployments", "-n", "hello"])).unwrap();
    assert_eq!(deployments.as_array().unwrap().len(), 2);

    af(&["functions", "rollback", "-n", "hello"]);
    let answer = server.get("hello", "/").await;
    assert_eq!(answer.headers()["af-deployment"], first["deployment"]["manifestCid"].as_str().unwrap());
    assert_eq!(answer.text().await.unwrap(), "Hello from Rust and WASI 0.2!\n");
    let newer = deployments[0]["id"].as_str().unwrap();
    af(&["functions", "rollback", "-n", "hello", "--to", newer]);
    assert_eq!(server.get("hello", "/").await.text().await.unwrap(), "Hello from Rust and WASI 0.3!\n");

    assert!(af(&["functions", "list"]).contains(&format!("http://hello.localhost:{}", server.port)));
    af(&["functions", "delete", "-n", "hello"]);
    assert!(af(&["functions", "list"]).contains("no functions yet"));
}

#[tokio::test]
async fn a_javascript_function_answers_and_streams() {
    let home = Home::new();
    let server = home.up(&[]);
    let deploy = ["functions", "deploy", "--create", "--env", "COLOUR=blue", "-n", "hello-js", "-p"];
    ok(home.af().args(deploy).arg(guest("hello-js")));
    assert_eq!(server.get("hello-js", "/settings").await.text().await.unwrap(), r#"{"COLOUR":"blue"}"#);
    assert_eq!(server.get("hello-js", "/").await.text().await.unwrap(), "Hello from JavaScript!\n");

    // Another script on the same engine: its own memory, and no code of its own.
    let other = home.data().join("other.wasm");
    std::fs::write(&other, replaced(&guest("hello-js"), b"from JavaScript!", b"from the second\n")).unwrap();
    ok(home.af().args(["functions", "deploy", "--create", "-n", "other", "-p"]).arg(&other));
    assert_eq!(server.get("other", "/").await.text().await.unwrap(), "Hello from the second\n\n");
    assert_eq!(server.get("hello-js", "/").await.text().await.unwrap(), "Hello from JavaScript!\n");
    let artifacts = |kind: &str| {
        let files = std::fs::read_dir(home.data().join("artifacts")).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == kind)).count()
    };
    assert_eq!((artifacts("cwasm"), artifacts("memory")), (1, 2));

    let body = vec![b'x'; 300_000];
    let answer = server.request("hello-js", "/echo").body(body.clone());
    let answer = answer.build().unwrap();
    let mut post = reqwest::Request::new(reqwest::Method::POST, answer.url().clone());
    *post.headers_mut() = answer.headers().clone();
    *post.body_mut() = Some(body.clone().into());
    let answer = support::http().execute(post).await.unwrap();
    assert!(answer.bytes().await.unwrap() == body);
}

/// A file with some bytes replaced by as many others.
fn replaced(path: &Path, from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    while let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

#[tokio::test]
async fn what_is_changed_shows_at_once() {
    let home = Home::new();
    let server = home.up(&[]);
    let af = |args: &[&str]| ok(home.af().args(args));
    ok(home.af().args(["functions", "deploy", "--create", "-n", "api", "-p"]).arg(guest("hello-rust")));

    af(&["functions", "update", "-n", "api", "--status", "INACTIVE"]);
    until(async || server.get("api", "/").await.status() == 404).await;
    let problem: Value = server.get("api", "/").await.json().await.unwrap();
    assert_eq!(problem["code"], "function_inactive");
    af(&["functions", "update", "-n", "api", "--status", "ACTIVE"]);
    until(async || server.get("api", "/").await.status() == 200).await;
    af(&["functions", "update", "-n", "api", "--status", "INACTIVE"]);
    ok(home.af().args(["functions", "deploy", "-n", "api", "-p"]).arg(guest("hello-rust")));
    assert_eq!(server.get("api", "/").await.status(), 200, "a deploy switches it on");

    af(&["functions", "update", "-n", "api", "--status", "INACTIVE"]);
    until(async || server.get("api", "/").await.status() == 404).await;
    let problem: Value = server.get("api", "/").await.json().await.unwrap();
    assert!(
        problem["detail"].as_str().unwrap().starts_with("the function \"api\" is switched off"),
        "{problem}"
    );
    let said = af(&["functions", "rollback", "-n", "api", "--to", "1"]);
    assert!(said.contains("api has deployment 1") && said.contains("stays switched off"), "{said}");
    let said = af(&["functions", "promote", "api", "2"]);
    assert!(said.contains("api has deployment 2") && said.contains("stays switched off"), "{said}");
    assert_eq!(server.get("api", "/").await.status(), 404);
    af(&["functions", "update", "-n", "api", "--status", "ACTIVE"]);
    until(async || server.get("api", "/").await.status() == 200).await;
    let (_, why) = refused(home.af().args(["--json", "functions", "rollback", "-n", "api", "--to", "7"]));
    let error: Value = serde_json::from_str(&why).unwrap();
    assert_eq!(error["error"]["code"], "not_found");
    assert!(error["error"]["detail"].as_str().unwrap().contains("no deployment 7"), "{why}");

    af(&["functions", "update", "-n", "api", "--name", "backend", "--slug", "my-backend"]);
    until(async || server.get("my-backend", "/").await.status() == 200).await;
    assert_eq!(server.get("api", "/").await.status(), 404);
    let shown = af(&["functions", "get", "-n", "backend"]);
    assert!(shown.contains("my-backend.localhost"), "{shown}");
}

/// Asks again until it is so; the route feed is asynchronous. The test's own time-out bounds it.
async fn until(condition: impl AsyncFn() -> bool) {
    while !condition().await {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_second_start_finds_everything() {
    let home = Home::new();
    let server = home.up(&[]);
    ok(home.af().args(["functions", "deploy", "--create", "-n", "hello", "-p"]).arg(guest("hello-rust")));
    assert!(server.stop().success(), "SIGTERM ends it well");
    let server = home.up(&[]);
    assert_eq!(server.get("hello", "/").await.text().await.unwrap(), "Hello from Rust and WASI 0.2!\n");
    let listed = ok(home.af().args(["functions", "list"]));
    assert!(listed.contains("hello"), "signed in at the new address too: {listed}");
}

#[tokio::test]
async fn a_stop_lets_requests_finish() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "60000"]);
    ok(home.af().args(["functions", "deploy", "--create", "-n", "busy", "-p"]).arg(guest("hostile")));
    let started = server.request("busy", "/slow").send().await.unwrap();
    assert_eq!(started.status(), 200, "the response has begun");
    server.terminate();
    assert_eq!(started.text().await.unwrap(), "slow but sure\n");
    assert!(server.stop().success());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_connections_that_do_nothing() {
    let home = Home::new();
    let server = home.up(&[]);
    let (_, port) = server.api.rsplit_once(':').unwrap();
    let mut idle = tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
    idle.write_all(b"GET /hea").await.unwrap();
    let _other = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    assert!(server.stop().success(), "in time, and without an error");
}

#[tokio::test]
async fn two_servers_do_not_share_a_directory() {
    let home = Home::new();
    let _server = home.up(&[]);
    let mut second = home.af();
    second
        .args(["up", "--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--data-dir"])
        .arg(home.data());
    let (code, said) = refused(&mut second);
    assert_eq!(code, 1);
    assert!(said.contains("another `af up` uses"), "{said}");
}

#[tokio::test]
async fn signing_in_is_private_and_can_be_scripted() {
    let home = Home::new();
    let token = "af_live_0123456789abcdefghijABCDEFGHIJkl";
    let server = home.up(&["--bootstrap-token", token]);
    let mode = std::fs::metadata(home.config()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(server.token(), token);

    let elsewhere = Home::new();
    let (code, said) = refused(elsewhere.af().args(["whoami"]).env("AF_API_URL", &server.api));
    assert_eq!((code, said.contains("af login")), (3, true), "{said}");
    let (code, _) =
        refused(elsewhere.af().args(["login", "--api-url", &server.api, "--token", "af_live_wrong"]));
    assert_eq!(code, 3);
    assert!(!elsewhere.config().exists(), "a token that does not work is not stored");

    let mut login = elsewhere.af();
    login.args(["login", "--api-url", &server.api]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut login = login.spawn().unwrap();
    writeln!(login.stdin.take().unwrap(), "{token}").unwrap();
    assert!(login.wait().unwrap().success());
    assert!(ok(elsewhere.af().arg("whoami")).contains(&server.api));

    let third = Home::new();
    let who = ok(third.af().args(["--json", "whoami"]).env("AF_API_URL", &server.api).env("AF_TOKEN", token));
    assert_eq!(serde_json::from_str::<Value>(&who).unwrap()["user"]["name"], "owner");
}

#[tokio::test]
async fn mistakes_get_an_answer_that_helps() {
    let home = Home::new();
    let unreachable = refused(
        home.af().args(["functions", "list"]).env("AF_TOKEN", "x").env("AF_API_URL", "http://127.0.0.1:1"),
    );
    assert_eq!(unreachable.0, 4);
    assert!(unreachable.1.contains("is it running?"), "{}", unreachable.1);

    let _server = home.up(&[]);
    let fails = |args: &[&str]| refused(home.af().args(args));
    ok(home.af().args(["functions", "create", "-n", "hello"]));
    let cases: [(&[&str], i32, &str); 11] = [
        (&["functions", "get", "-n", "helo"], 1, "did you mean \"hello\"?"),
        (&["functions", "create", "-n", "hello"], 1, "choose another name"),
        (&["functions", "create", "-n", "a b"], 1, "3 to 30 letters, digits and dashes"),
        (&["functions", "create"], 2, "--name <NAME>"),
        (
            &["functions", "deploy", "-n", "hello", "-p", "/no/such/file.wasm"],
            1,
            "cannot open /no/such/file.wasm",
        ),
        (&["functions", "deploy", "-n", "hello", "-p", "/tmp"], 1, "is a directory"),
        (&["functions", "deploy", "-n", "hello", "-p", "Cargo.toml", "--sgx"], 1, "not supported yet"),
        (&["functions", "deploy", "-n", "hello", "-p", "Cargo.toml", "--private"], 1, "[not_a_component,"),
        (&["sites", "deploy", "-n", "docs", "-p", ".", "--private"], 1, "--private is not for sites"),
        (&["functions", "update", "-n", "hello"], 1, "nothing to change"),
        (&["functions", "rollback", "-n", "hello"], 1, "no deployment yet"),
    ];
    for (args, code, text) in cases {
        let (found, said) = fails(args);
        assert_eq!(found, code, "{args:?}: {said}");
        assert!(said.contains(text), "{args:?}: {said}");
    }
    for name in ["fn_nothing", "nothing"] {
        let (_, said) = fails(&["--json", "functions", "get", "-n", name]);
        let error: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(error["error"]["code"], "not_found");
    }
    let shown = ok(home.af().args(["functions", "get", "-n", "hello"]));
    assert!(shown.contains("INACTIVE"), "what has no deployment answers nobody: {shown}");
    let (_, said) = fails(&["--json", "functions", "deploy", "--create", "-n", "none", "-p", "Cargo.toml"]);
    let error: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&error["error"]["code"], &error["error"]["status"]),
        (&"not_a_component".into(), &422.into())
    );
    assert!(error["error"]["requestId"].is_string(), "{said}");
    let listed = ok(home.af().args(["functions", "list"]));
    assert!(
        listed.contains("hello") && !listed.contains("none"),
        "what was refused leaves no function: {listed}"
    );
    fails(&["functions", "deploy", "--create", "-n", "hello", "-p", "Cargo.toml"]);
    ok(home.af().args(["functions", "get", "-n", "hello"]));
}
