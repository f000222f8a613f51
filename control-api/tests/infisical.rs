//! The Infisical client against a server that answers as the published API says (Universal Auth, secrets version 4).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use af_control_api::MasterKey;
use af_control_api::providers::{Infisical, InfisicalConfig, ProviderError, SecretProvider, master_key};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const CLIENT_SECRET: &str = "client secret of the machine identity";
const TOKEN: &str = "access.token.of-the-machine-identity";

#[derive(Clone, Default)]
struct Fake {
    /// By project, environment, path and name.
    secrets: Arc<HashMap<[&'static str; 4], &'static str>>,
    /// Instead of what is right.
    answer: Arc<Mutex<Option<(StatusCode, Value)>>>,
}

fn problem(status: StatusCode, message: &str) -> (StatusCode, Json<Value>) {
    let body =
        json!({ "reqId": "req-1", "statusCode": status.as_u16(), "message": message, "error": "Error" });
    (status, Json(body))
}

async fn login(Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    if body != json!({ "clientId": "machine", "clientSecret": CLIENT_SECRET }) {
        // Servers that repeat what they were sent must not put it into our errors.
        return problem(StatusCode::UNAUTHORIZED, &format!("Invalid credentials {body}"));
    }
    let body =
        json!({ "accessToken": TOKEN, "expiresIn": 7200, "accessTokenMaxTTL": 43244, "tokenType": "Bearer" });
    (StatusCode::OK, Json(body))
}

async fn secret(
    State(fake): State<Fake>,
    Path(name): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> (StatusCode, Json<Value>) {
    if let Some((status, body)) = fake.answer.lock().unwrap().clone() {
        return (status, Json(body));
    }
    if headers.get("authorization").unwrap() != &format!("Bearer {TOKEN}") {
        return problem(StatusCode::FORBIDDEN, "You are not allowed to access this resource");
    }
    let asked = [&query["projectId"], &query["environment"], &query["secretPath"], &name];
    let found =
        fake.secrets.iter().find(|(place, _)| place.iter().zip(asked).all(|(one, other)| one == other));
    match found {
        Some((_, value)) => (
            StatusCode::OK,
            Json(
                json!({ "secret": { "id": "1", "version": 1, "type": "shared", "environment": query["environment"],
                "secretPath": query["secretPath"], "secretKey": name, "secretValue": value, "secretComment": "" } }),
            ),
        ),
        None => problem(StatusCode::NOT_FOUND, &format!("Secret with name '{name}' not found")),
    }
}

async fn serve(router: Router) -> url::Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn fake() -> (Fake, url::Url) {
    let old = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
    let new = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20";
    let secrets = [
        (["p1", "prod", "/", "AF_MASTER_KEY"], new),
        (["p1", "prod", "/rotating", "AF_MASTER_KEY"], new),
        (["p1", "prod", "/rotating", "AF_MASTER_KEY_PREVIOUS"], old),
        (["p1", "dev", "/", "AF_MASTER_KEY"], "no key, but a secret"),
        (["p1", "prod", "/", "with/slash?"], "odd"),
    ];
    let fake = Fake { secrets: Arc::new(secrets.into()), ..Fake::default() };
    let router = Router::new()
        .route("/api/v1/auth/universal-auth/login", post(login))
        .route("/api/v4/secrets/{name}", get(secret))
        .with_state(fake.clone());
    (fake, serve(router).await)
}

fn client(url: &url::Url, environment: &str, path: &str, secret: &str) -> Infisical {
    let config = InfisicalConfig {
        url: url.clone(),
        project: "p1".into(),
        environment: environment.into(),
        path: path.into(),
        client_id: "machine".into(),
        client_secret: secret.to_owned().into(),
    };
    Infisical::new(config).unwrap()
}

#[tokio::test]
async fn the_key_and_the_one_before_are_got_by_their_names() {
    let (_, url) = fake().await;
    let key = master_key(&client(&url, "prod", "/", CLIENT_SECRET), "AF_MASTER_KEY").await.unwrap();
    assert!(matches!(key, MasterKey::Given { previous: None, .. }), "{key:?}");
    let key = master_key(&client(&url, "prod", "/rotating", CLIENT_SECRET), "AF_MASTER_KEY").await.unwrap();
    assert!(matches!(key, MasterKey::Given { previous: Some(_), .. }), "{key:?}");
    let odd = client(&url, "prod", "/", CLIENT_SECRET).secret("with/slash?").await.unwrap();
    assert_eq!(odd.as_deref().map(String::as_str), Some("odd"));
}

#[tokio::test]
async fn errors_say_what_to_do_and_have_no_secret() {
    let (fake, url) = fake().await;
    let error = async |environment: &str, secret: &str| {
        let client = client(&url, environment, "/", secret);
        let error = master_key(&client, "AF_MASTER_KEY").await.unwrap_err();
        let shown = format!("{error} {error:?} {client:?}");
        for secret in [CLIENT_SECRET, TOKEN, "no key, but a secret", "hunter2"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        error
    };
    let said = error("prod", "hunter2").await;
    assert!(matches!(said, ProviderError::Refused { what: "a login", status: 401, .. }), "{said}");
    let said = error("staging", CLIENT_SECRET).await;
    assert!(matches!(&said, ProviderError::Missing(name) if name == "AF_MASTER_KEY"), "{said}");
    assert!(matches!(error("dev", CLIENT_SECRET).await, ProviderError::Key { .. }));
    for (status, body, refused) in [
        (StatusCode::FORBIDDEN, json!({ "message": "hunter2" }), Some(403)),
        (StatusCode::TOO_MANY_REQUESTS, json!({ "message": "hunter2" }), Some(429)),
        (StatusCode::OK, json!({ "secret": { "secretValue": { "hunter2": "hunter2" } } }), None),
        (StatusCode::OK, json!("hunter2".repeat(100_000)), None),
    ] {
        *fake.answer.lock().unwrap() = Some((status, body));
        match error("prod", CLIENT_SECRET).await {
            ProviderError::Refused { status, .. } => assert_eq!(Some(status), refused),
            ProviderError::Answer { .. } => assert_eq!(refused, None),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_or_sends_elsewhere_gets_nothing() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: url::Url = format!("http://{}", closed.local_addr().unwrap()).parse().unwrap();
    drop(closed);
    let error = client(&url, "prod", "/", CLIENT_SECRET).secret("A").await.unwrap_err();
    assert!(matches!(error, ProviderError::Unreachable { .. }), "{error}");

    let (_, other) = fake().await;
    let target = format!("{other}api/v1/auth/universal-auth/login");
    let redirect = move || {
        let target = target.clone();
        async move { axum::response::Redirect::temporary(&target) }
    };
    let url = serve(Router::new().route("/api/v1/auth/universal-auth/login", post(redirect))).await;
    let error = client(&url, "prod", "/", CLIENT_SECRET).secret("A").await.unwrap_err();
    assert!(matches!(error, ProviderError::Refused { status: 307, .. }), "{error}");
}
