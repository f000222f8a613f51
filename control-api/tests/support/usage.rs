//! What edges counted, as tests make it up, and what is kept of it.

use std::time::{SystemTime, UNIX_EPOCH};

use af_contract::edge::UsageBatch;
use af_contract::usage::{HOUR, Usage, UsageRecord, hour_of};
use serde_json::{Value, json};

use super::events::function;
use super::{OWNER, Served};

pub const DAY: i64 = 24 * HOUR;

/// Milliseconds since 1970 UTC.
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// So many requests, and of everything else as much as follows from that.
pub fn record(subject: &str, hour: i64, requests: u64) -> UsageRecord {
    let usage = Usage {
        requests,
        errors: requests / 2,
        cpu_us: requests * 1_000,
        wall_us: requests * 5_000,
        sent_bytes: requests * 100,
    };
    UsageRecord { subject: subject.into(), hour, usage }
}

pub fn batch(source: &str, number: u64, records: &[UsageRecord]) -> UsageBatch {
    UsageBatch { source: source.into(), number, records: records.to_vec() }
}

pub async fn site(served: &Served, name: &str) -> String {
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let path = format!("/v1/projects/{}/sites", projects["data"][0]["id"].as_str().unwrap());
    let (status, made) = served.call("post", &path, Some(OWNER), json!({ "name": name })).await;
    assert_eq!(status, 201, "{made}");
    made["id"].as_str().unwrap().to_owned()
}

/// `what` of all rows of a table that are of a subject, which may be a beginning.
pub async fn stored(served: &Served, table: &str, what: &str, subject: &str) -> String {
    let empty = if served.stored.is_postgres() { "''::bytea" } else { "x''" };
    let query = format!("select cast({what} as text), {empty} from {table} where subject like '{subject}%'");
    served.stored.rows(&query).await[0].0.clone()
}

pub async fn requests(served: &Served, subject: &str) -> String {
    let [hours, days] = [
        stored(served, "usage_hours", "coalesce(sum(requests), 0)", subject).await,
        stored(served, "usage_days", "coalesce(sum(requests), 0)", subject).await,
    ];
    assert!(hours == days || !subject.starts_with("fn_"), "{hours} {days}");
    days
}

/// A control API whose first project has two functions and a site that used something, on two days.
pub struct Scene {
    pub served: Served,
    pub project: String,
    pub organization: String,
    pub functions: [String; 2],
    pub site: String,
    /// When this hour began.
    pub this: i64,
}

impl Scene {
    pub async fn new() -> Self {
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

    pub fn paths(&self) -> [String; 4] {
        [
            format!("/v1/organizations/{}/usage", self.organization),
            format!("/v1/projects/{}/usage", self.project),
            format!("/v1/functions/{}/usage", self.functions[0]),
            format!("/v1/sites/{}/usage", self.site),
        ]
    }

    pub async fn get(&self, token: &str, path: &str) -> (u16, Value) {
        self.served.call("get", path, Some(token), Value::Null).await
    }

    pub async fn read(&self, path: &str) -> Value {
        let (status, said) = self.get(OWNER, path).await;
        assert_eq!(status, 200, "{path}: {said}");
        said
    }

    pub async fn made(&self, path: &str, body: Value) -> Value {
        let (status, made) = self.served.call("post", path, Some(OWNER), body).await;
        assert!((200..300).contains(&status), "{path}: {made}");
        made
    }
}

/// As the API says it.
pub fn said(requests: u64) -> Value {
    json!({
        "requests": requests, "errors": requests / 2, "cpuUs": requests * 1_000, "wallUs": requests * 5_000,
        "sentBytes": requests * 100
    })
}
