//! Requests that come twice, changes of what the client has not seen, and more than there may be.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::time::Duration;

use af_control_api::{ApiConfig, Quotas};
use serde_json::{Value, json};
use support::{OWNER, STRANGER, Served};

const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

async fn start() -> (Served, String) {
    let served = Served::start().await;
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let project = projects["data"][0]["id"].as_str().unwrap().to_owned();
    (served, project)
}

/// With an `Idempotency-Key`: status, whether it is the first answer again, and the answer.
async fn keyed(served: &Served, key: &str, path: &str, token: &str, body: Value) -> (u16, bool, Value) {
    let answer = served.answer("post", path, Some(token), &[("idempotency-key", key)], body).await;
    let again = answer.headers().contains_key("idempotency-replayed");
    (answer.status().as_u16(), again, answer.json().await.unwrap())
}

async fn what_is_sent_twice_is_done_once() {
    let (served, project) = start().await;
    let path = format!("/v1/projects/{project}/functions");
    let body = json!({ "name": "hello" });
    let (status, again, first) = keyed(&served, KEY, &path, OWNER, body.clone()).await;
    assert_eq!((status, again), (201, false), "{first}");
    let quoted = format!("\"{KEY}\"");
    let (status, again, second) = keyed(&served, &quoted, &path, OWNER, body.clone()).await;
    assert_eq!((status, again, &second), (201, true, &first));
    // Without the key it would have been refused.
    assert_eq!(served.call("post", &path, Some(OWNER), body.clone()).await.0, 409);

    let (status, _, said) = keyed(&served, KEY, &path, OWNER, json!({ "name": "other" })).await;
    assert_eq!((status, &said["code"]), (422, &json!("idempotency_key_reused")));
    let (status, _, said) = keyed(&served, KEY, "/v1/tokens", OWNER, body.clone()).await;
    assert_eq!((status, &said["code"]), (422, &json!("idempotency_key_reused")), "at another path");
    // Keys are their tokens' own.
    let (status, again, _) = keyed(&served, KEY, &path, STRANGER, body).await;
    assert_eq!((status, again), (404, false));
}

async fn a_token_that_was_made_once_is_shown_again_and_not_kept_in_the_clear() {
    let (served, _) = start().await;
    let (_, _, first) = keyed(&served, KEY, "/v1/tokens", OWNER, json!({ "name": "ci" })).await;
    let (_, again, second) = keyed(&served, KEY, "/v1/tokens", OWNER, json!({ "name": "ci" })).await;
    assert!(again && first["token"] == second["token"] && first["token"].is_string());
    let kept = served.stored.rows("select key, answer from idempotency_keys").await;
    assert_eq!(kept.len(), 1);
    let secret = first["token"].as_str().unwrap().as_bytes();
    assert!(!kept[0].1.windows(secret.len()).any(|window| window == secret));
}

async fn what_failed_may_be_tried_again_with_its_key() {
    let (served, project) = start().await;
    let path = format!("/v1/projects/{project}/functions");
    let (status, _, said) = keyed(&served, KEY, &path, OWNER, json!({ "name": "-" })).await;
    assert_eq!((status, &said["code"]), (400, &json!("invalid_function_name")));
    let (status, again, _) = keyed(&served, KEY, &path, OWNER, json!({ "name": "hello" })).await;
    assert_eq!((status, again), (201, false));
    for bad in ["", "with space", &"k".repeat(256)] {
        let (status, _, said) = keyed(&served, bad, &path, OWNER, json!({ "name": "bye" })).await;
        assert_eq!((status, &said["code"]), (400, &json!("invalid_idempotency_key")), "{bad:?}");
    }
}

