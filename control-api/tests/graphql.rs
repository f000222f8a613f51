//! GraphQL as clients use it: both platforms' names, transports, errors, limits and subscriptions.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use serde_json::{Value, json};
use support::{OWNER, STRANGER, Served};

async fn ask(served: &Served, token: Option<&str>, query: &str, variables: Value) -> (u16, Value) {
    served.call("post", "/graphql", token, json!({ "query": query, "variables": variables })).await
}

/// What a request that went well returned.
async fn told(served: &Served, query: &str, variables: Value) -> Value {
    let (status, answer) = ask(served, Some(OWNER), query, variables).await;
    assert_eq!((status, &answer["errors"]), (200, &Value::Null), "{query}: {answer}");
    answer["data"].clone()
}

const FUNCTION: &str = "id name slug invokeUrl routes projectId siteId status currentDeploymentId
    currentDeployment { id cid } deployments { id } createdAt updatedAt";

async fn functions_have_the_names_of_both_platforms() {
    let served = Served::start().await;
    for (kind, lower, by) in [("AF", "af", "afFunctionId"), ("Fleek", "fleek", "fleekFunctionId")] {
        let create = format!(
            "mutation($data: Create{kind}FunctionDataInput!) {{ create{kind}Function(data: $data) {{ {FUNCTION} }} }}"
        );
        let data = json!({ "data": { "name": format!("{kind}-one"), "routes": { "/b/*": "https://b.example.com", "/a": "https://a.example.com" } } });
        let made = told(&served, &create, data).await[format!("create{kind}Function")].clone();
        let id = made["id"].as_str().unwrap();
        assert_eq!(made["status"], "ACTIVE");
        assert_eq!(made["slug"], format!("{lower}-one"));
        assert_eq!(made["invokeUrl"], format!("http://{lower}-one.localhost:8080"));
        assert_eq!(
            made["routes"].to_string(),
            r#"{"/b/*":"https://b.example.com","/a":"https://a.example.com"}"#
        );
        assert!(made["createdAt"].as_str().unwrap().ends_with('Z'), "{made}");

        let all = format!(
            "query($name: String!, $id: ID!) {{
                {lower}Function(where: {{ id: $id }}) {{ {FUNCTION} }}
                {lower}FunctionByName(where: {{ name: $name }}) {{ id }}
                {lower}Functions {{ data {{ id }} next isLastPage }}
                {lower}FunctionDeployments(where: {{ {by}: $id }}) {{ data {{ id {by} cid blake3Hash assetsCid sgx createdAt updatedAt }} }}
                {lower}FunctionDeployment(where: {{ functionId: $id }}) {{ id }}
            }}"
        );
        let found = told(&served, &all, json!({ "id": id, "name": format!("{kind}-one") })).await;
        assert_eq!(found[format!("{lower}Function")], made);
        assert_eq!(found[format!("{lower}FunctionByName")]["id"], made["id"]);
        assert_eq!(found[format!("{lower}Functions")]["data"], json!([{ "id": id }]));
        assert_eq!(found[format!("{lower}FunctionDeployments")]["data"], json!([]));
        assert_eq!(found[format!("{lower}FunctionDeployment")], Value::Null);

        // Clients send null for what they do not change, but for routes, which null removes.
        let by_id = if kind == "AF" { "AFFunctionWhereInput" } else { "UpdateFleekFunctionWhereInput" };
        let update = format!(
            "mutation($where: {by_id}!, $data: Update{kind}FunctionDataInput!) {{ changed: update{kind}Function(where: $where, data: $data) {{ name status routes }} }}"
        );
        let change = json!({ "where": { "id": id }, "data": { "name": null, "slug": null, "routes": null, "status": "INACTIVE" } });
        let changed = told(&served, &update, change).await["changed"].clone();
        assert_eq!(changed, json!({ "name": format!("{kind}-one"), "status": "INACTIVE", "routes": null }));

        let delete = format!(
            "mutation($where: Delete{kind}FunctionWhereInput!) {{ gone: delete{kind}Function(where: $where) {{ id currentDeployment {{ cid }} }} }}"
        );
        assert_eq!(told(&served, &delete, json!({ "where": { "id": id } })).await["gone"]["id"], id);
        let (status, answer) = ask(&served, Some(OWNER), &all, json!({ "id": id, "name": "none" })).await;
        let names: Vec<&Value> =
            answer["errors"].as_array().unwrap().iter().map(|error| &error["extensions"]["name"]).collect();
        assert_eq!(status, 200);
        assert!(names.contains(&&json!(format!("{kind}FunctionNotFoundError"))), "{answer}");
    }
}

