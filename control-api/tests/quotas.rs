//! Plans: the operator makes them, organizations have them, and what they say counts.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_control_api::{DomainConfig, Quotas};
use serde_json::{Value, json};
use support::{OWNER, STRANGER, Served};

/// A control API, its operator's first project and organization, and those of somebody else.
struct Scene {
    served: Served,
    project: String,
    organization: String,
}

impl Scene {
    async fn new() -> Self {
        Self::on(Served::start().await).await
    }

    async fn on(served: Served) -> Self {
        let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
        let text = |field: &str| projects["data"][0][field].as_str().unwrap().to_owned();
        Self { project: text("id"), organization: text("organizationId"), served }
    }

    async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let path = path.replace("{project}", &self.project).replace("{organization}", &self.organization);
        self.served.call(method, &path, Some(token), body).await
    }

    async fn done(&self, token: &str, method: &str, path: &str, body: Value) -> Value {
        let (status, said) = self.call(token, method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {said}");
        said
    }

    /// The code and the sentence of a refusal.
    async fn refused(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, String, String) {
        let (status, said) = self.call(token, method, path, body).await;
        let text = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
        (status, text("code"), text("detail"))
    }

    /// A plan's path and id.
    async fn plan(&self, name: &str, limits: Value) -> (String, Value) {
        let plan = self.done(OWNER, "post", "/v1/plans", json!({ "name": name, "limits": limits })).await;
        (format!("/v1/plans/{}", plan["id"].as_str().unwrap()), plan["id"].clone())
    }

    async fn assign(&self, organization: &str, plan: &Value) {
        let path = format!("/v1/organizations/{organization}/plan");
        self.done(OWNER, "put", &path, json!({ "planId": plan })).await;
    }

    async fn set(&self, plan: &str, limits: Value) {
        self.done(OWNER, "patch", plan, json!({ "limits": limits })).await;
    }

    /// `limit`, `used` and `byPlan` of a quota.
    async fn quota(&self, token: &str, of: &str, name: &str) -> (Value, Value, Value) {
        let said = self.done(token, "get", &format!("{of}/quotas"), Value::Null).await;
        let all = said["quotas"].as_array().unwrap();
        let quota = all.iter().find(|quota| quota["name"] == name).unwrap();
        (quota["limit"].clone(), quota["used"].clone(), quota["byPlan"].clone())
    }

    /// A new member's token.
    async fn join(&self, group: &str, role: &str) -> (u16, Value) {
        let path = format!("{group}/invitations");
        let invited = self.done(STRANGER, "post", &path, json!({ "role": role })).await;
        let body = json!({ "code": invited["code"], "name": role });
        self.served.call("post", "/v1/invitations/accept", None, body).await
    }
}

