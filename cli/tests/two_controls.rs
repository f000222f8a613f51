//! Two control planes on one database: edges of either are told the same, and of the one that is left.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

#[path = "../../control-api/tests/support/postgres.rs"]
mod postgres;
mod support;

use std::fs;
use std::process::Command;

use postgres::Postgres;
use serde_json::Value;
use support::{Home, Server, eventually, free_port, guest, ok};

const HELLO: &str = "Hello from Rust and WASI 0.2!\n";

async fn serves(edge: &Server, slug: &str) {
    eventually(async || {
        let answer = edge.get(slug, "/").await;
        (answer.status() == 200 && answer.text().await.unwrap() == HELLO).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_go_on_with_the_other_one_when_one_is_killed() {
    let database = Postgres::new();
    let (one, other, edges) = (Home::new(), Home::new(), [Home::new(), Home::new(), Home::new()]);
    let functions = format!("http://{{slug}}.localhost:{}", free_port());
    let control = |home: &Home, options: &[&str]| {
        let mut af = home.af();
        af.env("AF_DATABASE_URL", &database.url);
        let options = [&["--functions-url", &functions], options].concat();
        home.role(af, "control", &options)
    };
    let first = control(&one, &["--gateway", "public"]);
    // An operator gives both the same.
    fs::create_dir_all(other.data()).unwrap();
    fs::copy(one.data().join("master.key"), other.data().join("master.key")).unwrap();
    let second = control(&other, &["--source", &format!("peer={}", first.api)]);
    let secret = first.token();
    // As a client of either.
    let at = |control: &Server| {
        let mut af: Command = one.af();
        af.env("AF_API_URL", &control.api).env("AF_TOKEN", &secret);
        af
    };
    let join = |control: &Server, home: &Home, name: &str| {
        let made = ok(at(control).args(["--json", "edges", "add", name]));
        let made: Value = serde_json::from_str(&made).unwrap();
        let mut af = home.af();
        af.env("AF_JOIN_TOKEN", made["joinToken"].as_str().unwrap());
        home.role(af, "edge", &["--control", &control.api])
    };
    let deploy = |control: &Server, name: &str| {
        let mut af = at(control);
        af.args(["functions", "deploy", "--create", "-n", name, "-p"]).arg(guest("hello-rust"));
        ok(&mut af);
    };
    let of_first = join(&first, &edges[0], "of-first");
    let of_second = join(&second, &edges[1], "of-second");
    deploy(&first, "early");
    for edge in [&of_first, &of_second] {
        serves(edge, "early").await;
    }

    first.kill();
    serves(&of_first, "early").await;
    deploy(&second, "late");
    serves(&of_second, "late").await;
    // One that joins now gets code that was sent to the one that is gone.
    let new = join(&second, &edges[2], "new");
    for slug in ["early", "late"] {
        serves(&new, slug).await;
    }
    // The edge of the one that is gone is told where the other is, and needs no token: it is an edge of the same platform.
    assert!(of_first.stop().success());
    let moved = edges[0].role(edges[0].af(), "edge", &["--control", &second.api]);
    for slug in ["early", "late"] {
        serves(&moved, slug).await;
    }
    let listed: Value = serde_json::from_str(&ok(at(&second).args(["--json", "edges", "list"]))).unwrap();
    let versions: Vec<_> = listed.as_array().unwrap().iter().map(|edge| &edge["version"]).collect();
    assert_eq!(versions, [env!("CARGO_PKG_VERSION"); 3], "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deployed_at_one_is_changed_at_the_other() {
    let database = Postgres::new();
    let (one, other, of_first) = (Home::new(), Home::new(), Home::new());
    let serving = format!("127.0.0.1:{}", free_port());
    let functions = format!("http://{{slug}}.{}", serving.replace("127.0.0.1", "localhost"));
    let listening = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let [first, second] = [(&one, 0), (&other, 1)].map(|(home, here)| {
        fs::create_dir_all(other.data()).unwrap();
        if here == 1 {
            fs::copy(one.data().join("master.key"), other.data().join("master.key")).unwrap();
        }
        let mut af = home.af();
        af.env("AF_DATABASE_URL", &database.url);
        let peer = format!("peer=http://{}", listening[1 - here]);
        let sources = ["--api-listen", &listening[here], "--gateway", "public", "--source", &peer];
        home.role(af, "control", &[&["--functions-url", &functions], &sources[..]].concat())
    });
    let secret = first.token();
    let done = |control: &Server, arguments: &[&str]| {
        let mut af = one.af();
        af.env("AF_API_URL", &control.api).env("AF_TOKEN", &secret).args(arguments);
        ok(&mut af)
    };
    // It asks the first one for everything: nobody but the rules asks the second one for what the first one has.
    let made: Value = serde_json::from_str(&done(&first, &["--json", "edges", "add", "one"])).unwrap();
    let mut joining = of_first.af();
    joining.env("AF_JOIN_TOKEN", made["joinToken"].as_str().unwrap());
    let _edge = of_first.role(joining, "edge", &["--control", &first.api, "--listen", &serving]);
    let code = guest("hello-rust");
    let deploy = ["functions", "deploy", "-n", "hello", "-p", code.to_str().unwrap()];
    done(&first, &[&deploy[..], &["--create", "--egress", "a.example"]].concat());
    done(&second, &[&deploy[..], &["--egress", "a.example"]].concat());
    done(&second, &["env", "set", "-n", "hello", "GREETING=hello"]);
    done(&first, &["env", "set", "PLACE=there"]);
    done(&second, &["env", "set", "PLACE=here"]);
    done(&second, &[&deploy[..], &["--egress", "a.example", "--percent", "50"]].concat());
    done(&second, &["functions", "promote", "hello"]);
    let listed = done(&second, &["--json", "functions", "deployments", "-n", "hello"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 6, "{listed}");
    // Of content that only the first one has, the second one learns what it needs of its own.
    let site = tempfile::tempdir().unwrap();
    fs::write(site.path().join("large.bin"), vec![7; 3 << 20]).unwrap();
    let folder = site.path().to_str().unwrap();
    done(&first, &["sites", "deploy", "--create", "--name", "pages", "--path", folder]);
    done(&first, &["storage", "add", folder]);
    done(&second, &["storage", "gc"]);
}
