//! An edge of its own, as far as a control plane sees one.

use std::time::{SystemTime, UNIX_EPOCH};

use af_contract::edge::{Bound, JoinToken, KeyPair, PublicKey, prove};
use serde_json::{Value, json};

use super::{OWNER, Served};

/// One that has joined.
pub struct Edge {
    pub id: String,
    pair: KeyPair,
    control: PublicKey,
}

impl Edge {
    pub async fn join(served: &Served, name: &str) -> Self {
        let (_, made) = served.call("post", "/v1/edges", Some(OWNER), json!({ "name": name })).await;
        let token: JoinToken = made["joinToken"].as_str().unwrap().parse().unwrap();
        let pair = KeyPair::from_pkcs8(&KeyPair::generate().unwrap()).unwrap();
        let request = serde_json::to_value(token.request(&pair.public())).unwrap();
        let (status, joined) = served.call("post", "/v1/edge/join", None, request).await;
        assert_eq!(status, 200, "{joined}");
        let control = serde_json::from_value(joined["feedKey"].clone()).unwrap();
        Self { id: token.edge, pair, control }
    }

    /// What it shows with a request that has this body.
    pub fn proof(&self, body: &[u8]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let bound = Bound::default().with_body(body);
        prove(&self.pair, &self.id, &self.control, bound, i64::try_from(now).unwrap()).unwrap()
    }

    /// Sends a batch of lines, once it may. Status and code.
    pub async fn logs(&self, served: &Served, batch: &str, lines: &[Value]) -> (u16, Value) {
        let body = serde_json::to_vec(&json!({ "batch": batch, "lines": lines })).unwrap();
        loop {
            let answer = served.post("/v1/edge/logs", &self.proof(&body), &[], body.clone()).await;
            let status = answer.status().as_u16();
            if status != 429 {
                return (status, answer.json::<Value>().await.unwrap_or_default()["code"].clone());
            }
        }
    }
}