async fn the_operator_makes_changes_and_removes_plans() {
    let scene = Scene::new().await;
    let (small, id) = scene.plan("small", json!({ "functions": 2, "storageBytes": 1_000_000 })).await;
    let limits = json!({ "projects": null, "members": null, "requestsPerMinute": null, "functions": 2, "sites": null,
        "domains": null, "projectDeployments": null, "storageBytes": 1_000_000, "pins": null, "functionDeployments": null });
    let shown = scene.done(OWNER, "get", &small, Value::Null).await;
    assert_eq!(
        (&shown["name"], &shown["limits"], &shown["organizations"]),
        (&json!("small"), &limits, &json!(0))
    );
    scene.plan("a.first", json!({})).await;
    let listed = scene.done(OWNER, "get", "/v1/plans", Value::Null).await;
    let names: Vec<&Value> = listed["data"].as_array().unwrap().iter().map(|plan| &plan["name"]).collect();
    assert_eq!(names, ["a.first", "small"]);

    for (body, status, code) in [
        (json!({ "name": "small" }), 409, "plan_name_taken"),
        (json!({ "name": "with space" }), 400, "invalid_plan_name"),
        (json!({ "name": "" }), 400, "invalid_plan_name"),
        (json!({ "name": "x".repeat(65) }), 400, "invalid_plan_name"),
        (json!({ "name": "x", "limits": { "requestsPerMinute": 0 } }), 400, "invalid_limit"),
        (json!({ "name": "x", "limits": { "pins": 1_000_000_001 } }), 400, "invalid_limit"),
        (json!({ "name": "x", "limits": { "functionDeployments": 2 } }), 400, "invalid_limit"),
        (json!({ "name": "x", "limits": { "projectDeployments": 0 } }), 400, "invalid_limit"),
        (json!({ "name": "x", "limits": { "functoins": 1 } }), 422, "invalid_request"),
        (json!({ "name": "x", "limits": { "functions": -1 } }), 422, "invalid_request"),
    ] {
        let said = scene.refused(OWNER, "post", "/v1/plans", body.clone()).await;
        assert_eq!((said.0, said.1.as_str()), (status, code), "{body} {}", said.2);
    }

    // What is left out stays, null is what the server says, and nobody overwrites what they have not seen.
    let path = scene.served.answer("get", &small, Some(OWNER), &[], Value::Null).await;
    let tag = path.headers()["etag"].to_str().unwrap().to_owned();
    let change = json!({ "name": "tiny", "limits": { "functions": null, "sites": 0 } });
    let seen = [("if-match", tag.as_str())];
    let changed = scene.served.answer("patch", &small, Some(OWNER), &seen, change.clone()).await;
    let changed: Value = changed.json().await.unwrap();
    let limits = &changed["limits"];
    assert_eq!((&changed["name"], &limits["functions"]), (&json!("tiny"), &Value::Null));
    assert_eq!((&limits["sites"], &limits["storageBytes"]), (&json!(0), &json!(1_000_000)));
    for (method, body) in [("patch", change), ("delete", Value::Null)] {
        let outdated = scene.served.answer(method, &small, Some(OWNER), &seen, body).await;
        assert_eq!(outdated.status(), 412);
    }
    let taken = scene.refused(OWNER, "patch", &small, json!({ "name": "a.first" })).await;
    assert_eq!((taken.0, taken.1.as_str()), (409, "plan_name_taken"));

    scene.assign("org_2", &id).await;
    let theirs = scene.done(STRANGER, "get", "/v1/organizations/org_2", Value::Null).await;
    assert_eq!(theirs["plan"], "tiny");
    let (status, code, said) = scene.refused(OWNER, "delete", &small, Value::Null).await;
    assert_eq!((status, code.as_str()), (409, "plan_in_use"));
    assert!(said.contains("tiny") && said.contains("1 of them"), "{said}");
    scene.done(OWNER, "delete", "/v1/organizations/org_2/plan", Value::Null).await;
    scene.done(OWNER, "delete", &small, Value::Null).await;
    assert_eq!(scene.call(OWNER, "get", &small, Value::Null).await.0, 404);
    for (path, body) in [
        ("/v1/organizations/org_2/plan", json!({ "planId": id })),
        ("/v1/organizations/org_3/plan", json!({ "planId": listed["data"][0]["id"] })),
    ] {
        assert_eq!(scene.call(OWNER, "put", path, body).await.0, 404, "{path}");
    }
}

async fn only_the_operator_has_anything_to_do_with_plans() {
    let scene = Scene::new().await;
    let (plan, id) = scene.plan("small", json!({})).await;
    let assignment = json!({ "planId": id });
    let scoped = json!({ "name": "narrow", "scopes": "organizations:read" });
    let narrow = scene.done(OWNER, "post", "/v1/tokens", scoped).await["token"].clone();
    for (method, path, body) in [
        ("get", "/v1/plans", Value::Null),
        ("post", "/v1/plans", json!({ "name": "mine" })),
        ("get", plan.as_str(), Value::Null),
        ("patch", plan.as_str(), json!({ "name": "mine" })),
        ("delete", plan.as_str(), Value::Null),
        ("put", "/v1/organizations/org_2/plan", assignment),
        ("delete", "/v1/organizations/org_2/plan", Value::Null),
    ] {
        let said = scene.refused(STRANGER, method, path, body.clone()).await;
        assert_eq!(
            (said.0, said.1.as_str()),
            (404, "not_found"),
            "{method} {path}, also of their own organization"
        );
        assert_eq!(
            scene.call(narrow.as_str().unwrap(), method, path, body.clone()).await.0,
            403,
            "{method} {path}"
        );
        assert_eq!(scene.served.call(method, path, None, body).await.0, 401, "{method} {path}");
    }
    // Nor does the operator see what is others'.
    for path in ["/v1/organizations/org_2/quotas", "/v1/projects/prj_2/quotas"] {
        assert_eq!(scene.call(OWNER, "get", path, Value::Null).await.0, 404, "{path}");
    }
    let own = format!("/v1/organizations/{}/quotas", scene.organization);
    assert_eq!(scene.call(STRANGER, "get", &own, Value::Null).await.0, 404);
}

