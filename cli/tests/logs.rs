//! What functions log, with the real binary and real components, as those see it who may.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

#[path = "../../control-api/tests/support/socket.rs"]
#[allow(dead_code, reason = "the control API's own tests use the rest")]
mod socket;
mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use socket::{Frame, Socket};
use support::{Home, Server, deploy, free_port, guest, http, ok};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

fn json(command: &mut Command) -> Value {
    serde_json::from_str(&ok(command)).unwrap()
}

fn id(home: &Home, name: &str) -> String {
    let function = json(home.af().args(["--json", "functions", "get", "-n", name]));
    function["id"].as_str().unwrap().to_owned()
}

/// Has a function log one line with this word in it, at the level "error", and returns the request's id.
async fn log(server: &Server, slug: &str, word: &str) -> String {
    let request = server.request(slug, "/").build().unwrap();
    let request = http()
        .request(Method::from_bytes(word.as_bytes()).unwrap(), request.url().clone())
        .header("host", server.host(slug));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 400);
    answer.headers()["x-request-id"].to_str().unwrap().to_owned()
}

/// Reads events until one has this in it, and returns all that was read.
async fn until(events: &mut Response, part: &str) -> String {
    let mut told = String::new();
    while !told.contains(part) {
        told.push_str(std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap());
    }
    told
}

async fn follow(server: &Server, function: &str, token: &str) -> Response {
    let url = format!("{}/v1/functions/{function}/logs", server.api);
    http().get(url).bearer_auth(token).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_arrive_live_and_none_of_another_project() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "1000"]);
    deploy(&home, "shop", "keyvalue", &[]);
    // Another project, of which a key sees nothing of the first.
    let organizations = json(home.af().args(["--json", "orgs", "list"]));
    let body = json!({ "name": "second", "organizationId": organizations[0]["id"] });
    let made = http().post(format!("{}/v1/projects", server.api)).bearer_auth(server.token()).json(&body);
    let second: Value = made.send().await.unwrap().json().await.unwrap();
    let second = second["id"].as_str().unwrap();
    let mut elsewhere = home.af();
    elsewhere.env("AF_PROJECT_ID", second).args(["functions", "deploy", "--create", "-n", "strange", "-p"]);
    ok(elsewhere.arg(guest("keyvalue")));
    let mut key = home.af();
    key.env("AF_PROJECT_ID", second).args(["--json", "keys", "create", "-n", "ci", "--role", "admin"]);
    let key = json(&mut key)["token"].as_str().unwrap().to_owned();

    let shop = id(&home, "shop");
    assert_eq!(follow(&server, &shop, &key).await.status(), 404);
    log(&server, "shop", "BEFORE").await;
    let mut events = follow(&server, &shop, &server.token()).await;
    let address = server.api.strip_prefix("http://").unwrap();
    let mut socket = Socket::open(address, "/graphql").await.begin(Some(&server.token())).await;
    let query =
        format!("subscription {{ functionLogs(where: {{ id: \"{shop}\" }}) {{ text stream requestId }} }}");
    socket.ask("1", &query).await;
    let mut told = until(&mut events, "BEFORE").await;
    let Frame::Text(first) = socket.told().await else { panic!() };
    assert!(first["payload"]["data"]["functionLogs"]["text"].as_str().unwrap().contains("BEFORE"), "{first}");

    log(&server, "strange", "FOREIGN").await;
    let request = log(&server, "shop", "LIVE").await;
    told.push_str(&until(&mut events, "LIVE").await);
    assert!(!told.contains("FOREIGN"), "{told}");
    let last = told.trim().lines().rfind(|line| line.starts_with("data: ")).unwrap();
    let line: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
    let text = line["text"].as_str().unwrap();
    assert!(text.starts_with("keyvalue: ") && text.contains("LIVE"), "{line}");
    assert_eq!((&line["stream"], &line["requestId"]), (&json!("error"), &json!(request)));
    let deployments = json(home.af().args(["--json", "functions", "deployments", "-n", "shop"]));
    assert_eq!(line["deploymentId"], deployments[0]["id"]);
    let Frame::Text(second) = socket.told().await else { panic!() };
    let expected = json!({ "text": text, "stream": "error", "requestId": request });
    assert_eq!(second["payload"]["data"]["functionLogs"], expected, "{second}");
}

/// A connection that nobody reads: what comes fills its buffers, and then nothing more fits.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_slowly_holds_nobody_up_and_learns_what_they_missed() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "20000"]);
    deploy(&home, "loud", "hostile", &[]);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = server.api.strip_prefix("http://").unwrap();
    let mut slow = socket.connect(address.parse().unwrap()).await.unwrap();
    let head = format!(
        "GET /v1/functions/{}/logs HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\r\n",
        id(&home, "loud"),
        server.token()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut told = Vec::new();
    while !told.ends_with(b"\r\n\r\n") {
        told.push(slow.read_u8().await.unwrap());
    }
    assert!(told.starts_with(b"HTTP/1.1 200"));
    // Several times what the buffers of both ends may grow to; each logs as much as it may, 64 KiB in short lines.
    for _ in 0..60 {
        let answer = server.get("loud", "/chatter").await;
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "said enough\n"));
    }
    let (mut told, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    let missed = loop {
        let size = slow.read(&mut chunk).await.unwrap();
        assert!(size > 0, "the end");
        told.extend_from_slice(&chunk[..size]);
        let text = String::from_utf8_lossy(&told);
        if let Some((_, rest)) = text.split_once("event: missed\ndata: ")
            && let Some((data, _)) = rest.split_once("\n\n")
        {
            break serde_json::from_str::<Value>(data).unwrap();
        }
        // Lines that were read are not read again each time.
        let read = text.rfind("event: ").unwrap_or_default();
        told.drain(..read);
    };
    assert!(missed["lines"].as_u64().unwrap() > 1_000, "{missed}");
    // And then what is new.
    let mut rest = [0; 64 << 10];
    let size = slow.read(&mut rest).await.unwrap();
    assert!(size > 0);
}

