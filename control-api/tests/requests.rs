//! What requests may say: what an operation does not know is refused, in words that its client knows.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_control_api::rest;
use serde_json::{Value, json};
use support::settings::Scene;
use support::{OWNER, Served};

/// Method, path and description of every operation in the document.
fn operations() -> Vec<(String, String, Value)> {
    let document = serde_json::to_value(rest::document()).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations.push((method.clone(), path.replace(['{', '}'], ""), operation.clone()));
        }
    }
    operations
}

fn parameters<'o>(operation: &'o Value, place: &'o str) -> impl Iterator<Item = &'o str> {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let parameters = parameters.filter(move |parameter| parameter["in"] == place);
    parameters.map(|parameter| parameter["name"].as_str().unwrap())
}

async fn no_operation_ignores_a_parameter_that_it_does_not_know() {
    let served = Served::start().await;
    // Published clients send to older paths what nobody reads.
    for (method, path, operation) in operations().into_iter().filter(|(_, path, _)| path.starts_with("/v1/"))
    {
        let known: Vec<&str> = parameters(&operation, "query").collect();
        // What it knows goes with what it does not.
        let query: String = known.iter().map(|name| format!("{name}=1&")).collect();
        let path = format!("{path}?{query}preveiw=true");
        let (status, said) = served.call(&method, &path, Some(OWNER), json!({})).await;
        assert_eq!((status, &said["code"]), (400, &json!("unknown_parameter")), "{method} {path}: {said}");
        let detail = said["detail"].as_str().unwrap();
        assert!(detail.contains("\"preveiw\""), "{detail}");
        assert!(known.iter().all(|name| detail.contains(name)), "{method} {path}: {detail}");
    }
    let head = served.answer("head", "/v1/projects?preveiw=true", Some(OWNER), &[], Value::Null).await;
    assert_eq!(head.status(), 400);
    assert_eq!(served.call("get", "/v1/projects?after=", Some(OWNER), Value::Null).await.0, 200);
}

async fn no_operation_ignores_an_if_match() {
    let served = Served::start().await;
    let headers = [("if-match", "\"nonsense\"")];
    let mut compared = 0;
    for (method, path, operation) in operations().into_iter().filter(|(method, ..)| method != "get") {
        let compares = parameters(&operation, "header").any(|name| name == "If-Match");
        let answer = served.answer(&method, &path, Some(OWNER), &headers, json!({})).await;
        let status = answer.status().as_u16();
        let said: Value = answer.json().await.unwrap_or_default();
        assert_eq!(said["code"] == "if_match_not_supported", !compares, "{method} {path}: {status} {said}");
        compared += usize::from(compares);
    }
    assert!(compared > 10, "{compared}");
}

async fn settings_are_not_changed_by_who_has_not_seen_them() {
    let scene = Scene::new().await;
    scene.deploy(&scene.function).await;
    let organizations = scene.served.call("get", "/v1/organizations", Some(OWNER), Value::Null).await.1;
    let organization = format!("/v1/organizations/{}", organizations["data"][0]["id"].as_str().unwrap());
    let project = format!("/v1/projects/{}", scene.project);
    let function = format!("/v1/functions/{}", scene.function);
    let set = |value: &str| json!({ "values": { "A": value } });
    for (path, one, other) in [
        (organization, json!({ "name": "one" }), json!({ "name": "other" })),
        (format!("{project}/settings"), set("one"), set("other")),
        (
            format!("{function}/settings"),
            json!({ "values": { "B": "1" } }),
            json!({ "values": { "B": "2" } }),
        ),
        (format!("{project}/secrets"), json!({ "values": { "C": "1" } }), json!({ "values": { "C": "1" } })),
        (
            format!("{function}/secrets"),
            json!({ "values": { "D": "1" } }),
            json!({ "values": { "D": null } }),
        ),
    ] {
        let tag = async || {
            let answer = scene.served.answer("get", &path, Some(OWNER), &[], Value::Null).await;
            assert_eq!(answer.status(), 200, "{path}");
            answer.headers()["etag"].to_str().unwrap().to_owned()
        };
        let change = async |tag: &str, body: &Value| {
            let headers = [("if-match", tag)];
            scene.served.answer("patch", &path, Some(OWNER), &headers, body.clone()).await.status().as_u16()
        };
        let before = tag().await;
        assert_eq!(change("\"nonsense\"", &one).await, 412, "{path}");
        assert_eq!(change(&before, &one).await, 200, "{path}");
        assert_eq!(change(&before, &other).await, 412, "{path}");
        let after = tag().await;
        assert_ne!(before, after, "{path}");
        let known = [("if-none-match", after.as_str())];
        let unchanged = scene.served.answer("get", &path, Some(OWNER), &known, Value::Null).await;
        assert_eq!(unchanged.status(), 304, "{path}");
        assert_eq!(change(&after, &other).await, 200, "{path}");
    }
}