async fn sessions_are_their_tokens() {
    let served = Served::start().await;
    let project =
        told(&served, "{ projects { data { id } } }", json!({})).await["projects"]["data"][0]["id"].clone();
    let login = "mutation($data: LoginWithPersonalAccessTokenDataInput!) { loginWithPersonalAccessToken(data: $data) }";
    let made = told(&served, "mutation { createPersonalAccessToken(name: \"ci\", expiresAt: \"2030-01-01T00:00:00Z\") { id token expiresAt } }", json!({})).await;
    let made = &made["createPersonalAccessToken"];
    assert_eq!(made["expiresAt"], "2030-01-01T00:00:00.000Z");
    let (status, answer) = ask(
        &served,
        None,
        login,
        json!({ "data": { "personalAccessToken": made["token"], "projectId": project } }),
    )
    .await;
    let session = answer["data"]["loginWithPersonalAccessToken"].as_str().unwrap().to_owned();
    assert_eq!((status, session.split('.').count()), (200, 3));
    let me = "{ me { id } personalAccessTokens { data { id name maskedToken expiresAt lastUsedAt createdAt } } apiKeyRateLimit { limit remaining activeTokens } }";
    let (status, answer) = ask(&served, Some(&session), me, json!({})).await;
    assert_eq!((status, &answer["errors"]), (200, &Value::Null), "{answer}");
    assert_eq!(answer["data"]["apiKeyRateLimit"]["limit"], 50);
    assert_eq!(answer["data"]["personalAccessTokens"]["data"].as_array().unwrap().len(), 2);
    assert_eq!(served.call("get", "/v1/me", Some(&session), Value::Null).await.0, 200);

    // Another project's, a changed one, and one whose token is gone.
    let (_, refused) = ask(
        &served,
        None,
        login,
        json!({ "data": { "personalAccessToken": made["token"], "projectId": "prj_2" } }),
    )
    .await;
    assert_eq!(
        refused["errors"][0]["extensions"],
        json!({ "name": "ProjectNotFoundError", "data": { "project": { "id": "prj_2" } }, "code": "not_found" })
    );
    assert_eq!(ask(&served, Some(&format!("{session}x")), me, json!({})).await.0, 401);
    let gone = "mutation($id: ID!) { deletePersonalAccessToken(where: { id: $id }) { id createdAt maskedToken name updatedAt } }";
    assert_eq!(
        told(&served, gone, json!({ "id": made["id"] })).await["deletePersonalAccessToken"]["id"],
        made["id"]
    );
    assert_eq!(ask(&served, Some(&session), me, json!({})).await.0, 401);
    assert_eq!(served.call("get", "/v1/me", Some(&session), Value::Null).await.0, 401);
}

