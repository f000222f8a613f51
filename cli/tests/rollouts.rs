//! Gradual rollouts over real HTTP: who gets the candidate, and that a client stays with what it got.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use support::{Home, Server, deploy, guest, http, ok, refused};

const CLIENTS: u32 = 400;

fn functions(home: &Home, arguments: &[&str]) -> String {
    ok(home.af().arg("functions").args(arguments))
}

/// The clients, by a header or a cookie of theirs, that get the candidate, which answers in another world.
async fn taken(server: &Server, header: &str, value: impl Fn(u32) -> String) -> BTreeSet<u32> {
    let mut taken = BTreeSet::new();
    for client in 0..CLIENTS {
        let answer = server.request("hello", "/").header(header, value(client)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        if answer.text().await.unwrap().contains("WASI 0.3") {
            taken.insert(client);
        }
    }
    taken
}

#[tokio::test]
async fn clients_go_over_to_the_candidate_and_none_goes_back() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "1000"]);
    deploy(&home, "hello", "hello-rust", &[]);
    deploy(&home, "hello", "hello-rust-p3", &["--percent", "0", "--sticky", "cookie:sid"]);
    let by_cookie = async || taken(&server, "cookie", |client| format!("a=b; sid=client-{client}")).await;
    assert!(by_cookie().await.is_empty(), "0 %");
    let mut before = BTreeSet::new();
    for percent in [10, 50] {
        functions(&home, &["rollout", "hello", "2", "--percent", &percent.to_string()]);
        let now = by_cookie().await;
        assert!(now.is_superset(&before), "a raise takes the candidate from nobody");
        let wanted = CLIENTS * percent / 100;
        assert!(u32::try_from(now.len()).unwrap().abs_diff(wanted) < 60, "{percent} %: {}", now.len());
        assert_eq!(by_cookie().await, now, "each client stays with what it got");
        before = now;
    }
    let shown = functions(&home, &["get", "-n", "hello"]);
    assert!(shown.contains("50 % of clients, by cookie:sid, get dep_"), "{shown}");
    let shown = functions(&home, &["deployments", "-n", "hello"]);
    assert!(shown.contains("50 %"), "{shown}");

    // Without the cookie this machine is one client, by its address.
    let alone = taken(&server, "x-other", |client| client.to_string()).await.len();
    assert!(alone == 0 || alone == CLIENTS as usize, "{alone}");
    functions(&home, &["rollout", "hello", "2", "--percent", "50", "--sticky", "header:X-User"]);
    let by_header = taken(&server, "x-user", |client| format!("client-{client}")).await;
    assert_eq!(by_header, before, "the same keys, wherever they stand");

    functions(&home, &["rollout", "hello", "2", "--percent", "100"]);
    assert_eq!(by_cookie().await.len(), CLIENTS as usize);
    let said = functions(&home, &["promote", "hello"]);
    assert!(said.contains("runs deployment 2"), "{said}");
    assert_eq!(by_cookie().await.len(), CLIENTS as usize);
    let shown = functions(&home, &["get", "-n", "hello"]);
    assert!(shown.contains("PROMOTED"), "{shown}");
}

#[tokio::test]
async fn an_aborted_candidate_gets_nobody_also_after_a_restart() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "1000"]);
    deploy(&home, "hello", "hello-rust", &[]);
    let (_, why) = refused(home.af().args(["functions", "abort", "hello"]));
    assert!(why.contains("[no_rollout,"), "{why}");
    deploy(&home, "hello", "hello-rust-p3", &["--percent", "100"]);
    let text = async |server: &Server| server.get("hello", "/").await.text().await.unwrap();
    assert!(text(&server).await.contains("WASI 0.3"));
    server.kill();
    let server = home.up(&["--cpu-limit-ms", "1000"]);
    let said: Value = server.get("hello", "/.well-known/af-deployment").await.json().await.unwrap();
    assert_eq!((&said["candidate"]["percent"], &said["failed"]), (&100.into(), &Value::Null));
    assert!(text(&server).await.contains("WASI 0.3"), "a rollout survives a kill");

    let mut other = home.af();
    other.args(["functions", "deploy", "-n", "hello", "--percent", "5", "-p"]).arg(guest("hello-js"));
    let (_, why) = refused(&mut other);
    assert!(why.contains("[rollout_running,"), "{why}");
    functions(&home, &["abort", "hello"]);
    assert!(text(&server).await.contains("WASI 0.2"));
    let (_, why) = refused(home.af().args(["functions", "rollout", "hello", "1", "--percent", "5"]));
    assert!(why.contains("[deployment_active,"), "{why}");
    let (_, why) = refused(home.af().args(["functions", "rollout", "hello", "7", "--percent", "5"]));
    assert!(why.contains("no deployment 7"), "{why}");
    functions(&home, &["promote", "hello", "2"]);
    assert!(text(&server).await.contains("WASI 0.3"), "what was aborted may be promoted later");
}

