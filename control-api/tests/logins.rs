//! Terminals that ask to be signed in, and who may approve them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_control_api::Clock;
use serde_json::{Value, json};
use support::{OWNER, STRANGER, Served};
use tokio::sync::watch;

const START: &str = "/auth/cli/start";
const POLL: &str = "/auth/cli/poll";
const APPROVE: &str = "/auth/cli/approve";

/// Any moment.
const NOON: i64 = 1_800_000_000_000;
const SECOND: i64 = 1_000;

async fn start(served: &Served, body: Value) -> Value {
    let (status, started) = served.call("post", START, None, body).await;
    assert_eq!(status, 200, "{started}");
    started
}

fn poll_of(started: &Value) -> Value {
    json!({ "verificationSessionId": started["verificationSessionId"], "pollSecret": started["pollSecret"] })
}

async fn poll(served: &Served, started: &Value) -> (u16, Value) {
    served.call("post", POLL, None, poll_of(started)).await
}

async fn approve(served: &Served, token: Option<&str>, body: Value) -> (u16, Value) {
    served.call("post", APPROVE, token, body).await
}

fn by_session(started: &Value) -> Value {
    json!({ "verificationSessionId": started["verificationSessionId"] })
}

/// The one thing that is said of whatever is not there, not one's own, or over.
fn says_nothing((status, said): (u16, Value)) {
    assert_eq!((status, &said["code"]), (400, &json!("invalid_login")), "{said}");
    assert!(said["detail"].as_str().unwrap().contains("unknown, used or too old"), "{said}");
}

async fn me(served: &Served, token: &str) -> Value {
    served.call("get", "/v1/me", Some(token), Value::Null).await.1
}

async fn graphql(served: &Served, token: Option<&str>, query: &str, id: &str) -> Value {
    let body = json!({ "query": query, "variables": { "id": id } });
    served.call("post", "/graphql", token, body).await.1
}

async fn a_terminal_gets_a_token_of_whoever_approves_it_once() {
    let served = Served::start().await;
    let started = start(&served, json!({ "name": "CLI Login" })).await;
    assert_eq!((&started["expiresIn"], &started["interval"]), (&json!(600), &json!(2)));
    let session = started["verificationSessionId"].as_str().unwrap();
    let url = started["verificationUrl"].as_str().unwrap();
    assert!(url.starts_with("http://127.0.0.1:") && url.ends_with(&format!("/login/{session}")), "{url}");
    assert_eq!(poll(&served, &started).await, (202, json!({ "status": "pending" })));

    let (status, approved) = approve(&served, Some(OWNER), by_session(&started)).await;
    assert_eq!((status, &approved["userCode"]), (200, &started["userCode"]), "{approved}");
    assert_eq!((&approved["name"], &approved["address"]), (&json!("CLI Login"), &json!("127.0.0.1")));
    // A second time changes nothing; somebody else is too late.
    assert_eq!(approve(&served, Some(OWNER), by_session(&started)).await.0, 200);
    says_nothing(approve(&served, Some(STRANGER), by_session(&started)).await);

    let served = served.restart().await;
    let (status, signed_in) = poll(&served, &started).await;
    assert_eq!((status, &signed_in["success"]), (200, &json!(true)), "{signed_in}");
    let token = signed_in["token"].as_str().unwrap();
    assert_eq!(me(&served, token).await["id"], me(&served, OWNER).await["id"]);
    says_nothing(poll(&served, &started).await);
    says_nothing(approve(&served, Some(OWNER), by_session(&started)).await);

    // It may all that they may, for 30 days; a second terminal of that name gets one of its own name.
    let again = start(&served, json!({ "name": "CLI Login" })).await;
    let code = again["userCode"].as_str().unwrap();
    let typed = json!({ "userCode": code.to_lowercase().replace('-', " ") });
    assert_eq!(approve(&served, Some(token), typed).await.0, 200);
    let (one, two, three) = tokio::join!(poll(&served, &again), poll(&served, &again), poll(&served, &again));
    let mut statuses = [one.0, two.0, three.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400, 400], "at once is twice, too");
    let (_, tokens) = served.call("get", "/v1/tokens", Some(OWNER), Value::Null).await;
    let tokens: Vec<&Value> = tokens["data"].as_array().unwrap().iter().skip(1).collect();
    assert_eq!(tokens[0]["name"], "CLI Login");
    assert_eq!(tokens[1]["name"], json!(format!("CLI Login {code}")));
    for made in tokens {
        let life = made["expiresAt"].as_i64().unwrap() - made["createdAt"].as_i64().unwrap();
        assert!((0..=30 * 24 * 3600 * SECOND).contains(&life) && life > 29 * 24 * 3600 * SECOND, "{made}");
        assert_eq!((&made["scopes"], &made["projectId"]), (&Value::Null, &Value::Null));
    }
}