async fn bodies_are_objects_and_refused_in_words_of_json() {
    let served = Served::start().await;
    let projects = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await.1;
    let path = format!("/v1/projects/{}/functions", projects["data"][0]["id"].as_str().unwrap());
    for (body, status, told) in [
        (json!(["arrname", null, null]), 422, "send a JSON object"),
        (json!("hello"), 422, "expected an object"),
        (json!({ "name": 7 }), 422, "name: invalid type: integer `7`, expected a string"),
        (json!({ "nmae": "hello" }), 422, "expected one of `name`"),
        (json!({ "name": "a".repeat(1 << 20) }), 413, "more than "),
    ] {
        let (answered, said) = served.call("post", &path, Some(OWNER), body).await;
        assert_eq!((answered, &said["code"]), (status, &json!("invalid_request")), "{said}");
        let detail = said["detail"].as_str().unwrap();
        assert!(detail.contains(told), "{detail}");
        assert!(!detail.contains("struct") && !detail.contains("Input"), "{detail}");
    }
    let (status, said) = served.upload_as(&path, OWNER, "text/plain", b"{}".to_vec()).await;
    assert_eq!((status, &said["code"]), (415, &json!("invalid_request")));
}

/// Every list, by the document: a cursor that is none is none, and no page is longer than what is asked for.
async fn lists_begin_where_a_page_of_theirs_has_ended() {
    let scene = Scene::new().await;
    let organizations = scene.served.call("get", "/v1/organizations", Some(OWNER), Value::Null).await.1;
    let organization = organizations["data"][0]["id"].as_str().unwrap();
    for name in ["second", "third"] {
        scene.create(name).await;
    }
    let site = json!({ "name": "pages" });
    let site = scene
        .served
        .call("post", &format!("/v1/projects/{}/sites", scene.project), Some(OWNER), site)
        .await
        .1;
    let mut lists = 0;
    for (method, path, operation) in operations() {
        if method != "get" || !parameters(&operation, "query").any(|name| name == "after") {
            continue;
        }
        let path = path.replace("/organization/", &format!("/{organization}/"));
        let path = path.replace("/project/", &format!("/{}/", scene.project));
        let path = path.replace("/function/", &format!("/{}/", scene.function));
        let path = path.replace("/site/", &format!("/{}/", site["id"].as_str().unwrap()));
        let ask = async |query: &str| {
            scene.served.call("get", &format!("{path}?{query}"), Some(OWNER), Value::Null).await
        };
        // Those of edges and plans are names, which may be any.
        let is_name = ["/v1/edges", "/v1/plans"].contains(&path.as_str());
        let (garbage, code) =
            if is_name { ("a%00", "invalid_request") } else { ("garbage", "invalid_cursor") };
        let (status, said) = ask(&format!("after={garbage}")).await;
        assert_eq!((status, &said["code"]), (400, &json!(code)), "{path}: {said}");
        for wrong in ["0", "101"] {
            let (status, said) = ask(&format!("limit={wrong}")).await;
            assert_eq!((status, &said["code"]), (400, &json!("invalid_limit")), "{path}: {said}");
        }
        assert_eq!(ask("limit=many").await.0, 400, "{path}");
        let (status, all) = ask("").await;
        assert_eq!(status, 200, "{path}: {all}");
        // One at a time is all of them. What is asked here is in no audit.
        let (mut after, mut walked) = (String::new(), Vec::new());
        loop {
            let (status, page) = ask(&format!("limit=1&after={after}")).await;
            assert_eq!(status, 200, "{path}: {page}");
            let items = page["data"].as_array().unwrap();
            assert!(items.len() <= 1);
            walked.extend(items.clone());
            let Some(next) = page["next"].as_str() else { break };
            after = next.to_owned();
        }
        assert_eq!(json!(walked), all["data"], "{path}");
        lists += 1;
    }
    assert!(lists > 12, "{lists}");
}

