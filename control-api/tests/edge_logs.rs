//! What functions log at edges of their own: the test is the edges.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_control_api::ControlApi;
use af_control_api::store::backup::{Form, dump};
use serde_json::{Value, json};
use support::edges::TestEdge;
use support::events::{Events, function};
use support::{Engine, OWNER, Served, on};

fn line(function: &str, deployment: &str, text: &str) -> Value {
    json!({
        "function": function, "deployment": deployment, "request": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "at": 1_767_225_630_000_i64, "stream": "stdout", "text": text
    })
}

/// A function that has a deployment with this id.
async fn deployed(served: &Served, name: &str, deployment: &str) -> String {
    let function = function(served, name).await;
    let insert = format!(
        "insert into deployments (id, function_id, number, manifest_cid, code_cid, blake3, size, world, author_id, created_at)
            select '{deployment}', '{function}', 1, '-', '-', '-', 1, 'proxy', (select min(id) from users), 1"
    );
    served.stored.script(&insert).await;
    function
}

async fn newest(served: &Served, function: &str) -> Vec<Value> {
    let path = format!("/v1/functions/{function}/logs?follow=false");
    let (status, kept) = served.call("get", &path, Some(OWNER), Value::Null).await;
    assert_eq!(status, 200, "{kept}");
    kept["data"].as_array().unwrap().clone()
}

async fn lines_say_which_edge_they_are_from_and_what_is_missing() {
    let served = Served::start().await;
    let one = deployed(&served, "one", "dep_1").await;
    assert!(newest(&served, &one).await.is_empty(), "nothing was logged, wherever edges are");
    let (east, west) = (TestEdge::join(&served, "east").await, TestEdge::join(&served, "west").await);
    assert_eq!(east.logs(&served, "1", &[line(&one, "dep_1", "before")]).await.0, 204);
    let mut events = Events::open(&served, &one, OWNER, None).await;
    assert_eq!(events.line().await["text"], "before");

    let mut after = line(&one, "dep_1", "after");
    after["missed"] = json!(7);
    let mut future = line(&one, "dep_1", "of tomorrow");
    future["at"] = json!(i64::MAX);
    assert_eq!(west.logs(&served, "1", &[after, future]).await.0, 204);
    assert_eq!(events.next().await.unwrap(), ("missed".into(), json!({ "lines": 7 })));
    let told = events.line().await;
    let expected = json!({
        "id": told["id"], "at": 1_767_225_630_000_i64, "deploymentId": "dep_1",
        "requestId": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "stream": "stdout", "text": "after", "edge": "west", "missed": 7
    });
    assert_eq!(told, expected);
    // By the clock of the server, and so in a year that clients can write down.
    let at = events.line().await["at"].as_i64().unwrap();
    assert!((1_767_225_630_000..253_402_300_800_000).contains(&at), "{at}");
    let kept = newest(&served, &one).await;
    let from: Vec<_> = kept.iter().map(|line| (&line["edge"], &line["text"])).collect();
    let expected = [
        (&json!("east"), &json!("before")),
        (&json!("west"), &json!("after")),
        (&json!("west"), &json!("of tomorrow")),
    ];
    assert_eq!(from, expected);

    let query = format!("subscription {{ functionLogs(where: {{ id: \"{one}\" }}) {{ text edge missed }} }}");
    let (accept, body) = ([("accept", "text/event-stream")], json!({ "query": query }));
    let mut told = served.answer("post", "/graphql", Some(OWNER), &accept, body).await;
    let mut read = String::new();
    while !read.contains("of tomorrow") {
        read.push_str(std::str::from_utf8(&told.chunk().await.unwrap().unwrap()).unwrap());
    }
    let lines: Vec<Value> = read
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| serde_json::from_str(data).ok())
        .collect();
    let expected = json!({ "text": "after", "edge": "west", "missed": 7 });
    assert_eq!(lines[1]["data"]["functionLogs"], expected, "{read}");
}

