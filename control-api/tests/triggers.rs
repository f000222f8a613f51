//! Triggers in the control plane alone: a clock in the test's hand, a callee that writes down who is called, and
//! restarts in between.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use af_content::{DiskStore, car, unixfs};
use af_contract::edge::{CallEnd, Report};
use af_contract::trigger::{Answered, Tick, rfc3339};
use af_contract::{Limits, limits};
use af_control_api::{Callee, Clock, ControlApi, ControlConfig, DomainConfig, StorageConfig};
use futures::future::BoxFuture;
use reqwest::Client;
use serde_json::{Value, json};
use support::Stored;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

const TOKEN: &str = "af_live_owner_of_the_first_project";
/// 2026-01-01T00:00:30Z
const START: i64 = 1_767_225_630_000;
const MINUTE: i64 = 60_000;

/// Hands each tick to the test, which says what the function answers.
struct Recorder {
    calls: mpsc::Sender<(Tick, oneshot::Sender<Answered>)>,
    can_call: Arc<AtomicBool>,
}

impl Callee for Recorder {
    fn call(&self, _run: &str, tick: Tick) -> BoxFuture<'static, Answered> {
        let (answer, answered) = oneshot::channel();
        assert!(self.can_call(), "it was asked to, although it cannot");
        let calls = self.calls.clone();
        Box::pin(async move {
            calls.send((tick, answer)).await.unwrap();
            // A test that lets it go means that it crashes.
            answered.await.unwrap()
        })
    }

    fn can_call(&self) -> bool {
        self.can_call.load(Ordering::SeqCst)
    }
}

/// A control API with its schedule, and what is called.
struct Platform {
    url: String,
    control: ControlApi,
    can_call: Arc<AtomicBool>,
    calls: mpsc::Receiver<(Tick, oneshot::Sender<Answered>)>,
    stop: oneshot::Sender<()>,
    schedule: JoinHandle<()>,
    api: JoinHandle<()>,
}