async fn a_plan_counts_at_once_and_takes_nothing_away() {
    let dns = support::dns::DnsServer::start().await;
    let domains = DomainConfig { dns_servers: vec![dns.address], ..DomainConfig::default() };
    let served = Served::changed(|config| {
        config.domains = domains;
        config.api.quotas = Quotas { functions: 3, sites: 3, projects: 3, ..Quotas::default() };
    });
    let scene = Scene::on(served.await).await;
    let root = "/v1/projects/prj_2";
    let make = async |noun: &str, name: &str| {
        let body = match noun {
            "domains" => json!({ "hostname": format!("{name}.example.com"), "siteId": scene.site().await }),
            _ => json!({ "name": name }),
        };
        scene.refused(STRANGER, "post", &format!("{root}/{noun}"), body).await
    };
    assert_eq!(make("sites", "site").await.0, 201);
    for noun in ["functions", "domains"] {
        assert_eq!(make(noun, "one").await.0, 201, "{noun}");
        assert_eq!(make(noun, "two").await.0, 201, "{noun}");
    }
    let (plan, id) =
        scene.plan("small", json!({ "functions": 1, "sites": 1, "domains": 2, "projects": 1 })).await;
    scene.assign("org_2", &id).await;
    for (noun, most, has) in [("functions", 1, 2), ("sites", 1, 1), ("domains", 2, 2)] {
        let (status, _, said) = make(noun, "three").await;
        let expected =
            format!("a project has at most {most} {noun} by the plan small, and this one has {has};");
        assert!(status == 409 && said.starts_with(&expected) && said.contains("another plan"), "{said}");
        let quota = scene.quota(STRANGER, root, noun).await;
        assert_eq!(quota, (json!(most), json!(has), json!(true)), "{noun}");
    }
    let another = json!({ "name": "second", "organizationId": "org_2" });
    let (status, code, said) = scene.refused(STRANGER, "post", "/v1/projects", another.clone()).await;
    assert_eq!((status, code.as_str()), (409, "quota_exceeded"));
    assert!(said.starts_with("an organization has at most 1 projects by the plan small"), "{said}");
    // All that there was is there, and can be changed.
    let functions = scene.done(STRANGER, "get", &format!("{root}/functions"), Value::Null).await;
    let first = functions["data"][0]["id"].as_str().unwrap();
    assert_eq!(functions["data"].as_array().unwrap().len(), 2);
    scene.done(STRANGER, "patch", &format!("/v1/functions/{first}"), json!({ "name": "renamed" })).await;
    // Others have what the server says.
    let own = "/v1/projects/{project}";
    assert_eq!(scene.quota(OWNER, own, "functions").await, (json!(3), json!(0), json!(false)));

    scene.set(&plan, json!({ "functions": 3, "projects": 10 })).await;
    assert_eq!(make("functions", "three").await.0, 201);
    scene.done(STRANGER, "post", "/v1/projects", another).await;
    // What the plan does not say is the server's to say, and so is everything without a plan.
    scene.set(&plan, json!({ "functions": null })).await;
    let (status, _, said) = make("functions", "four").await;
    assert!(
        status == 409 && said.starts_with("a project has at most 3 functions, and this one has 3;"),
        "{said}"
    );
    assert!(said.ends_with("or ask the operator for more"), "{said}");
    scene.done(OWNER, "delete", "/v1/organizations/org_2/plan", Value::Null).await;
    assert_eq!(make("sites", "three").await.0, 201);
    let said = scene.done(STRANGER, "get", "/v1/organizations/org_2/quotas", Value::Null).await;
    assert_eq!(said["plan"], Value::Null);
    assert_eq!(
        scene.quota(STRANGER, "/v1/organizations/org_2", "projects").await,
        (json!(3), json!(2), json!(false))
    );
}

impl Scene {
    /// The first site of the other project.
    async fn site(&self) -> Value {
        self.done(STRANGER, "get", "/v1/projects/prj_2/sites", Value::Null).await["data"][0]["id"].clone()
    }
}