async fn what_failed_in_graphql_may_be_tried_again_too() {
    let (served, project) = start().await;
    let path = format!("/v1/projects/{project}/functions");
    let (_, made) = served.call("post", &path, Some(OWNER), json!({ "name": "hello" })).await;
    let create = json!({ "query": "mutation { createFleekFunction(data: { name: \"hello\" }) { id } }" });
    let (status, again, said) = keyed(&served, KEY, "/graphql", OWNER, create.clone()).await;
    assert!((status, again) == (200, false) && said["errors"].is_array(), "{said}");
    let path = format!("/v1/functions/{}", made["id"].as_str().unwrap());
    assert_eq!(served.call("delete", &path, Some(OWNER), Value::Null).await.0, 200);
    let (_, again, first) = keyed(&served, KEY, "/graphql", OWNER, create.clone()).await;
    assert!(!again && first["data"]["createFleekFunction"]["id"].is_string(), "{first}");
    let (_, again, second) = keyed(&served, KEY, "/graphql", OWNER, create).await;
    assert!(again && first == second, "{second}");
}

async fn what_was_done_in_graphql_or_may_be_is_not_done_twice() {
    let create = |name: &str| format!("createFleekFunction(data: {{ name: \"{name}\" }}) {{ id }}");
    let asked = |fields: String| json!({ "query": format!("mutation {{ {fields} }}") });
    let served = Served::start().await;
    let (_, made) = served.call("post", "/graphql", Some(OWNER), asked(create("taken"))).await;
    assert!(made["data"]["createFleekFunction"]["id"].is_string(), "{made}");
    // The first one is made, whatever becomes of the second one.
    let both = asked(format!("a: {} b: {}", create("fine"), create("taken")));
    let (_, again, first) = keyed(&served, KEY, "/graphql", OWNER, both.clone()).await;
    assert!(!again && first["data"]["a"]["id"].is_string(), "{first}");
    assert_eq!(first["errors"][0]["path"], json!(["b"]), "{first}");
    let (_, again, second) = keyed(&served, KEY, "/graphql", OWNER, both).await;
    assert!(again && first == second, "{second}");

    // Nothing that asks the database is done at once.
    let served = Served::changed(|config| config.graphql.mutation_timeout = Duration::ZERO).await;
    let (_, again, first) = keyed(&served, KEY, "/graphql", OWNER, asked(create("late"))).await;
    let said = first["errors"][0]["message"].as_str().unwrap();
    assert!(!again && said.contains("took longer"), "{first}");
    let (_, again, second) = keyed(&served, KEY, "/graphql", OWNER, asked(create("late"))).await;
    assert!(again && first == second, "{second}");
}

async fn what_is_said_of_a_function_is_no_change_of_it() {
    let (served, project) = start().await;
    let path = format!("/v1/projects/{project}/functions");
    let (_, made) = served.call("post", &path, Some(OWNER), json!({ "name": "hello" })).await;
    let id = made["id"].as_str().unwrap();
    let path = format!("/v1/functions/{id}");
    let tag = async || {
        let answer = served.answer("get", &path, Some(OWNER), &[], Value::Null).await;
        answer.headers()["etag"].to_str().unwrap().to_owned()
    };
    let first = tag().await;
    // A build has failed meanwhile.
    let (_, me) = served.call("get", "/v1/me", Some(OWNER), Value::Null).await;
    let build = format!(
        "insert into builds (id, function_id, source_cid, status, author_id, created_at, updated_at)
            values ('dep_1', '{id}', 'cid', 'FAILED', '{}', 0, 0)",
        me["id"].as_str().unwrap()
    );
    served.stored.script(&build).await;
    let second = tag().await;
    assert_ne!(first, second, "who looks is told");
    let change = async |tag: &str, name: &str| {
        served
            .answer("patch", &path, Some(OWNER), &[("if-match", tag)], json!({ "name": name }))
            .await
            .status()
    };
    assert_eq!(change(&first, "other").await, 200);
    assert_eq!(change(&second, "third").await, 412, "it has another name by now");
    assert_eq!(change(&format!("W/{}", tag().await), "third").await, 412);
}

