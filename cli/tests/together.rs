//! Requests of WASI 0.3 that wait share an instance, and nothing else.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use futures::future::join_all;
use support::{Home, Server, guest, ok};

fn deploy(home: &Home, options: &[&str]) {
    let mut deploy = home.af();
    deploy.args(["functions", "deploy", "--create", "-n", "meet", "-p"]).arg(guest("together")).args(options);
    ok(&mut deploy);
}

async fn text(server: &Server, path: &str) -> String {
    server.get("meet", path).await.text().await.unwrap()
}

async fn code(server: &Server, path: &str) -> String {
    let problem: serde_json::Value = server.get("meet", path).await.json().await.unwrap();
    problem["code"].as_str().unwrap().to_owned()
}

/// Requests that are here at once, on each core as many as have to meet there.
async fn at_once(server: &Server, path: &str, many: usize) -> Vec<String> {
    join_all((0..many).map(|_| text(server, path))).await
}

fn cores() -> usize {
    std::thread::available_parallelism().unwrap().get()
}

#[tokio::test]
async fn requests_that_wait_meet_in_one_instance() {
    let home = Home::new();
    let server = home.up(&[]);
    deploy(&home, &[]);
    let met = at_once(&server, "/meet/4", 4 * cores()).await;
    assert!(met.iter().all(|met| met == "4 have met\n"), "{met:?}");
}

#[tokio::test]
async fn as_many_as_the_deployment_allows_and_no_more() {
    let home = Home::new();
    // Waiting costs little CPU time, but not nothing on a machine that is busy.
    let server = home.up(&["--wall-limit-ms", "2000", "--cpu-limit-ms", "2000"]);
    deploy(&home, &["--concurrency", "2"]);
    let met = at_once(&server, "/meet/2", 2 * cores()).await;
    assert!(met.iter().all(|met| met == "2 have met\n"), "{met:?}");
    deploy(&home, &["--concurrency", "1"]);
    let met = at_once(&server, "/meet/2", 2 * cores()).await;
    assert!(met.iter().all(|met| met.contains("wall_limit_exceeded")), "{met:?}");
}

#[tokio::test]
async fn a_guest_that_ends_badly_ends_for_all_that_share_it_and_for_nobody_after() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "200", "--metrics-listen", "127.0.0.1:0"]);
    deploy(&home, &[]);
    for (path, expected) in [("/trap", "function_crashed"), ("/spin", "cpu_limit_exceeded")] {
        let (codes, after) = tokio::join!(
            join_all((0..4 * cores()).map(|_| code(&server, path))),
            // Some of these share an instance with the bad ones, and all are answered.
            at_once(&server, "/", 4),
        );
        assert!(codes.iter().all(|code| code == expected), "{path}: {codes:?}");
        assert_eq!(after.len(), 4);
        assert_eq!(text(&server, "/").await, "0 others are here\n", "after {path}");
    }
    server.settled().await;
}

#[tokio::test]
async fn one_that_takes_too_long_leaves_the_others_alone() {
    let home = Home::new();
    let server = home.up(&["--wall-limit-ms", "1500"]);
    deploy(&home, &[]);
    let (slept, met) = tokio::join!(code(&server, "/sleep"), at_once(&server, "/meet/2", 2 * cores()));
    assert_eq!(slept, "wall_limit_exceeded");
    assert!(met.iter().all(|met| met == "2 have met\n"), "{met:?}");
    assert_eq!(text(&server, "/").await, "0 others are here\n", "its instance is not used again");
}

#[tokio::test]
async fn bodies_that_stream_from_one_instance_are_each_complete() {
    let home = Home::new();
    let server = home.up(&[]);
    deploy(&home, &[]);
    let bodies = at_once(&server, "/slow", 8).await;
    assert!(bodies.iter().all(|body| body == "piece\npiece\npiece\n"), "{bodies:?}");
}

#[tokio::test]
async fn a_stop_waits_for_requests_that_share_an_instance() {
    let home = Home::new();
    let server = home.up(&[]);
    deploy(&home, &[]);
    let slow = join_all((0..4).map(|_| async {
        let answer = server.get("meet", "/slow").await;
        server.terminate();
        answer.text().await.unwrap()
    }));
    assert!(slow.await.iter().all(|body| body == "piece\npiece\npiece\n"));
    assert!(server.stop().success());
}

#[tokio::test]
async fn only_wasi_0_3_can() {
    let home = Home::new();
    let _server = home.up(&[]);
    let mut deploy = home.af();
    deploy.args(["functions", "deploy", "--create", "-n", "meet", "--concurrency", "4", "-p"]);
    let refused = deploy.arg(guest("hello-rust")).output().unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("invalid_concurrency") && said.contains("WASI 0.3"), "{said}");
}