/// A body as the document describes it, with everything in it.
fn sample(document: &Value, schema: &Value) -> Value {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return sample(document, &document["components"]["schemas"][name]);
    }
    let choices = ["oneOf", "anyOf"].iter().find_map(|choice| schema[*choice].as_array());
    if let Some(choices) = choices {
        return sample(document, choices.iter().find(|choice| choice["type"] != "null").unwrap());
    }
    if let Some(known) = schema["enum"].as_array() {
        return known[0].clone();
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    match kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap() {
        "string" => json!("a"),
        "boolean" => json!(true),
        "integer" | "number" => json!(1),
        "array" => json!([sample(document, &schema["items"])]),
        _ => {
            let mut object = serde_json::Map::new();
            for (name, member) in schema["properties"].as_object().into_iter().flatten() {
                object.insert(name.clone(), sample(document, member));
            }
            if schema["additionalProperties"].is_object() {
                object.insert("A".into(), sample(document, &schema["additionalProperties"]));
            }
            Value::Object(object)
        }
    }
}

/// Pointers to all that is within a document, and what is there.
fn places(value: &Value) -> Vec<(String, Value)> {
    let mut all = vec![(String::new(), value.clone())];
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(values) => values.iter().enumerate().map(|(n, value)| (n.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in members {
        all.extend(places(value).into_iter().map(|(pointer, value)| (format!("/{name}{pointer}"), value)));
    }
    all
}

async fn bodies_of_another_shape_are_refused_everywhere() {
    let served = Served::start().await;
    let document = serde_json::to_value(rest::document()).unwrap();
    let (mut bodies, mut objects, mut texts) = (0, 0, 0);
    for (method, path, operation) in operations() {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            continue;
        }
        let send = async |body: String| {
            let (status, said) = served.send(&method, &path, OWNER, body.clone()).await;
            assert!([400, 422].contains(&status), "{method} {path} {body}: {status} {said}");
            let code = said["code"].as_str().unwrap();
            assert!(
                ["invalid_request", "invalid_settings"].contains(&code),
                "{method} {path} {body}: {said}"
            );
            said["detail"].as_str().unwrap().to_owned()
        };
        // These say of all that is wrong that the token is missing.
        let is_lenient = path.ends_with("/validate");
        let body = sample(&document, schema);
        bodies += 1;
        for (pointer, value) in places(&body) {
            let with = |other: Value| {
                let mut body = body.clone();
                *body.pointer_mut(&pointer).unwrap() = other;
                body.to_string()
            };
            match &value {
                // What is no route table is told by its own rules.
                Value::Object(members) if !pointer.starts_with("/routes") => {
                    send(with(members.values().cloned().collect())).await;
                    objects += 1;
                }
                Value::String(_) if !pointer.starts_with("/routes") => {
                    send(with(json!(7))).await;
                    let said = send(with(json!("a\0b"))).await;
                    assert!(said.contains("NUL") || is_lenient, "{said}");
                    texts += 1;
                }
                _ => {}
            }
        }
        for required in operation_requires(&document, schema) {
            let mut body = body.clone();
            body[&required] = Value::Null;
            send(body.to_string()).await;
        }
        if let Some((name, value)) = body.as_object().unwrap().iter().next() {
            let said = send(format!("{{{name:?}: {value}, {name:?}: {value}}}")).await;
            assert!(said.contains("is there twice") || is_lenient, "{said}");
            send(format!("{{{name:?}: {}", "[".repeat(20_000))).await;
            send(format!("{{{name:?}: {}7{}}}", "{\"a\":".repeat(20_000), "}".repeat(20_000))).await;
        }
    }
    assert!(bodies > 30 && objects > 35 && texts > 30, "{bodies} {objects} {texts}");
}

fn operation_requires(document: &Value, schema: &Value) -> Vec<String> {
    let name = schema["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
    let required = document["components"]["schemas"][name]["required"].as_array().into_iter().flatten();
    required.map(|name| name.as_str().unwrap().to_owned()).collect()
}

async fn a_nul_is_refused_in_paths_queries_and_graphql() {
    let scene = Scene::new().await;
    for (method, path, operation) in operations() {
        let bad = |path: &str| {
            let (path, method) = (path.to_owned(), method.clone());
            let served = &scene.served;
            async move {
                let (status, said) = served.call(&method, &path, Some(OWNER), json!({})).await;
                assert_eq!(
                    (status, &said["code"]),
                    (400, &json!("invalid_request")),
                    "{method} {path}: {said}"
                );
            }
        };
        bad(&format!("{path}%00")).await;
        for name in parameters(&operation, "query") {
            bad(&format!("{path}?{name}=a%00b")).await;
        }
    }
    let graphql = async |body: Value| {
        let (status, said) = scene.served.call("post", "/graphql", Some(OWNER), body).await;
        assert_eq!(status, 400, "{said}");
        assert!(said["errors"][0]["message"].as_str().unwrap().contains("NUL"), "{said}");
    };
    let query = "query($id: ID!) { afFunctionById(where: { id: $id }) { id } }";
    graphql(json!({ "query": query, "variables": { "id": "a\0b" } })).await;
    graphql(json!({ "query": r#"{ afFunctionById(where: { id: "a\u0000b" }) { id } }"# })).await;
    graphql(json!({ "query": "{ __typename } # \0" })).await;
    // Objects of a route table are objects, too.
    let table = json!({ "/a": { "response": [200, {}, "text"] } });
    let path = format!("/v1/functions/{}", scene.function);
    let (status, said) = scene.served.call("patch", &path, Some(OWNER), json!({ "routes": table })).await;
    assert_eq!((status, &said["code"]), (400, &json!("invalid_routes")), "{said}");
}

async fn members_are_not_changed_by_who_has_not_seen_them() {
    let scene = Scene::new().await;
    let served = &scene.served;
    let organizations = served.call("get", "/v1/organizations", Some(OWNER), Value::Null).await.1;
    let organization = format!("/v1/organizations/{}", organizations["data"][0]["id"].as_str().unwrap());
    for group in [organization, format!("/v1/projects/{}", scene.project)] {
        let invite = json!({ "role": "viewer" });
        let (_, invited) = served.call("post", &format!("{group}/invitations"), Some(OWNER), invite).await;
        let accept = json!({ "code": invited["code"], "name": "Ada" });
        let (_, joined) = served.call("post", "/v1/invitations/accept", None, accept).await;
        let path = format!("{group}/members/{}", joined["userId"].as_str().unwrap());
        let answer = served.answer("get", &path, Some(OWNER), &[], Value::Null).await;
        let tag = answer.headers()["etag"].to_str().unwrap().to_owned();
        let member: Value = answer.json().await.unwrap();
        assert_eq!((&member["etag"], &member["role"]), (&json!(tag), &json!("viewer")));
        let (_, all) = served.call("get", &format!("{group}/members"), Some(OWNER), Value::Null).await;
        assert!(all["data"].as_array().unwrap().contains(&member), "{all}");
        let known = [("if-none-match", tag.as_str())];
        assert_eq!(served.answer("get", &path, Some(OWNER), &known, Value::Null).await.status(), 304);

        let seen = [("if-match", tag.as_str())];
        let put = async |role: &str| {
            served.answer("put", &path, Some(OWNER), &seen, json!({ "role": role })).await.status().as_u16()
        };
        assert_eq!(put("developer").await, 204);
        assert_eq!(put("admin").await, 412);
        let removed = served.answer("delete", &path, Some(OWNER), &seen, Value::Null).await;
        let said: Value = removed.json().await.unwrap();
        assert_eq!(said["code"], "precondition_failed", "{said}");
        let (_, member) = served.call("get", &path, Some(OWNER), Value::Null).await;
        assert_eq!(member["role"], "developer");
        let seen = [("if-match", member["etag"].as_str().unwrap())];
        assert_eq!(served.answer("delete", &path, Some(OWNER), &seen, Value::Null).await.status(), 204);
        assert_eq!(served.call("get", &path, Some(OWNER), Value::Null).await.0, 404);
    }
}

async fn a_body_that_is_said_to_be_no_car_is_refused_to_whom_is_known() {
    let scene = Scene::new().await;
    let mut taken = 0;
    for (_, path, operation) in operations().into_iter().filter(|(_, path, _)| path.starts_with("/v1/")) {
        let kinds = &operation["requestBody"]["content"];
        if kinds["application/vnd.ipld.car"].is_null() {
            continue;
        }
        taken += 1;
        let path = path.replace("/function/", &format!("/{}/", scene.function));
        let path = path.replace("/project/", &format!("/{}/", scene.project));
        let asked = async |token: &str, kind: &str| {
            let headers = [("content-type", kind)];
            let answer = scene.served.post(&path, token, &headers, b"no archive".to_vec()).await;
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        };
        for kind in ["text/plain", "application/json", "application/x-tar; a=b", ""] {
            assert_eq!(asked("nobody", kind).await.0, 401, "{path}");
            let (status, said) = asked(OWNER, kind).await;
            assert_eq!((status, &said["code"]), (415, &json!("invalid_request")), "{path} {kind}: {said}");
            assert!(said["detail"].as_str().unwrap().contains("application/vnd.ipld.car"), "{said}");
        }
        for kind in ["Application/VND.ipld.car; version=1", "application/octet-stream"] {
            let (status, said) = asked(OWNER, kind).await;
            assert!([400, 404, 422].contains(&status), "{path} {kind}: {status} {said}");
        }
    }
    assert!(taken > 3, "{taken}");
}

async fn a_name_shows_what_it_is() {
    let served = Served::start().await;
    for (character, status) in [
        ('\u{202e}', 400),
        ('\u{2066}', 400),
        ('\u{200f}', 400),
        ('\u{200b}', 400),
        ('\u{feff}', 400),
        ('\u{200d}', 201),
        ('\u{e9}', 201),
    ] {
        let body = json!({ "name": format!("pro{character}ject") });
        assert_eq!(served.call("post", "/v1/projects", Some(OWNER), body).await.0, status, "{character:?}");
    }
    let projects = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await.1;
    let path = format!("/v1/projects/{}", projects["data"][0]["id"].as_str().unwrap());
    // A browser shows this host as another one.
    for (kind, name) in [("functions", "apple"), ("sites", "apples")] {
        let body = json!({ "name": name, "slug": "xn--pple-43d" });
        let (status, said) = served.call("post", &format!("{path}/{kind}"), Some(OWNER), body).await;
        assert_eq!((status, &said["code"]), (400, &json!("invalid_slug")), "{said}");
    }
    let name = json!({ "name": "other" });
    // What cannot be read is not what was seen.
    let garbled = [("if-match", "\u{e9}")];
    assert_eq!(served.answer("patch", &path, Some(OWNER), &garbled, name).await.status(), 412);
}

async fn bytes_are_described_as_what_they_are() {
    let document = serde_json::to_value(rest::document()).unwrap();
    let body = &document["paths"]["/v1/functions/{function}/deployments"]["post"]["requestBody"];
    let schema = &body["content"]["application/vnd.ipld.car"]["schema"];
    assert_eq!(schema, &json!({ "type": "string", "format": "binary" }));
    assert_ne!(body["required"], true, "with fetch there is none");
}

on_both!(
    a_body_that_is_said_to_be_no_car_is_refused_to_whom_is_known,
    a_name_shows_what_it_is,
    a_nul_is_refused_in_paths_queries_and_graphql,
    bodies_of_another_shape_are_refused_everywhere,
    bytes_are_described_as_what_they_are,
    lists_begin_where_a_page_of_theirs_has_ended,
    no_operation_ignores_a_parameter_that_it_does_not_know,
    no_operation_ignores_an_if_match,
    members_are_not_changed_by_who_has_not_seen_them,
    settings_are_not_changed_by_who_has_not_seen_them,
    bodies_are_objects_and_refused_in_words_of_json,
);
