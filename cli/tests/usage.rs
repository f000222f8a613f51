//! What functions and sites use, from requests at an edge to what their project is told.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use serde_json::{Value, json};
use support::{Home, Server, deploy, eventually, free_port, http, ok, refused};

const HELLO: &str = "Hello from Rust and WASI 0.2!\n";

/// Requests a second: these tests ask until something is so.
const OFTEN: &str = "100000";

/// What a function or a site used in all, as its project is told. `kind`: `functions` or `sites`.
async fn used(api: &Server, token: &str, kind: &str, id: &str) -> Value {
    let url = format!("{}/v1/{kind}/{id}/usage", api.api);
    let answer = http().get(url).bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut answer: Value = answer.json().await.unwrap();
    answer["total"].take()
}

/// The same once there were so many requests.
async fn used_by(api: &Server, token: &str, kind: &str, id: &str, requests: u64) -> Value {
    let asked = async || {
        let used = used(api, token, kind, id).await;
        let counted = used["requests"].as_u64().unwrap();
        assert!(counted <= requests, "more than there were: {used}");
        (counted == requests).then_some(used)
    };
    eventually(asked).await
}

fn id(home: &Home, kind: &str, name: &str) -> String {
    let listed: Value = serde_json::from_str(&ok(home.af().args(["--json", kind, "list"]))).unwrap();
    let found = listed.as_array().unwrap().iter().find(|item| item["name"] == name || item["slug"] == name);
    found.unwrap_or_else(|| panic!("{name} in {listed}"))["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_counts_once_for_what_answered() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let server = home.up(&["--cpu-limit-ms", "200", "--api-rate-limit", OFTEN]);
    let token = server.token();
    deploy(&home, "hello", "hello-rust", &[]);
    deploy(&home, "bad", "hostile", &[]);
    deploy(&home, "off", "hello-rust", &[]);
    let routes = json!({"/fixed": {"response": {"body": "short"}}, "/hello/*": {"function": "hello"}});
    ok(home.af().args(["functions", "create", "-n", "front", "--routes", &routes.to_string()]));
    std::fs::write(dir.path().join("index.html"), "<h1>home</h1>").unwrap();
    ok(home.af().args(["sites", "deploy", "--create", "--name", "pages", "--path"]).arg(dir.path()));

    for _ in 0..3 {
        assert_eq!(server.get("hello", "/").await.text().await.unwrap(), HELLO);
    }
    let head = server.request("hello", "/").build().unwrap().url().clone();
    let head = http().head(head).header("host", server.host("hello")).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.text().await.unwrap().as_str()), (200, ""));
    assert_eq!(server.get("front", "/hello/x").await.text().await.unwrap(), HELLO);
    let fixed = eventually(async || {
        let answer = server.get("front", "/fixed").await;
        (answer.status() == 200).then_some(answer)
    });
    assert_eq!(fixed.await.text().await.unwrap(), "short");
    assert_eq!(server.get("bad", "/spin").await.status(), 503);
    assert_eq!(server.get("pages", "/").await.text().await.unwrap(), "<h1>home</h1>");
    let missing = server.get("pages", "/nowhere").await;
    assert_eq!(missing.status(), 404);
    let missing = missing.bytes().await.unwrap().len() as u64;
    // Nobody is asked who is switched off.
    ok(home.af().args(["functions", "update", "--functionName", "off", "--status", "INACTIVE"]));
    assert_eq!(server.get("off", "/").await.status(), 404);

    let hello = used_by(&server, &token, "functions", &id(&home, "functions", "hello"), 5).await;
    // What another function's route led to counts for who answered, and a header alone has no body.
    assert_eq!((&hello["errors"], &hello["sentBytes"]), (&json!(0), &json!(4 * HELLO.len())));
    let [cpu, wall] = [&hello["cpuUs"], &hello["wallUs"]].map(|time| time.as_u64().unwrap());
    assert!(cpu > 0 && wall > 0, "{hello}");
    let front = used_by(&server, &token, "functions", &id(&home, "functions", "front"), 1).await;
    assert_eq!((&front["errors"], &front["sentBytes"], &front["cpuUs"]), (&json!(0), &json!(5), &json!(0)));
    let bad = used_by(&server, &token, "functions", &id(&home, "functions", "bad"), 1).await;
    assert!(bad["errors"] == 1 && bad["cpuUs"].as_u64() > Some(150_000), "{bad}");
    let pages = used_by(&server, &token, "sites", &id(&home, "sites", "pages"), 2).await;
    assert_eq!((&pages["errors"], &pages["sentBytes"]), (&json!(0), &json!(13 + missing)));
    let off = used(&server, &token, "functions", &id(&home, "functions", "off")).await;
    assert_eq!(off["requests"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_killed_while_its_control_plane_is_away_tells_everything_once() {
    let (home, one) = (Home::new(), Home::new());
    let port = free_port();
    let functions = format!("http://{{slug}}.localhost:{port}");
    let listen = format!("127.0.0.1:{}", free_port());
    let controlling = ["--functions-url", &functions, "--api-listen", &listen, "--api-rate-limit", OFTEN];
    let plane = home.role(home.af(), "control", &controlling);
    let made: Value = serde_json::from_str(&ok(home.af().args(["--json", "edges", "add", "one"]))).unwrap();
    let (api, address) = (plane.api.clone(), format!("127.0.0.1:{port}"));
    let serving = ["--control", &api, "--metrics-listen", "127.0.0.1:0", "--listen", &address];
    let mut joining = one.af();
    joining.env("AF_JOIN_TOKEN", made["joinToken"].as_str().unwrap());
    let edge = one.role(joining, "edge", &serving);
    deploy(&home, "hello", "hello-rust", &[]);
    let (token, function) = (plane.token(), id(&home, "functions", "hello"));
    let asked = async |edge: &Server, times: usize| {
        for _ in 0..times {
            assert_eq!(edge.get("hello", "/").await.status(), 200);
        }
    };
    eventually(async || (edge.get("hello", "/").await.status() == 200).then_some(())).await;
    asked(&edge, 4).await;
    used_by(&plane, &token, "functions", &function, 5).await;
    // The control plane dies, and what is used waits on the edge's disk.
    plane.kill();
    asked(&edge, 6).await;
    let file = one.data().join("usage.json");
    let written = async || {
        let text = std::fs::read_to_string(&file).ok()?;
        let kept: Value = serde_json::from_str(&text).ok()?;
        let requests = |record: &Value| record["requests"].as_u64().unwrap();
        let batch = kept["batch"]["records"].as_array().into_iter().flatten();
        let records = batch.chain(kept["records"].as_array().into_iter().flatten());
        (records.map(requests).sum::<u64>() == 6).then_some(())
    };
    eventually(written).await;
    edge.kill();
    let edge = one.role(one.af(), "edge", &serving);
    asked(&edge, 2).await;
    let plane = home.role(home.af(), "control", &controlling);
    let used = used_by(&plane, &token, "functions", &function, 13).await;
    assert_eq!(used["sentBytes"], 13 * HELLO.len());
    // Those of its last second are told by an edge that stops.
    asked(&edge, 3).await;
    assert!(edge.stop().success());
    used_by(&plane, &token, "functions", &function, 16).await;
}

#[test]
fn who_pays_names_a_function_without_seeing_it() {
    let (home, other) = (Home::new(), Home::new());
    let server = home.up(&[]);
    ok(home.af().args(["functions", "create", "-n", "hello"]));
    let read =
        |args: &[&str]| -> Value { serde_json::from_str(&ok(home.af().arg("--json").args(args))).unwrap() };
    let organizations = read(&["orgs", "list"]);
    let organization = organizations[0]["id"].as_str().unwrap();
    let invited = read(&["members", "invite", "--role", "billing", "--org", organization]);
    let code = invited["code"].as_str().unwrap();
    ok(other.af().args(["join", code, "--name", "payer", "--api-url", &server.api]));

    refused(other.af().args(["functions", "list"]));
    let shown = ok(other.af().args(["usage", "--function", "hello"]));
    assert!(shown.contains("total"), "{shown}");
    let (_, why) = refused(other.af().args(["usage", "--function", "nothing"]));
    assert!(why.contains("you are billing here"), "{why}");
}