impl Platform {
    async fn start(dir: &Path, stored: &Stored, clock: &watch::Sender<i64>) -> Self {
        let config = ControlConfig {
            database: stored.database.clone(),
            master_key: dir.join("master.key").into(),
            invoke_url: "http://{slug}.localhost:8080".into(),
            rate_limit: limits::REQUESTS_PER_SECOND,
            limits: Limits::default(),
            storage: StorageConfig::default(),
            domains: DomainConfig::default(),
            clock: Clock::Manual(clock.subscribe()),
            gateway: None,
            api: af_control_api::ApiConfig::default(),
            graphql: af_control_api::GraphqlConfig::default(),
            javascript: None,
        };
        let control = ControlApi::build(config, DiskStore::open(dir.join("blocks")).unwrap()).await.unwrap();
        control.bootstrap(Some(TOKEN)).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, calls) = mpsc::channel(16);
        let (stop, stopped) = oneshot::channel::<()>();
        let can_call = Arc::new(AtomicBool::new(true));
        let recorder = Recorder { calls: sender, can_call: can_call.clone() };
        let scheduled = control.clone();
        let schedule = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            scheduled.run_triggers(Arc::new(recorder), stopped).await;
        });
        let serving = control.clone();
        let api = tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
        Self { url, control, can_call, calls, stop, schedule, api }
    }

    /// Ends it as SIGTERM does: runs may finish.
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.schedule.await.unwrap();
        self.api.abort();
    }

    /// Ends it as a crash does.
    fn crash(self) {
        self.schedule.abort();
        self.api.abort();
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = client().request(method.parse().unwrap(), format!("{}{path}", self.url));
        let answer = request.bearer_auth(TOKEN).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn make(&self) -> String {
        let (_, projects) = self.call("GET", "/v1/projects", Value::Null).await;
        let path = format!("/v1/projects/{}/functions", projects["data"][0]["id"].as_str().unwrap());
        let (_, function) = self.call("POST", &path, json!({ "name": "hello" })).await;
        function["id"].as_str().unwrap().to_owned()
    }

    /// Deploys with triggers. Returns status and answer.
    async fn deploy(&self, function: &str, triggers: &Value) -> (u16, Value) {
        let component = wat::parse_str(
            "(component (component $c) (instance $i (instantiate $c)) (export \"wasi:http/incoming-handler@0.2.3\" (instance $i)))",
        );
        let mut blocks = Vec::new();
        let keep = |block| {
            blocks.push(block);
            Ok(())
        };
        let file = unixfs::import(component.unwrap().as_slice(), keep).unwrap();
        let mut body = car::encode_header(&[file.root]);
        for block in &blocks {
            body.extend(car::encode_block_prefix(&block.id, block.bytes.len()));
            body.extend_from_slice(&block.bytes);
        }
        let query = [
            ("cid", file.root.to_string()),
            ("blake3", file.blake3.to_string()),
            ("triggers", triggers.to_string()),
        ];
        let url = format!("{}/v1/functions/{function}/deployments", self.url);
        let answer = client().post(url).query(&query).bearer_auth(TOKEN).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn schedule(&self, function: &str) -> Value {
        self.call("GET", &format!("/v1/functions/{function}/triggers"), Value::Null).await.1
    }

    /// Outcomes and moments of all runs, newest first.
    async fn runs(&self, function: &str) -> Vec<(String, String)> {
        let schedule = self.schedule(function).await;
        let run = |run: &Value| {
            (run["outcome"].as_str().unwrap().to_owned(), rfc3339(run["scheduledAt"].as_i64().unwrap()))
        };
        schedule["runs"].as_array().unwrap().iter().map(run).collect()
    }

    /// Returns when the newest run has an outcome.
    async fn until_newest_is(&self, function: &str, outcome: &str) {
        while self.runs(function).await.first().is_none_or(|(newest, _)| newest != outcome) {
            tokio::task::yield_now().await;
        }
    }

    /// The next call, with its moment.
    async fn called(&mut self) -> (Tick, String, oneshot::Sender<Answered>) {
        let (tick, answer) = self.calls.recv().await.unwrap();
        let moment = rfc3339(tick.scheduled_at);
        (tick, moment, answer)
    }

    /// The next call, answered with 200.
    async fn served(&mut self) -> String {
        let (_, moment, answer) = self.called().await;
        answer.send(ok()).unwrap();
        moment
    }
}

fn client() -> Client {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().build().unwrap()
}

fn ok() -> Answered {
    Answered { status: Some(200), error: None }
}

fn every_minute() -> Value {
    json!([{ "cron": "* * * * *", "path": "/tick?a=b" }])
}

fn outcomes(runs: &[(String, String)]) -> Vec<&str> {
    runs.iter().map(|(outcome, _)| outcome.as_str()).collect()
}

async fn a_function_is_called_when_its_time_comes() {
    let dir = tempfile::tempdir().unwrap();
    let stored = Stored::new(dir.path()).await;
    let (clock, _) = watch::channel(START);
    let mut platform = Platform::start(dir.path(), &stored, &clock).await;
    let function = platform.make().await;
    let (status, deployment) = platform.deploy(&function, &every_minute()).await;
    assert_eq!((status, &deployment["triggers"]), (201, &every_minute()));
    let schedule = platform.schedule(&function).await;
    assert_eq!(schedule["triggers"][0]["nextRunAt"], START + MINUTE / 2);
    assert_eq!(schedule["runs"], json!([]));

    clock.send_replace(START + MINUTE / 2);
    let (tick, moment, answer) = platform.called().await;
    assert_eq!(moment, "2026-01-01T00:01:00Z");
    assert_eq!(tick.url, "http://hello.localhost:8080/tick?a=b");
    assert_eq!((&tick.function, tick.deployment.as_str()), (&function, deployment["id"].as_str().unwrap()));
    answer.send(ok()).unwrap();
    platform.until_newest_is(&function, "succeeded").await;

    clock.send_replace(START + 2 * MINUTE);
    let (_, moment, answer) = platform.called().await;
    assert_eq!(moment, "2026-01-01T00:02:00Z");
    answer.send(Answered { status: Some(503), error: None }).unwrap();
    platform.until_newest_is(&function, "failed").await;

    clock.send_replace(START + 3 * MINUTE);
    let (_, _, answer) = platform.called().await;
    drop(answer);
    platform.until_newest_is(&function, "failed").await;
    let schedule = platform.schedule(&function).await;
    assert_eq!(schedule["runs"][0]["error"], "the call was interrupted");
    assert_eq!(schedule["runs"][1]["status"], 503);
    assert_eq!(schedule["runs"].as_array().unwrap().len(), 3);
}

async fn a_restart_repeats_no_tick_and_makes_up_for_a_missed_one() {
    let dir = tempfile::tempdir().unwrap();
    let stored = Stored::new(dir.path()).await;
    let (clock, _) = watch::channel(START);
    let mut platform = Platform::start(dir.path(), &stored, &clock).await;
    let function = platform.make().await;
    platform.deploy(&function, &every_minute()).await;
    clock.send_replace(START + MINUTE);
    assert_eq!(platform.served().await, "2026-01-01T00:01:00Z");
    platform.stop().await;

    // At the same time: nothing is due.
    let platform = Platform::start(dir.path(), &stored, &clock).await;
    assert_eq!(platform.runs(&function).await.len(), 1);
    platform.stop().await;

    // Five ticks were missed; the last one is made up for.
    clock.send_replace(START + 6 * MINUTE);
    let mut platform = Platform::start(dir.path(), &stored, &clock).await;
    assert_eq!(platform.served().await, "2026-01-01T00:06:00Z");
    platform.until_newest_is(&function, "succeeded").await;
    assert_eq!(platform.runs(&function).await.len(), 2);

    // A crash while it runs: the tick is not repeated, the next one comes.
    clock.send_replace(START + 7 * MINUTE);
    let (_, moment, _answer) = platform.called().await;
    assert_eq!(moment, "2026-01-01T00:07:00Z");
    platform.crash();
    if stored.is_postgres() {
        // It may be another server's that is at work, until that has not said so for a while.
        let platform = Platform::start(dir.path(), &stored, &clock).await;
        assert_eq!(outcomes(&platform.runs(&function).await), ["running", "succeeded", "succeeded"]);
        platform.crash();
        stored.script("update trigger_runs set leased_until = 1").await;
    }
    let mut platform = Platform::start(dir.path(), &stored, &clock).await;
    assert_eq!(outcomes(&platform.runs(&function).await), ["interrupted", "succeeded", "succeeded"]);
    clock.send_replace(START + 8 * MINUTE);
    assert_eq!(platform.served().await, "2026-01-01T00:08:00Z");
}

async fn what_nobody_can_call_now_waits_or_is_left_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let stored = Stored::new(dir.path()).await;
    let (clock, _) = watch::channel(START);
    let mut platform = Platform::start(dir.path(), &stored, &clock).await;
    let function = platform.make().await;
    platform.deploy(&function, &every_minute()).await;
    platform.can_call.store(false, Ordering::SeqCst);
    clock.send_replace(START + MINUTE);
    let (status, said) =
        platform.call("POST", &format!("/v1/functions/{function}/triggers/run"), json!({})).await;
    assert_eq!((status, &said["code"]), (409, &json!("no_edge")));
    assert!(platform.runs(&function).await.is_empty());
    platform.can_call.store(true, Ordering::SeqCst);
    clock.send_replace(START + MINUTE + 5_000);
    assert_eq!(platform.served().await, "2026-01-01T00:01:00Z");
    platform.until_newest_is(&function, "succeeded").await;
    assert_eq!(platform.runs(&function).await.len(), 1);
}

