//! What was used, as it is read by who may: sums that agree, pages, periods, and for how long it is kept.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_contract::usage::{HOUR, UsageRecord};
use serde_json::{Value, json};
use support::usage::{DAY, Scene, batch, record, requests, said, stored};
use support::{OWNER, STRANGER};

fn time(from: i64, length: i64, requests: u64) -> Value {
    let mut time = said(requests);
    time["from"] = json!(from);
    time["to"] = json!(from + length);
    time
}

async fn sums_of_all_agree() {
    let scene = Scene::new().await;
    let (this, day) = (scene.this, scene.this - scene.this % DAY);
    // An hour ago may have been yesterday.
    let before = if this == day { day - DAY } else { day };
    let from = day - 4 * DAY;
    let [organization, project, function, site] = scene.paths();
    let days = |old: u64, earlier: u64, now: u64| {
        let mut days = std::collections::BTreeMap::from([(day - 3 * DAY, old)]);
        *days.entry(before).or_default() += earlier;
        *days.entry(day).or_default() += now;
        let days = days.into_iter().filter(|(_, requests)| *requests > 0);
        days.map(|(at, requests)| time(at, DAY, requests)).collect::<Vec<_>>()
    };
    let all = |per: &str, total: u64, data: &[Value]| json!({ "from": from, "to": day + DAY, "per": per, "total": said(total), "data": data, "next": null });
    let query = format!("?from={}&to={}", from + 1, this + 1);
    for whole in [&organization, &project] {
        assert_eq!(scene.read(&format!("{whole}{query}")).await, all("day", 62, &days(40, 4, 18)), "{whole}");
    }
    assert_eq!(scene.read(&format!("{function}{query}&per=day")).await, all("day", 14, &days(8, 4, 2)));
    assert_eq!(scene.read(&format!("{site}{query}")).await, all("day", 32, &days(32, 0, 0)));
    let hours = [time(this - 3 * DAY, HOUR, 8), time(this - HOUR, HOUR, 4), time(this, HOUR, 2)];
    let expected = json!({
        "from": from, "to": this + HOUR, "per": "hour", "total": said(14), "data": hours, "next": null
    });
    let query = format!("?from={}&to={}&per=hour", from + 1, this + 1);
    assert_eq!(scene.read(&format!("{function}{query}")).await, expected);
    // By default this month, which may be a day old.
    let (month, long) = (scene.read(&project).await, scene.read(&format!("{project}?from={from}")).await);
    assert!(month["from"].as_i64().unwrap() <= day && month["to"].as_i64().unwrap() > day, "{month}");
    assert_eq!(month["to"], long["to"]);

    let parts = async |path: &str| {
        let page = scene.read(&format!("{path}?from={from}")).await;
        assert_eq!(
            (&page["from"], &page["to"], &page["next"]),
            (&json!(from), &json!(day + DAY), &Value::Null)
        );
        page["data"].as_array().unwrap().clone()
    };
    let part = |id: &str, name: &Value, requests: u64| {
        let mut part = said(requests);
        part["id"] = json!(id);
        part["name"] = name.clone();
        part
    };
    let [one, two] = &scene.functions;
    let expected = [part(one, &json!("one"), 14), part(two, &json!("two"), 16)];
    assert_eq!(parts(&format!("{project}/functions")).await, expected);
    assert_eq!(parts(&format!("{project}/sites")).await, [part(&scene.site, &json!("pages"), 32)]);
    let (_, projects) = scene.get(OWNER, "/v1/projects").await;
    let expected = [part(&scene.project, &projects["data"][0]["name"], 62)];
    assert_eq!(parts(&format!("{organization}/projects")).await, expected);
}

