//! Route tables as their users have them: given to the command, told back, and obeyed by the edge.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use serde_json::{Value, json};
use support::{Home, Server, eventually, guest, ok, refused};

async fn get(server: &Server, slug: &str, path: &str) -> reqwest::Response {
    let url = format!("http://127.0.0.1:{}{path}", server.port);
    support::http_without_redirects().get(url).header("host", server.host(slug)).send().await.unwrap()
}

fn deploy(home: &Home, name: &str) -> Value {
    let mut deploy = home.af();
    deploy.args(["--json", "functions", "deploy", "--create", "-n", name, "-p"]).arg(guest("hello-rust"));
    serde_json::from_str(&ok(&mut deploy)).unwrap()
}

fn update(home: &Home, routes: &str) -> String {
    ok(home.af().args(["functions", "update", "-n", "front", "--routes", routes]))
}

#[tokio::test]
async fn a_route_answers_instead_of_the_function_and_no_match_runs_it() {
    let home = Home::new();
    let server = home.up(&[]);
    let routes = json!({
        "/old/*": {"redirect": "/new/*"},
        "/away/:page": {"redirect": "https://example.com/p/:page?lang=en", "status": 302},
        "/fixed": {"response": {"status": 418, "headers": {"x-tea": "pot"}, "body": "short and stout"}},
        "/only-post": {"methods": ["POST"], "response": {"body": "posted"}},
        "/other/*": {"function": "other"},
        "/nobody": {"function": "nobody"},
    });
    ok(home.af().args(["functions", "create", "-n", "front", "--routes", &routes.to_string()]));
    // Routes answer before there is any code; what they do not match has none yet.
    let fixed = async || {
        let response = get(&server, "front", "/fixed").await;
        (response.status() == 418).then_some(response)
    };
    let response = eventually(fixed).await;
    assert_eq!(response.headers()["x-tea"], "pot");
    assert_eq!(response.text().await.unwrap(), "short and stout");
    assert_eq!(get(&server, "front", "/").await.status(), 404);
    deploy(&home, "front");
    deploy(&home, "other");

    for (path, status, location) in [
        ("/old/a/b?x=1&x=2", 308, "/new/a/b?x=1&x=2"),
        ("/old//evil.example/x", 308, "/new//evil.example/x"),
        ("/away/7?x=1", 302, "https://example.com/p/7?lang=en"),
    ] {
        let response = get(&server, "front", path).await;
        assert_eq!(
            (response.status().as_u16(), response.headers()["location"].to_str().unwrap()),
            (status, location)
        );
    }
    let own = get(&server, "front", "/").await;
    let front = own.headers()["af-deployment"].clone();
    assert_eq!(own.status(), 200);
    // Its other methods run the function.
    assert_eq!(get(&server, "front", "/only-post").await.headers()["af-deployment"], front);
    let posted = server.request("front", "/only-post").build().unwrap().url().clone();
    let posted = support::http().post(posted).header("host", server.host("front")).send().await.unwrap();
    assert_eq!(posted.text().await.unwrap(), "posted");
    let other = get(&server, "front", "/other/x").await;
    assert_eq!(other.status(), 200);
    assert_ne!(other.headers()["af-deployment"], front, "another function's code answered");
    let nobody: Value = get(&server, "front", "/nobody").await.json().await.unwrap();
    assert_eq!((&nobody["code"], &nobody["status"]), (&json!("route_target_not_found"), &json!(502)));
}