async fn how_a_call_ended_is_written_down_by_whichever_server_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let stored = Stored::new(dir.path()).await;
    let (clock, _) = watch::channel(START);
    let platform = Platform::start(dir.path(), &stored, &clock).await;
    let function = platform.make().await;
    for (run, edge) in [("run_1", "here"), ("run_2", "edge_2"), ("run_4", "here")] {
        let row = format!(
            "insert into trigger_runs (id, function_id, deployment_id, cron, path, scheduled_at, started_at, outcome, server,
                leased_until, edge_id) values ('{run}', '{function}', 'dep_1', '* * * * *', '/', 0, {}, 'running',
                'srv_other', 9000000000000, '{edge}')",
            START - 7
        );
        stored.script(&row).await;
    }
    let end = |run: &str| CallEnd { id: run.into(), answered: ok() };
    // One that says more than it may, and what no database takes.
    let failed = Answered { status: None, error: Some("\0no".repeat(1_000)) };
    let loud = CallEnd { id: "run_4".into(), answered: failed };
    let report = Report { calls: vec![end("run_1"), end("run_2"), end("run_3"), loud], ..Report::default() };
    platform.control.report(&report).await.unwrap();
    let schedule = platform.schedule(&function).await;
    let mut runs: Vec<_> = schedule["runs"].as_array().unwrap().iter().collect();
    runs.sort_by_key(|run| run["id"].to_string());
    assert_eq!((&runs[0]["outcome"], &runs[0]["status"]), (&json!("succeeded"), &json!(200)));
    assert_eq!(runs[0]["durationMs"], 7);
    assert_eq!(runs[1]["outcome"], "running", "it was given to another edge");
    assert_eq!((&runs[2]["outcome"], &runs[2]["error"]), (&json!("failed"), &json!("no".repeat(250))));
}

