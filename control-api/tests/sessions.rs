//! Short-lived tokens: what they allow, what is no such token, and what others may ask about any.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use af_control_api::{ApiConfig, Clock, SessionConfig};
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
    assert_eq!(validate(&served, &jwt).await["exp"], claims["exp"], "as it says itself");
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

/// What a service with the shared secret says of the owner.
async fn claims(served: &Served) -> Value {
    let (_, me) = served.call("get", "/v1/me", Some(OWNER), Value::Null).await;
    json!({ "iss": "https://auth.example.com", "aud": ["other", "functions"], "sub": me["id"], "iat": now(),
        "exp": now() + 300 })
}

fn with(claims: &Value, changes: Value) -> Value {
    let mut claims = claims.clone();
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims
}

async fn works(served: &Served, jwt: &str) -> bool {
    let (status, _) = served.call("get", "/v1/projects", Some(jwt), Value::Null).await;
    let valid = validate(served, jwt).await["valid"] == true;
    assert_eq!(valid, status == 200, "{jwt}");
    assert!(valid || status == 401, "{status} {jwt}");
    valid
}

async fn what_a_token_says_must_be_right() {
    let served = start().await;
    let good = claims(&served).await;
    let ours = |changes: Value| {
        hs256(SECRET.as_bytes(), &json!({ "alg": "HS256", "typ": "JWT" }), &with(&good, changes))
    };
    let at = |iat: i64, exp: i64| json!({ "iat": now() + iat, "nbf": now() + iat, "exp": now() + exp });
    for (what, changes) in [
        ("others' tokens are believed", json!({})),
        ("one audience", json!({ "aud": "functions" })),
        ("a fast clock", at(30, 90)),
        ("a slow clock", at(-300, -30)),
    ] {
        assert!(works(&served, &ours(changes)).await, "{what}");
    }
    for (what, changes) in [
        ("issuer", json!({ "iss": "https://evil.example.com" })),
        ("audience", json!({ "aud": "other" })),
        ("no audience", json!({ "aud": [] })),
        ("user", json!({ "sub": "usr_unknown" })),
        ("not yet", json!({ "nbf": now() + 90 })),
        ("from the future", at(90, 300)),
        ("expired", at(-300, -90)),
        ("ended before it began", json!({ "exp": now() - 30 })),
        ("for years", json!({ "exp": now() + 100_000_000 })),
        ("for ever", json!({ "exp": i64::MAX })),
        ("no end", json!({ "exp": null })),
        ("of somebody else's token", json!({ "tid": "tok_2" })),
        ("of no token", json!({ "tid": "tok_unknown" })),
        ("no scope", json!({ "scope": "everything" })),
        ("too long", json!({ "jti": "x".repeat(10_000) })),
    ] {
        assert!(!works(&served, &ours(changes)).await, "{what}");
    }
    // Those of other services are no way to longer ones.
    let (status, _) = served.call("post", "/v1/tokens/session", Some(&ours(json!({}))), json!({})).await;
    assert_eq!(status, 403);
}

