//! Bad guests cost their own requests only, and no request sees half a deployment.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Method;
use serde_json::Value;
use support::{Home, Server, guest, http, ok};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn deploy(home: &Home, name: &str, file: &str) {
    ok(home.af().args(["functions", "deploy", "--create", "-n", name, "-p"]).arg(guest(file)));
}

async fn code(server: &Server, path: &str) -> (u16, String) {
    let answer = server.get("bad", path).await;
    let status = answer.status().as_u16();
    let problem: Value = answer.json().await.unwrap();
    (status, problem["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn each_kind_of_failure_has_its_code() {
    let home = Home::new();
    // Who allocates may need half a second of it where every core is busy, and must not meet this limit first.
    let server = home.up(&["--cpu-limit-ms", "3000", "--metrics-listen", "127.0.0.1:0"]);
    deploy(&home, "bad", "hostile");
    for (path, status, expected) in [
        ("/spin", 503, "cpu_limit_exceeded"),
        ("/allocate", 503, "memory_limit_exceeded"),
        ("/trap", 500, "function_crashed"),
        ("/recurse", 500, "function_crashed"),
        ("/silent", 502, "function_sent_no_response"),
        ("/error", 502, "function_failed"),
        ("/hostcalls", 503, "cpu_limit_exceeded"),
        ("/handles", 503, "handle_limit_exceeded"),
        ("/headers", 503, "header_limit_exceeded"),
        ("/random", 503, "random_limit_exceeded"),
    ] {
        assert_eq!(code(&server, path).await, (status, expected.to_owned()), "{path}");
        assert_eq!(server.get("bad", "/").await.status(), 200, "after {path}");
        if expected.ends_with("_limit_exceeded") {
            let counted = format!("af_limits_total{{code=\"{expected}\"}}");
            assert!(server.metrics().await.contains(&counted), "{expected} is counted");
            assert!(home.logged().contains(&format!("code=\"{expected}\"")), "{expected} is logged");
        }
    }
    server.settled().await;
}

#[tokio::test]
async fn a_guest_that_waits_for_too_long_is_ended() {
    let home = Home::new();
    let server = home.up(&["--wall-limit-ms", "300"]);
    deploy(&home, "bad", "hostile");
    assert_eq!(code(&server, "/sleep").await, (504, "wall_limit_exceeded".to_owned()));
}

#[tokio::test]
async fn a_guest_that_fails_after_its_response_began_breaks_it_off() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "5000"]);
    deploy(&home, "bad", "hostile");
    for path in ["/most", "/flood"] {
        let answer = server.request("bad", path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert!(answer.bytes().await.is_err(), "{path} must not look complete");
    }
    assert_eq!(server.get("bad", "/").await.status(), 200);
}

#[tokio::test]
async fn a_guest_that_crashes_before_its_body_had_to_be_sent_has_a_status() {
    let home = Home::new();
    let server = home.up(&[]);
    deploy(&home, "bad", "hostile");
    // A machine that is busy may take the guest's crash for work that goes on, which is not waited for: then its answer breaks off.
    for _ in 0..50 {
        let answer = server.get("bad", "/half").await;
        if answer.status() == 500 {
            return assert!(answer.text().await.unwrap().contains("function_crashed"));
        }
        assert_eq!(answer.status(), 200);
        assert!(answer.bytes().await.is_err(), "it does not look complete");
    }
    panic!("not one of 50 answers had a status of its own");
}

#[tokio::test]
async fn a_guest_has_nothing_that_it_was_not_given() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "1000"]);
    deploy(&home, "bad", "hostile");
    let text = async |path: &str| server.get("bad", path).await.text().await.unwrap();
    assert_eq!(text("/environment").await, "[]");
    assert!(text("/files").await.starts_with("Err("));
    assert_eq!(text("/chatter").await, "said enough\n");
    // Of 128 MiB, one page less than all, because its tables have a part of it.
    assert_eq!(text("/grow").await, "127\n", "whole MiB of memory");
    for _ in 0..20 {
        assert_eq!(text("/remember").await, "1\n", "every request has a fresh instance");
    }
}

