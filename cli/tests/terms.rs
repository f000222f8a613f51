//! What a deployment and an operator say about requests: who may call, how often, compressed or not, and what is written
//! down.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use reqwest::{Method, Response};
use serde_json::Value;
use support::{Home, deploy, http, refused};

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// Nobody is let in without being counted, nor kept out, where Redis does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_redis_is_away_says_so_and_goes_on() {
    let home = Home::new();
    // Nothing listens at port 1.
    let server = home.up(&["--redis", "redis://127.0.0.1:1", "--metrics-listen", "127.0.0.1:0"]);
    let me = http().get(format!("{}/v1/me", server.api)).bearer_auth(server.token());
    assert_eq!(me.send().await.unwrap().status(), 200);
    let counted = server.metrics().await;
    let alone = counted.lines().find_map(|line| line.strip_prefix("af_control_rates_alone_total "));
    assert!(alone.unwrap().parse::<u64>().unwrap() >= 1, "{counted}");
    assert!(home.logged().contains("this process counts rates alone"), "{}", home.logged());
}

#[tokio::test]
async fn the_edge_answers_browsers_for_a_function() {
    let home = Home::new();
    let server = home.up(&[]);
    let app = "https://app.example.com";
    let options = ["--cors-origin", app, "--cors-origin", "https://*.example.org", "--cors-credentials"];
    deploy(
        &home,
        "shy",
        "hostile",
        &[&options[..], &["--cors-max-age", "600", "--cors-expose", "X-A"]].concat(),
    );
    let ask = |origin: &str| {
        let url = format!("http://127.0.0.1:{}/trap", server.port);
        let request = http().request(Method::OPTIONS, url).header("host", server.host("shy"));
        let request = request.header("origin", origin).header("access-control-request-method", "PUT");
        request.header("access-control-request-headers", "x-one, x-two").send()
    };
    let answer = ask(app).await.unwrap();
    assert_eq!(answer.status(), 204, "the function, which would have crashed, was not asked");
    for (name, expected) in [
        ("access-control-allow-origin", app),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE"),
        ("access-control-allow-headers", "x-one, x-two"),
        ("access-control-max-age", "600"),
    ] {
        assert_eq!(header(&answer, name), expected, "{name}");
    }
    let refusal = ask("https://evil.example.com").await.unwrap();
    assert_eq!((refusal.status().as_u16(), header(&refusal, "access-control-allow-origin")), (204, ""));
    for (path, status) in [("/", 200), ("/trap", 500)] {
        let answer =
            server.request("shy", path).header("origin", "https://a.example.org").send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(header(&answer, "access-control-allow-origin"), "https://a.example.org", "{path}");
        assert_eq!(header(&answer, "access-control-expose-headers"), "X-A", "{path}");
        assert_eq!(header(&answer, "vary"), "origin", "{path}");
    }
    let mut wrong = home.af();
    wrong.args(["functions", "deploy", "-n", "shy", "--cors-origin", "*", "--cors-credentials", "-p"]);
    let (_, said) = refused(wrong.arg(support::guest("hostile")));
    assert!(said.contains("list the origins"), "{said}");
}

#[tokio::test]
async fn responses_are_compressed_when_a_deployment_asks_for_it() {
    let home = Home::new();
    let server = home.up(&[]);
    let setting = format!("TEXT={}", "again and ".repeat(400));
    deploy(&home, "small", "hello-js", &["--compress", "--env", &setting]);
    deploy(&home, "large", "hello-js", &["--env", &setting]);
    let plain = server.get("small", "/settings").await;
    assert_eq!((header(&plain, "content-encoding"), header(&plain, "vary")), ("", "accept-encoding"));
    let length = plain.bytes().await.unwrap().len();
    for (accept, expected) in [("br", "br"), ("gzip", "gzip"), ("zstd", "zstd"), ("identity", "")] {
        let answer =
            server.request("small", "/settings").header("accept-encoding", accept).send().await.unwrap();
        assert_eq!(header(&answer, "content-encoding"), expected);
        // It has a length only where the function was quick enough to have said all at once.
        let sent = answer.bytes().await.unwrap().len();
        assert_eq!(sent < length / 4, accept != "identity", "{accept}: {sent} of {length}");
        let other =
            server.request("large", "/settings").header("accept-encoding", accept).send().await.unwrap();
        assert_eq!(header(&other, "content-encoding"), "");
    }
}

#[tokio::test]
async fn a_function_is_not_called_more_often_than_its_deployment_allows() {
    let home = Home::new();
    let server = home.up(&[]);
    deploy(&home, "rare", "hello-rust", &["--rate-limit", "2"]);
    deploy(&home, "often", "hello-rust", &[]);
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let answer = server.get("rare", "/").await;
        assert_eq!(header(&answer, "ratelimit-policy"), "\"function\";q=4;w=2");
        assert!(header(&answer, "ratelimit").starts_with("\"function\";r="));
        statuses.push(answer.status().as_u16());
        if answer.status() == 429 {
            assert_eq!(header(&answer, "retry-after"), "1");
            let problem: Value = answer.json().await.unwrap();
            assert_eq!(problem["code"], "rate_limit_exceeded");
        }
    }
    assert!(statuses.starts_with(&[200, 200, 200]) && statuses.contains(&429), "{statuses:?}");
    assert_eq!(server.get("often", "/").await.status(), 200);
}

#[tokio::test]
async fn a_client_does_not_call_more_often_than_the_operator_allows() {
    let home = Home::new();
    let server = home.up(&["--rate-limit", "1"]);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(server.get("nobody", "/").await.status().as_u16());
    }
    assert!(statuses.starts_with(&[404, 404]) && statuses.contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn requests_are_written_down_without_what_is_secret() {
    let home = Home::new();
    let log = home.data().with_extension("access.log");
    let server = home.up(&["--access-log", log.to_str().unwrap(), "--server-timing"]);
    deploy(&home, "seen", "hostile", &[]);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let request = server.request("seen", "/header?traceparent").header("traceparent", &parent);
    let answer = request.header("cookie", "secret-cookie").bearer_auth("secret-token").send().await.unwrap();
    let id = header(&answer, "x-request-id").to_owned();
    let timing = header(&answer, "server-timing").to_owned();
    assert!(
        timing.starts_with("code;dur=") && timing.contains("queue;dur=") && timing.contains("run;dur="),
        "{timing}"
    );
    let told = answer.text().await.unwrap();
    assert!(told.contains(trace) && !told.contains("00f067aa0ba902b7"), "{told}");
    let made = server.get("seen", "/header?traceparent").await.text().await.unwrap();
    assert_eq!(made.len(), 55, "{made}");
    assert_eq!(server.get("nobody", "/secret-path?secret-query").await.status(), 404);
    assert!(server.stop().success());
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = lines.iter().find(|line| line["requestId"] == id.as_str()).unwrap();
    assert_eq!(
        (&line["traceId"], &line["status"], &line["by"]),
        (&trace.into(), &200.into(), &"function".into())
    );
    assert_eq!((&line["method"], &line["path"]), (&"GET".into(), &"/header".into()));
    assert_eq!((&line["client"], &line["bytes"]), (&"127.0.0.1".into(), &told.len().into()));
    assert!(line["durationMs"].as_f64().unwrap() > 0.0);
    let missing = lines.iter().find(|line| line["path"] == "/secret-path").unwrap();
    assert_eq!((&missing["status"], &missing["by"]), (&404.into(), &"edge".into()));
    assert!(
        !text.contains("secret-cookie") && !text.contains("secret-token") && !text.contains("secret-query")
    );
}
