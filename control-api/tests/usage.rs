//! What edges counted: each batch counts once, adds up for whom it is of, and is read by who may. The test is the edges.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use af_contract::edge::{Bound, USAGE_BYTES, USAGE_RECORDS, UsageBatch};
use af_contract::usage::{HOUR, Usage, UsageRecord, hour_of};
use serde_json::{Value, json};
use support::edges::TestEdge;
use support::events::function;
use support::{OWNER, STRANGER, Served};

const USAGE: &str = "/v1/edge/usage";
const DAY: i64 = 24 * HOUR;

/// Milliseconds since 1970 UTC.
fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// So many requests, and of everything else as much as follows from that.
fn record(subject: &str, hour: i64, requests: u64) -> UsageRecord {
    let usage = Usage {
        requests,
        errors: requests / 2,
        cpu_us: requests * 1_000,
        wall_us: requests * 5_000,
        sent_bytes: requests * 100,
    };
    UsageRecord { subject: subject.into(), hour, usage }
}

fn batch(source: &str, number: u64, records: &[UsageRecord]) -> UsageBatch {
    UsageBatch { source: source.into(), number, records: records.to_vec() }
}

/// Sends bytes as a batch. Status, and what is said.
async fn send(served: &Served, edge: &TestEdge, body: &[u8]) -> (u16, Value) {
    let proof = edge.prove(Bound::to("POST", USAGE).with_body(body));
    let answer = served.post(USAGE, &proof, &[("content-type", "application/json")], body.to_vec()).await;
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

async fn take(served: &Served, edge: &TestEdge, batch: &UsageBatch) {
    let (status, said) = send(served, edge, &serde_json::to_vec(batch).unwrap()).await;
    assert_eq!((status, said), (200, json!({ "pauseMs": 10_000 })));
}

async fn refused(served: &Served, edge: &TestEdge, batch: &UsageBatch) -> (u16, String) {
    let (status, said) = send(served, edge, &serde_json::to_vec(batch).unwrap()).await;
    (status, said["code"].as_str().unwrap_or_default().to_owned())
}

async fn site(served: &Served, name: &str) -> String {
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let path = format!("/v1/projects/{}/sites", projects["data"][0]["id"].as_str().unwrap());
    let (status, made) = served.call("post", &path, Some(OWNER), json!({ "name": name })).await;
    assert_eq!(status, 201, "{made}");
    made["id"].as_str().unwrap().to_owned()
}

/// `what` of all rows of a table that are of a subject, which may be a beginning.
async fn stored(served: &Served, table: &str, what: &str, subject: &str) -> String {
    let empty = if served.stored.is_postgres() { "''::bytea" } else { "x''" };
    let query = format!("select cast({what} as text), {empty} from {table} where subject like '{subject}%'");
    served.stored.rows(&query).await[0].0.clone()
}

async fn requests(served: &Served, subject: &str) -> String {
    let [hours, days] = [
        stored(served, "usage_hours", "coalesce(sum(requests), 0)", subject).await,
        stored(served, "usage_days", "coalesce(sum(requests), 0)", subject).await,
    ];
    assert!(hours == days || !subject.starts_with("fn_"), "{hours} {days}");
    days
}

async fn a_batch_counts_once_however_it_comes() {
    let served = Served::start().await;
    let one = function(&served, "one").await;
    let (east, west) = (TestEdge::join(&served, "east").await, TestEdge::join(&served, "west").await);
    let this = hour_of(now());
    let first = batch("a", 1, &[record(&one, this, 2), record(&one, this - HOUR, 4)]);
    take(&served, &east, &first).await;
    // Its answer was lost.
    take(&served, &east, &first).await;
    assert_eq!(requests(&served, &one).await, "6");
    // One that overtook another: what is not higher has been taken, as an edge sends them one after another.
    take(&served, &east, &batch("a", 3, &[record(&one, this, 8)])).await;
    take(&served, &east, &batch("a", 2, &[record(&one, this, 16)])).await;
    assert_eq!(requests(&served, &one).await, "14");
    // Of another start of the same edge, and of another edge, whose sources may be called the same.
    take(&served, &east, &batch("b", 1, &[record(&one, this, 32)])).await;
    take(&served, &west, &batch("a", 1, &[record(&one, this, 64)])).await;
    take(&served, &east, &batch("b", 1, &[])).await;
    assert_eq!(requests(&served, &one).await, "110");
    // At once.
    let again = batch("b", 2, &[record(&one, this, 128)]);
    let sent = (0..8).map(|_| take(&served, &east, &again));
    futures::future::join_all(sent).await;
    assert_eq!(requests(&served, &one).await, "238");
    // In the process itself.
    let here = batch("here", 1, &[record(&one, this, 256)]);
    for _ in 0..2 {
        assert_eq!(served.control.usage(&here).await.unwrap().pause_ms, 10_000);
    }
    assert_eq!(requests(&served, &one).await, "494");
    // After a restart, which remembers nothing, and of an edge that is gone.
    let served = served.restart().await;
    assert_eq!(served.control.usage(&here).await.unwrap().pause_ms, 10_000);
    assert_eq!(requests(&served, &one).await, "494");
    let sources = async || {
        let empty = if served.stored.is_postgres() { "''::bytea" } else { "x''" };
        let query = format!("select edge || ' ' || source || ' ' || number, {empty} from usage_sources");
        let mut rows: Vec<String> =
            served.stored.rows(&query).await.into_iter().map(|(row, _)| row).collect();
        rows.sort();
        rows
    };
    let of = |edge: &TestEdge, source: &str| format!("{} {source}", edge.id);
    let mut expected = vec![of(&east, "a 3"), of(&east, "b 2"), of(&west, "a 1"), "here here 1".to_owned()];
    expected.sort();
    assert_eq!(sources().await, expected);
    let (status, _) =
        served.call("delete", &format!("/v1/edges/{}", east.id), Some(OWNER), Value::Null).await;
    assert_eq!(status, 204);
    assert_eq!(sources().await, [of(&west, "a 1"), "here here 1".to_owned()]);
}

async fn what_is_no_batch_adds_nothing() {
    let served = Served::start().await;
    let one = function(&served, "one").await;
    let edge = TestEdge::join(&served, "east").await;
    let this = hour_of(now());
    let good = record(&one, this, 1);
    let invalid = (400, "invalid_usage".to_owned());
    let half = UsageRecord { hour: this + 1, ..good.clone() };
    let strange = UsageRecord { subject: "fn_1' or".into(), ..good.clone() };
    let most = Usage { sent_bytes: (1 << 46) + 1, ..good.usage };
    let most = UsageRecord { usage: most, ..good.clone() };
    for wrong in [half, strange, most] {
        assert_eq!(refused(&served, &edge, &batch("a", 1, &[good.clone(), wrong])).await, invalid);
    }
    for source in ["", "a b", "ä", &"a".repeat(65)] {
        assert_eq!(
            refused(&served, &edge, &batch(source, 1, std::slice::from_ref(&good))).await,
            invalid,
            "{source}"
        );
    }
    assert_eq!(refused(&served, &edge, &batch("a", 1 << 63, std::slice::from_ref(&good))).await, invalid);
    let many = batch("a", 1, &vec![good.clone(); USAGE_RECORDS + 1]);
    assert_eq!(refused(&served, &edge, &many).await, invalid);
    let text = serde_json::to_vec(&batch("a", 1, std::slice::from_ref(&good))).unwrap();
    let (status, said) = send(&served, &edge, &[&text[..], &b" ".repeat(USAGE_BYTES)].concat()).await;
    assert_eq!(status, 413, "{said}");
    let (status, said) = send(&served, &edge, br#"{"source":"a","number":1,"records":[],"more":1}"#).await;
    assert_eq!((status, said["code"].as_str()), (400, Some("invalid_json")));
    // Somebody else, another body than was proven, and the same proof again.
    let proof = edge.prove(Bound::to("POST", USAGE).with_body(&text));
    let post = async |proof: &str, body: &[u8]| {
        served.post(USAGE, proof, &[], body.to_vec()).await.status().as_u16()
    };
    assert_eq!(post(OWNER, &text).await, 401);
    assert_eq!(post(&proof, b"{}").await, 400);
    assert_eq!(requests(&served, &one).await, "0");
    assert_eq!(post(&proof, &text).await, 200);
    assert_eq!(post(&proof, &text).await, 401);
    assert_eq!(requests(&served, &one).await, "1");
    let error = served.control.usage(&batch("a b", 1, &[])).await.unwrap_err();
    assert!(error.is_final(), "{error}");
}

async fn a_full_batch_is_taken_and_counts_are_whole_numbers_that_json_has() {
    let served = Served::start().await;
    let one = function(&served, "one").await;
    let edge = TestEdge::join(&served, "east").await;
    let this = hour_of(now());
    // Most of a function are of what nobody knows; of a site are as many as there are hours.
    let pages = site(&served, "pages").await;
    let records: Vec<UsageRecord> = (0..1_000_i64)
        .map(|number| record(if number % 2 == 0 { &pages } else { "fn_unknown" }, this - number * HOUR, 1))
        .collect();
    take(&served, &edge, &batch("a", 1, &records)).await;
    assert_eq!(requests(&served, &pages).await, "500");
    assert_eq!(requests(&served, "prj_").await, "500");
    assert_eq!(requests(&served, "fn_unknown").await, "0");
    // As an edge would that has gone mad.
    let usage = Usage { requests: 1 << 46, sent_bytes: 1 << 46, ..Usage::default() };
    let mad = UsageRecord { subject: one.clone(), hour: this, usage };
    for number in 2..140 {
        take(&served, &edge, &batch("a", number, std::slice::from_ref(&mad))).await;
    }
    for subject in [&one, "prj_", "org_"] {
        let most = stored(&served, "usage_days", "max(requests)", subject).await;
        assert_eq!(most, "9007199254740992", "{subject}");
    }
}

async fn what_was_deleted_counts_for_whose_it_was() {
    let served = Served::start().await;
    let edge = TestEdge::join(&served, "east").await;
    let this = hour_of(now());
    let (used, unused, pages) =
        (function(&served, "used").await, function(&served, "unused").await, site(&served, "pages").await);
    take(&served, &edge, &batch("a", 1, &[record(&used, this, 1)])).await;
    for path in [format!("functions/{used}"), format!("functions/{unused}"), format!("sites/{pages}")] {
        let (status, said) = served.call("delete", &format!("/v1/{path}"), Some(OWNER), Value::Null).await;
        assert_eq!(status, 200, "{said}");
    }
    let late = [record(&used, this, 2), record(&unused, this, 4), record(&pages, this - DAY, 8)];
    take(&served, &edge, &batch("a", 2, &late)).await;
    for whole in ["prj_", "org_"] {
        assert_eq!(requests(&served, whole).await, "15", "{whole}");
    }
}

/// A control API whose first project has two functions and a site that used something, on two days.
struct Scene {
    served: Served,
    project: String,
    organization: String,
    functions: [String; 2],
    site: String,
    /// When this hour began.
    this: i64,
}

impl Scene {
    async fn new() -> Self {
        let served = Served::start().await;
        let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
        let text = |field: &str| projects["data"][0][field].as_str().unwrap().to_owned();
        let (project, organization) = (text("id"), text("organizationId"));
        let functions = [function(&served, "one").await, function(&served, "two").await];
        let site = site(&served, "pages").await;
        let this = hour_of(now());
        let [one, two] = &functions;
        let records = [
            record(one, this, 2),
            record(one, this - HOUR, 4),
            record(one, this - 3 * DAY, 8),
            record(two, this, 16),
            record(&site, this - 3 * DAY, 32),
        ];
        served.control.usage(&batch("a", 1, &records)).await.unwrap();
        Self { served, project, organization, functions, site, this }
    }

    fn paths(&self) -> [String; 4] {
        [
            format!("/v1/organizations/{}/usage", self.organization),
            format!("/v1/projects/{}/usage", self.project),
            format!("/v1/functions/{}/usage", self.functions[0]),
            format!("/v1/sites/{}/usage", self.site),
        ]
    }

    async fn get(&self, token: &str, path: &str) -> (u16, Value) {
        self.served.call("get", path, Some(token), Value::Null).await
    }

    async fn read(&self, path: &str) -> Value {
        let (status, said) = self.get(OWNER, path).await;
        assert_eq!(status, 200, "{path}: {said}");
        said
    }

    async fn made(&self, path: &str, body: Value) -> Value {
        let (status, made) = self.served.call("post", path, Some(OWNER), body).await;
        assert!((200..300).contains(&status), "{path}: {made}");
        made
    }
}

/// As the API says it.
fn said(requests: u64) -> Value {
    json!({
        "requests": requests, "errors": requests / 2, "cpuUs": requests * 1_000, "wallUs": requests * 5_000,
        "sentBytes": requests * 100
    })
}

fn time(from: i64, length: i64, requests: u64) -> Value {
    let mut time = said(requests);
    time["from"] = json!(from);
    time["to"] = json!(from + length);
    time
}

async fn sums_of_all_agree() {
    let scene = Scene::new().await;
    let (this, day) = (scene.this, scene.this - scene.this % DAY);
    // An hour ago may have been yesterday.
    let before = if this == day { day - DAY } else { day };
    let from = day - 4 * DAY;
    let [organization, project, function, site] = scene.paths();
    let days = |old: u64, earlier: u64, now: u64| {
        let mut days = std::collections::BTreeMap::from([(day - 3 * DAY, old)]);
        *days.entry(before).or_default() += earlier;
        *days.entry(day).or_default() += now;
        let days = days.into_iter().filter(|(_, requests)| *requests > 0);
        days.map(|(at, requests)| time(at, DAY, requests)).collect::<Vec<_>>()
    };
    let all = |per: &str, total: u64, data: &[Value]| json!({ "from": from, "to": day + DAY, "per": per, "total": said(total), "data": data, "next": null });
    let query = format!("?from={}&to={}", from + 1, this + 1);
    for whole in [&organization, &project] {
        assert_eq!(scene.read(&format!("{whole}{query}")).await, all("day", 62, &days(40, 4, 18)), "{whole}");
    }
    assert_eq!(scene.read(&format!("{function}{query}&per=day")).await, all("day", 14, &days(8, 4, 2)));
    assert_eq!(scene.read(&format!("{site}{query}")).await, all("day", 32, &days(32, 0, 0)));
    let hours = [time(this - 3 * DAY, HOUR, 8), time(this - HOUR, HOUR, 4), time(this, HOUR, 2)];
    let expected = json!({
        "from": from, "to": this + HOUR, "per": "hour", "total": said(14), "data": hours, "next": null
    });
    let query = format!("?from={}&to={}&per=hour", from + 1, this + 1);
    assert_eq!(scene.read(&format!("{function}{query}")).await, expected);
    // By default this month, which may be a day old.
    let (month, long) = (scene.read(&project).await, scene.read(&format!("{project}?from={from}")).await);
    assert!(month["from"].as_i64().unwrap() <= day && month["to"].as_i64().unwrap() > day, "{month}");
    assert_eq!(month["to"], long["to"]);

    let parts = async |path: &str| {
        let page = scene.read(&format!("{path}?from={from}")).await;
        assert_eq!(
            (&page["from"], &page["to"], &page["next"]),
            (&json!(from), &json!(day + DAY), &Value::Null)
        );
        page["data"].as_array().unwrap().clone()
    };
    let part = |id: &str, name: &Value, requests: u64| {
        let mut part = said(requests);
        part["id"] = json!(id);
        part["name"] = name.clone();
        part
    };
    let [one, two] = &scene.functions;
    let expected = [part(one, &json!("one"), 14), part(two, &json!("two"), 16)];
    assert_eq!(parts(&format!("{project}/functions")).await, expected);
    assert_eq!(parts(&format!("{project}/sites")).await, [part(&scene.site, &json!("pages"), 32)]);
    let (_, projects) = scene.get(OWNER, "/v1/projects").await;
    let expected = [part(&scene.project, &projects["data"][0]["name"], 62)];
    assert_eq!(parts(&format!("{organization}/projects")).await, expected);
}

async fn what_is_gone_stays_in_the_sums_of_its_owners() {
    let scene = Scene::new().await;
    let [organization, _, function, _] = scene.paths();
    let second = json!({ "name": "second", "organizationId": scene.organization });
    let second = scene.made("/v1/projects", second).await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/projects/{second}/functions");
    let gone = scene.made(&path, json!({ "name": "gone" })).await["id"].as_str().unwrap().to_owned();
    scene.served.control.usage(&batch("a", 2, &[record(&gone, scene.this, 100)])).await.unwrap();
    let delete = async |path: &str, status: u16| {
        assert_eq!(scene.served.call("delete", path, Some(OWNER), Value::Null).await.0, status, "{path}");
    };
    delete(&format!("/v1/functions/{gone}"), 200).await;
    let from = scene.this - 4 * DAY;
    let total =
        async |path: &str| scene.read(&format!("{path}?from={from}")).await["total"]["requests"].clone();
    assert_eq!(scene.get(OWNER, &format!("/v1/functions/{gone}/usage")).await.0, 404);
    assert_eq!(total(&format!("/v1/projects/{second}/usage")).await, 100);
    let parts = scene.read(&format!("/v1/projects/{second}/usage/functions")).await;
    assert_eq!(parts["data"], json!([]));
    delete(&format!("/v1/projects/{second}"), 204).await;
    assert_eq!(scene.get(OWNER, &format!("/v1/projects/{second}/usage")).await.0, 404);
    assert_eq!(total(&organization).await, 162);
    assert_eq!(total(&function).await, 14);
    // Told late.
    scene.served.control.usage(&batch("a", 3, &[record(&gone, scene.this, 1_000)])).await.unwrap();
    assert_eq!(total(&organization).await, 1_162);

    let other =
        scene.made("/v1/organizations", json!({ "name": "other" })).await["id"].as_str().unwrap().to_owned();
    let third = json!({ "name": "third", "organizationId": other });
    let third = scene.made("/v1/projects", third).await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/projects/{third}/functions");
    let last = scene.made(&path, json!({ "name": "last" })).await["id"].as_str().unwrap().to_owned();
    scene.served.control.usage(&batch("a", 4, &[record(&last, scene.this, 5)])).await.unwrap();
    delete(&format!("/v1/functions/{last}"), 200).await;
    delete(&format!("/v1/projects/{third}"), 204).await;
    assert_eq!(requests(&scene.served, &other).await, "5");
    delete(&format!("/v1/organizations/{other}"), 204).await;
    scene.served.control.usage(&batch("a", 5, &[record(&last, scene.this, 5)])).await.unwrap();
    assert_eq!(requests(&scene.served, &other).await, "0");
}

async fn who_pays_may_look_and_nobody_else_besides_members() {
    let scene = Scene::new().await;
    let keys = format!("/v1/projects/{}/keys", scene.project);
    let token = |made: &Value| made["token"].as_str().unwrap().to_owned();
    let mut members = vec![];
    for role in ["billing", "viewer", "developer"] {
        members.push(token(&scene.made(&keys, json!({ "name": role, "role": role })).await));
    }
    let [organization, project, function, site] = scene.paths();
    let parts = [format!("{project}/functions"), format!("{project}/sites")];
    for member in &members {
        for path in [&project, &function, &site, &parts[0], &parts[1]] {
            assert_eq!(scene.get(member, path).await.0, 200, "{path}");
        }
        assert_eq!(scene.get(member, &organization).await.0, 404, "a key is of its project");
    }
    for path in scene.paths().iter().chain(&parts).chain([&format!("{organization}/projects")]) {
        let (status, said) = scene.get(STRANGER, path).await;
        assert_eq!((status, &said["code"]), (404, &json!("not_found")), "{path}");
    }
    let one = json!({ "name": "one", "functionId": scene.functions[0], "scopes": "usage:read" });
    let one = token(&scene.made("/v1/tokens", one).await);
    assert_eq!(scene.get(&one, &function).await.0, 200);
    let other = format!("/v1/functions/{}/usage", scene.functions[1]);
    assert_eq!(scene.get(&one, &other).await.0, 404);
    for path in [&project, &site, &parts[0]] {
        let (status, said) = scene.get(&one, path).await;
        assert_eq!((status, &said["code"]), (403, &json!("insufficient_scope")), "{path}");
    }
    let blind = json!({ "name": "blind", "scopes": "functions:read" });
    let blind = token(&scene.made("/v1/tokens", blind).await);
    for path in scene.paths() {
        assert_eq!(scene.get(&blind, &path).await.0, 403, "{path}");
    }
}

async fn lists_have_pages() {
    let scene = Scene::new().await;
    let [_, project, function, _] = scene.paths();
    let records: Vec<UsageRecord> =
        (1..=250_i64).map(|number| record(&scene.functions[0], scene.this - number * HOUR, 1)).collect();
    scene.served.control.usage(&batch("a", 2, &records)).await.unwrap();
    let all = format!("{function}?per=hour&from={}", scene.this - 250 * HOUR);
    let (mut times, mut path) = (Vec::new(), format!("{all}&limit=100"));
    let mut sizes = Vec::new();
    loop {
        let page = scene.read(&path).await;
        assert_eq!(page["total"]["requests"], 264, "it is of all pages");
        let data = page["data"].as_array().unwrap();
        sizes.push(data.len());
        times.extend(data.iter().map(|time| time["from"].as_i64().unwrap()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{all}&limit=100&after={next}");
    }
    assert_eq!(sizes, [100, 100, 51]);
    let expected: Vec<i64> = (-250..=0).map(|number| scene.this + number * HOUR).collect();
    assert_eq!(times, expected);
    let first = scene.read(&format!("{project}/functions?limit=1")).await;
    assert_eq!((&first["data"][0]["name"], &first["next"]), (&json!("one"), &json!(scene.functions[0])));
    let second = scene.read(&format!("{project}/functions?after={}", scene.functions[0])).await;
    assert_eq!((&second["data"][0]["name"], &second["next"]), (&json!("two"), &Value::Null));
}

async fn what_cannot_be_asked_for_is_refused_with_what_to_do() {
    let scene = Scene::new().await;
    let [organization, project, function, _] = scene.paths();
    let refused = async |path: String, code: &str, words: &str| {
        let (status, said) = scene.get(OWNER, &path).await;
        assert_eq!((status, &said["code"]), (400, &json!(code)), "{path}: {said}");
        assert!(said["detail"].as_str().unwrap().contains(words), "{said}");
    };
    let period = "invalid_usage_period";
    for whole in [&organization, &project] {
        refused(format!("{whole}?per=hour"), period, "functions and sites only").await;
    }
    refused(format!("{function}?per=minute"), period, "per is day, or hour").await;
    refused(format!("{function}?from=2000&to=1000"), period, "to is before from").await;
    refused(format!("{project}?from={}", scene.this + DAY), period, "to is before from").await;
    refused(format!("{project}?from={}", scene.this - 400 * DAY), period, "ask for less").await;
    refused(format!("{function}?per=hour&from={}", scene.this - 63 * DAY), period, "62 days").await;
    refused(format!("{project}/functions?from=0"), period, "400 days").await;
    refused(format!("{project}?from=-1"), period, "milliseconds").await;
    refused(format!("{project}?to=9999999999999999"), period, "10000").await;
    refused(format!("{project}?from=yesterday"), "invalid_request", "from").await;
    refused(format!("{project}?until=1"), "unknown_parameter", "until").await;
    refused(format!("{project}/functions?per=day"), "unknown_parameter", "per").await;
    for after in ["x", "-1", "0", "1", &(scene.this + 1).to_string(), &scene.functions[0]] {
        refused(format!("{project}?after={after}"), "invalid_cursor", "after").await;
    }
    refused(format!("{project}/functions?after={}", scene.site), "invalid_cursor", "after").await;
    refused(format!("{project}?limit=0"), "invalid_limit", "limit").await;
}

async fn what_was_used_long_ago_is_forgotten() {
    let scene = Scene::new().await;
    let (hour, day) = (scene.this, scene.this - scene.this % DAY);
    let rows = |table: &str, column: &str, at: i64, count: i64| {
        format!(
            "with recursive n(i) as (select 0 union all select i + 1 from n where i < {count} - 1)
             insert into {table} (subject, {column}, requests, errors, cpu_us, wall_us, sent_bytes)
             select 'fn_old' || i, {at}, 1, 1, 1, 1, 1 from n;"
        )
    };
    let script = [
        rows("usage_hours", "hour", hour - 62 * DAY - HOUR, 2_100),
        rows("usage_hours", "hour", hour - 62 * DAY + HOUR, 2),
        rows("usage_days", "day", day - 401 * DAY, 1_000),
        rows("usage_days", "day", day - 399 * DAY, 3),
        format!(
            "insert into usage_sources values ('edge_1', 'a', 1, {}), ('edge_1', 'b', 1, {})",
            hour - 91 * DAY,
            hour - 89 * DAY
        ),
    ];
    scene.served.stored.script(&script.concat()).await;
    assert_eq!(scene.served.control.compact_usage().await.unwrap(), 3_101);
    assert_eq!(scene.served.control.compact_usage().await.unwrap(), 0);
    assert_eq!(stored(&scene.served, "usage_hours", "count(*)", "fn_old").await, "2");
    assert_eq!(stored(&scene.served, "usage_days", "count(*)", "fn_old").await, "3");
    // What an edge tells too late for hours counts for its day, and too late for that not at all.
    let one = &scene.functions[0];
    let late = [record(one, hour - 100 * DAY, 64), record(one, hour - 402 * DAY, 128)];
    scene.served.control.usage(&batch("a", 2, &late)).await.unwrap();
    let path = format!("/v1/functions/{one}/usage?from={}", hour - 101 * DAY);
    assert_eq!(scene.read(&path).await["total"], said(78));
    // Of this hour, of the one before, which may be yesterday, of three days ago and of a hundred.
    let days = if hour == day { "4" } else { "3" };
    assert_eq!(stored(&scene.served, "usage_days", "count(*)", one).await, days);
}

/// An edge that has a thousand starts behind it is known by the newest.
async fn of_an_edge_the_sources_that_were_used_last_are_known() {
    let scene = Scene::new().await;
    scene
        .served
        .stored
        .script(
            "with recursive n(i) as (select 0 union all select i + 1 from n where i < 1099)
             insert into usage_sources (edge, source, number, taken_at) select 'here', 'old' || i, 1, i from n;
             insert into usage_sources (edge, source, number, taken_at) values ('edge_1', 'old', 1, 0);",
        )
        .await;
    scene.served.control.usage(&batch("new", 1, &[])).await.unwrap();
    let empty = if scene.served.stored.is_postgres() { "''::bytea" } else { "x''" };
    let query = format!("select edge || ' ' || source, {empty} from usage_sources order by edge, taken_at");
    let rows: Vec<String> = scene.served.stored.rows(&query).await.into_iter().map(|(row, _)| row).collect();
    assert_eq!((rows.len(), rows[0].as_str(), rows[1].as_str()), (1_001, "edge_1 old", "here old102"));
    assert_eq!(rows[999..], ["here a", "here new"]);
}

/// Each server has its own turn for edges, so these meet in the database.
async fn servers_of_one_database_add_at_once_and_each_batch_once() {
    let scene = Scene::new().await;
    let beside = scene.served.beside().await;
    let subjects = [&scene.functions[0], &scene.functions[1], &scene.site];
    let batches: Vec<UsageBatch> = (0..40_usize)
        .map(|number| {
            let mut records: Vec<UsageRecord> = (0..30)
                .map(|at| {
                    record(subjects[(at + number) % 3], scene.this - i64::try_from(at).unwrap() * HOUR, 1)
                })
                .collect();
            if number % 2 == 0 {
                records.reverse();
            }
            batch(&format!("s{number}"), 1, &records)
        })
        .collect();
    // Each to both.
    let adding =
        batches.iter().flat_map(|batch| [scene.served.control.usage(batch), beside.control.usage(batch)]);
    for added in futures::future::join_all(adding.map(Box::pin)).await {
        added.unwrap();
    }
    let from = scene.this - 4 * DAY;
    for path in &scene.paths()[..2] {
        let used = scene.read(&format!("{path}?from={from}")).await;
        assert_eq!(used["total"]["requests"], 62 + 40 * 30, "{path}");
    }
}

/// On PostgreSQL, where that could be: others have the turn to write, and edges still tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edges_tell_while_others_write() {
    let story = async {
        let scene = Scene::new().await;
        let held = scene.served.stored.hold().await;
        let late = record(&scene.functions[0], scene.this, 64);
        scene.served.control.usage(&batch("a", 2, &[late])).await.unwrap();
        drop(held);
        let path = format!("{}?from={}", scene.paths()[2], scene.this - 4 * DAY);
        assert_eq!(scene.read(&path).await["total"], said(78));
    };
    Box::pin(support::on(support::Engine::Postgres, story)).await;
}

on_both! {
    servers_of_one_database_add_at_once_and_each_batch_once,
    a_batch_counts_once_however_it_comes,
    what_is_no_batch_adds_nothing,
    a_full_batch_is_taken_and_counts_are_whole_numbers_that_json_has,
    what_was_deleted_counts_for_whose_it_was,
    sums_of_all_agree,
    what_is_gone_stays_in_the_sums_of_its_owners,
    who_pays_may_look_and_nobody_else_besides_members,
    lists_have_pages,
    what_cannot_be_asked_for_is_refused_with_what_to_do,
    what_was_used_long_ago_is_forgotten,
    of_an_edge_the_sources_that_were_used_last_are_known,
}
