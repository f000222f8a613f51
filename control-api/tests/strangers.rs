//! Every operation of the OpenAPI document that can name something of a project, as members of others call it: they get
//! nothing, and cannot tell what is there from what is not.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_contract::ContentId;
use af_control_api::rest;
use serde_json::{Map, Value, json};
use support::content::COMPONENT;
use support::{OWNER, STRANGER, Served};

const BLAKE3: &str = "d74981efa70a0c880b8d8c1985d075dbcbf679b99a5f9914e5aaf96b831a9e24";

/// What may be named, and where nothing is: ids and CIDs of the same form.
const NOTHING: [(&str, &str); 11] = [
    ("project", "prj_01m8bkmbkrmc0c18ejctnsswkx"),
    ("organization", "org_01m8bkmbkrmc0c18ejctnsswkx"),
    ("function", "fn_01m8bkmbkrmc0c18ejctnsswkx"),
    ("site", "site_01m8bkmbkrmc0c18ejctnsswkx"),
    ("domain", "dom_01m8bkmbkrmc0c18ejctnsswkx"),
    ("deployment", "dep_01m8bkmbkrmc0c18ejctnsswkx"),
    ("token", "tok_01m8bkmbkrmc0c18ejctnsswkx"),
    ("invitation", "inv_01m8bkmbkrmc0c18ejctnsswkx"),
    ("user", "usr_01m8bkmbkrmc0c18ejctnsswkx"),
    ("cid", "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"),
    ("plan", "plan_01m8bkmbkrmc0c18ejctnsswkx"),
];

/// Names and what they stand for.
type Ids = Vec<(String, String)>;

fn of<'a>(ids: &'a Ids, name: &str) -> Option<&'a str> {
    ids.iter().find(|(known, _)| known == name).map(|(_, id)| id.as_str())
}

fn with(ids: &Ids, name: &str, id: &str) -> Ids {
    let mut ids = ids.clone();
    ids.retain(|(known, _)| known != name);
    ids.push((name.to_owned(), id.to_owned()));
    ids
}

const CAR: &str = "application/vnd.ipld.car";

/// One operation of the document.
struct Operation {
    method: String,
    path: String,
    /// Parameters: where, and their names.
    parameters: Vec<(String, String, bool)>,
    /// Properties of its JSON body.
    fields: Vec<(String, bool)>,
    /// Its body is a CAR.
    takes_car: bool,
}

fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(rest::document()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let parameters = parameters
                .iter()
                .map(|one| (text(&one["in"]), text(&one["name"]), one["required"] == true))
                .collect();
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
            let schema = schema.as_str().map(|known| &document["components"]["schemas"][&known[21..]]);
            let fields = schema.map(|schema| {
                let required = schema["required"].as_array().cloned().unwrap_or_default();
                let names = schema["properties"].as_object().unwrap().keys();
                names.map(|name| (name.clone(), required.contains(&json!(name)))).collect()
            });
            operations.push(Operation {
                method: method.clone(),
                path: path.clone(),
                parameters,
                fields: fields.unwrap_or_default(),
                takes_car: !operation["requestBody"]["content"][CAR].is_null(),
            });
        }
    }
    operations
}

impl Operation {
    /// By its path, its header, or its body.
    fn names_something(&self) -> bool {
        let named = |(_, name, _): &(String, String, bool)| NOTHING.iter().any(|(known, _)| known == name);
        let ids = ["projectId", "organizationId", "functionId", "siteId"];
        self.of_the_upload_proxy()
            || self.parameters.iter().any(|parameter| parameter.0 == "path" && named(parameter))
            || self.fields.iter().any(|(name, _)| ids.contains(&name.as_str()))
    }

    fn names_more_than_a_project(&self) -> bool {
        let names = self.parameters.iter().filter(|(place, ..)| place == "path").map(|(_, name, _)| name);
        let mut names = names.chain(self.fields.iter().map(|(name, _)| name));
        (self.of_the_upload_proxy() || self.path.contains("{project}"))
            && names.any(|name| {
                name != "project" && (name.ends_with("Id") || name.to_lowercase().contains("cid"))
            })
    }

