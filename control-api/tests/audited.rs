//! Every operation of the OpenAPI document that changes something leaves an entry in the audit log: one that is not tried
//! here, and not said to change nothing, fails this test.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use af_content::private::{Cipher, Sealing, new_key};
use af_content::unixfs;
use af_contract::trigger::{Answered, Tick};
use af_control_api::{Callee, DomainConfig, rest};
use futures::future::BoxFuture;
use reqwest::Response;
use serde_json::{Value, json};
use support::content::{COMPONENT, car_of, directory};
use support::dns::DnsServer;
use support::{OWNER, Served};

/// They answer what is, and change nothing that anybody could see; a terminal that begins to sign in is nobody's yet.
const QUESTIONS: [&str; 4] = [
    "post /api/validate",
    "post /auth/cli/start",
    "post /tokens/validate",
    "post /v1/projects/{project}/storage/missing",
];

struct Nobody;

impl Callee for Nobody {
    fn call(&self, _run: &str, _tick: Tick) -> BoxFuture<'static, Answered> {
        Box::pin(async { Answered { status: Some(200), error: None } })
    }
}

/// What was tried, and what the paths' parameters stand for.
struct Story {
    served: Served,
    ids: Vec<(&'static str, String)>,
    tried: BTreeSet<String>,
}

impl Story {
    fn is(&mut self, name: &'static str, id: &Value) {
        self.ids.retain(|(known, _)| *known != name);
        self.ids.push((name, id.as_str().unwrap().to_owned()));
    }

    fn id(&self, name: &str) -> &str {
        &self.ids.iter().find(|(known, _)| *known == name).unwrap().1
    }

    fn path(&self, template: &str) -> String {
        self.ids.iter().fold(template.to_owned(), |path, (name, id)| path.replace(&format!("{{{name}}}"), id))
    }

    async fn does(&mut self, operation: &str, body: Value) -> Value {
        let (method, template) = operation.split_once(' ').unwrap();
        let project = [("x-project-id", self.id("project"))];
        let answer = self.served.answer(method, &self.path(template), Some(OWNER), &project, body).await;
        self.left_an_entry(operation, answer).await
    }

    async fn sends(&mut self, operation: &str, query: &str, headers: &[(&str, &str)], body: &[u8]) -> Value {
        let (_, template) = operation.split_once(' ').unwrap();
        let mut all = vec![("x-project-id", self.id("project"))];
        all.extend(headers);
        let path = format!("{}{query}", self.path(template));
        let answer = self.served.post(&path, OWNER, &all, body.to_vec()).await;
        self.left_an_entry(operation, answer).await
    }