#[tokio::test]
async fn who_wants_more_is_told_what_that_is_and_how_to_get_it() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "1000"]);
    deploy(&home, "hello", "hello-rust", &["--egress", "api.example.com"]);
    let wider = |more: &[&str]| {
        let mut wider = home.af();
        wider.args(["functions", "deploy", "-n", "hello", "--egress", "*.example.com", "--store", "orders"]);
        wider.args(more).arg("-p").arg(guest("hello-rust-p3"));
        wider
    };
    let (exit, why) = refused(&mut wider(&["--json"]));
    assert_eq!(exit, 1);
    assert!(why.contains("egress to *.example.com, store orders. Deploy again with --allow"), "{why}");
    let error: Value = serde_json::from_str(&why).unwrap();
    let newest = functions(&home, &["deployments", "-n", "hello", "--json"]);
    let newest: Value = serde_json::from_str(&newest).unwrap();
    assert_eq!(error["error"]["code"], "awaiting_approval");
    assert_eq!(
        (&error["error"]["deploymentId"], &error["error"]["functionId"], &error["error"]["widens"]),
        (&newest[0]["id"], &newest[0]["functionId"], &newest[0]["widens"])
    );
    let text = async || server.get("hello", "/").await.text().await.unwrap();
    assert!(text().await.contains("WASI 0.2"));
    let shown = functions(&home, &["deployments", "-n", "hello"]);
    assert!(shown.contains("awaiting approval"), "{shown}");
    let (_, why) = refused(home.af().args(["functions", "promote", "hello", "2"]));
    assert!(why.contains("[awaiting_approval,"), "{why}");
    let listed: Value =
        serde_json::from_str(&functions(&home, &["deployments", "-n", "hello", "--json"])).unwrap();
    let preview =
        listed[0]["previewUrl"].as_str().unwrap().split("//").nth(1).unwrap().split('.').next().unwrap();
    assert_eq!(server.get(preview, "/").await.status(), 404, "neither at its preview host");
    let other = ["functions", "approve", "hello", "2", "--allow", "store orders"];
    let (_, said) = refused(home.af().args(other));
    assert!(said.contains("--allow 'egress to *.example.com' --allow 'store orders'"), "{said}");
    let said = functions(&home, &["approve", "hello", "2"]);
    assert!(said.contains("allowed egress to *.example.com, store orders"), "{said}");
    assert!(text().await.contains("WASI 0.3"));
    assert_eq!(server.get(preview, "/").await.status(), 200);
    deploy(&home, "hello", "hello-rust", &["--egress", "api.example.com"]);
    ok(&mut wider(&["--allow"]));
    assert!(text().await.contains("WASI 0.3"));
}

