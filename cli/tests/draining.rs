//! A stop lets calls of the schedule finish, and each is written down once.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::io::ErrorKind;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::{Home, Server, eventually, guest, ok};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A backend that the called function asks: as long as it does not answer, the call goes on.
struct Backend {
    listener: TcpListener,
    cron: String,
}

impl Backend {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cron = format!("@yearly=/to/{}", listener.local_addr().unwrap());
        Self { listener, cron }
    }

    /// The function's request, which has come and waits.
    async fn asked(&self) -> TcpStream {
        let mut request = self.listener.accept().await.unwrap().0;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(request.read_u8().await.unwrap());
        }
        request
    }

    /// Whether nobody has asked once more.
    fn was_all(self) -> bool {
        let waiting = self.listener.into_std().unwrap().accept();
        waiting.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

fn deploy(home: &Home, backend: &Backend) {
    let deploy = ["functions", "deploy", "--create", "-n", "work", "--cron", &backend.cron, "-p"];
    ok(home.af().args(deploy).arg(guest("hostile")));
}

/// Has the function called, and waits for the end.
fn trigger(home: &Home) -> Child {
    let mut trigger: Command = home.af();
    trigger.args(["--json", "functions", "trigger", "-n", "work"]);
    trigger.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Returns once nobody new is answered any more.
async fn refuses(port: u16) {
    eventually(async || TcpStream::connect(("127.0.0.1", port)).await.is_err().then_some(())).await;
}

/// Stops `server` while a call waits for the backend, which answers then. What the trigger's client was told of it.
async fn stopped(home: &Home, backend: &Backend, server: Server, port: u16) -> Value {
    let triggered = trigger(home);
    let mut waiting = backend.asked().await;
    server.terminate();
    refuses(port).await;
    waiting.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
    let told = tokio::task::spawn_blocking(move || triggered.wait_with_output().unwrap()).await.unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert!(server.ended().success());
    serde_json::from_slice(&told.stdout).unwrap()
}

/// What is written down of the calls.
fn runs(home: &Home) -> Vec<Value> {
    let said = ok(home.af().args(["--json", "functions", "triggers", "-n", "work"]));
    let said: Value = serde_json::from_str(&said).unwrap();
    said["runs"].as_array().unwrap().clone()
}

fn succeeded(run: &Value) {
    assert_eq!((&run["outcome"], &run["status"]), (&"succeeded".into(), &200.into()), "{run}");
}

const ALLOW: [&str; 2] = ["--egress-allow", "127.0.0.0/8"];

#[tokio::test]
async fn a_server_that_is_stopped_lets_its_call_finish() {
    let (home, backend) = (Home::new(), Backend::start().await);
    let server = home.up(&ALLOW);
    deploy(&home, &backend);
    let port = server.port;
    let told = stopped(&home, &backend, server, port).await;
    succeeded(&told);
    let _again = home.up(&ALLOW);
    let runs = runs(&home);
    assert_eq!(runs.len(), 1, "{runs:?}");
    succeeded(&runs[0]);
    assert!(backend.was_all(), "it was called once");
}

#[tokio::test]
async fn an_edge_that_is_stopped_lets_its_call_finish_and_tells_how_it_went() {
    let (home, at, backend) = (Home::new(), Home::new(), Backend::start().await);
    let control = home.role(home.af(), "control", &[]);
    let made: Value = serde_json::from_str(&ok(home.af().args(["--json", "edges", "add", "only"]))).unwrap();
    let mut joining = at.af();
    joining.env("AF_JOIN_TOKEN", made["joinToken"].as_str().unwrap());
    let edge = at.role(joining, "edge", &[&["--control", control.api.as_str()], &ALLOW[..]].concat());
    deploy(&home, &backend);
    let port = edge.port;
    let told = stopped(&home, &backend, edge, port).await;
    succeeded(&told);
    let runs = runs(&home);
    assert_eq!(runs.len(), 1, "{runs:?}");
    succeeded(&runs[0]);
    assert!(backend.was_all(), "it was called once");
}