    fn of_the_upload_proxy(&self) -> bool {
        self.parameters.iter().any(|(_, name, _)| name == "X-Project-Id")
    }

    fn path(&self, ids: &Ids) -> String {
        let named = |path: String, (name, id): &(String, String)| path.replace(&format!("{{{name}}}"), id);
        let path = ids.iter().fold(self.path.clone(), named);
        assert!(!path.contains('{'), "say in NOTHING what {path} names");
        let needed = self
            .parameters
            .iter()
            .filter(|(place, name, required)| place == "query" && (*required || name == "blake3"));
        let query = needed.map(|(_, name, _)| match name.as_str() {
            "blake3" => format!("blake3={BLAKE3}"),
            name => format!("{name}={}", of(ids, name).unwrap()),
        });
        format!("{path}?{}", query.collect::<Vec<_>>().join("&"))
    }

    fn body(&self, ids: &Ids) -> Value {
        let mut body = Map::new();
        for (name, required) in &self.fields {
            let value = match name.as_str() {
                "name" => json!("taken-over"),
                "role" => json!("viewer"),
                "keep" | "percent" => json!(1),
                "values" => json!({ "NAME": "value" }),
                "hostname" => json!("www.example.org"),
                "verificationMethod" => json!("TXT"),
                "cids" => json!([of(ids, "cid")]),
                "rootCid" => json!(of(ids, "cid")),
                // A domain leads to one of both.
                "siteId" if self.fields.iter().any(|(name, _)| name == "functionId") => continue,
                name => match of(ids, name.strip_suffix("Id").unwrap_or(name)) {
                    Some(id) => json!(id),
                    None if *required => json!("x"),
                    None => continue,
                },
            };
            body.insert(name.clone(), value);
        }
        Value::Object(body)
    }

    /// Status and answer, in which nothing says any more what was named.
    async fn call(&self, served: &Served, token: &str, ids: &Ids) -> (u16, String) {
        let (path, project) = (self.path(ids), ("x-project-id", of(ids, "project").unwrap()));
        let answer = if self.takes_car {
            served.post(&path, token, &[project, ("content-type", CAR)], b"{}".to_vec()).await
        } else {
            served.answer(&self.method, &path, Some(token), &[project], self.body(ids)).await
        };
        let request = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap().replace(&request, "");
        (status, ids.iter().fold(text, |text, (name, id)| text.replace(id, name)))
    }
}

async fn made(served: &Served, path: &str, body: Value) -> Value {
    let (status, made) = served.call("post", path, Some(OWNER), body).await;
    assert!((200..300).contains(&status), "{path}: {made}");
    made
}

/// One of everything that the owner may have.
async fn everything(served: &Served) -> Ids {
    let get = async |path: &str| served.call("get", path, Some(OWNER), Value::Null).await.1;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let projects = get("/v1/projects").await;
    let project = text(&projects["data"][0]["id"]);
    let root = format!("/v1/projects/{project}");
    let function = text(&made(served, &format!("{root}/functions"), json!({ "name": "hello" })).await["id"]);
    let site = made(served, &format!("{root}/sites"), json!({ "name": "pages" })).await;
    let plan = made(served, "/v1/plans", json!({ "name": "small" })).await;
    let claim = json!({ "hostname": "www.example.com", "functionId": function });
    let domain = made(served, &format!("{root}/domains"), claim).await;
    let invitation = made(served, &format!("{root}/invitations"), json!({ "role": "viewer" })).await;

    let mut blocks = Vec::new();
    let keep = |block| {
        blocks.push(block);
        Ok(())
    };
    let component = wat::parse_str(COMPONENT).unwrap();
    let file = af_content::unixfs::import(&component[..], keep).unwrap();
    let mut car = af_content::car::encode_header(&[file.root]);
    for block in &blocks {
        car.extend(af_content::car::encode_block_prefix(&block.id, block.bytes.len()));
        car.extend_from_slice(&block.bytes);
    }
    let (status, stored) = served.upload(&format!("{root}/storage"), OWNER, car.clone()).await;
    assert_eq!(status, 201, "{stored}");
    let path = format!("/v1/functions/{function}/deployments?cid={}&blake3={}", file.root, file.blake3);
    let (status, deployment) = served.upload(&path, OWNER, car).await;
    assert_eq!(status, 201, "{deployment}");
    [
        ("project", project),
        ("organization", text(&projects["data"][0]["organizationId"])),
        ("function", function),
        ("site", text(&site["id"])),
        ("domain", text(&domain["id"])),
        ("deployment", text(&deployment["id"])),
        ("token", text(&get("/v1/tokens").await["data"][0]["id"])),
        ("invitation", text(&invitation["id"])),
        ("user", text(&get("/v1/me").await["id"])),
        ("cid", file.root.to_string()),
        ("plan", text(&plan["id"])),
    ]
    .map(|(name, id)| (name.to_owned(), id))
    .to_vec()
}