async fn strangers_and_nobody_get_nothing() {
    let served = Served::start().await;
    let made =
        told(&served, "mutation { createAFFunction(data: { name: \"hello\" }) { id projectId } }", json!({}))
            .await;
    let (id, project) =
        (made["createAFFunction"]["id"].clone(), made["createAFFunction"]["projectId"].clone());
    let variables = json!({ "id": id, "project": project });
    for operation in [
        "query($id: ID!) { afFunction(where: { id: $id }) { id } }",
        "query($id: ID!) { fleekFunctionDeployments(where: { fleekFunctionId: $id }) { data { id } } }",
        "query($id: ID!) { afFunctionDeployment(where: { functionId: $id }) { id } }",
        "query($project: ID!) { project(id: $project) { id } }",
        "mutation($id: ID!) { updateAFFunction(where: { id: $id }, data: { name: \"mine\" }) { id } }",
        "mutation($id: String!) { deleteFleekFunction(where: { id: $id }) { id } }",
        "mutation($id: ID!) { triggerAFFunctionDeployment(where: { functionId: $id, cid: \"bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e\" }) { id } }",
        "mutation($project: ID!) { updateProject(where: { id: $project }, data: { name: \"mine\" }) { id } }",
        "mutation($project: ID!) { deleteProject(where: { id: $project }) { id } }",
        "query { domain(where: { id: \"dom_1\" }) { id } }",
        "query { site(where: { id: \"site_1\" }) { id } }",
        "query { zone(where: { id: \"zone_1\" }) { id } }",
        "query { deployment(where: { id: \"sdp_1\" }) { id } }",
        "mutation { verifyDomain(domainId: \"dom_1\") { id } }",
        "mutation { deletePersonalAccessToken(id: \"tok_1\") { id } }",
    ] {
        let (status, answer) = ask(&served, None, operation, variables.clone()).await;
        assert_eq!(
            (status, &answer["errors"][0]["extensions"]["name"]),
            (401, &json!("UnauthenticatedError")),
            "{operation} {answer}"
        );
        let (status, answer) = ask(&served, Some(STRANGER), operation, variables.clone()).await;
        assert_eq!(status, 200, "{operation} {answer}");
        let name = answer["errors"][0]["extensions"]["name"].as_str().unwrap_or_default();
        assert!(name.ends_with("NotFoundError"), "{operation} {answer}");
    }
    // Whatever the header says.
    for list in [
        "afFunctions { data { id } }",
        "pins { data { id } }",
        "domains { data { id } }",
        "sites(where: {}) { data { id } }",
        "zones { data { id } }",
    ] {
        let body = json!({ "query": format!("{{ {list} }}") });
        let (status, answer) = served
            .call_with("/graphql", STRANGER, &[("x-project-id", project.as_str().unwrap())], body)
            .await;
        assert_eq!(
            answer["errors"][0]["extensions"]["name"], "ProjectNotFoundError",
            "{list} {status} {answer}"
        );
    }
}

async fn what_is_no_component_fails_with_a_reason() {
    let served = Served::start().await;
    let project =
        told(&served, "{ projects { data { id } } }", json!({})).await["projects"]["data"][0]["id"].clone();
    let form = |content: &str| {
        format!(
            "--x\r\ncontent-disposition: form-data; name=\"hash\"\r\n\r\nsha256-0\r\n--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"function.js\"\r\n\r\n{content}\r\n--x--\r\n"
        )
    };
    let source = form("export const main = () => 'hello';").into_bytes();
    let (status, stored) =
        served.upload_as("/upload/private", OWNER, "multipart/form-data; boundary=x", source).await;
    assert_eq!(status, 201, "{stored}");
    assert_eq!(stored["cid"], stored["pin"]["cid"]);
    let cid = stored["cid"].clone();
    assert_eq!(
        served
            .call("get", &format!("/duplicity/{}", cid.as_str().unwrap()), Some(OWNER), Value::Null)
            .await
            .0,
        409
    );
    assert_eq!(
        served
            .call("get", &format!("/duplicity/{}", cid.as_str().unwrap()), Some(STRANGER), Value::Null)
            .await
            .0,
        200
    );

    let made =
        told(&served, "mutation { createFleekFunction(data: { name: \"hello\" }) { id } }", json!({})).await;
    let function = made["createFleekFunction"]["id"].clone();
    let trigger = "mutation($where: TriggerFleekFunctionDeploymentWhereInput!, $data: TriggerFleekFunctionDeploymentDataInput) {
        triggerFleekFunctionDeployment(where: $where, data: $data) { id fleekFunctionId cid status statusReason updatedAt createdAt } }";
    let variables = json!({ "where": { "functionId": function, "cid": cid }, "data": {} });
    let deployment =
        told(&served, trigger, variables.clone()).await["triggerFleekFunctionDeployment"].clone();
    assert_eq!((&deployment["status"], &deployment["cid"]), (&json!("FAILED"), &cid));
    assert!(deployment["statusReason"].as_str().unwrap().contains("--javascript-build"), "{deployment}");
    let shown = told(&served, "query($id: ID!) { afFunction(where: { id: $id }) { status currentDeployment { id } deployments { id status } } afFunctionDeployments(where: { functionId: $id }) { data { id } } }", json!({ "id": function })).await;
    assert_eq!(
        shown["afFunction"],
        json!({ "status": "FAILED", "currentDeployment": null, "deployments": [{ "id": deployment["id"], "status": "FAILED" }] })
    );
    assert_eq!(shown["afFunctionDeployments"]["data"][0]["id"], deployment["id"]);

    // Another project does not get it for knowing its CID.
    let theirs = ask(
        &served,
        Some(STRANGER),
        "mutation { createFleekFunction(data: { name: \"hello\" }) { id } }",
        json!({}),
    )
    .await
    .1;
    let theirs = &theirs["data"]["createFleekFunction"]["id"];
    // Nor can it be told from what is nowhere.
    for cid in [cid, json!("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e")] {
        let wanted = json!({ "where": { "functionId": theirs, "cid": cid } });
        let (_, refused) = ask(&served, Some(STRANGER), trigger, wanted).await;
        assert_eq!(refused["errors"][0]["extensions"]["code"], "content_source_missing", "{refused}");
    }
    let sgx = json!({ "where": variables["where"], "data": { "sgx": true } });
    let (_, refused) = ask(&served, Some(OWNER), trigger, sgx).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "sgx_unavailable");
    let _ = project;
}

