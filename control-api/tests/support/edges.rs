//! Edges that are no processes: they join, and ask as real ones do.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

use std::time::{SystemTime, UNIX_EPOCH};

use af_contract::edge::{
    Bound, FeedPage, FeedRequest, JoinAnswer, JoinToken, KeyPair, PublicKey, Share, prove,
};
use serde_json::{Value, json};

use super::{OWNER, Served, client};

const LOGS: &str = "/v1/edge/logs";

/// One that has joined.
pub struct TestEdge {
    pub id: String,
    pub pair: KeyPair,
    pub control: PublicKey,
    http: reqwest::Client,
    url: String,
}

impl TestEdge {
    pub async fn join(served: &Served, name: &str) -> Self {
        let (_, made) = served.call("post", "/v1/edges", Some(OWNER), json!({ "name": name })).await;
        let token: JoinToken =
            made["joinToken"].as_str().unwrap_or_else(|| panic!("{made}")).parse().unwrap();
        let pair = KeyPair::from_pkcs8(&KeyPair::generate().unwrap()).unwrap();
        let request = serde_json::to_value(token.request(&pair.public())).unwrap();
        let (status, joined) = served.call("post", "/v1/edge/join", None, request).await;
        assert_eq!(status, 200, "{joined}");
        let joined: JoinAnswer = serde_json::from_value(joined).unwrap();
        Self { id: token.edge, pair, control: joined.feed_key, http: client(), url: served.url().to_owned() }
    }

    pub fn prove(&self, bound: Bound) -> String {
        prove(&self.pair, &self.id, &self.control, bound, now()).unwrap()
    }

    /// The status of a request with this proof.
    pub async fn send(&self, method: &str, path: &str, proof: &str, body: &[u8]) -> u16 {
        let method: reqwest::Method = method.parse().unwrap();
        let request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(proof);
        let request = request.header("content-type", "application/json").body(body.to_vec());
        request.send().await.unwrap().status().as_u16()
    }

    /// Sends a batch of lines, once it may. Status and code.
    pub async fn logs(&self, served: &Served, batch: &str, lines: &[Value]) -> (u16, Value) {
        let body = serde_json::to_vec(&json!({ "batch": batch, "lines": lines })).unwrap();
        loop {
            let answer = served.post(LOGS, &self.prove_logs(&body), &[], body.clone()).await;
            let status = answer.status().as_u16();
            if status != 429 {
                return (status, answer.json::<Value>().await.unwrap_or_default()["code"].clone());
            }
        }
    }

    /// What it shows with lines that are this body.
    pub fn prove_logs(&self, body: &[u8]) -> String {
        self.prove(Bound::to("POST", LOGS).with_body(body))
    }

    /// What was told, or the status.
    pub async fn ask(&self, wanted: &FeedRequest) -> Result<FeedPage, u16> {
        let share = Share::new().unwrap();
        let path = feed(wanted);
        let proof = self.prove(Bound::to("GET", &path).with_share(share.public()));
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&proof);
        let answer = request.send().await.unwrap();
        if answer.status() != 200 {
            return Err(answer.status().as_u16());
        }
        let sealed = answer.bytes().await.unwrap();
        let text = share.open(&proof, &self.control, &sealed).unwrap();
        Ok(serde_json::from_slice(&text).unwrap())
    }

    /// All that there is, as who knows nothing.
    pub async fn all(&self) -> Vec<FeedPage> {
        let mut pages: Vec<FeedPage> = Vec::new();
        loop {
            let last = pages.last();
            let wanted = FeedRequest {
                epoch: last.map(|page| page.epoch.clone()),
                after: last.map_or(0, |page| page.until),
                anew: last.is_some(),
                wait_ms: 0,
            };
            pages.push(self.ask(&wanted).await.unwrap());
            if !pages.last().unwrap().more {
                return pages;
            }
        }
    }
}

/// The path and query of a request for the feed.
pub fn feed(wanted: &FeedRequest) -> String {
    let asked = client().get("http://control/v1/edge/feed").query(wanted).build().unwrap();
    format!("/v1/edge/feed?{}", asked.url().query().unwrap())
}

/// Seconds since 1970 UTC.
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}