async fn nobody_gets_in_by_what_is_not_theirs() {
    let served = Served::start().await;
    let started = start(&served, json!({})).await;
    let other = start(&served, json!({})).await;
    let session = &started["verificationSessionId"];
    // The secret of another one, the public name as the secret, and none.
    for secret in [&other["pollSecret"], session, &json!("")] {
        let body = json!({ "verificationSessionId": session, "pollSecret": secret });
        says_nothing(served.call("post", POLL, None, body).await);
    }
    let unknown = json!({ "verificationSessionId": "x".repeat(32), "pollSecret": started["pollSecret"] });
    says_nothing(served.call("post", POLL, None, unknown).await);
    let fleeks = "mutation($id: ID!) { createPersonalAccessTokenFromVerificationSession(where: { id: $id }, data: {}) }";
    let said = graphql(&served, None, fleeks, session.as_str().unwrap()).await;
    assert_eq!(said["errors"][0]["extensions"]["code"], "invalid_login", "{said}");

    // Who approves is signed in, with a token that may all that the terminal's will.
    assert_eq!(approve(&served, None, by_session(&started)).await.0, 401);
    assert_eq!(approve(&served, Some("af_live_none"), by_session(&started)).await.0, 401);
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let project = projects["data"][0]["id"].as_str().unwrap();
    let narrow = [
        json!({ "name": "one", "projectId": project }),
        json!({ "name": "two", "scopes": "tokens:write" }),
        json!({ "name": "three", "scopes": "functions:*" }),
    ];
    for wanted in narrow {
        let (_, made) = served.call("post", "/v1/tokens", Some(OWNER), wanted).await;
        let (status, said) = approve(&served, made["token"].as_str(), by_session(&started)).await;
        assert_eq!((status, &said["code"]), (403, &json!("insufficient_scope")), "{said}");
    }
    let keys = format!("/v1/projects/{project}/keys");
    let key = served.call("post", &keys, Some(OWNER), json!({ "name": "ci", "role": "admin" })).await.1;
    assert_eq!(approve(&served, key["token"].as_str(), by_session(&started)).await.0, 403);
    let short = json!({ "scopes": "tokens:write" });
    let (_, short) = served.call("post", "/v1/tokens/session", Some(OWNER), short).await;
    assert_eq!(approve(&served, short["token"].as_str(), by_session(&started)).await.0, 403);

    // Nor is it said what would be wrong with which of them.
    says_nothing(approve(&served, Some(OWNER), json!({ "userCode": "BCDF-GHJK" })).await);
    says_nothing(approve(&served, Some(OWNER), json!({ "verificationSessionId": "y" })).await);
    for both in [json!({}), json!({ "userCode": started["userCode"], "verificationSessionId": session })] {
        assert_eq!(approve(&served, Some(OWNER), both).await.0, 400);
    }
    assert_eq!(poll(&served, &started).await.0, 202, "it still waits");
}