#[tokio::test]
async fn a_candidate_that_crashes_is_stopped_at_once_and_its_rollout_ends() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "1000"]);
    deploy(&home, "hello", "hello-rust", &[]);
    let status = async || server.get("hello", "/trap").await.status().as_u16();
    assert_eq!(status().await, 200, "the active one knows no such path");
    deploy(&home, "hello", "hostile", &["--percent", "100", "--max-errors", "50", "--min-requests", "7"]);
    for request in 0..7 {
        assert_eq!(status().await, 500, "{request}");
    }
    for request in 0..20 {
        assert_eq!(status().await, 200, "no client gets it any more: {request}");
    }
    let said = "ROLLED_BACK, 7 of 7 requests to it failed within a minute, and 0 of ";
    support::eventually(async || functions(&home, &["get", "-n", "hello"]).contains(said).then_some(()))
        .await;
    let shown = functions(&home, &["deployments", "-n", "hello"]);
    assert!(shown.contains("no: 7 of 7 requests"), "{shown}");

    let begin = ["rollout", "hello", "2", "--percent", "100", "--max-errors", "100"];
    let (_, why) = refused(home.af().arg("functions").args(begin));
    assert!(why.contains("[rollout_stopped,"), "{why}");
    functions(&home, &[&begin[..], &["--again"]].concat());
    for request in 0..30 {
        assert_eq!(status().await, 500, "whoever wants it has it: {request}");
    }
}

#[tokio::test]
async fn a_candidate_that_hangs_until_its_deadline_has_failed() {
    let home = Home::new();
    let server = home.up(&["--wall-limit-ms", "300"]);
    deploy(&home, "hello", "hello-rust", &[]);
    deploy(&home, "hello", "hostile", &["--percent", "100", "--max-errors", "50", "--min-requests", "3"]);
    let status = async || server.get("hello", "/sleep").await.status().as_u16();
    for request in 0..3 {
        assert_eq!(status().await, 504, "{request}");
    }
    for request in 0..5 {
        assert_eq!(status().await, 200, "no client gets it any more: {request}");
    }
    let said = "ROLLED_BACK, 3 of 3 requests to it failed";
    support::eventually(async || functions(&home, &["get", "-n", "hello"]).contains(said).then_some(()))
        .await;
}

#[tokio::test]
async fn a_candidate_fails_whoever_waits_for_it_in_vain_and_not_who_gives_up_at_once() {
    let home = Home::new();
    let server = home.up(&[]);
    deploy(&home, "hello", "hello-rust", &[]);
    deploy(&home, "hello", "hostile", &["--percent", "100", "--max-errors", "50", "--min-requests", "3"]);
    let give_up = async |clients: usize, after: u64| {
        let after = std::time::Duration::from_millis(after);
        let requests = (0..clients).map(|_| server.request("hello", "/sleep").timeout(after).send());
        for answer in futures::future::join_all(requests).await {
            assert!(answer.unwrap_err().is_timeout());
        }
    };
    give_up(4, 500).await;
    let text = server.get("hello", "/").await.text().await.unwrap();
    assert!(text.contains("behave"), "nothing is known of those: {text}");
    give_up(2, 8_000).await;
    let said = "ROLLED_BACK, 2 of 3 requests to it failed";
    support::eventually(async || functions(&home, &["get", "-n", "hello"]).contains(said).then_some(()))
        .await;
    assert_eq!(server.get("hello", "/sleep").await.status(), 200, "the active one knows no such path");
}

