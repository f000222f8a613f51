//! Logs of functions in the control plane alone: the test is the edge that hands lines in.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::sync::Arc;

use af_contract::{LogLine, LogSink};
use serde_json::{Value, json};
use support::events::{Events, function};
use support::socket::Frame;
use support::{OWNER, STRANGER, Served, client};

fn say(edge: &Arc<dyn LogSink>, function: &str, text: &str) {
    edge.take(LogLine {
        function: function.into(),
        deployment: "dep_1".into(),
        request: "01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
        at: 1_767_225_630_000,
        stream: "stdout",
        text: text.into(),
        edge: None,
        missed: 0,
    });
}

async fn lines_are_told_to_whoever_may_see_their_function() {
    let served = Served::start().await;
    let (one, other) = (function(&served, "one").await, function(&served, "other").await);
    let edge = served.control.logs();
    say(&edge, &one, "before");
    say(&edge, &other, "not of this one");
    let mut events = Events::open(&served, &one, OWNER, None).await;
    let line = events.line().await;
    let expected = json!({
        "id": line["id"], "at": 1_767_225_630_000_i64, "deploymentId": "dep_1", "requestId": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "stream": "stdout", "text": "before"
    });
    assert_eq!(line, expected);
    say(&edge, &other, "nor this");
    say(&edge, &one, "live");
    assert_eq!(events.line().await["text"], "live");

    // What is kept, and from where a client was.
    let path = format!("/v1/functions/{one}/logs?follow=false");
    let (status, kept) = served.call("get", &path, Some(OWNER), Value::Null).await;
    assert_eq!((status, &kept["data"][0]), (200, &expected));
    assert_eq!((kept["data"].as_array().unwrap().len(), &kept["next"]), (2, &Value::Null));
    let mut again = Events::open(&served, &one, OWNER, line["id"].as_str()).await;
    assert_eq!(again.line().await["text"], "live");
    let mut later = Events::open(&served, &one, OWNER, Some("1-5")).await;
    assert_eq!(
        later.next().await.unwrap(),
        ("missed".into(), json!({ "lines": null })),
        "a server before this one"
    );
    assert_eq!(later.line().await["text"], "before");

    for path in [&path, &format!("/v1/functions/{one}/logs")] {
        let (status, refused) = served.call("get", path, Some(STRANGER), Value::Null).await;
        assert_eq!((status, &refused["code"]), (404, &json!("not_found")));
        assert_eq!(served.call("get", path, None, Value::Null).await.0, 401);
    }
    let bad = [("last-event-id", "yesterday")];
    let refused =
        served.answer("get", &format!("/v1/functions/{one}/logs"), Some(OWNER), &bad, Value::Null).await;
    assert_eq!(refused.status(), 400);
}

async fn graphql_subscriptions_tell_the_same() {
    let served = Served::start().await;
    let one = function(&served, "one").await;
    let query = format!(
        "subscription {{ functionLogs(where: {{ id: \"{one}\" }}) {{ text stream deploymentId requestId timestamp missed edge }} }}"
    );
    let code = |answer: &Value| answer["errors"][0]["extensions"]["code"].clone();
    let refused = async |token| {
        let (accept, body) = ([("accept", "text/event-stream")], json!({ "query": query }));
        let told = served.answer("post", "/graphql", token, &accept, body).await.text().await.unwrap();
        let first = told.lines().find_map(|line| line.strip_prefix("data: "));
        code(&serde_json::from_str(first.unwrap()).unwrap())
    };
    let edge = served.control.logs();
    for (token, expected) in [(Some(STRANGER), "not_found"), (None, "unauthenticated")] {
        assert_eq!(refused(token).await, expected);
    }
    say(&edge, &one, "before");
    let mut socket = served.socket("/graphql").await.begin(Some(OWNER)).await;
    socket.ask("1", &query).await;
    for text in ["before", "live"] {
        let Frame::Text(told) = socket.told().await else { panic!() };
        let expected = json!({
            "text": text, "stream": "stdout", "deploymentId": "dep_1", "requestId": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "timestamp": "2026-01-01T00:00:30.000Z", "missed": 0, "edge": null
        });
        assert_eq!(told["payload"]["data"]["functionLogs"], expected, "{told}");
        say(&edge, &one, "live");
    }
    let (status, _) = served.call("delete", &format!("/v1/functions/{one}"), Some(OWNER), Value::Null).await;
    assert_eq!(status, 200);
    loop {
        let Frame::Text(told) = socket.told().await else { panic!() };
        if told["payload"]["errors"].is_array() {
            assert_eq!(code(&told["payload"]), "not_found", "{told}");
            break;
        }
    }
    assert!(matches!(socket.told().await, Frame::Text(done) if done["type"] == "complete"));
}

async fn followers_end_with_their_token_their_function_and_the_server() {
    let served = Served::start().await;
    let (one, other) = (function(&served, "one").await, function(&served, "other").await);
    let edge = served.control.logs();
    let (_, token) = served.call("post", "/v1/tokens", Some(OWNER), json!({ "name": "short" })).await;
    let mut short = Events::open(&served, &one, token["token"].as_str().unwrap(), None).await;
    let mut of_other = Events::open(&served, &other, OWNER, None).await;
    say(&edge, &one, "still");
    assert_eq!(short.line().await["text"], "still");
    let path = format!("/v1/tokens/{}", token["id"].as_str().unwrap());
    assert!(served.call("delete", &path, Some(OWNER), Value::Null).await.0 < 300);
    // It is noticed within five seconds, or at the next change.
    served.call("delete", &format!("/v1/functions/{other}"), Some(OWNER), Value::Null).await;
    say(&edge, &one, "a secret of later");
    assert_eq!(short.failure().await, "unauthenticated");
    assert_eq!(of_other.failure().await, "not_found");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/functions/{one}/logs", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let control = served.control.clone();
    let serving = tokio::spawn(async move { control.serve(listener, async { drop(stopped.await) }).await });
    let response = client().get(url).bearer_auth(OWNER).send().await.unwrap();
    let mut events = Events { response, unread: String::new() };
    assert_eq!(events.line().await["text"], "still");
    stop.send(()).unwrap();
    while let Some((name, _)) = events.next().await {
        assert_eq!(name, "line", "an end that is nobody's fault is no failure");
    }
    serving.await.unwrap();
}

async fn a_token_follows_a_few_logs() {
    let served = Served::start().await;
    let one = function(&served, "one").await;
    let edge = served.control.logs();
    let mut events = Vec::new();
    for _ in 0..20 {
        events.push(Events::open(&served, &one, OWNER, None).await);
    }
    let path = format!("/v1/functions/{one}/logs");
    let refused = served.answer("get", &path, Some(OWNER), &[], Value::Null).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "too_many_followers");
    say(&edge, &one, "to all");
    for events in &mut events {
        assert_eq!(events.line().await["text"], "to all");
    }
    // Who leaves makes room.
    drop(events);
    let room = async {
        while served.answer("get", &path, Some(OWNER), &[], Value::Null).await.status() != 200 {
            say(&edge, &one, "who is gone is noticed when there is something to say");
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), room).await.expect("no place is given back");
}

on_both!(
    lines_are_told_to_whoever_may_see_their_function,
    graphql_subscriptions_tell_the_same,
    followers_end_with_their_token_their_function_and_the_server,
    a_token_follows_a_few_logs,
);
