//! Uploads that are not what they claim, and callers that are not who they should be: each is refused
//! with its own code, and nothing of it stays.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::path::Path;

use reqwest::StatusCode;
use serde_json::{Value, json};
use support::{Home, Server, car_of, guest, http, ok};

/// Sends a CAR and returns the status and the problem's code.
async fn send(server: &Server, function: &str, cid: &str, blake3: &str, car: Vec<u8>) -> (StatusCode, Value) {
    let url = format!("{}/v1/functions/{function}/deployments?cid={cid}&blake3={blake3}", server.api);
    let answer = http().post(url).bearer_auth(server.token()).body(car).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

fn function(home: &Home) -> String {
    let made = ok(home.af().args(["--json", "functions", "create", "-n", "target"]));
    serde_json::from_str::<Value>(&made).unwrap()["id"].as_str().unwrap().to_owned()
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path.display().to_string()) }
    }
    found
}

#[tokio::test]
async fn an_upload_that_is_not_what_it_claims_is_refused_and_leaves_nothing() {
    let home = Home::new();
    let server = home.up(&[]);
    let function = function(&home);
    let good = std::fs::read(guest("hello-js")).unwrap();
    let (summary, car) = car_of(&good);
    let (cid, blake3) = (summary.root.to_string(), summary.blake3.to_string());
    let (other, _) = car_of(b"something else");
    let flipped = |at: usize| {
        let mut car = car.clone();
        car[at] ^= 1;
        car
    };
    let wat = |text: &str| wat::parse_str(text).unwrap();
    let of = |file: &[u8]| {
        let (summary, car) = car_of(file);
        (summary.root.to_string(), summary.blake3.to_string(), car)
    };
    let claim = |car: Vec<u8>| (cid.clone(), blake3.clone(), car);

    let cases = [
        ("block_corrupt", 422, claim(flipped(car.len() / 2))),
        ("blake3_mismatch", 422, (cid.clone(), other.blake3.to_string(), car.clone())),
        ("cid_mismatch", 422, (other.root.to_string(), blake3.clone(), car.clone())),
        ("car_truncated", 422, claim(car[..car.len() - 10].to_vec())),
        ("car_truncated", 422, claim(Vec::new())),
        ("block_missing", 422, claim(car[..af_content::car::encode_header(&[summary.root]).len()].to_vec())),
        ("car_invalid", 422, claim(good.clone())),
        ("not_a_component", 422, of(&wat("(module)"))),
        ("not_a_component", 422, of(b"export default { fetch() {} }")),
        ("component_invalid", 422, of(&good[..good.len() - 100])),
        ("no_http_handler", 422, of(&wat("(component)"))),
        (
            "unknown_import",
            422,
            of(&wat("(component (import \"acme:gpu/gpu@1.0.0\" (instance (export \"run\" (func)))))")),
        ),
        ("upload_too_large", 413, of(&vec![0; 54 << 20])),
        ("invalid_cid", 400, ("Qm".into(), blake3.clone(), car.clone())),
        ("invalid_blake3", 400, (cid.clone(), "12".into(), car.clone())),
    ];
    for (code, status, (cid, blake3, car)) in cases {
        let (found, problem) = send(&server, &function, &cid, &blake3, car).await;
        assert_eq!((found.as_u16(), problem["code"].as_str()), (status, Some(code)), "{problem}");
        assert_eq!(files(&home.data().join("blocks")), Vec::<String>::new(), "{code} left something");
    }
    let named = send(
        &server,
        &function,
        &of(&wat("(component (import \"acme:gpu/gpu@1.0.0\" (instance (export \"run\" (func)))))")).0,
        "",
        vec![],
    )
    .await;
    assert_eq!(named.1["code"], "invalid_blake3");
    assert_eq!(server.get("target", "/").await.status(), 404, "still without code");

    let (status, _) = send(&server, &function, &cid, &blake3, car).await;
    assert_eq!(status, 201, "and the right one is accepted");
    assert!(!files(&home.data().join("blocks")).is_empty());
}

#[tokio::test]
async fn tokens_are_shown_once_expire_and_can_be_revoked() {
    let home = Home::new();
    let server = home.up(&[]);
    let api = |method: reqwest::Method, path: &str, token: &str| {
        http().request(method, format!("{}{path}", server.api)).bearer_auth(token)
    };
    let first = server.token();
    let made = api(reqwest::Method::POST, "/v1/tokens", &first).json(&json!({ "name": "ci" }));
    let made: Value = made.send().await.unwrap().json().await.unwrap();
    let (secret, id) = (made["token"].as_str().unwrap(), made["id"].as_str().unwrap());
    assert!(secret.starts_with("af_live_") && secret.len() == 40, "{secret}");
    let again = api(reqwest::Method::POST, "/v1/tokens", &first).json(&json!({ "name": "ci" }));
    let again: Value = again.send().await.unwrap().json().await.unwrap();
    assert_eq!(again["code"], "DUPLICATE_TOKEN_NAME");
    let listed = api(reqwest::Method::GET, "/v1/tokens", secret).send().await.unwrap();
    assert!(!listed.text().await.unwrap().contains(secret));

    let past =
        api(reqwest::Method::POST, "/v1/tokens", &first).json(&json!({ "name": "old", "expiresAt": 1 }));
    let past: Value = past.send().await.unwrap().json().await.unwrap();
    assert_eq!(past["code"], "invalid_expiry");

    let bare = http().get(format!("{}/v1/me", server.api)).header("authorization", secret);
    assert_eq!(bare.send().await.unwrap().status(), 200, "older clients send the bare token");
    let revoked = api(reqwest::Method::DELETE, &format!("/v1/tokens/{id}"), &first).send().await.unwrap();
    assert_eq!(revoked.status(), 204);
    let refused = api(reqwest::Method::GET, "/v1/me", secret).send().await.unwrap();
    assert_eq!(refused.status(), 401);
}

#[tokio::test]
async fn malformed_requests_get_problem_documents() {
    let home = Home::new();
    let server = home.up(&[]);
    let cases = [
        ("GET", "/nothing", "", 404, "unknown_path"),
        ("PUT", "/v1/projects", "", 405, "method_not_allowed"),
        ("POST", "/v1/projects", "{", 400, "invalid_request"),
        ("POST", "/v1/projects", "{\"name\": \"x\", \"surprise\": 1}", 422, "invalid_request"),
        ("POST", "/v1/projects", "{\"name\": \"\"}", 400, "invalid_project_name"),
        ("GET", "/v1/functions/fn_nothing", "", 404, "not_found"),
        ("GET", "/v1/deployments/dep_nothing", "", 404, "not_found"),
    ];
    for (method, path, body, status, code) in cases {
        let request = http().request(method.parse().unwrap(), format!("{}{path}", server.api));
        let request = request.bearer_auth(server.token()).header("content-type", "application/json");
        let answer = request.body(body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{method} {path}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], code, "{problem}");
    }
    let health = http().get(format!("{}/health", server.api)).send().await.unwrap();
    assert_eq!(health.json::<Value>().await.unwrap()["status"], "ok");
}
