//! Short-lived tokens: what they allow, what is no such token, and what others may ask about any.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use af_control_api::{ApiConfig, SessionConfig};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use ring::{hmac, rand};
use serde_json::{Value, json};
use support::{OWNER, STRANGER, Served};

const SECRET: &str = "a secret that other services have, too";

fn api() -> ApiConfig {
    let sessions = SessionConfig {
        issuer: "https://auth.example.com".into(),
        audience: "functions".into(),
        secret: Some(SECRET.parse().unwrap()),
    };
    ApiConfig { sessions, ..ApiConfig::default() }
}

async fn start() -> Served {
    Served::asked_through(api()).await
}

async fn session(served: &Served, token: &str, body: Value) -> String {
    let (status, made) = served.call("post", "/v1/tokens/session", Some(token), body).await;
    assert_eq!((status, &made["tokenType"]), (201, &json!("Bearer")), "{made}");
    made["token"].as_str().unwrap().to_owned()
}

async fn validate(served: &Served, token: &str) -> Value {
    let (status, said) = served.call("post", "/tokens/validate", None, json!({ "token": token })).await;
    assert_eq!(status, 200, "{said}");
    said
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

fn part(value: &Value) -> String {
    BASE64.encode(value.to_string())
}

fn parts(jwt: &str) -> Vec<Value> {
    let decode = |part| serde_json::from_slice(&BASE64.decode(part).unwrap()).unwrap();
    jwt.split('.').take(2).map(decode).collect()
}

fn hs256(secret: &[u8], header: &Value, claims: &Value) -> String {
    let signed = format!("{}.{}", part(header), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    format!("{signed}.{}", BASE64.encode(hmac::sign(&key, signed.as_bytes())))
}

async fn others_can_check_one_by_the_published_keys() {
    let served = start().await;
    let jwt = session(&served, OWNER, json!({})).await;
    let [header, claims] = <[Value; 2]>::try_from(parts(&jwt)).unwrap();
    assert_eq!((&header["alg"], &claims["aud"]), (&json!("EdDSA"), &json!("functions")));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
    let (status, set) = served.call("get", "/.well-known/jwks.json", None, Value::Null).await;
    assert_eq!(status, 200);
    let key = set["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]).unwrap();
    assert_eq!((&key["kty"], &key["crv"], key.get("d")), (&json!("OKP"), &json!("Ed25519"), None));
    let public = BASE64.decode(key["x"].as_str().unwrap()).unwrap();
    let (signed, signature) = jwt.rsplit_once('.').unwrap();
    let key = UnparsedPublicKey::new(&ED25519, public);
    key.verify(signed.as_bytes(), &BASE64.decode(signature).unwrap()).unwrap();
    let (_, me) = served.call("get", "/v1/me", Some(&jwt), Value::Null).await;
    assert_eq!(me["id"], claims["sub"]);
    let kept = served.stored.rows("select id, sealed from signing_keys").await;
    assert!(Ed25519KeyPair::from_pkcs8(&kept[0].1).is_err(), "sealed");
}

async fn one_may_never_more_than_what_it_was_exchanged_for() {
    let served = start().await;
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let project = projects["data"][0]["id"].as_str().unwrap();
    let body = json!({ "name": "reader", "projectId": project, "scopes": "functions:read projects:read" });
    let (_, made) = served.call("post", "/v1/tokens", Some(OWNER), body).await;
    let reader = made["token"].as_str().unwrap();
    let functions = format!("/v1/projects/{project}/functions");
    let jwt = session(&served, reader, json!({})).await;
    assert_eq!(served.call("get", &functions, Some(&jwt), Value::Null).await.0, 200);
    assert_eq!(served.call("post", &functions, Some(&jwt), json!({ "name": "hello" })).await.0, 403);
    for wider in [json!({ "scopes": "functions:write" }), json!({ "scopes": "*" })] {
        let (status, said) = served.call("post", "/v1/tokens/session", Some(reader), wider).await;
        assert_eq!((status, &said["code"]), (403, &json!("insufficient_scope")));
    }
    let other = json!({ "projectId": "prj_2" });
    assert_eq!(served.call("post", "/v1/tokens/session", Some(reader), other.clone()).await.0, 404);
    assert_eq!(served.call("post", "/v1/tokens/session", Some(OWNER), other).await.0, 404);
    for seconds in [0, 59, 901] {
        let body = json!({ "expiresIn": seconds });
        assert_eq!(served.call("post", "/v1/tokens/session", Some(OWNER), body).await.0, 400);
    }
    // Narrower, and again narrower.
    let jwt = session(&served, OWNER, json!({ "projectId": project })).await;
    assert_eq!(served.call("post", &functions, Some(&jwt), json!({ "name": "hello" })).await.0, 201);
    let jwt = session(&served, &jwt, json!({ "scopes": "functions:read" })).await;
    assert_eq!(served.call("post", &functions, Some(&jwt), json!({ "name": "other" })).await.0, 403);
    assert_eq!(validate(&served, &jwt).await["projectId"], project);
    // It ends with the token that it was exchanged for.
    let jwt = session(&served, reader, json!({ "algorithm": "HS256" })).await;
    assert_eq!(validate(&served, &jwt).await["valid"], true);
    let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(served.call("delete", &path, Some(OWNER), Value::Null).await.0, 204);
    assert_eq!(validate(&served, &jwt).await, json!({ "valid": false, "active": false }));
    assert_eq!(served.call("get", &functions, Some(&jwt), Value::Null).await.0, 401);
}

/// What a service with the shared secret issues, and what nobody may.
async fn what_is_no_such_token_is_refused() {
    let served = start().await;
    let (_, me) = served.call("get", "/v1/me", Some(OWNER), Value::Null).await;
    let eddsa = session(&served, OWNER, json!({})).await;
    let kid = parts(&eddsa)[0]["kid"].clone();
    let (_, set) = served.call("get", "/.well-known/jwks.json", None, Value::Null).await;
    let public = BASE64.decode(set["keys"][0]["x"].as_str().unwrap()).unwrap();
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let good = json!({ "iss": "https://auth.example.com", "aud": ["other", "functions"], "sub": me["id"],
        "iat": now(), "exp": now() + 300 });
    let with = |field: &str, value: Value| {
        let mut claims = good.clone();
        claims[field] = value;
        claims
    };
    let ours = |claims: &Value| hs256(SECRET.as_bytes(), &header, claims);
    let works = async |jwt: &str| {
        let (status, _) = served.call("get", "/v1/projects", Some(jwt), Value::Null).await;
        let valid = validate(&served, jwt).await["valid"] == true;
        assert_eq!(valid, status == 200, "{jwt}");
        assert!(valid || status == 401, "{status} {jwt}");
        valid
    };
    assert!(works(&ours(&good)).await);
    assert!(!works(&ours(&with("exp", json!(now() - 30)))).await, "it ended before it began");
    let skewed = json!({ "iss": good["iss"], "aud": "functions", "sub": me["id"], "iat": now() + 30,
        "nbf": now() + 30, "exp": now() + 90 });
    assert!(works(&ours(&skewed)).await, "clocks differ by half a minute");
    let mut past = skewed.clone();
    (past["iat"], past["nbf"], past["exp"]) = (json!(now() - 300), json!(now() - 300), json!(now() - 30));
    assert!(works(&ours(&past)).await, "clocks differ by half a minute");
    past["exp"] = json!(now() - 90);
    assert!(!works(&ours(&past)).await, "expired");

    for (what, claims) in [
        ("issuer", with("iss", json!("https://evil.example.com"))),
        ("audience", with("aud", json!("other"))),
        ("no audience", with("aud", json!([]))),
        ("user", with("sub", json!("usr_unknown"))),
        ("not yet", with("nbf", json!(now() + 90))),
        ("from the future", with("iat", json!(now() + 90))),
        ("for years", with("exp", json!(now() + 100_000_000))),
        ("for ever", with("exp", json!(i64::MAX))),
        ("no end", with("exp", Value::Null)),
        ("of somebody else's token", with("tid", json!("tok_2"))),
        ("of no token", with("tid", json!("tok_unknown"))),
        ("no scope", with("scope", json!("everything"))),
    ] {
        assert!(!works(&ours(&claims)).await, "{what}");
    }
    let body = part(&good);
    for header in [
        json!({ "alg": "none" }),
        json!({ "alg": "None" }),
        json!({ "alg": "HS512" }),
        json!({ "alg": "RS256" }),
        json!({ "alg": "HS256", "crit": ["exp"] }),
        json!({ "typ": "JWT" }),
    ] {
        assert!(!works(&hs256(SECRET.as_bytes(), &header, &good)).await, "{header}");
        assert!(!works(&format!("{}.{body}.", part(&header))).await, "{header}, not signed");
    }
    // The public key is no shared secret, whatever the token says.
    for header in [json!({ "alg": "HS256", "kid": kid }), json!({ "alg": "EdDSA", "kid": kid })] {
        assert!(!works(&hs256(&public, &header, &good)).await, "confused by {header}");
    }
    assert!(!works(&hs256(SECRET.as_bytes(), &json!({ "alg": "EdDSA", "kid": kid }), &good)).await);
    assert!(!works(&hs256(b"another secret that nobody shares", &header, &good)).await);
    // Somebody else's key, and a changed one.
    let document = Ed25519KeyPair::generate_pkcs8(&rand::SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
    for kid in [kid.clone(), json!("key_unknown"), Value::Null] {
        let signed = format!("{}.{}", part(&json!({ "alg": "EdDSA", "kid": kid })), part(&good));
        let jwt = format!("{signed}.{}", BASE64.encode(pair.sign(signed.as_bytes())));
        assert!(!works(&jwt).await, "{kid}");
    }
    let pieces: Vec<&str> = eddsa.split('.').collect();
    let mut claims = parts(&eddsa)[1].clone();
    claims["exp"] = json!(now() + 3000);
    assert!(!works(&format!("{}.{}.{}", pieces[0], part(&claims), pieces[2])).await, "changed");
    assert!(!works(&format!("{eddsa}=")).await && !works(&format!("{eddsa}.")).await);
    let long = with("sub", json!("x".repeat(10_000)));
    assert!(!works(&ours(&long)).await, "too long");
    // Those of other services are no way to longer ones.
    let (status, _) = served.call("post", "/v1/tokens/session", Some(&ours(&good)), json!({})).await;
    assert_eq!(status, 403);
}

async fn keys_are_replaced_and_the_old_ones_still_work() {
    let served = start().await;
    let first = session(&served, OWNER, json!({})).await;
    let day = 24 * 3600 * 1000_i64;
    served.stored.script(&format!("update signing_keys set created_at = created_at - {}", 8 * day)).await;
    // Another server, which has not read them before.
    let served = served.again(api()).await;
    let second = session(&served, OWNER, json!({})).await;
    let (_, set) = served.call("get", "/.well-known/jwks.json", None, Value::Null).await;
    assert_eq!(set["keys"].as_array().unwrap().len(), 2, "the next one is published");
    let kid = |jwt: &str| parts(jwt)[0]["kid"].clone();
    assert_eq!(kid(&first), kid(&second), "and does not sign before others can know it");
    served.stored.script("update signing_keys set created_at = created_at - 700000").await;
    let served = served.again(api()).await;
    let third = session(&served, OWNER, json!({})).await;
    assert_ne!(kid(&first), kid(&third));
    for jwt in [&first, &second, &third] {
        assert_eq!(validate(&served, jwt).await["valid"], true);
    }
    served.stored.script(&format!("update signing_keys set created_at = created_at - {}", 6 * day)).await;
    let served = served.again(api()).await;
    assert_eq!(validate(&served, &first).await["valid"], false, "its key is too old");
    assert_eq!(validate(&served, &third).await["valid"], true);
}

async fn other_services_may_ask_what_a_token_is_good_for() {
    let served = start().await;
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let project = &projects["data"][0]["id"];
    let path = format!("/v1/projects/{}/keys", project.as_str().unwrap());
    let body = json!({ "name": "ci", "role": "viewer", "expiresAt": (now() + 600) * 1000 });
    let (_, key) = served.call("post", &path, Some(OWNER), body).await;
    let said = validate(&served, key["token"].as_str().unwrap()).await;
    assert_eq!((&said["valid"], &said["active"]), (&json!(true), &json!(true)));
    assert_eq!(
        (&said["projectId"], &said["role"], &said["tokenId"]),
        (project, &json!("viewer"), &key["id"])
    );
    assert_eq!(said["expiresAt"], key["expiresAt"]);
    assert_eq!(said["exp"].as_i64(), key["expiresAt"].as_i64().map(|at| at / 1000));
    for nothing in ["", "af_live_unknown", "eyJ.eyJ.x"] {
        assert_eq!(validate(&served, nothing).await, json!({ "valid": false, "active": false }));
    }
    let form = format!("token={STRANGER}&token_type_hint=access_token").into_bytes();
    let kind = "application/x-www-form-urlencoded";
    let (status, said) = served.upload_as("/api/validate", "", kind, form).await;
    assert_eq!((status, &said["sub"]), (200, &json!("usr_2")), "{said}");
    for body in [json!({}), json!("token"), json!({ "token": 1 })] {
        assert_eq!(served.call("post", "/api/validate", None, body).await.0, 400);
    }
}

on_both!(
    others_can_check_one_by_the_published_keys,
    one_may_never_more_than_what_it_was_exchanged_for,
    what_is_no_such_token_is_refused,
    keys_are_replaced_and_the_old_ones_still_work,
    other_services_may_ask_what_a_token_is_good_for,
);