async fn sites_have_zones_and_domains() {
    let served = Served::start().await;
    let site = "id name slug domains { id hostname __typename } zones { id status __typename } primaryDomain { id hostname __typename }
        ipnsRecords { id __typename } deployments { id status storageType siteId cid updatedAt createdAt __typename } __typename";
    let made = told(
        &served,
        &format!("mutation CreateSite($v1: CreateSiteDataInput!) {{ createSite(data: $v1) {{ {site} }} }}"),
        json!({ "v1": { "name": "docs" } }),
    )
    .await["createSite"]
        .clone();
    let zone = made["zones"][0]["id"].clone();
    let create = "mutation($v1: CreateDomainWhereInput!, $v2: CreateDomainDataInput!) { createDomain(where: $v1, data: $v2) { createdAt dnslinkStatus errorMessage hostname id isVerified status updatedAt } }";
    let domain =
        told(&served, create, json!({ "v1": { "zoneId": zone }, "v2": { "hostname": "docs.example.com" } }))
            .await["createDomain"]
            .clone();
    assert_eq!((&domain["status"], &domain["isVerified"]), (&json!("CREATED"), &json!(false)));
    let shown = told(&served, &format!("query($zone: ID!, $slug: String!) {{ siteBySlug(where: {{ slug: $slug }}) {{ {site} }} sites(where: {{}}) {{ data {{ {site} }} }}
        domainsByZoneId(where: {{ zoneId: $zone }}) {{ data {{ id zone {{ id }} dnsConfigs {{ type value }} }} }} domainByHostname(hostname: \"docs.example.com\") {{ id sslStatus domainType txtVerificationStatus }} }}"),
        json!({ "zone": zone, "slug": "docs" })).await;
    assert_eq!(shown["sites"]["data"][0], shown["siteBySlug"]);
    assert_eq!(shown["siteBySlug"]["domains"][0]["id"], domain["id"]);
    assert_eq!(shown["domainsByZoneId"]["data"][0]["zone"]["id"], zone);
    assert_eq!(
        shown["domainsByZoneId"]["data"][0]["dnsConfigs"],
        json!([{ "type": "CNAME", "value": "docs.localhost" }])
    );
    assert_eq!(
        shown["domainByHostname"],
        json!({ "id": domain["id"], "sslStatus": "NONE", "domainType": "WEB2", "txtVerificationStatus": "PENDING" })
    );
    let instructions = told(&served, "query($id: ID!) { domainVerificationInstructions(domainId: $id) { method recordType hostname value } }", json!({ "id": domain["id"] })).await;
    assert_eq!(instructions["domainVerificationInstructions"]["recordType"], "CNAME");
    let other = "mutation($input: CreateDomainInput!) { createDomain(input: $input) { id txtVerificationToken siteId } }";
    let (_, refused) = ask(
        &served,
        Some(OWNER),
        other,
        json!({ "input": { "hostname": "me.eth", "siteId": made["id"], "domainType": "ENS" } }),
    )
    .await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "invalid_domain_type");
    let second =
        told(&served, other, json!({ "input": { "hostname": "two.example.com", "siteId": made["id"] } }))
            .await;
    assert!(second["createDomain"]["txtVerificationToken"].is_string());
    let gone =
        told(&served, "mutation($id: ID!) { deleteDomain(id: $id) { id } }", json!({ "id": domain["id"] }))
            .await;
    assert_eq!(gone["deleteDomain"]["id"], domain["id"]);
    told(
        &served,
        "mutation($id: ID!) { deleteSite(where: { id: $id }) { id zones { id } } }",
        json!({ "id": made["id"] }),
    )
    .await;
}