async fn what_is_kept_is_no_secret_and_goes_with_the_token_that_approved() {
    let served = Served::start().await;
    let started = start(&served, json!({})).await;
    let (_, made) = served.call("post", "/v1/tokens", Some(OWNER), json!({ "name": "mine" })).await;
    assert_eq!(approve(&served, made["token"].as_str(), by_session(&started)).await.0, 200);
    let rows = served.stored.rows("select code || name, secret_hash || session_hash from logins").await;
    let (text, hashes) = &rows[0];
    for secret in ["pollSecret", "verificationSessionId"] {
        let secret = started[secret].as_str().unwrap();
        let has = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!has(text.as_bytes()) && !has(hashes));
    }
    assert_eq!(hashes.len(), 64);
    // Whose token was taken and is deleted in time loses nothing more.
    let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(served.call("delete", &path, Some(OWNER), Value::Null).await.0, 204);
    says_nothing(poll(&served, &started).await);
    let (_, tokens) = served.call("get", "/v1/tokens", Some(OWNER), Value::Null).await;
    assert_eq!(tokens["data"].as_array().unwrap().len(), 1);
}

async fn after_ten_minutes_it_is_over() {
    let (clock, _) = watch::channel(NOON);
    let hand = clock.subscribe();
    let served = Served::changed(|config| config.clock = Clock::Manual(hand)).await;
    let (early, late) = (start(&served, json!({})).await, start(&served, json!({})).await);
    assert_eq!(approve(&served, Some(OWNER), by_session(&early)).await.0, 200);
    clock.send_replace(NOON + 599 * SECOND);
    assert_eq!(poll(&served, &late).await.0, 202);
    assert_eq!(poll(&served, &early).await.0, 200);
    clock.send_replace(NOON + 600 * SECOND);
    says_nothing(poll(&served, &late).await);
    says_nothing(approve(&served, Some(OWNER), by_session(&late)).await);
    says_nothing(approve(&served, Some(OWNER), json!({ "userCode": late["userCode"] })).await);

    // An approval is over with it, too.
    let third = start(&served, json!({})).await;
    assert_eq!(approve(&served, Some(OWNER), by_session(&third)).await.0, 200);
    clock.send_replace(NOON + 1200 * SECOND);
    says_nothing(poll(&served, &third).await);
    let rows = "select id, session_hash from logins";
    assert_eq!(served.stored.rows(rows).await.len(), 3);
    clock.send_replace(NOON + 2399 * SECOND);
    start(&served, json!({})).await;
    assert_eq!(served.stored.rows(rows).await.len(), 1 + 1, "what is over is forgotten after a while");
}

async fn one_address_asks_so_often_only() {
    let trusted = vec!["127.0.0.0/8".parse().unwrap()];
    let served = Served::changed(|config| config.api.trusted_proxies = trusted).await;
    let from = async |address: &str| {
        let answer = served.answer("post", START, None, &[("x-forwarded-for", address)], json!({})).await;
        (answer.status().as_u16(), answer.headers().get("retry-after").cloned())
    };
    for _ in 0..50 {
        assert_eq!(from("192.0.2.1").await.0, 200);
    }
    assert_eq!(from("192.0.2.1").await, (429, Some("1800".parse().unwrap())));
    assert_eq!(from("192.0.2.2").await.0, 200);
    // And guesses as often as it may show tokens that are none.
    let mut last = 0;
    for _ in 0..40 {
        let guess = json!({ "verificationSessionId": "x".repeat(32), "pollSecret": "x" });
        last = served
            .answer("post", POLL, None, &[("x-forwarded-for", "192.0.2.3")], guess)
            .await
            .status()
            .as_u16();
    }
    assert_eq!(last, 429);
}