/// What the server says to so much of a request whose rest never comes.
async fn half(server: &Server, request: &str) -> String {
    let mut client = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let head = request.replace("HOST", &server.host("hello"));
    client.write_all(head.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn clients_that_go_away_in_the_middle_say_nothing_of_a_candidate() {
    let home = Home::new();
    let server = home.up(&["--metrics-listen", "127.0.0.1:0"]);
    deploy(&home, "hello", "hello-rust", &[]);
    deploy(&home, "hello", "hostile", &["--percent", "100", "--max-errors", "0", "--min-requests", "1"]);
    // It crashes when a body breaks off.
    let whole = server.request("hello", "/picky").body("hello").send().await.unwrap();
    assert_eq!((whole.status().as_u16(), whole.text().await.unwrap().as_str()), (200, "5\n"));
    for length in ["content-length: 10\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        for _ in 0..3 {
            let said = half(&server, &format!("POST /picky HTTP/1.1\r\nhost: HOST\r\n{length}")).await;
            assert!(said.starts_with("HTTP/1.1 500"), "{said}");
        }
    }
    // Nor do those that do not read the answer.
    for _ in 0..3 {
        let mut answer = server.get("hello", "/flood").await;
        assert!(answer.chunk().await.unwrap().is_some());
    }
    server.settled().await;
    let text = server.get("hello", "/").await.text().await.unwrap();
    assert!(text.contains("behave"), "the candidate goes on: {text}");
    assert!(functions(&home, &["get", "-n", "hello"]).contains("100 % of clients"));
    // The very next that fails by itself stops it.
    assert_eq!(server.get("hello", "/trap").await.status(), 500);
    assert_eq!(server.get("hello", "/trap").await.status(), 200, "the active one knows no such path");
}

#[tokio::test]
async fn a_kill_while_promoting_leaves_a_candidate_or_an_active_deployment() {
    let home = Home::new();
    let mut server = home.up(&[]);
    deploy(&home, "hello", "hello-rust", &[]);
    for round in 0..4 {
        let file = if round % 2 == 0 { "hello-rust-p3" } else { "hello-rust" };
        deploy(&home, "hello", file, &["--percent", "0"]);
        let mut promote = home.af();
        promote.args(["functions", "promote", "hello"]);
        promote.env("AF_API_URL", &server.api).env("AF_TOKEN", server.token());
        promote.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut promoting = promote.spawn().unwrap();
        // Killed a little later each time.
        for _ in 0..round * 3 {
            assert_eq!(http().get(format!("{}/health", server.api)).send().await.unwrap().status(), 200);
        }
        server.kill();
        let _failed_or_done = promoting.wait().unwrap();
        server = home.up(&[]);
        let function: Value =
            serde_json::from_str(&functions(&home, &["get", "-n", "hello", "--json"])).unwrap();
        let listed: Value =
            serde_json::from_str(&functions(&home, &["deployments", "-n", "hello", "--json"])).unwrap();
        let candidate = &listed[0];
        let is_active = function["currentDeploymentId"] == candidate["id"];
        let status = if is_active { "PROMOTED" } else { "RUNNING" };
        assert_eq!(candidate["rollout"]["status"], status, "{candidate}");
        if !is_active {
            functions(&home, &["promote", "hello"]);
        }
        let text = server.get("hello", "/").await.text().await.unwrap();
        assert_eq!(text.contains("WASI 0.3"), round % 2 == 0, "{text}");
    }
}

#[tokio::test]
async fn a_policy_says_what_pruning_leaves() {
    let home = Home::new();
    let _server = home.up(&[]);
    for _ in 0..4 {
        deploy(&home, "hello", "hello-rust", &[]);
    }
    let pruned = |more: &[&str]| -> Vec<i64> {
        let said = functions(&home, &[&["prune", "hello", "--json"], more].concat());
        let said: Value = serde_json::from_str(&said).unwrap();
        let list = said.as_array().or_else(|| said["pruned"].as_array()).unwrap();
        list.iter().map(|row| row["number"].as_i64().unwrap()).collect()
    };
    assert!(pruned(&["--dry-run"]).is_empty(), "a hundred stay");
    ok(home.af().args(["projects", "update", "--keep", "3"]));
    assert_eq!(pruned(&["--dry-run"]), [1], "as the project says");
    functions(&home, &["update", "-n", "hello", "--keep", "2", "--keep-for", "30d"]);
    assert!(pruned(&["--dry-run"]).is_empty(), "they are younger");
    functions(&home, &["update", "-n", "hello", "--keep-for", "0s"]);
    let mut gone = pruned(&["--dry-run"]);
    gone.sort_unstable();
    assert_eq!(gone, [1, 2], "the function's own policy counts");
    functions(&home, &["update", "-n", "hello", "--keep", "default"]);
    assert_eq!(pruned(&[]), [1]);
    assert!(pruned(&[]).is_empty());
    let listed: Value =
        serde_json::from_str(&functions(&home, &["deployments", "-n", "hello", "--json"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    let (_, why) = refused(home.af().args(["functions", "update", "-n", "hello", "--keep", "none"]));
    assert!(why.contains("--keep"), "{why}");
    let shown = ok(home.af().args(["projects", "get"]));
    assert!(shown.contains('3'), "{shown}");
}
