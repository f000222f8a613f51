//! What one GraphQL operation, one request and one WebSocket may cost.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::time::Duration;

use af_control_api::SocketConfig;
use serde_json::{Value, json};
use support::socket::Frame;
use support::stored::Held;
use support::{Engine, OWNER, STRANGER, Served, on};

async fn ask(served: &Served, query: &str) -> Value {
    served.call("post", "/graphql", Some(OWNER), json!({ "query": query })).await.1
}

fn message(answer: &Value) -> &str {
    answer["errors"][0]["message"].as_str().unwrap_or_default()
}

/// As many fields within each other as `depth` says, beside one that is no introspection.
fn deep(depth: usize, beside: &str) -> String {
    let types = depth - 5;
    let types = format!("{}name{}", "ofType { ".repeat(types), " }".repeat(types));
    format!("{{ {beside} __schema {{ types {{ fields {{ type {{ {types} }} }} }} }} }}")
}

async fn fields_are_at_most_ten_within_each_other() {
    let served = Served::start().await;
    assert_eq!(ask(&served, &deep(10, "me { id }")).await["errors"], Value::Null);
    let refused = ask(&served, &deep(11, "me { id }")).await;
    assert_eq!((message(&refused), refused.get("data")), ("Query is nested too deep.", None));
    // Introspection alone goes deeper, but not for ever.
    assert_eq!(ask(&served, &deep(20, "")).await["errors"], Value::Null);
    assert_eq!(message(&ask(&served, &deep(21, "")).await), "Query is nested too deep.");
    let hidden = format!("{{ me {{ id }} ...f }} fragment f on Query {}", deep(11, ""));
    assert_eq!(message(&ask(&served, &hidden).await), "Query is nested too deep.");
}

async fn operations_cost_what_their_lists_may_have() {
    let served = Served::start().await;
    let lists = |count: usize| {
        let list = |number| format!("l{number}: afFunctions {{ data {{ deployments {{ id cid }} }} }} ");
        format!("{{ {} }}", (0..count).map(list).collect::<String>())
    };
    assert_eq!(ask(&served, &lists(40)).await["errors"], Value::Null);
    let refused = ask(&served, &lists(50)).await;
    assert_eq!((message(&refused), refused.get("data")), ("Query is too complex.", None));
}

async fn floods_are_refused_before_they_are_looked_through() {
    let served = Served::start().await;
    let many = |count: usize, text: &dyn Fn(usize) -> String| (0..count).map(text).collect::<String>();
    let fields = |count| format!("{{ {} }}", many(count, &|number| format!("a{number}: __typename ")));
    assert_eq!(ask(&served, &fields(50)).await["errors"], Value::Null);
    assert!(message(&ask(&served, &fields(51)).await).contains("at most 50 fields"));
    // Each would be a try of a token's secret, or a new token.
    let tokens = |count| {
        let one = |number| format!("a{number}: createPersonalAccessToken(name: \"n{number}\") {{ id }} ");
        format!("mutation {{ {} }}", many(count, &one))
    };
    assert!(message(&ask(&served, &tokens(21)).await).contains("at most 20 fields"));
    assert_eq!(ask(&served, &tokens(20)).await["errors"], Value::Null);
    let hidden = tokens(21).replacen("mutation", "mutation { ...f ...f } fragment f on Mutation", 1);
    assert!(message(&ask(&served, &hidden).await).contains("at most 20 fields"));

    // Each fragment twice in the one before: a billion fields.
    let spread = |times: usize| {
        let next = |number: usize| format!("...f{} ", number + 1).repeat(times);
        let fragments = many(30, &|number| format!("fragment f{number} on Query {{ {}}} ", next(number)));
        format!("{{ ...f0 }} {fragments} fragment f30 on Query {{ __typename }}")
    };
    assert_eq!(ask(&served, &spread(1)).await["errors"], Value::Null);
    for flood in [
        spread(2),
        spread(20),
        "{ ...f } fragment f on Query { ...g } fragment g on Query { ...f ...f }".to_owned(),
        format!("{{ {} }}", "me { id } ".repeat(2_500)),
    ] {
        let refused = ask(&served, &flood).await;
        assert!(message(&refused).contains("at most 4000 selections"), "{refused}");
        assert_eq!(refused.get("data"), None);
    }
    let directives = format!("{{ __typename {} }}", "@include(if: true) ".repeat(9));
    assert!(ask(&served, &directives).await["errors"].is_array());
    let long = format!("{{ __typename }} #{}", "x".repeat(32 << 10));
    assert!(message(&ask(&served, &long).await).contains("at most 32768 bytes"));
}