#[tokio::test]
async fn an_instance_finds_nothing_of_the_ones_before() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "5000"]);
    deploy(&home, "bad", "hostile");
    let text = async |path: &str| server.get("bad", path).await.text().await.unwrap();
    // It finds its own copies of the secret, which the stack has.
    let nothing = text("/search").await;
    for _ in 0..10 {
        let planting = (0..8).map(|_| text("/plant"));
        for planted in futures::future::join_all(planting).await {
            assert_eq!(planted, "planted\n");
        }
        let searching = (0..4).map(|_| text("/search"));
        for found in futures::future::join_all(searching).await {
            assert_eq!(found, nothing);
        }
    }
    assert!(nothing.trim().parse::<u32>().unwrap() < 4, "{nothing}");
}

#[tokio::test]
async fn an_instance_that_is_set_back_is_as_a_new_one() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "5000", "--metrics-listen", "127.0.0.1:0"]);
    deploy(&home, "bad", "hostile");
    let text = async |path: &str| server.get("bad", path).await.text().await.unwrap();
    let size = text("/size").await;
    for path in ["/plant", "/grow", "/keep", "/"] {
        text(path).await;
        assert_eq!(text("/size").await, size, "memory is as small as at first after {path}");
        assert_eq!(text("/remember").await, "1\n", "after {path}");
        assert_eq!(text("/grow").await, "127\n", "all memory is granted again after {path}");
    }
    text("/keep").await;
    assert_eq!(code(&server, "/guess").await, (500, "function_crashed".to_owned()));
    let rewound: f64 = server.metric("af_instances_rewound_total").await;
    assert!(rewound > 4.0, "most of these had an instance that was set back, not {rewound}");
}

/// Grows its table until it may not, and then says so by a trap.
const GROWS_A_TABLE: &str = r#"(component
    (import "wasi:http/types@0.2.0" (instance $types
        (export "incoming-request" (type (sub resource)))
        (export "response-outparam" (type (sub resource)))))
    (alias export $types "incoming-request" (type $request))
    (alias export $types "response-outparam" (type $out))
    (core module $m
        (table $t 1 funcref)
        (func (export "handle") (param i32 i32)
            (loop $more
                (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
            unreachable))
    (core instance $i (instantiate $m))
    (func $handle (param "request" (own $request)) (param "response-out" (own $out))
        (canon lift (core func $i "handle")))
    (component $shim
        (import "incoming-request" (type $request (sub resource)))
        (import "response-outparam" (type $out (sub resource)))
        (import "handle" (func $handle (param "request" (own $request)) (param "response-out" (own $out))))
        (export "handle" (func $handle)))
    (instance $handler (instantiate $shim
        (with "incoming-request" (type $request))
        (with "response-outparam" (type $out))
        (with "handle" (func $handle))))
    (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#;

#[tokio::test]
async fn a_table_cannot_grow_without_end() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "5000"]);
    let component = home.data().join("table.wasm");
    std::fs::write(&component, wat::parse_str(GROWS_A_TABLE).unwrap()).unwrap();
    ok(home.af().args(["functions", "deploy", "--create", "-n", "bad", "-p"]).arg(component));
    for _ in 0..3 {
        assert_eq!(code(&server, "/").await, (500, "function_crashed".to_owned()));
    }
    deploy(&home, "good", "hostile");
    assert_eq!(server.get("good", "/").await.status(), 200);
}

/// A server on loopback that answers everything with 204.
async fn origin() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while matches!(stream.read(&mut request).await, Ok(read) if read > 0) {
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_guest_reaches_the_public_internet_only() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "1000"]);
    deploy(&home, "bad", "hostile");
    let port = origin().await;
    for host in [
        "127.0.0.1",
        "localhost",
        "any.LOCALHOST",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "10.0.0.1",
        "[fe80::1]",
        "[fd00:ec2::254]",
    ] {
        let answer = server.get("bad", &format!("/to/{host}:{port}")).await.text().await.unwrap();
        assert!(answer.contains("DestinationIpProhibited"), "{host}: {answer}");
    }
    let unknown =
        server.get("bad", &format!("/to/does-not-exist.invalid:{port}")).await.text().await.unwrap();
    assert!(unknown.contains("DnsError"), "{unknown}");
}