async fn a_tick_that_is_too_old_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let stored = Stored::new(dir.path()).await;
    let (clock, _) = watch::channel(START);
    let platform = Platform::start(dir.path(), &stored, &clock).await;
    let function = platform.make().await;
    platform.deploy(&function, &json!([{ "cron": "@hourly", "path": "/" }])).await;
    platform.stop().await;

    clock.send_replace(START + 71 * MINUTE);
    let mut platform = Platform::start(dir.path(), &stored, &clock).await;
    platform.until_newest_is(&function, "skipped").await;
    assert_eq!(platform.runs(&function).await, [("skipped".into(), "2026-01-01T01:00:00Z".into())]);
    clock.send_replace(START + 125 * MINUTE);
    assert_eq!(platform.served().await, "2026-01-01T02:00:00Z", "5 minutes late");
}

async fn a_tick_is_skipped_while_the_run_before_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let stored = Stored::new(dir.path()).await;
    let (clock, _) = watch::channel(START);
    let mut platform = Platform::start(dir.path(), &stored, &clock).await;
    let function = platform.make().await;
    platform.deploy(&function, &every_minute()).await;
    clock.send_replace(START + MINUTE);
    let (_, _, slow) = platform.called().await;
    clock.send_replace(START + 2 * MINUTE);
    platform.until_newest_is(&function, "skipped").await;
    let by_hand = platform.call("POST", &format!("/v1/functions/{function}/triggers/run"), json!({})).await;
    assert_eq!((by_hand.0, &by_hand.1["code"]), (409, &json!("trigger_running")));
    slow.send(ok()).unwrap();
    while outcomes(&platform.runs(&function).await) != ["skipped", "succeeded"] {
        tokio::task::yield_now().await;
    }
    clock.send_replace(START + 3 * MINUTE);
    assert_eq!(platform.served().await, "2026-01-01T00:03:00Z");
}