async fn what_takes_too_long_is_ended() {
    let served = Served::changed(|config| {
        config.graphql.mutation_timeout = Duration::from_millis(50);
    })
    .await;
    let create = "mutation { createAFFunction(data: { name: \"late\" }) { id } }";
    // That the token was used is written before anything is executed, and then not again for a minute.
    ask(&served, "{ __typename }").await;
    let held = served.stored.hold().await;
    let refused = ask(&served, create).await;
    assert!(message(&refused).contains("took longer than 0.05 s"), "{refused}");
    assert_eq!(refused.get("data"), None);
    // Neither is one of several, or one over a WebSocket.
    let batch = json!([{ "query": create }, { "query": "{ __typename }" }]);
    let answers = served.call("post", "/graphql", Some(OWNER), batch).await.1;
    assert!(message(&answers[0]).contains("took longer"), "{answers}");
    assert_eq!(answers[1]["data"]["__typename"], "Query");
    let mut socket = served.socket("/graphql").await.begin(Some(OWNER)).await;
    socket.ask("1", create).await;
    let Frame::Text(told) = socket.told().await else { panic!() };
    assert!(message(&told["payload"]).contains("took longer"), "{told}");
    drop(held);
}

/// Readers of SQLite wait for nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_that_take_too_long_are_ended() {
    let story = async {
        let served = Served::changed(|config| config.graphql.query_timeout = Duration::from_millis(50)).await;
        let held = served.stored.hold().await;
        let Held::Postgres(mut transaction) = held else { panic!() };
        let lock = sqlx::query("lock table projects in access exclusive mode");
        lock.execute(&mut *transaction).await.unwrap();
        let refused = ask(&served, "{ projects { data { id } } }").await;
        assert!(message(&refused).contains("took longer than 0.05 s"), "{refused}");
        drop(transaction);
    };
    on(Engine::Postgres, Box::pin(story)).await;
}

async fn a_schema_can_be_kept_from_telling_about_itself() {
    let served = Served::changed(|config| config.graphql.introspection = false).await;
    for query in [
        "{ __schema { types { name } } }",
        "{ __type(name: \"Query\") { name } }",
        "{ me { id } ...f } fragment f on Query { ... { hidden: __schema { types { name } } } }",
    ] {
        let answer = ask(&served, query).await;
        // An answer with null would have nothing of the type that the schema promises.
        assert_eq!(answer["errors"][0]["extensions"]["code"], "introspection_disabled", "{answer}");
        assert!(answer.get("data").is_none(), "{answer}");
        let refused = served.call("post", "/graphql", None, json!({ "query": query })).await.1;
        assert_eq!(refused["errors"][0]["extensions"]["code"], "introspection_disabled", "{refused}");
    }
    assert_eq!(ask(&served, "{ __typename }").await["data"]["__typename"], "Query");
}