async fn only_the_right_key_signs() {
    let served = start().await;
    let good = claims(&served).await;
    let eddsa = session(&served, OWNER, json!({})).await;
    let kid = parts(&eddsa)[0]["kid"].clone();
    let (_, set) = served.call("get", "/.well-known/jwks.json", None, Value::Null).await;
    let public = BASE64.decode(set["keys"][0]["x"].as_str().unwrap()).unwrap();
    let secret = SECRET.as_bytes();
    assert!(works(&served, &hs256(secret, &json!({ "alg": "HS256" }), &good)).await);
    for header in [
        json!({ "alg": "none" }),
        json!({ "alg": "None" }),
        json!({ "alg": "HS512" }),
        json!({ "alg": "RS256" }),
        json!({ "alg": "HS256", "crit": ["exp"] }),
        json!({ "alg": "EdDSA", "kid": kid }),
        json!({ "typ": "JWT" }),
    ] {
        assert!(!works(&served, &hs256(secret, &header, &good)).await, "{header}");
        let unsigned = format!("{}.{}.", part(&header), part(&good));
        assert!(!works(&served, &unsigned).await, "{header}, not signed");
    }
    // The public key is no shared secret, whatever the token says.
    for header in [json!({ "alg": "HS256", "kid": kid }), json!({ "alg": "EdDSA", "kid": kid })] {
        assert!(!works(&served, &hs256(&public, &header, &good)).await, "confused by {header}");
    }
    let another = b"another secret that nobody shares";
    assert!(!works(&served, &hs256(another, &json!({ "alg": "HS256" }), &good)).await);
    // Somebody else's key, and a changed token.
    let document = Ed25519KeyPair::generate_pkcs8(&rand::SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
    for kid in [kid.clone(), json!("key_unknown"), Value::Null] {
        let signed = format!("{}.{}", part(&json!({ "alg": "EdDSA", "kid": kid })), part(&good));
        let jwt = format!("{signed}.{}", BASE64.encode(pair.sign(signed.as_bytes())));
        assert!(!works(&served, &jwt).await, "{kid}");
    }
    let pieces: Vec<&str> = eddsa.split('.').collect();
    let longer = with(&parts(&eddsa)[1], json!({ "exp": now() + 3000 }));
    assert!(!works(&served, &format!("{}.{}.{}", pieces[0], part(&longer), pieces[2])).await, "changed");
    assert!(works(&served, &eddsa).await);
    assert!(!works(&served, &format!("{eddsa}=")).await && !works(&served, &format!("{eddsa}.")).await);
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

async fn one_gives_nothing_that_outlives_it() {
    let served = start().await;
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let keys = format!("/v1/projects/{}/keys", projects["data"][0]["id"].as_str().unwrap());
    let (_, made) = served.call("post", "/v1/tokens", Some(OWNER), json!({ "name": "ci" })).await;
    let rotate = format!("/v1/tokens/{}/rotate", made["id"].as_str().unwrap());
    let jwt = session(&served, OWNER, json!({ "expiresIn": 60 })).await;
    let again = session(&served, &jwt, json!({ "expiresIn": 900 })).await;
    assert_eq!(parts(&again)[1]["exp"], parts(&jwt)[1]["exp"]);
    for jwt in [&jwt, &again] {
        for (path, body) in
            [("/v1/tokens", json!({ "name": "a" })), (&keys, json!({ "name": "b" })), (&rotate, json!({}))]
        {
            let (status, said) = served.call("post", path, Some(jwt), body).await;
            assert_eq!((status, &said["code"]), (403, &json!("insufficient_scope")), "{path}");
        }
    }
    // Whom another service has signed in has nothing else to show.
    let foreign = hs256(SECRET.as_bytes(), &json!({ "alg": "HS256" }), &claims(&served).await);
    assert_eq!(served.call("post", "/v1/tokens", Some(&foreign), json!({ "name": "a" })).await.0, 201);
}

async fn one_ends_with_the_secret_that_it_was_exchanged_for() {
    let served = start().await;
    let (_, made) = served.call("post", "/v1/tokens", Some(OWNER), json!({ "name": "ci" })).await;
    let path = format!("/v1/tokens/{}/rotate", made["id"].as_str().unwrap());
    let rotate = async |served: &Served, seconds: i64| {
        let body = json!({ "overlapSeconds": seconds });
        let (_, rotated) = served.call("post", &path, Some(OWNER), body).await;
        rotated["token"].as_str().unwrap().to_owned()
    };
    let first = made["token"].as_str().unwrap();
    let of_first = session(&served, first, json!({})).await;
    let second = rotate(&served, 0).await;
    assert!(!works(&served, &of_first).await);
    let of_second = session(&served, &second, json!({})).await;
    let third = rotate(&served, 3600).await;
    // The second one works still, and so does what is exchanged for it.
    let also = session(&served, &second, json!({})).await;
    let also = session(&served, &also, json!({})).await;
    let of_third = session(&served, &third, json!({})).await;
    for jwt in [&of_second, &also, &of_third] {
        assert!(works(&served, jwt).await);
    }
    served.stored.script("update tokens set previous_until = 1 where previous_until is not null").await;
    let served = served.again(api()).await;
    for (jwt, still) in [(&of_second, false), (&also, false), (&of_third, true)] {
        assert_eq!(works(&served, jwt).await, still);
    }
}

async fn no_key_signs_what_outlives_it() {
    let served = start().await;
    let first = session(&served, OWNER, json!({})).await;
    // Nothing was signed for almost two weeks: there is no next one yet.
    let time = (14 * 24 * 3600 - 600) * 1000_i64;
    served.stored.script(&format!("update signing_keys set created_at = created_at - {time}")).await;
    let served = served.again(api()).await;
    let second = session(&served, OWNER, json!({})).await;
    assert_ne!(parts(&first)[0]["kid"], parts(&second)[0]["kid"]);
    served.stored.script("update signing_keys set created_at = created_at - 800000").await;
    let served = served.again(api()).await;
    assert!(works(&served, &second).await);
}

async fn who_asks_about_bad_tokens_is_not_taken_for_who_showed_them() {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let served = Served::asked_through(ApiConfig { trusted_proxies, ..api() }).await;
    let from = [("x-forwarded-for", "198.51.100.7")];
    let ask = async |number: usize, token: Option<&str>| {
        let body = json!({ "token": format!("af_live_{number}") });
        served.answer("post", "/tokens/validate", token, &from, body).await.status().as_u16()
    };
    for number in 0..30 {
        assert_eq!(ask(number, None).await, 200, "{number}");
    }
    assert_eq!(ask(30, None).await, 429, "nor may anybody guess here");
    for number in 0..40 {
        assert_eq!(ask(number, Some(OWNER)).await, 200, "a service says who it is");
    }
    assert_eq!(served.answer("get", "/v1/me", Some(OWNER), &from, Value::Null).await.status(), 200);
}

/// What a subscription tells until it ends by itself, or until it has told this.
async fn watched(events: &mut reqwest::Response, until: &str) -> String {
    let mut told = String::new();
    while !told.contains(until) {
        let Some(chunk) = events.chunk().await.unwrap() else { break };
        told.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    told
}

/// A deployment that failed, as this server builds nothing, and what subscribes to its status.
async fn subscription(served: &Served) -> Value {
    let form = "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"function.js\"\r\n\r\nexport const main = () => 'hello';\r\n--x--\r\n";
    let kind = "multipart/form-data; boundary=x";
    let (_, stored) = served.upload_as("/upload/private", OWNER, kind, form.into()).await;
    let graphql = async |query: &str| {
        let (status, told) = served.call("post", "/graphql", Some(OWNER), json!({ "query": query })).await;
        assert_eq!((status, &told["errors"]), (200, &Value::Null), "{told}");
        told["data"].clone()
    };
    let made = graphql("mutation { createFleekFunction(data: { name: \"hello\" }) { id } }").await;
    let (function, cid) = (&made["createFleekFunction"]["id"], &stored["cid"]);
    let trigger = format!(
        "mutation {{ triggerFleekFunctionDeployment(where: {{ functionId: {function}, cid: {cid} }}, data: {{}}) {{ id }} }}"
    );
    let id = &graphql(&trigger).await["triggerFleekFunctionDeployment"]["id"];
    json!({ "query": format!("subscription {{ deploymentStatus(deploymentId: {id}) {{ status reason }} }}") })
}

const EVENTS: [(&str, &str); 1] = [("accept", "text/event-stream")];

async fn subscriptions_are_as_good_as_their_tokens() {
    let served = start().await;
    let query = subscription(&served).await;
    let foreign = hs256(SECRET.as_bytes(), &json!({ "alg": "HS256" }), &claims(&served).await);
    let mut open = served.answer("post", "/graphql", Some(&foreign), &EVENTS, query.clone()).await;
    let told = watched(&mut open, "\n\n").await;
    assert!(told.contains("FAILED") && !told.contains("errors"), "{told}");

    let (_, made) = served.call("post", "/v1/tokens", Some(OWNER), json!({ "name": "ci" })).await;
    let jwt = session(&served, made["token"].as_str().unwrap(), json!({})).await;
    let mut open = served.answer("post", "/graphql", Some(&jwt), &EVENTS, query).await;
    assert!(watched(&mut open, "FAILED").await.contains("FAILED"));
    let path = format!("/v1/tokens/{}/rotate", made["id"].as_str().unwrap());
    served.call("post", &path, Some(OWNER), json!({})).await;
    let told = watched(&mut open, "event: complete").await;
    assert!(told.contains("errors"), "{told}");
}

async fn a_subscription_ends_when_its_short_lived_token_does() {
    let start = now() * 1000;
    let (clock, hand) = tokio::sync::watch::channel(start);
    let served = Served::changed(|config| {
        config.api = api();
        config.clock = Clock::Manual(hand);
    })
    .await;
    let query = subscription(&served).await;
    // It works for five minutes, and clocks may differ by one.
    let jwt = hs256(SECRET.as_bytes(), &json!({ "alg": "HS256" }), &claims(&served).await);
    let mut open = served.answer("post", "/graphql", Some(&jwt), &EVENTS, query).await;
    assert!(watched(&mut open, "\n\n").await.contains("FAILED"));
    // Whatever is committed makes it look again.
    let (_, page) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let path = format!("/v1/projects/{}/functions", page["data"][0]["id"].as_str().unwrap());
    let wake = async |name: &str| {
        assert_eq!(served.call("post", &path, Some(OWNER), json!({ "name": name })).await.0, 201);
    };

    clock.send_replace(start + 350_000);
    served.stored.script("update builds set reason = 'still told'").await;
    wake("one").await;
    let told = watched(&mut open, "\n\n").await;
    assert!(told.contains("still told") && !told.contains("errors"), "{told}");

    clock.send_replace(start + 400_000);
    wake("two").await;
    let told = watched(&mut open, "event: complete").await;
    assert!(told.contains("errors"), "{told}");
}

on_both!(
    one_gives_nothing_that_outlives_it,
    one_ends_with_the_secret_that_it_was_exchanged_for,
    no_key_signs_what_outlives_it,
    who_asks_about_bad_tokens_is_not_taken_for_who_showed_them,
    subscriptions_are_as_good_as_their_tokens,
    a_subscription_ends_when_its_short_lived_token_does,
    others_can_check_one_by_the_published_keys,
    one_may_never_more_than_what_it_was_exchanged_for,
    what_a_token_says_must_be_right,
    only_the_right_key_signs,
    keys_are_replaced_and_the_old_ones_still_work,
    other_services_may_ask_what_a_token_is_good_for,
);