async fn the_schedule_is_that_of_what_the_function_runs() {
    let dir = tempfile::tempdir().unwrap();
    let stored = Stored::new(dir.path()).await;
    let (clock, _) = watch::channel(START);
    let mut platform = Platform::start(dir.path(), &stored, &clock).await;
    let function = platform.make().await;
    let path = format!("/v1/functions/{function}");
    let crons = async |platform: &Platform| {
        let schedule = platform.schedule(&function).await;
        let triggers = schedule["triggers"].as_array().unwrap().clone();
        triggers.iter().map(|trigger| trigger["cron"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    platform.deploy(&function, &every_minute()).await;
    let both = json!([{ "cron": "* * * * *", "path": "/tick?a=b" }, { "cron": "@daily", "path": "/" }]);
    // A deploy in the moment of a tick does not lose it.
    clock.send_replace(START + MINUTE / 2);
    let (_, newer) = platform.deploy(&function, &both).await;
    assert_eq!(platform.served().await, "2026-01-01T00:01:00Z");
    assert_eq!(crons(&platform).await, ["* * * * *", "@daily"]);

    platform.call("POST", &format!("{path}/rollback"), json!({})).await;
    assert_eq!(crons(&platform).await, ["* * * * *"]);
    platform.call("PATCH", &path, json!({ "status": "INACTIVE" })).await;
    assert_eq!(crons(&platform).await, Vec::<String>::new());
    clock.send_replace(START + 30 * MINUTE);
    platform.call("PATCH", &path, json!({ "status": "ACTIVE" })).await;
    clock.send_replace(START + 31 * MINUTE);
    assert_eq!(platform.served().await, "2026-01-01T00:31:00Z", "nothing of the time when it was off");

    platform.call("POST", &format!("{path}/rollback"), json!({ "deployment": newer["id"] })).await;
    assert_eq!(crons(&platform).await, ["* * * * *", "@daily"]);
    platform.deploy(&function, &json!([])).await;
    assert_eq!(crons(&platform).await, Vec::<String>::new());
}

async fn triggers_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let stored = Stored::new(dir.path()).await;
    let (clock, _) = watch::channel(START);
    let platform = Platform::start(dir.path(), &stored, &clock).await;
    let function = platform.make().await;
    let many: Vec<Value> = (0..17).map(|n| json!({ "cron": "@daily", "path": format!("/{n}") })).collect();
    for (triggers, said) in [
        (json!({}), "invalid type: map, expected a sequence"),
        (json!([{ "cron": "often", "path": "/" }]), "is not a cron expression"),
        (json!([{ "cron": "* * * * * *", "path": "/" }]), "is not a cron expression"),
        (json!([{ "cron": "0 0 30 2 *", "path": "/" }]), "names a moment that never comes"),
        (json!([{ "cron": "@daily", "path": "tick" }]), "is not a trigger's path"),
        (json!([{ "cron": "@daily" }]), "missing field `path`"),
        (json!([{ "cron": "@daily", "path": "/", "zone": "CET" }]), "unknown field `zone`"),
        (json!([{ "cron": "@daily", "path": "/" }, { "cron": "@daily", "path": "/" }]), "is there twice"),
        (json!(many), "17 triggers are too many"),
    ] {
        let (status, problem) = platform.deploy(&function, &triggers).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_triggers")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(said), "{problem}");
    }
    let run = format!("/v1/functions/{function}/triggers/run");
    let (status, problem) = platform.call("POST", &run, json!({})).await;
    assert_eq!((status, &problem["code"]), (400, &json!("unknown_trigger")), "it has none");
    let two = json!([{ "cron": "@daily", "path": "/a" }, { "cron": "@daily", "path": "/b" }]);
    assert_eq!(platform.deploy(&function, &two).await.0, 201);
    for input in [json!({}), json!({ "path": "/c" })] {
        let (status, problem) = platform.call("POST", &run, input).await;
        assert_eq!((status, &problem["code"]), (400, &json!("unknown_trigger")));
        assert!(problem["detail"].as_str().unwrap().contains("/a, /b"), "{problem}");
    }
}

async fn old_runs_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let stored = Stored::new(dir.path()).await;
    let (clock, _) = watch::channel(START);
    let mut platform = Platform::start(dir.path(), &stored, &clock).await;
    let function = platform.make().await;
    platform.deploy(&function, &every_minute()).await;
    for minute in 1..=103 {
        clock.send_replace(START + minute * MINUTE);
        platform.served().await;
        platform.until_newest_is(&function, "succeeded").await;
    }
    let runs = platform.runs(&function).await;
    assert_eq!((runs.len(), runs[0].1.as_str()), (100, "2026-01-01T01:43:00Z"));
}

crate::on_both!(
    a_function_is_called_when_its_time_comes,
    a_restart_repeats_no_tick_and_makes_up_for_a_missed_one,
    what_nobody_can_call_now_waits_or_is_left_to_others,
    how_a_call_ended_is_written_down_by_whichever_server_is_told,
    a_tick_that_is_too_old_is_skipped,
    a_tick_is_skipped_while_the_run_before_goes_on,
    the_schedule_is_that_of_what_the_function_runs,
    triggers_that_cannot_be_are_refused,
    old_runs_are_forgotten,
);