async fn a_token_is_guessed_at_one_rate() {
    let served =
        Served::changed(|config| config.api.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let guess = "a: loginWithPersonalAccessToken(data: { personalAccessToken: \"af_live_a_guess\" })";
    let several: String =
        (0..20).map(|number| format!("{} ", guess.replacen('a', &format!("a{number}"), 1))).collect();
    let mut answers = Vec::new();
    for _ in 0..2 {
        let query = json!({ "query": format!("mutation {{ {several} }}") });
        let from = [("x-forwarded-for", "192.0.2.9")];
        answers.push(served.answer("post", "/graphql", None, &from, query).await.text().await.unwrap());
    }
    assert!(
        answers[0].contains("unauthenticated") && !answers[0].contains("too_many_failures"),
        "{answers:?}"
    );
    assert!(answers[1].contains("too_many_failures"), "{answers:?}");
    let from = [("x-forwarded-for", "192.0.2.9")];
    let refused = served.answer("get", "/v1/me", Some(OWNER), &from, Value::Null).await;
    assert_eq!(refused.status(), 429);
}

/// Short ones.
fn sockets(change: impl FnOnce(&mut SocketConfig)) -> impl Future<Output = Served> {
    Served::changed(|config| change(&mut config.graphql.sockets))
}

async fn a_user_has_a_few_connections() {
    let served = sockets(|sockets| sockets.per_user = 2).await;
    let first = served.socket("/graphql").await.begin(Some(OWNER)).await;
    let _second = served.socket("/graphql").await.begin(Some(OWNER)).await;
    let mut third = served.socket("/graphql").await;
    let init = json!({ "type": "connection_init", "payload": { "authorization": OWNER } });
    third.send(&init).await;
    let Frame::Close(_, reason) = third.told().await else { panic!() };
    assert!(reason.contains("too many WebSockets"), "{reason}");
    // Others have their own, and one that ends makes room.
    let _theirs = served.socket("/graphql").await.begin(Some(STRANGER)).await;
    drop(first);
    loop {
        let mut again = served.socket("/graphql").await;
        again.send(&init).await;
        match again.told().await {
            Frame::Text(ack) => break assert_eq!(ack["type"], "connection_ack"),
            Frame::Close(..) => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    }
}

async fn all_have_so_many_connections() {
    let served = sockets(|sockets| sockets.all = 1).await;
    let _first = served.socket("/graphql").await.begin(Some(OWNER)).await;
    let mut second = served.socket("/graphql").await;
    second.send(&json!({ "type": "connection_init", "payload": { "authorization": STRANGER } })).await;
    assert!(matches!(second.told().await, Frame::Close(..)));
}

async fn a_connection_has_a_few_operations() {
    let served = sockets(|sockets| sockets.operations = 2).await;
    let made = ask(&served, "mutation { createAFFunction(data: { name: \"watched\" }) { id } }").await;
    let function = made["data"]["createAFFunction"]["id"].as_str().unwrap();
    let cid = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
    let rows = format!(
        "insert into deployments (id, function_id, number, manifest_cid, code_cid, blake3, size, world, author_id, created_at)
            values ('dep_1', '{function}', 1, '{cid}', '{cid}', 'd7', 1, 'wasi:http/proxy@0.2', 'usr_2', 0)"
    );
    served.stored.script(&rows).await;
    let mut socket = served.socket("/graphql").await.begin(Some(OWNER)).await;
    let watch = "subscription { deploymentStatus(deploymentId: \"dep_1\") { status } }";
    for id in ["1", "2"] {
        socket.ask(id, watch).await;
        let Frame::Text(told) = socket.told().await else { panic!() };
        assert_eq!((&told["id"], &told["type"]), (&json!(id), &json!("next")), "{told}");
        assert!(told["payload"]["errors"].is_null(), "{told}");
    }
    socket.ask("3", "{ __typename }").await;
    let Frame::Text(told) = socket.told().await else { panic!() };
    assert_eq!(told["payload"]["errors"][0]["extensions"]["code"], "too_many_operations", "{told}");
    assert!(matches!(socket.told().await, Frame::Text(done) if done["type"] == "complete"));
    socket.send(&json!({ "type": "complete", "id": "1" })).await;
    assert!(matches!(socket.told().await, Frame::Text(done) if done["id"] == "1"));
    socket.ask("4", "{ __typename }").await;
    let Frame::Text(told) = socket.told().await else { panic!() };
    assert_eq!(told["payload"]["data"]["__typename"], "Query", "{told}");
}

async fn a_token_that_is_gone_asks_no_more() {
    let served = Served::start().await;
    let made = ask(&served, "mutation { createPersonalAccessToken(name: \"short\") { id token } }").await;
    let made = &made["data"]["createPersonalAccessToken"];
    let mut socket = served.socket("/graphql").await.begin(made["token"].as_str()).await;
    socket.ask("1", "{ me { id } }").await;
    let Frame::Text(told) = socket.told().await else { panic!() };
    assert!(told["payload"]["data"]["me"]["id"].is_string(), "{told}");
    assert!(matches!(socket.told().await, Frame::Text(_)));
    ask(&served, &format!("mutation {{ deletePersonalAccessToken(id: {}) {{ id }} }}", made["id"])).await;
    socket.ask("2", "{ me { id } }").await;
    let Frame::Text(told) = socket.told().await else { panic!() };
    assert_eq!(told["payload"]["errors"][0]["extensions"]["code"], "unauthenticated", "{told}");
}

async fn connections_end_when_nothing_comes() {
    let short = Duration::from_millis(20);
    let silent = sockets(|sockets| sockets.patience = short).await;
    let mut socket = silent.socket("/graphql").await;
    assert_eq!(socket.told().await, Frame::Close(4408, "Connection initialisation timeout".into()));
    // Whoever has said who it is stays.
    let mut socket = silent.socket("/graphql").await.begin(None).await;
    socket.ask("1", "{ __typename }").await;
    assert!(matches!(socket.told().await, Frame::Text(_)));

    // Pings that are not answered.
    let pinging = sockets(|sockets| sockets.ping = short).await;
    let mut socket = pinging.socket("/graphql").await.begin(Some(OWNER)).await;
    let mut pings = 0;
    let end = loop {
        match socket.next().await {
            Frame::Ping => pings += 1,
            end => break end,
        }
    };
    assert!((2..=4).contains(&pings), "{pings}");
    assert_eq!(end, Frame::Close(1001, "pings were not answered".into()));

    let idle = sockets(|sockets| (sockets.ping, sockets.idle) = (short, short * 2)).await;
    let mut socket = idle.socket("/graphql").await.begin(Some(OWNER)).await;
    assert_eq!(socket.told().await, Frame::Close(1001, "nothing was asked for a long time".into()));
}

async fn messages_and_handshakes_are_bounded() {
    let served = Served::start().await;
    let mut socket = served.socket("/graphql").await.begin(Some(OWNER)).await;
    socket.ask("1", &format!("{{ __typename }} #{}", "x".repeat(300 << 10))).await;
    let Frame::Close(code, reason) = socket.told().await else { panic!() };
    assert_eq!((code, reason.as_str()), (1009, "a message has at most 262144 bytes"));
    let mut socket = served.socket("/graphql").await.begin(Some(OWNER)).await;
    socket.announce(2 << 20).await;
    assert_eq!(socket.told().await, Frame::Close(1009, reason));
    let mut socket = served.socket("/graphql").await.begin(None).await;
    socket.ask("1", "{ me { id } }").await;
    let Frame::Text(told) = socket.told().await else { panic!() };
    assert_eq!(told["payload"]["errors"][0]["extensions"]["code"], "unauthenticated", "{told}");
}

async fn messages_that_ask_for_nothing_end_a_connection() {
    let served = Served::start().await;
    let mut socket = served.socket("/graphql").await.begin(Some(OWNER)).await;
    socket.flood().await;
    // What it still sends may overtake the reason.
    let reason = "too much is sent that asks for nothing";
    let end = socket.told().await;
    assert!([Frame::Close(1008, reason.into()), Frame::End].contains(&end), "{end:?}");
}

async fn connections_end_with_the_codes_of_the_protocol() {
    let served = Served::start().await;
    for (text, why) in [
        (
            r#"{"type":"connection_init","type":"ping"}"#,
            "Invalid message: the member \"type\" is there twice at",
        ),
        (
            r#"{"type":"connection_init","payload":{"a":"\u0000"}}"#,
            "Invalid message: a text has a NUL character; leave it out",
        ),
        ("{", "Invalid message: EOF while parsing"),
    ] {
        let mut socket = served.socket("/graphql").await;
        socket.say(text).await;
        let Frame::Close(code, reason) = socket.told().await else { panic!("{text}") };
        assert!(code == 4400 && reason.starts_with(why), "{code} {reason}");
    }
    let mut socket = served.socket("/graphql").await.begin(Some(OWNER)).await;
    socket.ask("nul", r#"{ function(where: { id: "\u0000" }) { id } }"#).await;
    let Frame::Text(told) = socket.told().await else { panic!() };
    let message = told["payload"]["errors"][0]["message"].as_str().unwrap();
    assert_eq!(message, "a text has a NUL character; leave it out", "{told}");
    let mut socket = served.socket("/graphql").await;
    socket.ask("1", "{ __typename }").await;
    assert_eq!(
        socket.told().await,
        Frame::Close(4401, "Unauthorized".into()),
        "before anybody knows who asks"
    );
    let mut socket = served.socket("/graphql").await;
    socket.send(&json!({ "type": "a".repeat(1_000) })).await;
    assert_eq!(socket.told().await, Frame::Close(4400, "Invalid message".into()));
    let mut socket = served.socket("/graphql").await.begin(None).await;
    socket.send(&json!(["subscribe"])).await;
    assert_eq!(socket.told().await, Frame::Close(4400, "Invalid message".into()));
    let mut socket = served.socket("/graphql").await;
    let wrong = json!({ "type": "connection_init", "payload": { "authorization": "Bearer af_live_none" } });
    socket.send(&wrong).await;
    let Frame::Close(code, reason) = socket.told().await else { panic!() };
    assert!(code == 4403 && reason.starts_with("sign in"), "{code} {reason}");
    let mut socket = served.socket("/graphql").await.begin(None).await;
    socket.send(&json!({ "type": "connection_init" })).await;
    assert!(matches!(socket.told().await, Frame::Close(4429, _)));

    // An id may be used again, but not while it is in use.
    let mut socket = served.socket("/graphql").await.begin(Some(OWNER)).await;
    for _ in 0..2 {
        socket.ask("again", "{ __typename }").await;
        assert!(matches!(socket.told().await, Frame::Text(_)));
        assert_eq!(socket.told().await, Frame::Text(json!({ "type": "complete", "id": "again" })));
    }
    let projects = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await.1;
    let path = format!("/v1/projects/{}/functions", projects["data"][0]["id"].as_str().unwrap());
    let function = served.call("post", &path, Some(OWNER), json!({ "name": "hello" })).await.1;
    // It goes on for as long as somebody listens.
    let running = format!("subscription {{ functionLogs(where: {{ id: {} }}) {{ text }} }}", function["id"]);
    socket.ask("once", &running).await;
    socket.ask("once", &running).await;
    let end = loop {
        match socket.told().await {
            Frame::Text(_) => {}
            end => break end,
        }
    };
    assert_eq!(end, Frame::Close(4409, "Subscriber for once already exists".into()));
}

/// As docs/graphql.md says, also what the library refuses.
async fn every_error_has_its_class() {
    let served = Served::start().await;
    let deep = deep(40, "me { id }");
    for query in ["{", "{ nothing }", "query A { me { id } } query A { me { id } }", deep.as_str()] {
        let answer = ask(&served, query).await;
        let error = &answer["errors"][0];
        assert_eq!(error["extensions"]["name"], "ValidationError", "{answer}");
        assert_eq!(error["extensions"]["code"], "invalid_request", "{answer}");
        assert_eq!(error["extensions"]["data"]["invalid_request"], error["message"], "{answer}");
    }
    for body in [json!([]), json!({ "query": 7 })] {
        let answer = served.call("post", "/graphql", Some(OWNER), body).await.1;
        assert_eq!(answer["errors"][0]["extensions"]["name"], "ValidationError", "{answer}");
    }
}

on_both!(
    connections_end_with_the_codes_of_the_protocol,
    every_error_has_its_class,
    fields_are_at_most_ten_within_each_other,
    operations_cost_what_their_lists_may_have,
    floods_are_refused_before_they_are_looked_through,
    what_takes_too_long_is_ended,
    a_schema_can_be_kept_from_telling_about_itself,
    a_token_is_guessed_at_one_rate,
    a_user_has_a_few_connections,
    all_have_so_many_connections,
    a_connection_has_a_few_operations,
    a_token_that_is_gone_asks_no_more,
    connections_end_when_nothing_comes,
    messages_and_handshakes_are_bounded,
    messages_that_ask_for_nothing_end_a_connection,
);