async fn what_is_gone_stays_in_the_sums_of_its_owners() {
    let scene = Scene::new().await;
    let [organization, _, function, _] = scene.paths();
    let second = json!({ "name": "second", "organizationId": scene.organization });
    let second = scene.made("/v1/projects", second).await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/projects/{second}/functions");
    let gone = scene.made(&path, json!({ "name": "gone" })).await["id"].as_str().unwrap().to_owned();
    scene.served.control.usage(&batch("a", 2, &[record(&gone, scene.this, 100)])).await.unwrap();
    let delete = async |path: &str, status: u16| {
        assert_eq!(scene.served.call("delete", path, Some(OWNER), Value::Null).await.0, status, "{path}");
    };
    delete(&format!("/v1/functions/{gone}"), 200).await;
    let from = scene.this - 4 * DAY;
    let total =
        async |path: &str| scene.read(&format!("{path}?from={from}")).await["total"]["requests"].clone();
    assert_eq!(scene.get(OWNER, &format!("/v1/functions/{gone}/usage")).await.0, 404);
    assert_eq!(total(&format!("/v1/projects/{second}/usage")).await, 100);
    let parts = scene.read(&format!("/v1/projects/{second}/usage/functions")).await;
    assert_eq!(parts["data"], json!([]));
    delete(&format!("/v1/projects/{second}"), 204).await;
    assert_eq!(scene.get(OWNER, &format!("/v1/projects/{second}/usage")).await.0, 404);
    assert_eq!(total(&organization).await, 162);
    assert_eq!(total(&function).await, 14);
    // Told late.
    scene.served.control.usage(&batch("a", 3, &[record(&gone, scene.this, 1_000)])).await.unwrap();
    assert_eq!(total(&organization).await, 1_162);

    let other =
        scene.made("/v1/organizations", json!({ "name": "other" })).await["id"].as_str().unwrap().to_owned();
    let third = json!({ "name": "third", "organizationId": other });
    let third = scene.made("/v1/projects", third).await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/projects/{third}/functions");
    let last = scene.made(&path, json!({ "name": "last" })).await["id"].as_str().unwrap().to_owned();
    scene.served.control.usage(&batch("a", 4, &[record(&last, scene.this, 5)])).await.unwrap();
    delete(&format!("/v1/functions/{last}"), 200).await;
    delete(&format!("/v1/projects/{third}"), 204).await;
    assert_eq!(requests(&scene.served, &other).await, "5");
    delete(&format!("/v1/organizations/{other}"), 204).await;
    scene.served.control.usage(&batch("a", 5, &[record(&last, scene.this, 5)])).await.unwrap();
    assert_eq!(requests(&scene.served, &other).await, "0");
}

async fn who_pays_may_look_and_nobody_else_besides_members() {
    let scene = Scene::new().await;
    let keys = format!("/v1/projects/{}/keys", scene.project);
    let token = |made: &Value| made["token"].as_str().unwrap().to_owned();
    let mut members = vec![];
    for role in ["billing", "viewer", "developer"] {
        members.push(token(&scene.made(&keys, json!({ "name": role, "role": role })).await));
    }
    let [organization, project, function, site] = scene.paths();
    let parts = [format!("{project}/functions"), format!("{project}/sites")];
    for member in &members {
        for path in [&project, &function, &site, &parts[0], &parts[1]] {
            assert_eq!(scene.get(member, path).await.0, 200, "{path}");
        }
        assert_eq!(scene.get(member, &organization).await.0, 404, "a key is of its project");
    }
    for path in scene.paths().iter().chain(&parts).chain([&format!("{organization}/projects")]) {
        let (status, said) = scene.get(STRANGER, path).await;
        assert_eq!((status, &said["code"]), (404, &json!("not_found")), "{path}");
    }
    let one = json!({ "name": "one", "functionId": scene.functions[0], "scopes": "usage:read" });
    let one = token(&scene.made("/v1/tokens", one).await);
    assert_eq!(scene.get(&one, &function).await.0, 200);
    let other = format!("/v1/functions/{}/usage", scene.functions[1]);
    assert_eq!(scene.get(&one, &other).await.0, 404);
    for path in [&project, &site, &parts[0]] {
        let (status, said) = scene.get(&one, path).await;
        assert_eq!((status, &said["code"]), (403, &json!("insufficient_scope")), "{path}");
    }
    let blind = json!({ "name": "blind", "scopes": "functions:read" });
    let blind = token(&scene.made("/v1/tokens", blind).await);
    for path in scene.paths() {
        assert_eq!(scene.get(&blind, &path).await.0, 403, "{path}");
    }
}