#[tokio::test]
async fn what_the_operator_opens_is_reached_within_the_limits() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "5000", "--egress-allow", "127.0.0.0/8"]);
    deploy(&home, "bad", "hostile");
    let port = origin().await;
    let text = async |path: String| server.get("bad", &path).await.text().await.unwrap();
    assert_eq!(text(format!("/to/127.0.0.1:{port}")).await, "Ok(204)\n");
    assert_eq!(text(format!("/to/some.function.localhost:{port}")).await, "Ok(204)\n", "as RFC 6761 has it");
    assert!(text(format!("/to/[::1]:{port}")).await.contains("DestinationIpProhibited"));
    assert!(text("/to/127.0.0.1:1".into()).await.contains("ConnectionRefused"));
    assert_eq!(text(format!("/many/127.0.0.1:{port}")).await, "50\n", "outgoing requests of one request");
    let told = home.logged().matches("subrequest_limit_reached").count();
    assert_eq!(told, 1, "ten thousand are refused and told once");
}

#[tokio::test]
async fn bodies_stream_both_ways_and_have_a_limit() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "5000"]);
    deploy(&home, "bad", "hostile");
    let url = format!("http://127.0.0.1:{}/echo", server.port);
    let post = |body: reqwest::Body| {
        http().request(Method::POST, &url).header("host", server.host("bad")).body(body)
    };
    let body = vec![b'x'; 5 << 20];
    let answer = post(body.clone().into()).send().await.unwrap();
    assert!(answer.bytes().await.unwrap() == body);

    // By hand, since a client that is refused while it sends may see a broken connection instead.
    let mut declared = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let head =
        format!("POST /echo HTTP/1.1\r\nhost: {}\r\ncontent-length: 11534336\r\n\r\n", server.host("bad"));
    declared.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    declared.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
    let long = server.request("bad", &format!("/{}", "x".repeat(17 << 10))).send().await.unwrap();
    assert_eq!(long.status(), 414);
}

#[tokio::test]
async fn a_client_that_does_not_read_gives_its_place_back_in_time() {
    let home = Home::new();
    let server = home.up(&["--instances", "1", "--wall-limit-ms", "700", "--cpu-limit-ms", "5000"]);
    deploy(&home, "bad", "hostile");
    let mut idle = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let request = format!("GET /flood HTTP/1.1\r\nhost: {}\r\n\r\n", server.host("bad"));
    idle.write_all(request.as_bytes()).await.unwrap();
    // The only instance is taken while the flood fills the connection, then stands still.
    idle.readable().await.unwrap();
    while server.get("bad", "/").await.status() != 200 {
        tokio::task::yield_now().await;
    }
    drop(idle);
}

#[tokio::test]
async fn neighbours_answer_while_a_guest_spins() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "400"]);
    deploy(&home, "bad", "hostile");
    deploy(&home, "good", "hello-rust");
    let spinning: Vec<_> = (0..8).map(|_| tokio::spawn(server.request("bad", "/spin").send())).collect();
    for _ in 0..50 {
        assert_eq!(server.get("good", "/").await.status(), 200);
    }
    for spinning in spinning {
        assert_eq!(spinning.await.unwrap().unwrap().status(), 503);
    }
}