/// `af functions logs --follow`, and what it prints.
struct Following {
    af: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Following {
    fn start(home: &Home, options: &[&str]) -> Self {
        let mut af = home.af();
        af.args(options).args(["functions", "logs", "shop", "--follow"]);
        let mut af = af.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(af.stdout.take().unwrap());
        Self { af, lines }
    }

    /// The next line that has this in it.
    fn until(&mut self, part: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "it ended before {part}");
            if line.contains(part) {
                return line;
            }
        }
    }

    fn interrupt(mut self) {
        Command::new("kill").args(["-s", "INT", &self.af.id().to_string()]).status().unwrap();
        assert!(self.af.wait().unwrap().success());
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _already_gone = self.af.kill();
        let _already_reaped = self.af.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_shows_what_was_said_and_follows_across_a_restart() {
    let home = Home::new();
    let listen = format!("127.0.0.1:{}", free_port());
    let options = ["--cpu-limit-ms", "1000", "--api-listen", &listen];
    let server = home.up(&options);
    deploy(&home, "shop", "keyvalue", &[]);
    assert_eq!(ok(home.af().args(["functions", "logs", "shop"])), "nothing was logged lately\n");
    let request = log(&server, "shop", "FIRST").await;
    let shown = ok(home.af().args(["functions", "logs", "shop"]));
    assert!(shown.contains(&request) && shown.contains("error") && shown.contains("FIRST"), "{shown}");
    let kept = json(home.af().args(["--json", "functions", "logs", "shop"]));
    assert_eq!(kept[0]["requestId"], json!(request));

    let (mut people, mut programs) = (Following::start(&home, &[]), Following::start(&home, &["--json"]));
    assert!(people.until("FIRST").contains(&request));
    assert_eq!(serde_json::from_str::<Value>(&programs.until("FIRST")).unwrap(), kept[0]);
    assert!(server.stop().success());
    let server = home.up(&options);
    // Each comes again when it does; what was said meanwhile is there for it.
    let request = log(&server, "shop", "SECOND").await;
    assert!(people.until("SECOND").contains(&request));
    let line: Value = serde_json::from_str(&programs.until("SECOND")).unwrap();
    assert_eq!(line["requestId"], json!(request));
    people.interrupt();
    ok(home.af().args(["functions", "delete", "-n", "shop"]));
    assert_eq!(programs.af.wait().unwrap().code(), Some(1), "there is nothing to come back to");
}

/// An edge of its own that answers for the function.
async fn edge(home: &Home, of: &Home, control: &str, name: &str) -> Server {
    let made = json(home.af().args(["--json", "edges", "add", name]));
    let mut af = of.af();
    af.env("AF_JOIN_TOKEN", made["joinToken"].as_str().unwrap());
    let edge = of.role(af, "edge", &["--control", control]);
    let knows = async {
        while [404, 503].contains(&edge.get("shop", "/").await.status().as_u16()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), knows).await.unwrap();
    edge
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_edges_of_their_own_arrive_also_those_of_while_the_control_plane_was_away() {
    let (home, east, west) = (Home::new(), Home::new(), Home::new());
    let listen = format!("127.0.0.1:{}", free_port());
    let control = || home.role(home.af(), "control", &["--api-listen", &listen, "--cpu-limit-ms", "1000"]);
    let plane = control();
    let mut af = home.af();
    af.args(["functions", "deploy", "--create", "-n", "shop", "-p"]).arg(guest("keyvalue"));
    let mut deploying = af.stdout(Stdio::null()).spawn().unwrap();
    let east = edge(&home, &east, &plane.api, "east").await;
    let west = edge(&home, &west, &plane.api, "west").await;
    assert!(deploying.wait().unwrap().success());

    let (mut people, mut programs) = (Following::start(&home, &[]), Following::start(&home, &["--json"]));
    let requests = [log(&east, "shop", "EAST").await, log(&west, "shop", "WEST").await];
    for word in ["EAST", "WEST"] {
        let line: Value = serde_json::from_str(&programs.until(word)).unwrap();
        assert_eq!(line["edge"], json!(word.to_lowercase()));
    }
    assert!(people.until("WEST").contains(&requests[1]));
    let shown = ok(home.af().args(["functions", "logs", "shop"]));
    for (edge, request) in ["  east  ", "  west  "].into_iter().zip(&requests) {
        assert!(shown.lines().any(|line| line.contains(edge) && line.contains(request)), "{shown}");
    }

    assert!(plane.stop().success());
    let away = log(&east, "shop", "AWAY").await;
    let _plane = control();
    let told = people.until("AWAY");
    assert!(told.contains(&away) && told.contains("  east  "), "{told}");
    let live = log(&west, "shop", "AGAIN").await;
    let line: Value = serde_json::from_str(&programs.until("AGAIN")).unwrap();
    assert_eq!((&line["requestId"], &line["edge"]), (&json!(live), &json!("west")));
    people.interrupt();
}