    /// Which is of this very request.
    async fn left_an_entry(&mut self, operation: &str, answer: Response) -> Value {
        let request = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{operation}: {status} {text}");
        let mut found = false;
        for path in [self.path("/v1/organizations/{first}/audit"), "/v1/audit".into()] {
            let (status, page) = self.served.call("get", &path, Some(OWNER), Value::Null).await;
            assert_eq!(status, 200, "{page}");
            let entries = page["data"].as_array().unwrap();
            found |= entries.iter().any(|entry| entry["requestId"] == request && entry["outcome"] == "done");
        }
        assert!(found, "{operation} left no entry");
        self.tried.insert(operation.to_owned());
        serde_json::from_str(&text).unwrap_or_default()
    }
}

async fn projects_and_people(story: &mut Story) {
    let made = story.does("post /v1/organizations", json!({ "name": "other" })).await;
    story.is("organization", &made["id"]);
    story.does("patch /v1/organizations/{organization}", json!({ "name": "renamed" })).await;
    let body = json!({ "name": "second", "organizationId": story.id("first") });
    let made = story.does("post /v1/projects", body).await;
    story.is("project", &made["id"]);
    story.does("patch /v1/projects/{project}", json!({ "name": "renamed" })).await;
    for whose in ["organizations/{organization}", "projects/{project}"] {
        let invite = format!("post /v1/{whose}/invitations");
        let invitation = story.does(&invite, json!({ "role": "viewer" })).await;
        story.is("invitation", &invitation["id"]);
        story.does("delete /v1/invitations/{invitation}", Value::Null).await;
        let invitation = story.does(&invite, json!({ "role": "viewer" })).await;
        // Somebody new has no token; the entry is theirs, so their organization is the one that is looked at.
        let body = json!({ "code": invitation["code"], "name": "new" });
        let answer = story.served.answer("post", "/v1/invitations/accept", None, &[], body).await;
        if whose.starts_with("projects") {
            let joined = story.left_an_entry("post /v1/invitations/accept", answer).await;
            story.is("user", &joined["userId"]);
        } else {
            story.is("user", &answer.json::<Value>().await.unwrap()["userId"]);
        }
        story.does(&format!("put /v1/{whose}/members/{{user}}"), json!({ "role": "developer" })).await;
        story.does(&format!("delete /v1/{whose}/members/{{user}}"), Value::Null).await;
    }
    story.does("post /v1/projects/{project}/keys", json!({ "name": "ci" })).await;
    let made = story.does("post /v1/tokens", json!({ "name": "mine" })).await;
    story.is("token", &made["id"]);
    story.does("post /v1/tokens/{token}/rotate", json!({})).await;
    story.does("delete /v1/tokens/{token}", Value::Null).await;
    story.does("post /v1/tokens/session", json!({})).await;
    let (_, started) = story.served.call("post", "/auth/cli/start", None, json!({})).await;
    story.does("post /auth/cli/approve", json!({ "userCode": started["userCode"] })).await;
    let session = ["verificationSessionId", "pollSecret"].map(|field| (field, started[field].clone()));
    let answer =
        story.served.answer("post", "/auth/cli/poll", None, &[], json!(BTreeMap::from(session))).await;
    story.left_an_entry("post /auth/cli/poll", answer).await;
}

async fn functions_and_sites(story: &mut Story) {
    let made = story.does("post /v1/projects/{project}/functions", json!({ "name": "hello" })).await;
    story.is("function", &made["id"]);
    story.does("patch /v1/functions/{function}", json!({ "name": "renamed" })).await;
    let component = wat::parse_str(COMPONENT).unwrap();
    // The last one may open a store more than the one before it.
    for more in ["", "", "&stores=more"] {
        let key = new_key().unwrap();
        let mut blocks = Vec::new();
        let keep = |block| {
            blocks.push(block);
            Ok(())
        };
        let file = unixfs::import(Sealing::new(&Cipher::new(&key), &component[..]).unwrap(), keep).unwrap();
        let triggers = "[{\"cron\":\"0%200%201%201%20*\",\"path\":\"/tick\"}]";
        let query = format!("?cid={}&blake3={}&triggers={triggers}{more}", file.root, file.blake3);
        let operation = "post /v1/functions/{function}/deployments";
        let car = car_of(&[file.root], &blocks);
        let key = key.to_hex();
        let made = story.sends(operation, &query, &[("af-content-key", key.as_str())], &car).await;
        story.is("deployment", &made["id"]);
    }
    story.does("post /v1/deployments/{deployment}/approve", json!({})).await;
    story.does("post /v1/functions/{function}/triggers/run", json!({})).await;
    story.does("post /v1/functions/{function}/rollback", json!({})).await;
    let share = json!({ "deployment": story.id("deployment"), "percent": 10 });
    story.does("put /v1/functions/{function}/rollout", share.clone()).await;
    story.does("delete /v1/functions/{function}/rollout", Value::Null).await;
    story.does("put /v1/functions/{function}/rollout", share).await;
    story.does("post /v1/functions/{function}/promote", json!({})).await;
    story.does("post /v1/functions/{function}/prune", json!({ "keep": 1 })).await;
    story.does("post /v1/projects/{project}/rotate-content-key", Value::Null).await;

    let made = story.does("post /v1/projects/{project}/sites", json!({ "name": "pages" })).await;
    story.is("site", &made["id"]);
    story.does("patch /v1/sites/{site}", json!({ "name": "renamed" })).await;
    for text in [b"one", b"two"] {
        let (root, car) = directory(text);
        story.sends("post /v1/sites/{site}/deployments", &format!("?cid={root}"), &[], &car).await;
    }
    story.does("post /v1/sites/{site}/rollback", json!({})).await;

    let claim = json!({ "hostname": "www.example.com", "functionId": story.id("function") });
    let made = story.does("post /v1/projects/{project}/domains", claim).await;
    story.is("domain", &made["id"]);
    let change = json!({ "verificationMethod": "CNAME" });
    story.does("patch /v1/domains/{domain}", change).await;
    story.does("post /v1/domains/{domain}/verify", Value::Null).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["www.example.com".to_owned()]).unwrap();
    let chain = params.self_signed(&key).unwrap().pem();
    let certificate = json!({ "chain": chain, "key": key.serialize_pem() });
    story.does("put /v1/domains/{domain}/certificate", certificate).await;
    story.does("delete /v1/domains/{domain}/certificate", Value::Null).await;
}