async fn a_key_is_for_what_was_asked_and_for_who_may() {
    let (served, project) = start().await;
    let create = json!({ "query": "mutation { createFleekFunction(data: { name: \"hello\" }) { id } }" });
    for (id, status) in [(project.as_str(), 200), (project.as_str(), 200), ("prj_2", 422)] {
        let headers = [("idempotency-key", KEY), ("x-project-id", id)];
        let answer = served.answer("post", "/graphql", Some(OWNER), &headers, create.clone()).await;
        assert_eq!(answer.status(), status, "{id}");
    }
    // A token that may less is not told what the one that it was exchanged for was told.
    let body = json!({ "name": "ci" });
    let (_, _, first) = keyed(&served, "other", "/v1/tokens", OWNER, body.clone()).await;
    assert!(first["token"].is_string());
    let wanted = json!({ "scopes": "functions:read" });
    let (_, narrow) = served.call("post", "/v1/tokens/session", Some(OWNER), wanted).await;
    let narrow = narrow["token"].as_str().unwrap();
    let (status, again, said) = keyed(&served, "other", "/v1/tokens", narrow, body).await;
    assert_eq!((status, again, &said["token"]), (422, false, &Value::Null));
}

async fn answers_that_are_given_again_are_counted() {
    let served = Served::changed(|config| config.rate_limit = std::num::NonZeroU32::MIN).await;
    for _ in 0..100 {
        if keyed(&served, KEY, "/v1/tokens", OWNER, json!({ "name": "ci" })).await.0 == 429 {
            return;
        }
    }
    panic!("nobody counts");
}

async fn of_two_at_the_same_time_one_is_told_to_wait() {
    let (served, project) = start().await;
    let path = format!("/v1/projects/{project}/functions");
    // As the first request leaves it while it is at work.
    let body = json!({ "name": "hello" });
    let tries = (0..8).map(|_| keyed(&served, KEY, &path, OWNER, body.clone()));
    let answers = futures::future::join_all(tries).await;
    let first = answers.iter().filter(|(status, again, _)| (*status, *again) == (201, false)).count();
    assert_eq!(first, 1, "{answers:?}");
    let waiting = |(status, again, said): &(u16, bool, Value)| {
        (*status == 201 && *again) || (*status == 409 && said["code"] == "idempotency_key_in_use")
    };
    assert_eq!(answers.iter().filter(|answer| waiting(answer)).count(), 7, "{answers:?}");
    served.stored.script("update idempotency_keys set status = null, answer = null").await;
    let (status, _, said) = keyed(&served, KEY, &path, OWNER, body.clone()).await;
    assert_eq!((status, &said["code"]), (409, &json!("idempotency_key_in_use")));
    // A crash has cut it, since when nobody says that they are at it.
    served.stored.script("update idempotency_keys set leased_until = leased_until - 60000").await;
    let (status, _, said) = keyed(&served, KEY, &path, OWNER, body.clone()).await;
    assert_eq!((status, &said["code"]), (409, &json!("function_name_taken")), "it had been done");
    served.stored.script("update idempotency_keys set created_at = created_at - 90000000").await;
    let (status, _, _) = keyed(&served, "another", &path, OWNER, json!({ "name": "second" })).await;
    assert_eq!(status, 201);
    assert_eq!(served.stored.rows("select key, answer from idempotency_keys").await.len(), 1, "pruned");
}