async fn whoever_is_refused_takes_no_turn_to_write() {
    let trusted = vec!["127.0.0.0/8".parse().unwrap()];
    let served = Served::changed(|config| config.api.trusted_proxies = trusted).await;
    let from = [("x-forwarded-for", "192.0.2.1")];
    let ask = async || served.answer("post", START, None, &from, json!({})).await;
    for _ in 0..50 {
        assert_eq!(ask().await.status(), 200);
    }
    let held = served.stored.hold().await;
    let refused = ask().await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "too_many_logins");
    // Nor does it go on asking the database.
    let mut codes = Vec::new();
    while codes.last() != Some(&json!("rate_limit_exceeded")) {
        assert!(codes.len() < 100, "{codes:?}");
        codes.push(ask().await.json::<Value>().await.unwrap()["code"].clone());
    }
    drop(held);
}

async fn many_networks_of_one_prefix_keep_nobody_out() {
    let trusted = vec!["127.0.0.0/8".parse().unwrap()];
    let served = Served::changed(|config| config.api.trusted_proxies = trusted).await;
    let from = async |address: &str| {
        let answer = served.answer("post", START, None, &[("x-forwarded-for", address)], json!({})).await;
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap())
    };
    // As if 500 networks of 64 bits had asked.
    let now = if served.stored.is_postgres() {
        "(extract(epoch from now())::bigint * 1000)"
    } else {
        "(unixepoch() * 1000)"
    };
    let bytes = if served.stored.is_postgres() { "convert_to(n::text, 'UTF8')" } else { "cast(n as blob)" };
    let rows = async |table: &str, to: u32, prefix: &str, approver: &str| {
        let fill = format!(
            "insert into logins (id, session_hash, secret_hash, code, name, network, prefix, user_id, created_at, expires_at)
            select 'lgn_{table}' || n, {bytes}, {bytes}, '{table}' || n, 'x', 'net' || n, {prefix}, {approver}, {now} - n, {now} + 600000
            from (with recursive counted(n) as (select 1 union all select n + 1 from counted where n < {to})
                select n from counted) numbers"
        );
        served.stored.script(&fill).await;
    };
    rows("A", 500, "'2001:db8:1::'", "null").await;
    assert_eq!(from("2001:db8:1:77::1").await.1["code"], "too_many_logins");
    assert_eq!(from("2001:db8:2:77::1").await.0, 200);

    // When there are as many as there may be, the one goes that nobody has approved and that waits longest.
    served.stored.script("delete from logins").await;
    rows("B", 9_999, "null", "null").await;
    let oldest = "update logins set user_id = 'usr_2' where id = 'lgn_B9999'";
    served.stored.script(oldest).await;
    let (status, kept) = from("2001:db8:3::1").await;
    assert_eq!(status, 200);
    assert_eq!(from("2001:db8:4::1").await.0, 200);
    let rows = "select id, session_hash from logins";
    assert_eq!(served.stored.rows(rows).await.len(), 10_000);
    let gone = format!("{rows} where id in ('lgn_B9999', 'lgn_B9998', 'lgn_B9997') order by id");
    let left: Vec<String> = served.stored.rows(&gone).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, ["lgn_B9997", "lgn_B9999"]);
    assert_eq!(poll(&served, &kept).await.0, 202);
    // Only those count that wait or may come for their token.
    served
        .stored
        .script("update logins set created_at = created_at - 900000, expires_at = expires_at - 900000")
        .await;
    assert_eq!(from("2001:db8:5::1").await.0, 200);
    assert_eq!(served.stored.rows(rows).await.len(), 10_001);
}

