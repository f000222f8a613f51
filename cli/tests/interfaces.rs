//! What functions may use besides HTTP: settings, key-value stores, the log.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::process::Command;

use reqwest::Method;
use support::{Home, Server, guest, http, ok, refused};

fn deploy(home: &Home, name: &str, file: &str, options: &[&str]) {
    ok(deploying(home, name, file).args(options));
}

fn deploying(home: &Home, name: &str, file: &str) -> Command {
    let mut command = home.af();
    command.args(["functions", "deploy", "--create", "-n", name, "-p"]).arg(guest(file));
    command
}

async fn call(server: &Server, slug: &str, method: Method, key: &str, body: &str) -> (u16, String) {
    let url = format!("http://127.0.0.1:{}/{key}", server.port);
    let request = http().request(method, url).header("host", server.host(slug)).body(body.to_owned());
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn key_value_entries_are_the_projects_and_survive_a_kill() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "1000"]);
    deploy(&home, "one", "keyvalue", &[]);
    deploy(&home, "two", "keyvalue", &[]);
    let done = (200, "done\n".to_owned());
    assert_eq!(call(&server, "one", Method::PUT, "name", "Ada").await, done);
    assert_eq!(call(&server, "two", Method::GET, "name", "").await, (200, "Ada".into()));
    let count = || call(&server, "one", Method::POST, "visits", "");
    futures::future::join_all((0..20).map(|_| count())).await;
    assert_eq!(call(&server, "two", Method::POST, "visits", "").await, (200, "21\n".into()));
    let append = || call(&server, "one", Method::PATCH, "list", "x");
    let appended = futures::future::join_all((0..5).map(|_| append())).await;
    assert!(appended.iter().all(|answer| *answer == done), "{appended:?}");

    server.kill();
    let server = home.up(&["--cpu-limit-ms", "1000"]);
    assert_eq!(call(&server, "one", Method::GET, "list", "").await, (200, "xxxxx".into()));
    assert_eq!(call(&server, "one", Method::GET, "", "").await, (200, "list\nname\nvisits\n".into()));
    assert_eq!(call(&server, "one", Method::DELETE, "name", "").await, done);
    assert_eq!(call(&server, "one", Method::GET, "name", "").await.0, 404);
    let (status, said) = call(&server, "one", Method::PUT, &"k".repeat(600), "").await;
    assert_eq!(status, 400);
    assert!(said.contains("a key has 1 to 512 bytes, not 600"), "{said}");
}

#[tokio::test]
async fn a_store_is_opened_only_by_deployments_that_list_it() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "1000"]);
    deploy(&home, "plain", "keyvalue", &[]);
    deploy(&home, "named", "keyvalue", &["--env", "STORE=sessions"]);
    assert_eq!(call(&server, "named", Method::PUT, "key", "value").await.0, 403);
    assert!(home.logged().contains("AccessDenied"), "the guest has logged it through wasi:logging");
    deploy(&home, "named", "keyvalue", &["--store", "sessions", "--allow"]);
    assert_eq!(call(&server, "named", Method::PUT, "key", "value").await.0, 200);
    assert_eq!(call(&server, "plain", Method::GET, "key", "").await.0, 404, "another store");
    let (code, said) = refused(deploying(&home, "named", "keyvalue").args(["--store", "No Store"]));
    assert_eq!(code, 2);
    assert!(said.contains("is not a store's name"), "{said}");
}

#[tokio::test]
async fn settings_are_sealed_and_belong_to_a_deployment() {
    let home = Home::new();
    let server = home.up(&[]);
    let environment = async || server.get("bad", "/environment").await.text().await.unwrap();
    deploy(&home, "bad", "hostile", &["--env", "KEY=first secret", "OTHER=2"]);
    assert_eq!(environment().await, r#"[("KEY", "first secret"), ("OTHER", "2")]"#);
    let file = home.data().join("settings.env");
    std::fs::write(&file, "KEY=\"second secret\"\n").unwrap();
    deploy(&home, "bad", "hostile", &["--env-file", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
    assert_eq!(environment().await, r#"[("KEY", "second secret"), ("OTHER", "2")]"#, "the others stay");
    ok(home.af().args(["functions", "rollback", "-n", "bad"]));
    assert_eq!(environment().await, r#"[("KEY", "first secret"), ("OTHER", "2")]"#);

    for args in [&["--env", "KEY"][..], &["--env", "1=x"], &["--env-file", "/does/not/exist"]] {
        let (code, said) = refused(deploying(&home, "bad", "hostile").args(args));
        assert_eq!(code, 1, "{args:?}: {said}");
    }
    server.kill();
    let found = Command::new("grep")
        .args(["-rl", "-e", "first secret", "-e", "second secret"])
        .arg(home.data())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "", "no file has a value");
    assert!(!home.logged().contains("secret"));
    let server = home.up(&[]);
    let text = server.get("bad", "/environment").await.text().await.unwrap();
    assert_eq!(text, r#"[("KEY", "first secret"), ("OTHER", "2")]"#, "also after a restart");
}

#[tokio::test]
async fn a_function_with_a_list_of_hosts_reaches_no_other() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "1000", "--egress-allow", "127.0.0.0/8"]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    deploy(&home, "bad", "hostile", &["--egress", "127.0.0.1", "--egress", "*.example.invalid"]);
    let text =
        async |host: &str| server.get("bad", &format!("/to/{host}:{port}")).await.text().await.unwrap();
    assert!(text("127.0.0.1").await.contains("ConnectionRefused"), "allowed, and nobody there");
    assert!(text("a.example.invalid").await.contains("DnsError"));
    for host in ["127.0.0.2", "localhost", "example.invalid", "a.example.invalid.evil.invalid"] {
        let answer = text(host).await;
        assert!(answer.contains("HttpRequestDenied"), "{host}: {answer}");
    }
    assert!(home.logged().contains("its host is not in the function's list"));
}