async fn nobody_overwrites_what_they_have_not_seen() {
    let (served, project) = start().await;
    let root = format!("/v1/projects/{project}");
    let made = async |path: &str, body: Value| {
        let (status, made) = served.call("post", path, Some(OWNER), body).await;
        assert_eq!(status, 201, "{made}");
        made["id"].as_str().unwrap().to_owned()
    };
    let function = made(&format!("{root}/functions"), json!({ "name": "hello" })).await;
    let site = made(&format!("{root}/sites"), json!({ "name": "pages" })).await;
    let claim = json!({ "hostname": "www.example.com", "functionId": function });
    let domain = made(&format!("{root}/domains"), claim).await;
    let empty = made("/v1/projects", json!({ "name": "empty" })).await;
    for (path, change) in [
        (format!("/v1/domains/{domain}"), json!({ "siteId": site })),
        (format!("/v1/functions/{function}"), json!({ "status": "INACTIVE" })),
        (format!("/v1/sites/{site}"), json!({ "name": "other" })),
        (format!("/v1/projects/{empty}"), json!({ "name": "other" })),
    ] {
        let tag = async |answer: reqwest::Response| {
            assert_eq!(answer.status(), 200, "{path}");
            answer.headers()["etag"].to_str().unwrap().to_owned()
        };
        let ask = async |method: &str, header: &str, value: &str, body: &Value| {
            served.answer(method, &path, Some(OWNER), &[(header, value)], body.clone()).await
        };
        let first = tag(ask("get", "accept", "*/*", &Value::Null).await).await;
        assert!(first.starts_with('"'), "strong");
        let unchanged = ask("get", "if-none-match", &format!("\"x\", W/{first}"), &Value::Null).await;
        assert!(unchanged.status() == 304 && unchanged.headers()["etag"] == *first, "{path}");
        assert!(unchanged.bytes().await.unwrap().is_empty());

        let second = tag(ask("patch", "if-match", &first, &change).await).await;
        assert_ne!(first, second);
        assert_eq!(
            second,
            tag(ask("get", "if-none-match", &first, &Value::Null).await).await,
            "of the change"
        );
        for method in ["patch", "delete"] {
            for outdated in [&first, &format!("W/{second}")] {
                let refused = ask(method, "if-match", outdated, &change).await;
                assert_eq!(refused.status(), 412, "{method} {path}");
                let said: Value = refused.json().await.unwrap();
                assert_eq!(said["code"], "precondition_failed");
            }
        }
        tag(ask("patch", "if-match", "*", &change).await).await;
        let last = tag(ask("get", "accept", "*/*", &Value::Null).await).await;
        let gone = ask("delete", "if-match", &format!("\"x\", {last}"), &Value::Null).await;
        assert!(gone.status().is_success());
        assert_eq!(ask("delete", "if-match", "*", &Value::Null).await.status(), 404);
    }
}

async fn browsers_are_told_what_they_may_do() {
    let origins = vec!["https://app.example.com".to_owned()];
    let served = Served::asked_through(ApiConfig { origins, ..ApiConfig::default() }).await;
    let ask = async |method: &str, origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "DELETE")];
        served.answer(method, "/v1/projects", Some(OWNER), &headers, Value::Null).await
    };
    let header = |answer: &reqwest::Response, name: &str| {
        answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    let asked = ask("options", "https://app.example.com").await;
    assert_eq!(asked.status(), 204);
    assert!(header(&asked, "access-control-allow-methods").unwrap().contains("DELETE"));
    let allowed = header(&asked, "access-control-allow-headers").unwrap();
    let allowed: Vec<&str> = allowed.split(", ").collect();
    // What the published SDKs send, and whoever follows a log.
    for name in ["authorization", "x-project-id", "x-organization-id", "x-client-type", "last-event-id"] {
        assert!(allowed.contains(&name), "{name}: {allowed:?}");
    }
    assert_eq!(header(&asked, "access-control-allow-credentials"), None, "nobody is known by a cookie");
    let read = ask("get", "https://app.example.com").await;
    assert_eq!(header(&read, "access-control-allow-origin").as_deref(), Some("https://app.example.com"));
    assert_eq!(header(&read, "vary").as_deref(), Some("origin"));
    for name in ["x-content-type-options", "content-security-policy", "x-frame-options", "cache-control"] {
        assert!(header(&read, name).is_some(), "{name}");
    }
    assert_eq!(header(&read, "set-cookie"), None);
    for other in ["https://evil.example.com", "null", "https://app.example.com.evil.example"] {
        assert_eq!(ask("options", other).await.status(), 405);
        assert_eq!(header(&ask("get", other).await, "access-control-allow-origin"), None, "{other}");
    }
}