async fn an_edge_speaks_of_what_there_is_and_for_itself_only() {
    let served = Served::start().await;
    let one = deployed(&served, "one", "dep_1").await;
    let two = deployed(&served, "two", "dep_2").await;
    let edge = TestEdge::join(&served, "east").await;
    let lines = [
        line("fn_gone", "dep_1", "of no function"),
        line(&one, "dep_gone", "of no deployment"),
        line(&one, "dep_2", "of another function's"),
        line(&one, "dep_1", "heard"),
    ];
    assert_eq!(edge.logs(&served, "a", &lines).await.0, 204);
    // Its answer was lost: it is sent again.
    assert_eq!(edge.logs(&served, "a", &lines).await.0, 204);
    let kept = newest(&served, &one).await;
    assert_eq!((kept.len(), &kept[0]["text"]), (1, &json!("heard")));
    assert!(newest(&served, &two).await.is_empty());

    let mut strange = line(&one, "dep_1", "strange");
    strange["stream"] = json!("shouted");
    let refused = (400, json!("invalid_logs"));
    assert_eq!(edge.logs(&served, "b", &[lines[3].clone(), strange]).await, refused);
    assert_eq!(edge.logs(&served, &"b".repeat(65), &[]).await, refused);
    assert_eq!(edge.logs(&served, "b", &vec![json!(lines[3]); 1_001]).await, refused);
    let mut named = line(&one, "dep_1", "of somebody else");
    named["edge"] = json!("west");
    assert_eq!(edge.logs(&served, "b", &[named]).await, (400, json!("invalid_json")));
    let long = vec![line(&one, "dep_1", &"x".repeat(8 << 10)); 40];
    assert_eq!(edge.logs(&served, "b", &long).await.0, 413);
    let (proven, sent) = (b"{\"batch\":\"b\",\"lines\":[]}", b"{\"batch\":\"c\",\"lines\":[]}");
    let answer = served.post("/v1/edge/logs", &edge.prove_logs(proven), &[], sent.to_vec()).await;
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "invalid_proof");
    assert_eq!(newest(&served, &one).await.len(), 1, "of a batch that is refused nothing is taken");

    let path = format!("/v1/edges/{}", edge.id);
    assert_eq!(served.call("delete", &path, Some(OWNER), Value::Null).await.0, 204);
    assert_eq!(edge.logs(&served, "d", &lines).await.0, 401);
}

/// A server's part that exchanges with others, until it is dropped.
struct Following(tokio::task::JoinHandle<()>);

impl Following {
    fn start(control: &ControlApi) -> Self {
        let control = control.clone();
        Self(tokio::spawn(async move { control.follow_others(std::future::pending()).await }))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_several_servers_of_a_database_has_all_lines() {
    on(Engine::Postgres, async {
        let first = Served::start().await;
        let one = deployed(&first, "one", "dep_1").await;
        let second = first.beside().await;
        let _following = [Following::start(&first.control), Following::start(&second.control)];
        let edge = TestEdge::join(&first, "east").await;
        // Each must have noticed the other before it hands on what comes.
        let mut events = Events::open(&second, &one, OWNER, None).await;
        let mut number = 0;
        let told = {
            let mut told = std::pin::pin!(events.line());
            loop {
                let (batch, lines) = (number.to_string(), [line(&one, "dep_1", "to all")]);
                tokio::select! {
                    biased;
                    told = &mut told => break told,
                    sent = edge.logs(&first, &batch, &lines) => assert_eq!(sent.0, 204),
                }
                number += 1;
            }
        };
        assert_eq!((&told["text"], &told["edge"]), (&json!("to all"), &json!("east")));
        // What came from the other one is not sent back.
        assert_eq!(second_way(&first, &second, &edge, &one).await, "the other way");
        let mine = newest(&first, &one).await;
        assert_eq!(mine.iter().filter(|line| line["text"] == "the other way").count(), 1, "{mine:?}");
        // Nobody keeps any of it.
        let mut backup = Vec::new();
        dump(&first.stored.database, Form::Rows, &mut backup).await.unwrap();
        assert!(!String::from_utf8_lossy(&backup).contains("log_batches"));
    })
    .await;
}

/// What the first server tells of a line that the second one was sent.
async fn second_way(first: &Served, second: &Served, edge: &TestEdge, one: &str) -> String {
    let mut events = Events::open(first, one, OWNER, None).await;
    assert_eq!(edge.logs(second, "back", &[line(one, "dep_1", "the other way")]).await.0, 204);
    loop {
        let text = events.line().await["text"].as_str().unwrap().to_owned();
        if text != "to all" {
            return text;
        }
    }
}

on_both!(
    lines_say_which_edge_they_are_from_and_what_is_missing,
    an_edge_speaks_of_what_there_is_and_for_itself_only,
);
