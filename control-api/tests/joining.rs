//! Edges that join: who did that is told, and who only tries is counted.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_contract::edge::{JoinToken, KeyPair};
use af_control_api::ApiConfig;
use serde_json::{Value, json};
use support::{OWNER, Served};

async fn start() -> Served {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    Served::asked_through(ApiConfig { trusted_proxies, ..ApiConfig::default() }).await
}

/// What an edge with a new name sends to join.
async fn joining(served: &Served) -> Value {
    let (_, made) = served.call("post", "/v1/edges", Some(OWNER), json!({ "name": "edge-1" })).await;
    let token: JoinToken = made["joinToken"].as_str().unwrap().parse().unwrap();
    let key = KeyPair::from_pkcs8(&KeyPair::generate().unwrap()).unwrap();
    serde_json::to_value(token.request(&key.public())).unwrap()
}

async fn that_an_edge_has_joined_is_told() {
    let served = start().await;
    let request = joining(&served).await;
    let from = [("x-forwarded-for", "198.51.100.7")];
    let answer = served.answer("post", "/v1/edge/join", None, &from, request.clone()).await;
    assert_eq!(answer.status(), 200);
    // Rows are a text and bytes: those of some token.
    let query = "select audit.user_id, hash from audit, tokens where action = 'edge.join'
        and address = '198.51.100.7' and audit.user_id = target and tokens.id = 'tok_2'";
    let entries = served.stored.rows(query).await;
    assert_eq!(entries.len(), 1);
    assert_eq!(json!(entries[0].0), request["edge"]);
}

async fn who_tries_to_be_an_edge_is_counted() {
    let served = start().await;
    let request = joining(&served).await;
    let mut forged = request.clone();
    forged["proof"] = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let paths = [
        ("get", "/v1/edge/feed"),
        ("post", "/v1/edge/report"),
        ("post", "/v1/edge/work"),
        ("post", "/v1/edge/logs"),
        ("get", "/v1/edge/ipfs/x"),
    ];
    let proofs = paths.map(|(method, path)| (method, path, Some("eyJ.eyJ.x"), Value::Null));
    let joins = [("post", "/v1/edge/join", None, forged)];
    for (network, (method, path, token, body)) in proofs.into_iter().chain(joins).enumerate() {
        let address = format!("198.51.100.{network}");
        let from = [("x-forwarded-for", address.as_str())];
        for _ in 0..30 {
            let answer = served.answer(method, path, token, &from, body.clone()).await;
            assert_eq!(answer.status(), 401, "{path}");
        }
        let answer = served.answer(method, path, token, &from, body).await;
        assert_eq!(answer.status(), 429, "{path}");
    }
    let from = [("x-forwarded-for", "198.51.100.99")];
    assert_eq!(served.answer("post", "/v1/edge/join", None, &from, request).await.status(), 200);
}

on_both!(that_an_edge_has_joined_is_told, who_tries_to_be_an_edge_is_counted);