async fn lists_have_pages() {
    let scene = Scene::new().await;
    let [_, project, function, _] = scene.paths();
    let records: Vec<UsageRecord> =
        (1..=250_i64).map(|number| record(&scene.functions[0], scene.this - number * HOUR, 1)).collect();
    scene.served.control.usage(&batch("a", 2, &records)).await.unwrap();
    let all = format!("{function}?per=hour&from={}", scene.this - 250 * HOUR);
    let (mut times, mut path) = (Vec::new(), format!("{all}&limit=100"));
    let mut sizes = Vec::new();
    loop {
        let page = scene.read(&path).await;
        assert_eq!(page["total"]["requests"], 264, "it is of all pages");
        let data = page["data"].as_array().unwrap();
        sizes.push(data.len());
        times.extend(data.iter().map(|time| time["from"].as_i64().unwrap()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{all}&limit=100&after={next}");
    }
    assert_eq!(sizes, [100, 100, 51]);
    let expected: Vec<i64> = (-250..=0).map(|number| scene.this + number * HOUR).collect();
    assert_eq!(times, expected);
    let first = scene.read(&format!("{project}/functions?limit=1")).await;
    assert_eq!((&first["data"][0]["name"], &first["next"]), (&json!("one"), &json!(scene.functions[0])));
    let second = scene.read(&format!("{project}/functions?after={}", scene.functions[0])).await;
    assert_eq!((&second["data"][0]["name"], &second["next"]), (&json!("two"), &Value::Null));
}

async fn what_cannot_be_asked_for_is_refused_with_what_to_do() {
    let scene = Scene::new().await;
    let [organization, project, function, _] = scene.paths();
    let refused = async |path: String, code: &str, words: &str| {
        let (status, said) = scene.get(OWNER, &path).await;
        assert_eq!((status, &said["code"]), (400, &json!(code)), "{path}: {said}");
        assert!(said["detail"].as_str().unwrap().contains(words), "{said}");
    };
    let period = "invalid_usage_period";
    for whole in [&organization, &project] {
        refused(format!("{whole}?per=hour"), period, "functions and sites only").await;
    }
    refused(format!("{function}?per=minute"), period, "per is day, or hour").await;
    refused(format!("{function}?from=2000&to=1000"), period, "to is before from").await;
    refused(format!("{project}?from={}", scene.this + DAY), period, "to is before from").await;
    refused(format!("{project}?from={}", scene.this - 400 * DAY), period, "ask for less").await;
    refused(format!("{function}?per=hour&from={}", scene.this - 63 * DAY), period, "62 days").await;
    refused(format!("{project}/functions?from=0"), period, "400 days").await;
    refused(format!("{project}?from=-1"), period, "milliseconds").await;
    refused(format!("{project}?to=9999999999999999"), period, "10000").await;
    refused(format!("{project}?from=yesterday"), "invalid_request", "from").await;
    refused(format!("{project}?until=1"), "unknown_parameter", "until").await;
    refused(format!("{project}/functions?per=day"), "unknown_parameter", "per").await;
    for after in ["x", "-1", "0", "1", &(scene.this + 1).to_string(), &scene.functions[0]] {
        refused(format!("{project}?after={after}"), "invalid_cursor", "after").await;
    }
    refused(format!("{project}/functions?after={}", scene.site), "invalid_cursor", "after").await;
    refused(format!("{project}?limit=0"), "invalid_limit", "limit").await;
}

async fn what_was_used_long_ago_is_forgotten() {
    let scene = Scene::new().await;
    let (hour, day) = (scene.this, scene.this - scene.this % DAY);
    let rows = |table: &str, column: &str, at: i64, count: i64| {
        format!(
            "with recursive n(i) as (select 0 union all select i + 1 from n where i < {count} - 1)
             insert into {table} (subject, {column}, requests, errors, cpu_us, wall_us, sent_bytes)
             select 'fn_old' || i, {at}, 1, 1, 1, 1, 1 from n;"
        )
    };
    let script = [
        rows("usage_hours", "hour", hour - 62 * DAY - HOUR, 2_100),
        rows("usage_hours", "hour", hour - 62 * DAY + HOUR, 2),
        rows("usage_days", "day", day - 401 * DAY, 1_000),
        rows("usage_days", "day", day - 399 * DAY, 3),
        format!(
            "insert into usage_sources values ('edge_1', 'a', 1, {}), ('edge_1', 'b', 1, {})",
            hour - 91 * DAY,
            hour - 89 * DAY
        ),
    ];
    scene.served.stored.script(&script.concat()).await;
    assert_eq!(scene.served.control.compact_usage().await.unwrap(), 3_101);
    assert_eq!(scene.served.control.compact_usage().await.unwrap(), 0);
    assert_eq!(stored(&scene.served, "usage_hours", "count(*)", "fn_old").await, "2");
    assert_eq!(stored(&scene.served, "usage_days", "count(*)", "fn_old").await, "3");
    // What an edge tells too late for hours counts for its day, and too late for that not at all.
    let one = &scene.functions[0];
    let late = [record(one, hour - 100 * DAY, 64), record(one, hour - 402 * DAY, 128)];
    scene.served.control.usage(&batch("a", 2, &late)).await.unwrap();
    let path = format!("/v1/functions/{one}/usage?from={}", hour - 101 * DAY);
    assert_eq!(scene.read(&path).await["total"], said(78));
    // Of this hour, of the one before, which may be yesterday, of three days ago and of a hundred.
    let days = if hour == day { "4" } else { "3" };
    assert_eq!(stored(&scene.served, "usage_days", "count(*)", one).await, days);
}

on_both! {
    sums_of_all_agree,
    what_is_gone_stays_in_the_sums_of_its_owners,
    who_pays_may_look_and_nobody_else_besides_members,
    lists_have_pages,
    what_cannot_be_asked_for_is_refused_with_what_to_do,
    what_was_used_long_ago_is_forgotten,
}