async fn stored_content(story: &mut Story) {
    let (root, car) = directory(b"stored");
    story.is("cid", &json!(root.to_string()));
    story.sends("post /v1/projects/{project}/storage/blocks", "", &[], &car).await;
    story.does("post /v1/projects/{project}/storage/pins", json!({ "cid": root.to_string() })).await;
    story.does("delete /v1/projects/{project}/storage/{cid}", Value::Null).await;
    story.sends("post /v1/projects/{project}/storage", "", &[], &car).await;

    story.sends("post /store", "", &[], &car).await;
    story.does("post /upload", json!({ "rootCid": root.to_string() })).await;
    story.does("delete /delete/{cid}", Value::Null).await;
    let form =
        "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\ntext\r\n--x--\r\n";
    let kind = [("content-type", "multipart/form-data; boundary=x")];
    story.sends("post /upload/private", "", &kind, form.as_bytes()).await;
    story.does("post /v1/gc", json!({})).await;
}

async fn every_operation_that_changes_something_leaves_an_entry() {
    let dns = DnsServer::start().await;
    let config = DomainConfig { dns_servers: vec![dns.address], ..DomainConfig::default() };
    let served = Served::with(config).await;
    let control = served.control.clone();
    let schedule =
        tokio::spawn(async move { control.run_triggers(Arc::new(Nobody), std::future::pending()).await });
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let mut story = Story { served, ids: Vec::new(), tried: BTreeSet::new() };
    story.is("first", &projects["data"][0]["organizationId"]);
    story.is("project", &projects["data"][0]["id"]);
    projects_and_people(&mut story).await;
    functions_and_sites(&mut story).await;
    stored_content(&mut story).await;
    for owner in ["projects/{project}", "functions/{function}"] {
        for what in ["secrets", "settings"] {
            let body = json!({ "values": { format!("A_{}", what.to_uppercase()): "value" } });
            story.does(&format!("patch /v1/{owner}/{what}"), body).await;
        }
    }
    let made = story.does("post /v1/edges", json!({ "name": "edge-1" })).await;
    story.is("edge", &made["id"]);
    story.does("delete /v1/edges/{edge}", Value::Null).await;
    let made = story.does("post /v1/plans", json!({ "name": "small" })).await;
    story.is("plan", &made["id"]);
    story.does("patch /v1/plans/{plan}", json!({ "limits": { "sites": 1 } })).await;
    // Its members see it, too.
    let plan = json!({ "planId": story.id("plan") });
    story.does("put /v1/organizations/{organization}/plan", plan).await;
    story.does("delete /v1/organizations/{organization}/plan", Value::Null).await;
    story.does("delete /v1/plans/{plan}", Value::Null).await;
    for gone in ["domains/{domain}", "sites/{site}", "functions/{function}"] {
        story.does(&format!("delete /v1/{gone}"), Value::Null).await;
    }
    // The other one still keeps content.
    let body = json!({ "name": "third", "organizationId": story.id("first") });
    let made = story.does("post /v1/projects", body).await;
    story.is("project", &made["id"]);
    story.does("delete /v1/projects/{project}", Value::Null).await;
    story.does("delete /v1/organizations/{organization}", Value::Null).await;
    schedule.abort();

    let document = serde_json::to_value(rest::document()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, item)| {
        item.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
    });
    let changes = all.filter(|operation| !operation.starts_with("get "));
    let left: Vec<String> =
        changes.filter(|one| !story.tried.contains(one) && !QUESTIONS.contains(&one.as_str())).collect();
    assert!(left.is_empty(), "try them here: {left:?}");
}

on_both! { every_operation_that_changes_something_leaves_an_entry }