async fn what_is_stored_and_deployed_is_limited_by_a_plan_too() {
    let scene = Scene::new().await;
    let (plan, id) = scene.plan("small", json!({ "pins": 1 })).await;
    scene.assign("org_2", &id).await;
    let root = "/v1/projects/prj_2";
    let store = async |text: &str| {
        let mut blocks = Vec::new();
        let keep = |block| {
            blocks.push(block);
            Ok(())
        };
        let file = af_content::unixfs::import(text.repeat(100).as_bytes(), keep).unwrap();
        let mut car = af_content::car::encode_header(&[file.root]);
        for block in &blocks {
            car.extend(af_content::car::encode_block_prefix(&block.id, block.bytes.len()));
            car.extend_from_slice(&block.bytes);
        }
        let (status, said) = scene.served.upload(&format!("{root}/storage"), STRANGER, car).await;
        (status, said["code"].clone(), said["detail"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(store("one").await.0, 201);
    let (status, code, said) = store("two").await;
    assert_eq!((status, &code), (409, &json!("too_many_pins")), "{said}");
    assert!(said.contains("has 1 pins, and its limit is 1 by the plan small"), "{said}");
    scene.set(&plan, json!({ "pins": null, "storageBytes": 500 })).await;
    let (status, code, said) = store("two").await;
    assert_eq!((status, &code), (409, &json!("storage_full")), "{said}");
    assert!(said.contains("over its limit of 500 by the plan small"), "{said}");
    assert_eq!(scene.quota(STRANGER, root, "storageBytes").await, (json!(500), json!(300), json!(true)));
    let usage = scene.done(STRANGER, "get", &format!("{root}/storage/usage"), Value::Null).await;
    assert_eq!((&usage["mostBytes"], &usage["mostPins"]), (&json!(500), &json!(10_000)));
    scene.set(&plan, json!({ "storageBytes": 1_000 })).await;
    assert_eq!(store("two").await.0, 201);

    let function =
        scene.done(STRANGER, "post", &format!("{root}/functions"), json!({ "name": "hello" })).await;
    let path =
        format!("/v1/functions/{}/deployments?cid={{cid}}&fetch=true", function["id"].as_str().unwrap());
    let cid = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
    // As many as there may be, and all are to stay.
    let rows = format!(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 3)
         insert into deployments (id, function_id, number, manifest_cid, code_cid, blake3, size, world, author_id, created_at)
         select 'dep_' || i, '{}', i, '{cid}', '{cid}', '', 0, 'wasi:http/proxy@0.2', 'usr_2', 0 from n;
         update functions set keep_newest = 10;",
        function["id"].as_str().unwrap()
    );
    scene.served.stored.script(&rows).await;
    for (limits, said) in [
        (json!({ "functionDeployments": 3 }), "a function has at most 3 deployments by the plan small"),
        (
            json!({ "functionDeployments": 4, "projectDeployments": 3 }),
            "a project has at most 3 deployments by the plan small",
        ),
    ] {
        scene.set(&plan, limits).await;
        let (status, refused) = scene.served.upload(&path.replace("{cid}", cid), STRANGER, Vec::new()).await;
        assert_eq!((status, &refused["code"]), (409, &json!("quota_exceeded")), "{refused}");
        assert!(refused["detail"].as_str().unwrap().starts_with(said), "{refused}");
    }
}

async fn members_are_counted_once_wherever_they_are() {
    let scene = Scene::new().await;
    let (plan, id) = scene.plan("small", json!({ "members": 2 })).await;
    scene.assign("org_2", &id).await;
    let (organization, project) = ("/v1/organizations/org_2", "/v1/projects/prj_2");
    let (status, joined) = scene.join(project, "viewer").await;
    assert_eq!(status, 200, "{joined}");
    let viewer = joined["token"].as_str().unwrap();
    // A member of the project alone sees what counts there, and not the organization's.
    assert_eq!(scene.quota(viewer, project, "sites").await.1, json!(0));
    assert_eq!(scene.call(viewer, "get", &format!("{organization}/quotas"), Value::Null).await.0, 404);
    for group in [organization, project] {
        let (status, refused) = scene.join(group, "developer").await;
        assert_eq!((status, &refused["code"]), (409, &json!("quota_exceeded")), "{refused}");
        let said = refused["detail"].as_str().unwrap();
        assert!(
            said.starts_with("an organization has at most 2 members by the plan small, and this one has 2"),
            "{said}"
        );
    }
    // Who is one in a project is no more in the organization.
    let path = format!("{organization}/invitations");
    let invited = scene.done(STRANGER, "post", &path, json!({ "role": "viewer" })).await;
    scene.done(viewer, "post", "/v1/invitations/accept", json!({ "code": invited["code"] })).await;
    assert_eq!(scene.quota(viewer, organization, "members").await, (json!(2), json!(2), json!(true)));
    scene.set(&plan, json!({ "members": 3 })).await;
    assert_eq!(scene.join(project, "billing").await.0, 200);
    assert_eq!(scene.quota(viewer, organization, "members").await, (json!(3), json!(3), json!(true)));
}

async fn an_organization_asks_as_often_as_its_plan_says() {
    let scene = Scene::new().await;
    let (plan, id) = scene.plan("small", json!({ "requestsPerMinute": 2 })).await;
    let (organization, project) = ("/v1/organizations/org_2", "/v1/projects/prj_2");
    assert_eq!(scene.call(STRANGER, "get", project, Value::Null).await.0, 200);
    scene.assign("org_2", &id).await;
    let ask = async |path: &str| {
        let answer = scene.served.answer("get", path, Some(STRANGER), &[], Value::Null).await;
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let headers = [header("ratelimit-policy").unwrap(), header("ratelimit").unwrap()];
        (answer.status().as_u16(), headers, header("retry-after"), answer.text().await.unwrap())
    };
    // All of the organization counts together, and an own thing of the user's does not.
    let (status, headers, ..) = ask(project).await;
    assert_eq!(status, 200);
    assert!(headers[0].contains("\"organization\";q=2;w=60"), "{headers:?}");
    assert!(headers[1].contains("\"organization\";r=1;t=30"), "{headers:?}");
    assert_eq!(ask(&format!("{organization}/quotas")).await.0, 200);
    let (status, headers, wait, said) = ask(&format!("{project}/functions")).await;
    assert_eq!(status, 429, "{said}");
    assert!(headers[1].contains("\"organization\";r=0;t="), "{headers:?}");
    assert!(wait.is_some_and(|wait| (1..=30).contains(&wait.parse().unwrap())));
    for part in ["rate_limit_exceeded", "org_2 may be asked about 2 times in a minute by its plan small"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(ask("/v1/me").await.0, 200);
    let query = json!({ "query": "{ afFunctions { data { id } } }" });
    let headers = [("x-project-id", "prj_2")];
    let refused = scene.served.call_with("/graphql", STRANGER, &headers, query.clone()).await.1;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "rate_limit_exceeded", "{refused}");
    // Nobody else is kept waiting, and nobody else uses it up.
    let own = "/v1/projects/{project}";
    for _ in 0..3 {
        assert_eq!(scene.call(OWNER, "get", own, Value::Null).await.0, 200);
        assert_eq!(scene.call(OWNER, "get", project, Value::Null).await.0, 404);
    }
    // A change made here counts at once, and one request is counted once, whatever it asks for.
    scene.set(&plan, json!({ "requestsPerMinute": 3 })).await;
    let twice = json!({ "query": "{ a: afFunctions { data { id } } b: afFunctions { data { id } } c: sites(where: {}) { data { id } } }" });
    let said = scene.served.call_with("/graphql", STRANGER, &headers, twice).await.1;
    assert_eq!(said["errors"], Value::Null, "{said}");
    let batch = json!([query, query, query]);
    let said = scene.served.call_with("/graphql", STRANGER, &headers, batch).await.1;
    let failed: Vec<bool> = said.as_array().unwrap().iter().map(|one| one["errors"].is_array()).collect();
    assert_eq!(failed.iter().filter(|failed| **failed).count(), 1, "each of a batch is one: {said}");
    scene.done(OWNER, "delete", "/v1/organizations/org_2/plan", Value::Null).await;
    assert_eq!(ask(project).await.0, 200);
}

async fn a_change_of_another_server_counts_at_once() {
    let scene = Scene::new().await;
    let beside = scene.served.beside().await;
    let (plan, id) = scene.plan("small", json!({ "sites": 0 })).await;
    scene.assign("org_2", &id).await;
    let path = "/v1/projects/prj_2/sites";
    let (status, said) = beside.call("post", path, Some(STRANGER), json!({ "name": "one" })).await;
    assert_eq!((status, &said["code"]), (409, &json!("quota_exceeded")), "{said}");
    scene.set(&plan, json!({ "sites": 1 })).await;
    assert_eq!(beside.call("post", path, Some(STRANGER), json!({ "name": "one" })).await.0, 201);
}

on_both! {
    the_operator_makes_changes_and_removes_plans,
    only_the_operator_has_anything_to_do_with_plans,
    a_plan_counts_at_once_and_takes_nothing_away,
    what_is_stored_and_deployed_is_limited_by_a_plan_too,
    members_are_counted_once_wherever_they_are,
    an_organization_asks_as_often_as_its_plan_says,
    a_change_of_another_server_counts_at_once,
}