async fn names_and_lives_are_those_of_tokens() {
    let served = Served::start().await;
    for name in ["", "a/b", "<b>", &"x".repeat(101)] {
        let (status, said) = served.call("post", START, None, json!({ "name": name })).await;
        assert_eq!((status, &said["code"]), (400, &json!("INVALID_TOKEN_NAME")), "{name}");
    }
    let started = start(&served, json!({})).await;
    let with = |name: &str, value: Value| {
        let mut body = by_session(&started);
        body[name] = value;
        body
    };
    assert_eq!(approve(&served, Some(OWNER), with("expiresAt", json!(1))).await.1["code"], "invalid_expiry");
    assert_eq!(
        approve(&served, Some(OWNER), with("name", json!("a/b"))).await.1["code"],
        "INVALID_TOKEN_NAME"
    );
    assert_eq!(approve(&served, Some(OWNER), with("name", json!("my laptop"))).await.0, 200);
    let token = poll(&served, &started).await.1["token"].as_str().unwrap().to_owned();
    let (_, tokens) = served.call("get", "/v1/tokens", Some(&token), Value::Null).await;
    assert_eq!(tokens["data"][1]["name"], "my laptop");
    // A user with no token left to make approves none.
    let started = start(&served, json!({})).await;
    let full =
        "update users set tokens_day = (select extract(epoch from now())::bigint / 86400), tokens_made = 50";
    let full = if served.stored.is_postgres() {
        full.to_owned()
    } else {
        "update users set tokens_day = unixepoch() / 86400, tokens_made = 50".to_owned()
    };
    served.stored.script(&full).await;
    let (status, said) = approve(&served, Some(OWNER), by_session(&started)).await;
    assert_eq!((status, &said["code"]), (429, &json!("RATE_LIMIT_EXCEEDED")), "{said}");
}

async fn fleeks_client_names_its_session_itself() {
    let (clock, _) = watch::channel(NOON);
    let hand = clock.subscribe();
    let served = Served::changed(|config| config.clock = Clock::Manual(hand)).await;
    let ask = "mutation($id: ID!) { token: createPersonalAccessTokenFromVerificationSession(where: { id: $id }, data: { name: \"laptop\" }) }";
    let open = "mutation($id: ID!) { createLoginVerificationSession(where: { id: $id }) }";
    let code = |said: &Value| said["errors"][0]["extensions"]["code"].as_str().unwrap_or_default().to_owned();
    let id = "0123456789abcdef0123456789abcdef";
    assert_eq!(code(&graphql(&served, Some(OWNER), open, id).await), "invalid_login", "nobody asks");
    for _ in 0..2 {
        assert_eq!(graphql(&served, None, ask, id).await, json!({ "data": { "token": null } }));
    }
    assert_eq!(code(&graphql(&served, None, open, id).await), "unauthenticated");
    let opened = graphql(&served, Some(OWNER), open, id).await;
    assert_eq!(opened["data"]["createLoginVerificationSession"], true, "{opened}");
    let said = graphql(&served, None, ask, id).await;
    let token = said["data"]["token"].as_str().unwrap();
    assert_eq!(me(&served, token).await["id"], me(&served, OWNER).await["id"]);
    let (_, tokens) = served.call("get", "/v1/tokens", Some(OWNER), Value::Null).await;
    assert_eq!(tokens["data"][1]["name"], "laptop");
    // It comes back for 17 minutes, and neither gets another token nor begins another session.
    for seconds in [1, 599, 601, 1000] {
        clock.send_replace(NOON + seconds * SECOND);
        assert_eq!(code(&graphql(&served, None, ask, id).await), "invalid_login");
        assert_eq!(code(&graphql(&served, Some(OWNER), open, id).await), "invalid_login");
    }
    for bad in ["", "short", "0123456789abcdef 123456789abcdef", &"x".repeat(129)] {
        assert_eq!(code(&graphql(&served, None, ask, bad).await), "invalid_login", "{bad}");
    }
}