#[tokio::test]
async fn a_request_sees_the_old_or_the_new_deployment_and_none_fails() {
    let home = Home::new();
    let server = Arc::new(home.up(&["--cpu-limit-ms", "1000"]));
    deploy(&home, "hello", "hello-rust");
    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (server, done) = (server.clone(), done.clone());
            tokio::spawn(async move {
                let mut seen = BTreeSet::new();
                let client = http();
                while !done.load(Ordering::Relaxed) {
                    let request = server.request("hello", "/").build().unwrap();
                    let answer = client.execute(request).await.unwrap();
                    assert_eq!(answer.status(), 200);
                    let deployment = answer.headers()["af-deployment"].to_str().unwrap().to_owned();
                    let text = answer.text().await.unwrap();
                    assert!(text.starts_with("Hello from Rust and WASI 0."), "{text}");
                    seen.insert(deployment);
                }
                seen
            })
        })
        .collect();
    let deploys = tokio::task::spawn_blocking(move || {
        for round in 0..10 {
            deploy(&home, "hello", if round % 2 == 0 { "hello-rust-p3" } else { "hello-rust" });
        }
        home
    });
    let _home = deploys.await.unwrap();
    done.store(true, Ordering::Relaxed);
    let mut seen = BTreeSet::new();
    for caller in callers {
        seen.extend(caller.await.unwrap());
    }
    assert!(seen.len() > 2, "requests met several deployments: {}", seen.len());
}

#[tokio::test]
async fn a_kill_while_deploying_loses_nothing_and_leaves_nothing_half() {
    let home = Arc::new(Home::new());
    let mut server = home.up(&[]);
    deploy(&home, "hello", "hello-rust");
    // Killed at a different moment of the deploy each time: after so many bytes of its upload.
    for round in 0..6 {
        let deploying = {
            let mut command = home.af();
            command.args(["functions", "deploy", "-n", "hello", "-p"]).arg(guest("hello-js"));
            command.env("AF_API_URL", &server.api).env("AF_TOKEN", server.token());
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
        };
        let mut deploying = deploying;
        for _ in 0..round * 4 {
            assert_eq!(http().get(format!("{}/health", server.api)).send().await.unwrap().status(), 200);
        }
        server.kill();
        let _failed_or_done = deploying.wait().unwrap();
        server = home.up(&[]);
        let staging = home.data().join("blocks/staging");
        assert_eq!(std::fs::read_dir(staging).unwrap().count(), 0, "recovery leaves no upload");
        let text = server.get("hello", "/").await.text().await.unwrap();
        assert!(text == "Hello from Rust and WASI 0.2!\n" || text == "Hello from JavaScript!\n", "{text}");
    }
}

#[tokio::test]
async fn a_corrupt_block_is_noticed_and_never_run() {
    let home = Home::new();
    let server = home.up(&[]);
    deploy(&home, "hello", "hello-rust");
    server.kill();
    // Every block but the database: one flipped byte each, and no compiled code to fall back on.
    let blocks = home.data().join("blocks");
    let found = Command::new("find").arg(&blocks).args(["-type", "f"]).output().unwrap();
    let mut flipped = 0;
    for path in String::from_utf8(found.stdout).unwrap().lines() {
        let mut bytes = std::fs::read(path).unwrap();
        if bytes.starts_with(b"\0asm") {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(path, bytes).unwrap();
            flipped += 1;
        }
    }
    assert_eq!(flipped, 1);
    std::fs::remove_dir_all(home.data().join("artifacts")).unwrap();
    let server = home.up(&[]);
    let answer = server.get("hello", "/").await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "content_corrupt");
}

#[tokio::test]
async fn the_edge_says_which_code_answers() {
    let home = Home::new();
    let server = home.up(&[]);
    deploy(&home, "hello", "hello-rust");
    let said: Value = server.get("hello", "/.well-known/af-deployment").await.json().await.unwrap();
    let file = std::fs::read(guest("hello-rust")).unwrap();
    let (summary, _) = support::car_of(&file);
    assert_eq!(said["live"]["code"]["cid"], summary.root.to_string());
    assert_eq!(said["live"]["code"]["blake3"], summary.blake3.to_string());
    assert_eq!(said["pending"], Value::Null);
    let unknown = server.get("nobody", "/").await;
    assert_eq!(unknown.status(), 404);
    let problem: Value = unknown.json().await.unwrap();
    assert_eq!(problem["error"], "Function not found");
    assert_eq!(problem["slug"], "nobody");
}