async fn whoever_shows_many_tokens_that_are_none_is_refused() {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let served = Served::asked_through(ApiConfig { trusted_proxies, ..ApiConfig::default() }).await;
    let ask = async |address: &str, token: &str| {
        let answer =
            served.answer("get", "/v1/me", Some(token), &[("x-forwarded-for", address)], Value::Null).await;
        (answer.status().as_u16(), answer.headers().contains_key("retry-after"))
    };
    for number in 0..30 {
        assert_eq!(ask("198.51.100.7", &format!("af_live_{number}")).await, (401, false));
    }
    assert_eq!(ask("198.51.100.7", "af_live_again").await, (429, true));
    assert_eq!(ask("198.51.100.7", OWNER).await, (429, true), "before anything is looked up");
    assert_eq!(ask("198.51.100.8", OWNER).await, (200, false));
}

async fn what_anybody_can_make_has_a_quota() {
    let served = Served::changed(|config| {
        config.api.quotas =
            Quotas { functions: 1, sites: 1, projects: 2, organizations: 2, ..Quotas::default() };
    })
    .await;
    let projects = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await.1;
    let project = projects["data"][0]["id"].as_str().unwrap().to_owned();
    let organization = projects["data"][0]["organizationId"].clone();
    for (path, body) in [
        (format!("/v1/projects/{project}/functions"), json!({ "name": "one" })),
        (format!("/v1/projects/{project}/sites"), json!({ "name": "pages" })),
        ("/v1/projects".to_owned(), json!({ "name": "second", "organizationId": organization })),
        ("/v1/organizations".to_owned(), json!({ "name": "second" })),
    ] {
        let (status, made) = served.call("post", &path, Some(OWNER), body.clone()).await;
        assert_eq!(status, 201, "{path}: {made}");
        let another = json!({ "name": "other", "organizationId": body["organizationId"] });
        let another = if path == "/v1/projects" { another } else { json!({ "name": "other" }) };
        let (status, refused) = served.call("post", &path, Some(OWNER), another.clone()).await;
        assert_eq!((status, &refused["code"]), (409, &json!("quota_exceeded")), "{path}: {refused}");
        // What is deleted makes room, and others have their own.
        if path.ends_with("functions") {
            let gone = format!("/v1/functions/{}", made["id"].as_str().unwrap());
            served.call("delete", &gone, Some(OWNER), Value::Null).await;
            assert_eq!(served.call("post", &path, Some(OWNER), another).await.0, 201);
        }
    }
    let query = json!({ "query": "mutation { createAFFunction(data: { name: \"more\" }) { id } }" });
    let refused = served.call_with("/graphql", OWNER, &[("x-project-id", &project)], query.clone()).await.1;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "quota_exceeded", "{refused}");
    let theirs = served.call("post", "/graphql", Some(STRANGER), query).await.1;
    assert!(theirs["data"]["createAFFunction"]["id"].is_string(), "{theirs}");
}

on_both!(
    what_failed_in_graphql_may_be_tried_again_too,
    what_was_done_in_graphql_or_may_be_is_not_done_twice,
    what_is_said_of_a_function_is_no_change_of_it,
    a_key_is_for_what_was_asked_and_for_who_may,
    answers_that_are_given_again_are_counted,
    what_anybody_can_make_has_a_quota,
    browsers_are_told_what_they_may_do,
    whoever_shows_many_tokens_that_are_none_is_refused,
    what_is_sent_twice_is_done_once,
    a_token_that_was_made_once_is_shown_again_and_not_kept_in_the_clear,
    what_failed_may_be_tried_again_with_its_key,
    of_two_at_the_same_time_one_is_told_to_wait,
    nobody_overwrites_what_they_have_not_seen,
);
