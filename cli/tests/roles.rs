//! A cluster on one machine: a control plane, and edges that take what they serve from it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;
#[path = "support/tampering.rs"]
mod tampering;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{Home, Server, deploy, free_port, guest, ok, refused};
use tampering::{Tampering, Way};

/// Asks until the answer is as it should be: the feed is followed within a second, and a test has more patience.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asked = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap_or_else(|_| panic!("{what}"));
}

async fn says(edge: &Server, slug: &str, path: &str) -> (u16, String) {
    let answer = edge.get(slug, path).await;
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// A control plane whose clients find functions at this port.
fn control(home: &Home, port: u16) -> Server {
    let functions = format!("http://{{slug}}.localhost:{port}");
    // Another one may follow at the same place.
    let listen = format!("127.0.0.1:{}", free_port());
    home.role(home.af(), "control", &["--functions-url", &functions, "--api-listen", &listen])
}

/// A token to join with.
fn token(control: &Home, name: &str) -> String {
    let made: Value = serde_json::from_str(&ok(control.af().args(["--json", "edges", "add", name]))).unwrap();
    made["joinToken"].as_str().unwrap().to_owned()
}

fn edge(home: &Home, url: &str, token: Option<&str>, port: u16) -> Server {
    let listen = format!("127.0.0.1:{port}");
    let options = ["--control", url, "--metrics-listen", "127.0.0.1:0", "--listen", &listen];
    home.role(joining(home, token), "edge", &options)
}

fn joining(home: &Home, token: Option<&str>) -> Command {
    let mut af = home.af();
    if let Some(token) = token {
        af.env("AF_JOIN_TOKEN", token);
    }
    af
}

const HELLO: &str = "Hello from Rust and WASI 0.2!\n";

#[tokio::test(flavor = "multi_thread")]
async fn edges_follow_and_go_on_alone_also_after_a_restart() {
    let (home, one, two) = (Home::new(), Home::new(), Home::new());
    let port = free_port();
    let plane = control(&home, port);
    let (first, second) = (token(&home, "one"), token(&home, "two"));
    let edges = [edge(&one, &plane.api, Some(&first), port), edge(&two, &plane.api, Some(&second), 0)];
    deploy_to(&home, "hello", "hello-rust");
    for edge in &edges {
        eventually("both edges serve it", async || says(edge, "hello", "/").await == (200, HELLO.to_owned()))
            .await;
    }
    let listed = ok(home.af().args(["--json", "edges", "list"]));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert!(listed.as_array().unwrap().iter().all(|edge| edge["joinedAt"].is_i64()), "{listed}");
    // A change of routes, and one of the status.
    ok(home.af().args(["functions", "update", "--functionName", "hello", "--status", "INACTIVE"]));
    for edge in &edges {
        eventually("it is switched off", async || says(edge, "hello", "/").await.0 == 404).await;
    }
    ok(home.af().args(["functions", "update", "--functionName", "hello", "--status", "ACTIVE"]));
    for edge in &edges {
        eventually("it is back", async || says(edge, "hello", "/").await.0 == 200).await;
    }
    // The control plane is away: both go on, one of them is another process now.
    let api = plane.api.clone();
    drop(plane);
    let [stays, restarts] = edges;
    assert!(restarts.stop().success());
    let restarts = edge(&two, &api, None, 0);
    assert_eq!(says(&restarts, "hello", "/").await, (200, HELLO.to_owned()));
    assert_eq!(says(&stays, "hello", "/").await.0, 200);
    let metrics = restarts.metrics().await;
    assert!(metrics.contains("af_feed_contact_seconds 0"), "{metrics}");
    // It comes back, and what changes arrives.
    let functions = format!("http://{{slug}}.localhost:{port}");
    let listen = api.strip_prefix("http://").unwrap();
    let _plane = home.role(home.af(), "control", &["--api-listen", listen, "--functions-url", &functions]);
    deploy_to(&home, "more", "hello-rust");
    for edge in [&stays, &restarts] {
        eventually("what is new arrives", async || says(edge, "more", "/").await.0 == 200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_was_away_finds_slugs_with_their_new_owners() {
    let (home, one) = (Home::new(), Home::new());
    let port = free_port();
    let plane = control(&home, port);
    let edge = edge(&one, &plane.api, Some(&token(&home, "one")), port);
    deploy_to(&home, "left", "hello-rust");
    deploy_to(&home, "right", "hello-rust-p3");
    let before = [says(&edge, "left", "/").await, says(&edge, "right", "/").await];
    assert!(edge.stop().success());
    for (name, slug) in [("left", "away"), ("right", "left"), ("left", "right")] {
        ok(home.af().args(["functions", "update", "--functionName", name, "--slug", slug]));
    }
    let edge = self::edge(&one, &plane.api, None, port);
    eventually("the slugs have changed hands", async || {
        [says(&edge, "right", "/").await, says(&edge, "left", "/").await] == before
    })
    .await;
    assert_eq!(says(&edge, "away", "/").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_reach_edges_and_lie_nowhere_in_clear() {
    const SECRET: &str = "the-secret-value-of-this-test";
    let (home, one) = (Home::new(), Home::new());
    let port = free_port();
    let plane = control(&home, port);
    let edge = edge(&one, &plane.api, Some(&token(&home, "one")), port);
    deploy(&home, "env", "hostile", &["--env", &format!("KEY={SECRET}")]);
    assert!(says(&edge, "env", "/environment").await.1.contains(SECRET));
    let restarted = edge.stop().success().then(|| self::edge(&one, &plane.api, None, port)).unwrap();
    assert!(says(&restarted, "env", "/environment").await.1.contains(SECRET), "also from the disk");
    let edge = restarted;
    assert!(edge.stop().success());
    for home in [&home, &one] {
        for file in walk(&home.data()) {
            let bytes = std::fs::read(&file).unwrap();
            assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "{}", file.display());
        }
        assert!(!home.logged().contains(SECRET));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_set_once_an_edge_has_them_also_where_the_client_reaches_none() {
    let (home, one) = (Home::new(), Home::new());
    let plane = control(&home, free_port());
    let edge = edge(&one, &plane.api, Some(&token(&home, "one")), 0);
    deploy_to(&home, "told", "hostile");
    let said = ok(home.af().args(["env", "set", "MODE=fast", "-n", "told"]));
    assert!(said.contains("told runs deployment 2 with it"), "{said}");
    assert_eq!(says(&edge, "told", "/environment").await.1, r#"[("MODE", "fast")]"#);
    let listed = ok(home.af().args(["edges", "list"]));
    assert_eq!(
        listed.lines().last().unwrap().matches("Z  ").count(),
        2,
        "times as people read them: {listed}"
    );
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_edge_is_told_nothing() {
    let (home, one, two) = (Home::new(), Home::new(), Home::new());
    let port = free_port();
    let plane = control(&home, port);
    let token = token(&home, "one");
    let start = |home: &Home, token: Option<&str>, control: &str| {
        refused(
            joining(home, token)
                .args(["edge", "--listen", "127.0.0.1:0", "--control", control, "--data-dir"])
                .arg(home.data()),
        )
    };
    let (_, text) = start(&one, None, &plane.api);
    assert!(text.contains("af edges add"), "{text}");
    let (code, text) = start(&one, Some("afj_nonsense"), &plane.api);
    assert!(code == 1 && text.contains("af edges add") && !text.contains("nonsense"), "{text}");
    // A token of another control plane.
    let other_home = Home::new();
    let other = control(&other_home, 0);
    let foreign = self::token(&other_home, "x");
    let (_, text) = start(&one, Some(&foreign), &plane.api);
    assert!(text.contains("401"), "{text}");
    let edge = self::edge(&one, &plane.api, Some(&token), port);
    // The token counts once.
    let (_, text) = start(&two, Some(&token), &plane.api);
    assert!(text.contains("401"), "{text}");
    // Nothing but a proof opens the feed or content.
    let client = reqwest::Client::new();
    let stored = std::fs::read_to_string(home.config()).unwrap();
    let stored: Value = serde_json::from_str(&stored).unwrap();
    let operator = stored["servers"][&plane.api]["token"].as_str().unwrap();
    for path in ["/v1/edge/feed", "/v1/edge/ipfs/bafkqaaa"] {
        for credential in [None, Some("nonsense"), Some("a.b.c"), Some(operator)] {
            let mut request = client.get(format!("{}{path}", plane.api));
            if let Some(credential) = credential {
                request = request.bearer_auth(credential);
            }
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 401, "{path} {credential:?}");
        }
    }
    // One that is removed is told nothing more, and goes on with what it knows.
    deploy_to(&home, "before", "hello-rust");
    eventually("it arrives", async || says(&edge, "before", "/").await.0 == 200).await;
    ok(home.af().args(["edges", "remove", "one"]));
    let mut waiting = deploying(&home, "after");
    eventually("it is refused", async || one.logged().contains("401")).await;
    assert_eq!(says(&edge, "before", "/").await.0, 200);
    assert_eq!(says(&edge, "after", "/").await.0, 404);
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_in_between_changes_or_repeats_does_not_count() {
    let (home, one) = (Home::new(), Home::new());
    let port = free_port();
    let plane = control(&home, port);
    let between = Tampering::start(&plane.api).await;
    let edge = edge(&one, &between.url(), Some(&token(&home, "one")), port);
    deploy_to(&home, "first", "hello-rust");
    eventually("it arrives", async || says(&edge, "first", "/").await.0 == 200).await;
    for way in [Way::Changes, Way::Repeats, Way::Cuts, Way::Asks] {
        between.go(way);
        let name = format!("while-{way:?}").to_lowercase();
        let mut waiting = deploying(&home, &name);
        eventually("something was tampered with", async || between.count(way) > 2).await;
        assert_eq!(says(&edge, &name, "/").await.0, 404, "{way:?}");
        assert_eq!(says(&edge, "first", "/").await.0, 200, "{way:?}");
        between.go(Way::Honest);
        assert!(waiting.wait().unwrap().success(), "then it arrives");
    }
    assert!(one.logged().contains("does not count"), "{}", one.logged());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_in_between_changes_of_reports_and_work_does_not_count() {
    let (home, one) = (Home::new(), Home::new());
    let port = free_port();
    let plane = control(&home, port);
    let between = Tampering::start(&plane.api).await;
    let edge = edge(&one, &between.url(), Some(&token(&home, "one")), port);
    let cron = ["functions", "deploy", "--create", "-n", "work", "--cron", "@yearly=/work", "-p"];
    ok(home.af().args(cron).arg(guest("cron")));

    // What the edge reports is lost on its way, and comes once it can.
    between.go_with("/v1/edge/report", Way::Asks);
    let mut waiting = deploying(&home, "early");
    eventually("it is served", async || says(&edge, "early", "/").await.0 == 200).await;
    eventually("reports were changed", async || between.count(Way::Asks) > 2).await;
    let shown = || ok(home.af().args(["functions", "get", "-n", "early"]));
    assert!(shown().contains("DEPLOYING"), "{}", shown());
    between.go(Way::Honest);
    assert!(waiting.wait().unwrap().success());
    eventually("it is told", async || !shown().contains("DEPLOYING")).await;

    // What it is told to do it does not believe, and the run ends as one that was lost.
    let trigger = || {
        let mut af = home.af();
        af.args(["functions", "trigger", "-n", "work"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        af
    };
    between.go_with("/v1/edge/work", Way::Changes);
    let run = trigger().output().unwrap();
    let run = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.contains("did not get to it") && between.count(Way::Changes) > 0, "{run}");
    // What it asks for is changed: it is given nothing.
    let changed = between.count(Way::Asks);
    between.go_with("/v1/edge/work", Way::Asks);
    eventually("requests for work were changed", async || between.count(Way::Asks) > changed + 1).await;
    let mut run = trigger().spawn().unwrap();
    eventually("and more", async || between.count(Way::Asks) > changed + 3).await;
    assert!(says(&edge, "work", "/").await.1.starts_with("0 times"));
    between.go(Way::Honest);
    assert!(run.wait().unwrap().success());
    assert!(says(&edge, "work", "/").await.1.starts_with("1 times"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_cannot_write_serves_what_it_is_told_and_keeps_it_once_it_can() {
    let (home, one) = (Home::new(), Home::new());
    let port = free_port();
    let plane = control(&home, port);
    let in_the_way = one.data().join("feed.partial");
    std::fs::create_dir_all(&in_the_way).unwrap();
    let edge = edge(&one, &plane.api, Some(&token(&home, "one")), port);
    deploy_to(&home, "hello", "hello-rust");
    assert_eq!(says(&edge, "hello", "/").await.0, 200);
    assert!(one.logged().contains("feed.log"), "{}", one.logged());
    std::fs::remove_dir(&in_the_way).unwrap();
    eventually("it is kept", async || one.data().join("feed.log").exists()).await;
    let api = plane.api.clone();
    drop((edge, plane));
    let edge = self::edge(&one, &api, None, port);
    assert_eq!(says(&edge, "hello", "/").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_control_plane_is_followed_and_what_it_lacks_is_gone() {
    let (home, one, again) = (Home::new(), Home::new(), Home::new());
    let port = free_port();
    let plane = control(&home, port);
    let edge = edge(&one, &plane.api, Some(&token(&home, "one")), port);
    deploy_to(&home, "kept", "hello-rust");
    let backup = home.data().with_file_name("backup");
    let mut af = home.af();
    af.env("AF_BACKUP_PASSPHRASE", "correct horse battery")
        .args(["admin", "backup", "--with-key"])
        .arg(&backup);
    ok(af.arg("--data-dir").arg(home.data()));
    deploy_to(&home, "lost", "hello-rust");
    eventually("both are there", async || says(&edge, "lost", "/").await.0 == 200).await;
    let api = plane.api.clone();
    assert!(plane.stop().success());
    let mut af = again.af();
    af.env("AF_BACKUP_PASSPHRASE", "correct horse battery").args(["admin", "restore"]).arg(&backup);
    ok(af.arg("--data-dir").arg(again.data()));
    let listen = api.strip_prefix("http://").unwrap().to_owned();
    let _plane = again.role(again.af(), "control", &["--api-listen", &listen]);
    eventually("what the backup lacks is gone", async || says(&edge, "lost", "/").await.0 == 404).await;
    assert_eq!(says(&edge, "kept", "/").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_tells_what_it_does_and_does_what_it_is_told() {
    let (home, one) = (Home::new(), Home::new());
    let port = free_port();
    let plane = control(&home, port);
    let json = |args: &[&str]| -> Value {
        serde_json::from_str(&ok(home.af().args(["--json", "functions"]).args(args))).unwrap()
    };
    // Nobody is there yet to run it.
    let mut deploying = deploying(&home, "early");
    let status = |name: &str| json(&["get", "-n", name])["status"].clone();
    eventually("it is stored", async || {
        let shown = home.af().args(["functions", "get", "-n", "early"]).output().unwrap();
        String::from_utf8_lossy(&shown.stdout).contains("DEPLOYING")
    })
    .await;
    let edge = edge(&one, &plane.api, Some(&token(&home, "one")), port);
    assert!(deploying.wait().unwrap().success());
    assert_eq!(status("early"), "ACTIVE");

    // Its time comes: the control plane has nobody else to call it.
    let cron = guest("cron");
    let deployed =
        json(&["deploy", "--create", "-n", "work", "--cron", "@yearly=/work", "-p", cron.to_str().unwrap()]);
    assert_eq!(deployed["deployment"]["status"], "ACTIVE");
    let run = json(&["trigger", "-n", "work"]);
    assert_eq!((&run["outcome"], &run["status"]), (&"succeeded".into(), &200.into()), "{run}");
    assert!(says(&edge, "work", "/").await.1.starts_with("1 times"));

    // A candidate fails too often, which the edge sees and the control plane is told.
    deploy_to(&home, "bad", "hello-rust");
    deploy(&home, "bad", "hostile", &["--percent", "100", "--min-requests", "3"]);
    eventually("the rollout is stopped", async || says(&edge, "bad", "/trap").await.1.contains("Hello"))
        .await;
    eventually("the rollout has ended", async || {
        let shown = ok(home.af().args(["functions", "get", "-n", "bad"]));
        shown.contains("ROLLED_BACK") && shown.contains("requests to it failed")
    })
    .await;
}

fn deploy_to(home: &Home, name: &str, guest: &str) {
    deploy(home, name, guest, &[]);
}

/// A deploy that goes on until an edge answers.
fn deploying(home: &Home, name: &str) -> Child {
    let mut af = home.af();
    af.args(["functions", "deploy", "--create", "-n", name, "-p"]).arg(guest("hello-rust"));
    af.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