#[tokio::test]
async fn a_table_is_changed_told_and_removed() {
    let home = Home::new();
    let server = home.up(&[]);
    deploy(&home, "front");
    let file = home.data().join("routes.json");
    std::fs::write(&file, r#"{"/z": {"response": {"body": "z"}}, "/a": {"response": {"body": "a"}}}"#)
        .unwrap();
    update(&home, file.to_str().unwrap());
    let shown: Value =
        serde_json::from_str(&ok(home.af().args(["--json", "functions", "get", "-n", "front"]))).unwrap();
    let patterns: Vec<_> = shown["routes"].as_object().unwrap().keys().collect();
    assert_eq!(patterns, ["/z", "/a"], "in the order of the file");
    let a = async || (get(&server, "front", "/a").await.text().await.unwrap() == "a").then_some(());
    eventually(a).await;

    for (routes, text) in [
        ("[]", "Routes must be an object mapping path patterns to target URLs"),
        ("{}", "Routes object cannot be empty"),
        (r#"{"a":"https://t"}"#, r#"Invalid path pattern "a". Path patterns must start with "/""#),
        (r#"{"/a":"t"}"#, r#"Invalid target URL "t" for path "/a". Must be a valid URL"#),
        ("nowhere.json", "neither JSON nor a file that can be read: nowhere.json"),
    ] {
        let (code, said) =
            refused(home.af().args(["functions", "update", "-n", "front", "--routes", routes]));
        assert!(code == 1 && said.contains(text), "{routes}: {said}");
    }
    assert_eq!(
        get(&server, "front", "/a").await.text().await.unwrap(),
        "a",
        "a refused table changes nothing"
    );

    ok(home.af().args(["functions", "update", "-n", "front", "--status", "INACTIVE"]));
    let inactive: Value = eventually(async || get(&server, "front", "/a").await.json().await.ok()).await;
    assert_eq!(inactive["code"], "function_inactive", "routes are a part of the function");
    ok(home.af().args(["functions", "update", "-n", "front", "--status", "ACTIVE"]));
    update(&home, "null");
    let code = async || get(&server, "front", "/a").await.headers().get("af-deployment").cloned();
    eventually(code).await;
}

/// What the control API says of a table that a client did not check.
#[tokio::test]
async fn the_api_refuses_what_the_client_would() {
    let home = Home::new();
    let server = home.up(&[]);
    let function = deploy(&home, "front")["deployment"]["functionId"].as_str().unwrap().to_owned();
    let patch = |body: &'static str| {
        let url = format!("{}/v1/functions/{function}", server.api);
        let request = support::http().patch(url).bearer_auth(server.token());
        async move { request.header("content-type", "application/json").body(body).send().await.unwrap() }
    };
    let refused = patch(r#"{"routes":{"/a":7}}"#).await;
    assert_eq!(refused.status(), 400);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "invalid_routes");
    assert_eq!(problem["detail"], r#"Invalid target URL for path "/a". Target must be a string"#);
    let changed: Value =
        patch(r#"{"routes":{"/b":"https://b","/a":"https://a"}}"#).await.json().await.unwrap();
    assert_eq!(changed["routes"].to_string(), r#"{"/b":"https://b","/a":"https://a"}"#);
    let kept: Value = patch(r#"{"status":"ACTIVE"}"#).await.json().await.unwrap();
    assert_eq!(kept["routes"], changed["routes"]);
    let cleared: Value = patch(r#"{"routes":null}"#).await.json().await.unwrap();
    assert_eq!(cleared["routes"], Value::Null);
}

#[tokio::test]
async fn the_newest_deployments_answer_at_hosts_of_their_own() {
    let home = Home::new();
    let server = home.up(&["--domain", "localhost", "--domain", "functions.example"]);
    let first = deploy(&home, "front");
    let second = deploy(&home, "front");
    let mut preview = home.af();
    preview
        .args(["--json", "functions", "deploy", "--preview", "-n", "front", "-p"])
        .arg(guest("hello-rust"));
    let third: Value = serde_json::from_str(&ok(&mut preview)).unwrap();
    let preview = |deployment: &Value| {
        let url = deployment["deployment"]["previewUrl"].as_str().unwrap();
        url.strip_prefix("http://").unwrap().split_once('.').unwrap().0.to_owned()
    };
    for deployment in [&first, &second, &third] {
        let response = get(&server, &preview(deployment), "/").await;
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.headers()["af-deployment"],
            deployment["deployment"]["manifestCid"].as_str().unwrap()
        );
    }
    let live = get(&server, "front", "/").await;
    assert_eq!(live.headers()["af-deployment"], second["deployment"]["manifestCid"].as_str().unwrap());
    let unknown: Value = get(&server, "front--00000000000000000000000000", "/").await.json().await.unwrap();
    assert_eq!(unknown["code"], "deployment_not_found");
    let (_, said) =
        refused(home.af().args(["functions", "create", "-n", "thief", "--slug", &preview(&first)]));
    assert!(said.contains("preview host"), "{said}");
    // Every domain of the platform.
    let request = support::http().get(format!("http://127.0.0.1:{}/", server.port));
    assert_eq!(request.header("host", "front.functions.example").send().await.unwrap().status(), 200);
}

/// A backend that answers with the request that it got: its header and body as text.
struct Backend {
    address: std::net::SocketAddr,
}

impl Backend {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let echo = |request: axum::extract::Request| async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let mut text = format!("{} {}\n", parts.method, parts.uri);
            for (name, value) in &parts.headers {
                text += &format!("{name}: {}\n", value.to_str().unwrap());
            }
            let cookies = [("set-cookie", "a=1"), ("set-cookie", "b=2")];
            (axum::response::AppendHeaders(cookies), [text.as_bytes(), b"\n", &body].concat())
        };
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(echo)).await });
        Self { address }
    }
}

#[tokio::test]
async fn what_a_route_matches_goes_to_its_backend_as_the_document_says() {
    let home = Home::new();
    let server = home.up(&["--egress-allow", "127.0.0.0/8"]);
    let [one, two] = [Backend::start().await, Backend::start().await];
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let routes = json!({
        "/api/users/*": format!("http://{}", one.address),
        "/v2/*": format!("http://{}/base/", one.address),
        "/users/:id": format!("http://{}", one.address),
        "/fill/:id/*": {"url": format!("http://{}/u/:id/f/*", one.address)},
        "/many/*": {"urls": [format!("http://{}/one", one.address), format!("http://{}/two", two.address)]},
        "/half/*": {"urls": [format!("http://{gone}/gone"), format!("http://{}/here", two.address)]},
        "/gone": format!("http://{gone}"),
        "/private": "http://10.255.255.1/",
    });
    ok(home.af().args(["functions", "create", "-n", "front", "--routes", &routes.to_string()]));
    let line = async |path: &str| {
        get(&server, "front", path).await.text().await.unwrap().lines().next().unwrap().to_owned()
    };
    for (path, forwarded) in [
        ("/api/users/123?x=1&x=2", "GET /123?x=1&x=2"),
        ("/api/users/", "GET /"),
        ("/v2/a/../b", "GET /base/b"),
        ("/users/7?q", "GET /?q"),
        ("/fill/7/a/b?q", "GET /u/7/f/a/b?q"),
    ] {
        assert_eq!(line(path).await, forwarded, "{path}");
    }
    let mut turns = [line("/many/x").await, line("/many/x").await];
    turns.sort();
    assert_eq!(turns, ["GET /one/x", "GET /two/x"]);
    for _ in 0..8 {
        assert_eq!(line("/half/x").await, "GET /here/x", "one that is gone is not seen");
    }

    // Binary bodies, repeated headers and cookies go through as they are.
    let body: Vec<u8> = (0..=255).collect();
    let url = format!("http://127.0.0.1:{}/users/7", server.port);
    let request = support::http().delete(url).header("host", server.host("front")).body(body.clone());
    let response = request.header("x-twice", "1").header("x-twice", "2").send().await.unwrap();
    let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    let echoed = response.bytes().await.unwrap();
    assert!(echoed.ends_with(&body));
    let head = String::from_utf8_lossy(&echoed[..echoed.len() - body.len()]).into_owned();
    for expected in [
        "DELETE /".to_owned(),
        "x-twice: 1\nx-twice: 2".to_owned(),
        format!("host: {}", one.address),
        format!("x-forwarded-host: {}", server.host("front")),
        "x-forwarded-for: 127.0.0.1".to_owned(),
        "x-forwarded-proto: http".to_owned(),
    ] {
        assert!(head.contains(&expected), "{expected} in {head}");
    }

    for (path, status, code) in
        [("/gone", 502, "upstream_unreachable"), ("/private", 502, "upstream_address_refused")]
    {
        let response = get(&server, "front", path).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.json::<Value>().await.unwrap()["code"], code);
    }
}

#[tokio::test]
async fn a_route_leads_into_a_directory_by_its_cid() {
    let home = Home::new();
    let server = home.up(&[]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("guide")).unwrap();
    std::fs::write(dir.path().join("guide/start.html"), "start").unwrap();
    std::fs::write(dir.path().join("robots.txt"), "none").unwrap();
    let mut deploy = home.af();
    deploy.args(["--json", "sites", "deploy", "--create", "-n", "pages", "-p"]).arg(dir.path());
    let site: Value = serde_json::from_str(&ok(&mut deploy)).unwrap();
    let root = site["deployment"]["cid"].as_str().unwrap();
    let routes = json!({ "/docs/*": { "site": root }, "/robots.txt": { "site": root } });
    ok(home.af().args(["functions", "create", "-n", "front", "--routes", &routes.to_string()]));
    for (path, body) in [("/docs/guide/start", "start"), ("/robots.txt", "none")] {
        let response = get(&server, "front", path).await;
        assert_eq!(
            (response.status().as_u16(), response.headers()["af-site"].to_str().unwrap()),
            (200, root)
        );
        assert_eq!(response.text().await.unwrap(), body);
    }
    assert_eq!(get(&server, "front", "/docs/nothing").await.status(), 404);
}