async fn forms_batches_and_pages_are_bounded() {
    let served = Served::start().await;
    let part = |name: &str, content: &str| {
        format!("--x\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    };
    let file = "--x\r\ncontent-disposition: form-data; name=\"0\"; filename=\"a.txt\"\r\ncontent-type: text/plain\r\n\r\nhello\r\n--x--\r\n";
    let store = json!({ "query": "mutation($data: StoreFileDataInput!) { storeFile(data: $data) { cid filename extension size } }", "variables": { "data": { "file": null } } });
    let form = |operations: &Value, map: &str, rest: &str| {
        (part("operations", &operations.to_string()) + &part("map", map) + rest).into_bytes()
    };
    let send = |body| served.upload_as("/graphql", OWNER, "multipart/form-data; boundary=x", body);
    let (status, stored) = send(form(&store, r#"{"0":["variables.data.file"]}"#, file)).await;
    assert_eq!((status, &stored["data"]["storeFile"]["filename"]), (200, &json!("a")), "{stored}");
    assert_eq!(
        (&stored["data"]["storeFile"]["extension"], &stored["data"]["storeFile"]["size"]),
        (&json!("txt"), &json!(5.0))
    );
    let (status, batch) = send(form(
        &json!([store, { "query": "{ __typename }" }]),
        r#"{"0":["0.variables.data.file"]}"#,
        file,
    ))
    .await;
    assert_eq!((status, &batch[1]["data"]["__typename"]), (200, &json!("Query")), "{batch}");
    assert_eq!(batch[0]["data"]["storeFile"]["cid"], stored["data"]["storeFile"]["cid"]);
    for (operations, map, rest) in [
        (&store, r#"{"1":["variables.data.file"]}"#, file),
        (&store, "[]", file),
        (&json!([]), "{}", "--x--\r\n"),
        (&json!([store]), r#"{"0":["7.variables.data.file"]}"#, file),
        (&json!(7), "{}", "--x--\r\n"),
    ] {
        assert_eq!(send(form(operations, map, rest)).await.0, 400, "{operations} {map}");
    }
    let (_, unplaced) = send(form(&store, "{}", file)).await;
    assert!(unplaced["errors"].is_array(), "{unplaced}");

    let many: Vec<Value> = (0..11).map(|_| json!({ "query": "{ __typename }" })).collect();
    assert_eq!(served.call("post", "/graphql", Some(OWNER), json!(many)).await.0, 400);
    assert_eq!(served.call("post", "/graphql", Some(OWNER), json!(&many[..10])).await.0, 200);
    for name in ["one", "two", "three"] {
        told(
            &served,
            "mutation($name: String!) { createAFFunction(data: { name: $name }) { id } }",
            json!({ "name": format!("f-{name}") }),
        )
        .await;
    }
    let page = |arguments: &str| {
        format!(
            "{{ afFunctions(filter: {{ {arguments} }}) {{ data {{ name }} next currentPage nextPage previousPage isFirstPage isLastPage }} }}"
        )
    };
    let first = told(&served, &page("take: 2"), json!({})).await["afFunctions"].clone();
    assert_eq!(first["data"], json!([{ "name": "f-one" }, { "name": "f-two" }]));
    assert_eq!((&first["nextPage"], &first["isLastPage"]), (&json!(2), &json!(false)));
    let second = told(&served, &page("take: 2, page: 2"), json!({})).await["afFunctions"].clone();
    let after =
        told(&served, &page(&format!("take: 2, after: {}", first["next"])), json!({})).await["afFunctions"]
            .clone();
    assert_eq!((&second["data"], &second["next"]), (&json!([{ "name": "f-three" }]), &Value::Null));
    assert_eq!(second["data"], after["data"]);
    for bad in ["take: 101", "take: 0", "page: 0", "take: 100, page: 12"] {
        let (_, refused) = ask(&served, Some(OWNER), &page(bad), json!({})).await;
        assert_eq!(refused["errors"][0]["extensions"]["code"], "invalid_page", "{bad}");
    }
}

async fn operations_are_bounded() {
    let served = Served::start().await;
    let deep = format!(
        "{{ sites(where: {{}}) {{ data {{ domains {{ zone {{ id }} }} }} }} {} }}",
        "__typename ".repeat(3)
    );
    told(&served, &deep, json!({})).await;
    let introspection = "{ __schema { types { fields { type { ofType { ofType { ofType { ofType { ofType { ofType { ofType { name } } } } } } } } } } } }";
    assert!(told(&served, introspection, json!({})).await["__schema"].is_object());
    // The same depth beside something else.
    for query in [
        introspection.replacen('{', "{ me { id } ", 1),
        format!(
            "{{ {} }}",
            (0..60)
                .map(|n| format!("a{n}: fleekFunctions {{ data {{ deployments {{ id cid }} }} }} "))
                .collect::<String>()
        ),
        format!("{{ {}a{} }}", "a { ".repeat(80), " }".repeat(80)),
        format!("{{ a(b: {}1{}) }}", "[".repeat(50_000), "]".repeat(50_000)),
    ] {
        let (status, refused) = ask(&served, Some(OWNER), &query, json!({})).await;
        assert_eq!(status, 200);
        assert!(refused["errors"].is_array() && refused.get("data").is_none(), "{refused}");
    }
}

/// A client that waits for what does not come must not hold up the server's end.
async fn subscriptions_end_with_the_server() {
    let served = Served::start().await;
    let form = "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"function.js\"\r\n\r\nexport const main = () => 'hello';\r\n--x--\r\n";
    let kind = "multipart/form-data; boundary=x";
    let (_, stored) = served.upload_as("/upload/private", OWNER, kind, form.into()).await;
    let made =
        told(&served, "mutation { createFleekFunction(data: { name: \"hello\" }) { id } }", json!({})).await;
    let trigger = "mutation($where: TriggerFleekFunctionDeploymentWhereInput!) {
        triggerFleekFunctionDeployment(where: $where, data: {}) { id } }";
    let wanted = json!({ "functionId": made["createFleekFunction"]["id"], "cid": stored["cid"] });
    let made = told(&served, trigger, json!({ "where": wanted })).await;
    let id = made["triggerFleekFunctionDeployment"]["id"].as_str().unwrap();

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/graphql", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let control = served.control.clone();
    let serving = tokio::spawn(async move { control.serve(listener, async { drop(stopped.await) }).await });
    let query = format!("subscription {{ deploymentStatus(deploymentId: \"{id}\") {{ status }} }}");
    let request = support::client().post(url).bearer_auth(OWNER).json(&json!({ "query": query }));
    let mut events = request.header("accept", "text/event-stream").send().await.unwrap();
    let mut told = String::new();
    while !told.contains("FAILED") {
        told.push_str(std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap());
    }
    stop.send(()).unwrap();
    while let Some(chunk) = events.chunk().await.unwrap() {
        told.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(told.contains("event: complete"), "{told}");
    serving.await.unwrap();
}

on_both!(
    subscriptions_end_with_the_server,
    functions_have_the_names_of_both_platforms,
    sessions_are_their_tokens,
    strangers_and_nobody_get_nothing,
    what_is_no_component_fails_with_a_reason,
    sites_have_zones_and_domains,
    forms_batches_and_pages_are_bounded,
    operations_are_bounded,
);

#[test]
fn the_schema_is_the_golden_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/schema.graphql");
    let schema = af_control_api::graphql::sdl();
    // As insta does it, for a file that other tools read.
    if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        std::fs::write(path, &schema).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    assert!(golden == schema, "the schema has changed; if that is meant, write it with INSTA_UPDATE=always");
}