async fn members_of_other_projects_find_nothing_and_cannot_tell_that_it_is_there() {
    let served = Served::start().await;
    let real = everything(&served).await;
    let nothing: Ids = NOTHING.iter().map(|(name, id)| ((*name).to_owned(), (*id).to_owned())).collect();
    let body = json!({ "name": "second", "organizationId": of(&real, "organization") });
    let second = made(&served, "/v1/projects", body).await["id"].as_str().unwrap().to_owned();
    let key = json!({ "name": "ci", "role": "admin" });
    let key = made(&served, &format!("/v1/projects/{second}/keys"), key).await;
    // Of another organization; and of another project of the same one, which may do nearly all there.
    let members = [(STRANGER, "prj_2"), (key["token"].as_str().unwrap(), second.as_str())];
    let mut faults = Vec::new();
    for operation in operations().iter().filter(|operation| operation.names_something()) {
        for (number, (token, own)) in members.iter().enumerate() {
            let what = format!("{} {} as member {number}", operation.method, operation.path);
            let (status, said) = operation.call(&served, token, &real).await;
            if ![403, 404].contains(&status) {
                faults.push(format!("{what}: {status} {said}"));
            }
            let other = operation.call(&served, token, &nothing).await;
            if other != (status, said.clone()) {
                faults.push(format!("{what}: {status} {said}, but where is nothing: {other:?}"));
            }
            // In their own project, by what is not theirs.
            if operation.names_more_than_a_project() {
                let there = operation.call(&served, token, &with(&real, "project", own)).await;
                let not = operation.call(&served, token, &with(&nothing, "project", own)).await;
                if there.0 >= 500 || there != not {
                    faults.push(format!("{what}, in their own: {there:?}, but where is nothing: {not:?}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for (name, path) in [("function", "functions"), ("site", "sites"), ("domain", "domains")] {
        let path = format!("/v1/{path}/{}", of(&real, name).unwrap());
        assert_eq!(served.call("get", &path, Some(OWNER), Value::Null).await.0, 200, "{path}");
    }
}

/// A directory with one file: of these bytes, or one that is elsewhere. Its CID, its CAR, and the file's CID.
fn directory(
    name: &str,
    bytes: Option<&[u8]>,
    elsewhere: Option<ContentId>,
) -> (ContentId, Vec<u8>, ContentId) {
    let mut blocks = Vec::new();
    let mut keep = |block| {
        blocks.push(block);
        Ok(())
    };
    let id = match bytes {
        Some(bytes) => af_content::unixfs::import(bytes, &mut keep).unwrap().root,
        None => elsewhere.unwrap(),
    };
    let entry = af_content::unixfs::Entry { name: name.into(), id, size: 12 };
    let (root, _) = af_content::unixfs::Directory::write(&[entry], &mut keep).unwrap();
    let mut car = af_content::car::encode_header(&[root]);
    for block in &blocks {
        car.extend(af_content::car::encode_block_prefix(&block.id, block.bytes.len()));
        car.extend_from_slice(&block.bytes);
    }
    (root, car, id)
}

async fn what_is_only_here_is_deployed_by_nobody_for_knowing_its_cid() {
    let served = Served::start().await;
    let real = everything(&served).await;
    let cid = of(&real, "cid").unwrap();
    let root = "/v1/projects/prj_2";
    let make = async |noun: &str| {
        let (_, made) =
            served.call("post", &format!("{root}/{noun}"), Some(STRANGER), json!({ "name": "mine" })).await;
        made["id"].as_str().unwrap().to_owned()
    };
    let function = format!("/v1/functions/{}/deployments", make("functions").await);
    let site = format!("/v1/sites/{}/deployments", make("sites").await);
    let nothing = NOTHING[9].1;
    let fetch = async |path: &str, cid: &str, assets: &str| {
        let path = format!("{path}?cid={cid}&fetch=true{assets}");
        let (status, said) = served.upload(&path, STRANGER, Vec::new()).await;
        (status, said["code"].clone())
    };
    let not_there = (422, json!("content_source_missing"));
    for path in [&function, &site] {
        assert_eq!(fetch(path, nothing, "").await, not_there);
        assert_eq!(fetch(path, cid, "").await, not_there, "{path}");
    }
    // Nor in a directory of theirs, of which they send the root only.
    let entry = af_content::unixfs::Entry { name: "stolen".into(), id: cid.parse().unwrap(), size: 100 };
    let mut blocks = Vec::new();
    let mut keep = |block| {
        blocks.push(block);
        Ok(())
    };
    let (wrapped, _) = af_content::unixfs::Directory::write(&[entry], &mut keep).unwrap();
    let mut car = af_content::car::encode_header(&[wrapped]);
    for block in &blocks {
        car.extend(af_content::car::encode_block_prefix(&block.id, block.bytes.len()));
        car.extend_from_slice(&block.bytes);
    }
    let (status, said) = served.upload(&format!("{root}/storage/blocks"), STRANGER, car).await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(fetch(&site, &wrapped.to_string(), "").await, not_there);
    assert_eq!(fetch(&function, nothing, &format!("&assets={wrapped}")).await, not_there);

    // Nor what is only within a deployment of theirs, which is in no list.
    let (deployed, car, inner) = directory("within", Some(b"theirs alone"), None);
    let (_, page) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let owners = format!("/v1/projects/{}", page["data"][0]["id"].as_str().unwrap());
    let named = json!({ "name": "inner" });
    let (_, made) = served.call("post", &format!("{owners}/sites"), Some(OWNER), named).await;
    let theirs = format!("/v1/sites/{}/deployments", made["id"].as_str().unwrap());
    let (status, said) = served.upload(&format!("{theirs}?cid={deployed}"), OWNER, car).await;
    assert_eq!(status, 201, "{said}");
    let (wrapped, car, _) = directory("stolen", None, Some(inner));
    let blocks = format!("{root}/storage/blocks");
    assert_eq!(served.upload(&blocks, STRANGER, car.clone()).await.0, 200);
    assert_eq!(fetch(&site, &wrapped.to_string(), "").await, not_there);
    assert_eq!(served.upload(&format!("{owners}/storage/blocks"), OWNER, car).await.0, 200);
    let (status, said) =
        served.upload(&format!("{theirs}?cid={wrapped}&fetch=true"), OWNER, Vec::new()).await;
    assert_eq!(status, 201, "under what the project has deployed: {said}");

    // Whose it is may.
    let owners = format!("/v1/functions/{}/deployments?cid={cid}&fetch=true", of(&real, "function").unwrap());
    assert_eq!(served.upload(&owners, OWNER, Vec::new()).await.0, 201);
}

on_both! {
    members_of_other_projects_find_nothing_and_cannot_tell_that_it_is_there,
    what_is_only_here_is_deployed_by_nobody_for_knowing_its_cid,
}