/// A form of the page; the whole answer as text.
async fn submit(served: &Served, path: &str, form: &str, site: Option<&str>) -> (u16, String) {
    let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
    headers.extend(site.map(|site| ("sec-fetch-site", site)));
    let answer = served.post_form(path, &headers, form).await;
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn a_page_shows_what_asks_and_takes_a_token() {
    let trusted = vec!["127.0.0.0/8".parse().unwrap()];
    let served = Served::changed(|config| config.api.trusted_proxies = trusted).await;
    let terminal = [("x-forwarded-for", "192.0.2.1")];
    let started = served.answer("post", START, None, &terminal, json!({ "name": "laptop" })).await;
    let started: Value = started.json().await.unwrap();
    let path = format!("/login/{}", started["verificationSessionId"].as_str().unwrap());
    let page = served.answer("get", &path, None, &terminal, Value::Null).await;
    let header = |name: &str| page.headers()[name].to_str().unwrap().to_owned();
    let policy = header("content-security-policy");
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("script"), "{policy}");
    assert!(policy.contains("form-action 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!((header("cache-control"), header("x-frame-options")), ("no-store".into(), "DENY".into()));
    assert!(header("content-type").starts_with("text/html") && header("referrer-policy") == "no-referrer");
    assert!(!page.headers().contains_key("set-cookie"));
    let text = page.text().await.unwrap();
    let code = started["userCode"].as_str().unwrap();
    for shown in [code, "laptop", "192.0.2.1, as this browser does", "af login approve"] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    assert!(!text.contains("<script"), "{text}");
    let elsewhere =
        served.answer("get", &path, None, &[("x-forwarded-for", "198.51.100.2")], Value::Null).await;
    let text = elsewhere.text().await.unwrap();
    assert!(text.contains("This browser is elsewhere") && text.contains("198.51.100.2"), "{text}");

    // What is no token is refused, and not shown again; nor is a form of another site taken.
    let (status, text) = submit(&served, &path, "token=%3Cscript%3Ealert(1)%3C/script%3E", None).await;
    assert!(status == 403 && text.contains("That is no token"), "{status} {text}");
    assert!(!text.contains("alert(1)"), "{text}");
    let (_, narrow) = served
        .call("post", "/v1/tokens", Some(OWNER), json!({ "name": "narrow", "scopes": "tokens:write" }))
        .await;
    let narrow = format!("token={}", narrow["token"].as_str().unwrap());
    let (status, text) = submit(&served, &path, &narrow, Some("same-origin")).await;
    assert!(status == 403 && text.contains("for something else only"), "{status} {text}");
    let good = format!("token={OWNER}");
    for site in ["cross-site", "same-site", "none"] {
        assert_eq!(submit(&served, &path, &good, Some(site)).await.0, 403, "{site}");
    }
    assert_eq!(poll(&served, &started).await.0, 202);
    let (status, text) = submit(&served, &path, &good, Some("same-origin")).await;
    assert!(status == 200 && text.contains("is signed in") && !text.contains(OWNER), "{status} {text}");
    assert_eq!(poll(&served, &started).await.0, 200);

    // It waits no more; and where nothing ever was, nothing of the address comes back.
    for path in [&path, "/login/%3Cscript%3Ealert(1)%3C%2Fscript%3E"] {
        let (status, text) = submit(&served, path, &good, None).await;
        assert!(status == 404 && text.contains("unknown, used or too old"), "{status} {text}");
        let gone = served.answer("get", path, None, &[], Value::Null).await;
        assert_eq!(gone.status().as_u16(), 404);
        assert!(!gone.text().await.unwrap().contains("alert(1)"));
    }
}

on_both! {
    a_page_shows_what_asks_and_takes_a_token,
    a_terminal_gets_a_token_of_whoever_approves_it_once,
    nobody_gets_in_by_what_is_not_theirs,
    what_is_kept_is_no_secret_and_goes_with_the_token_that_approved,
    after_ten_minutes_it_is_over,
    one_address_asks_so_often_only,
    whoever_is_refused_takes_no_turn_to_write,
    many_networks_of_one_prefix_keep_nobody_out,
    names_and_lives_are_those_of_tokens,
    fleeks_client_names_its_session_itself,
}
