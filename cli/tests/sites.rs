//! Sites from the command line to the browser.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::fs;
use std::path::Path;

use reqwest::{Method, Response};
use serde_json::Value;
use support::{Home, http, ok, refused};

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_folder_becomes_a_site() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let server = home.up(&[]);
    write(
        dir.path(),
        &[
            ("index.html", "<h1>home</h1>"),
            ("about.html", "about"),
            ("docs/index.html", "docs"),
            ("_redirects", "/old/* /docs/:splat 302\n/app/* /index.html 200\n"),
            (".well-known/security.txt", "Contact: mailto:a@example.com"),
            (".env", "secret"),
        ],
    );
    let deploy = || {
        ok(home
            .af()
            .args(["--json", "sites", "deploy", "--create", "--name", "pages", "--path"])
            .arg(dir.path()))
    };
    let first: Value = serde_json::from_str(&deploy()).unwrap();
    assert_eq!((&first["deployment"]["files"], &first["leftOut"]), (&5.into(), &1.into()));
    let root = first["deployment"]["cid"].as_str().unwrap();

    let response = server.get("pages", "/").await;
    assert_eq!((response.status().as_u16(), header(&response, "af-site")), (200, root));
    assert_eq!(header(&response, "content-type"), "text/html; charset=utf-8");
    assert_eq!(header(&response, "cache-control"), "public, max-age=0, must-revalidate");
    let etag = header(&response, "etag").to_owned();
    assert_eq!(response.text().await.unwrap(), "<h1>home</h1>");
    for (path, status, text) in [
        ("/about", 200, "about"),
        ("/docs/", 200, "docs"),
        ("/old/", 200, "docs"),
        ("/app/anything", 200, "<h1>home</h1>"),
        ("/.well-known/security.txt", 200, "Contact: mailto:a@example.com"),
    ] {
        let response = server.get("pages", path).await;
        assert_eq!(
            (response.status().as_u16(), response.text().await.unwrap()),
            (status, text.into()),
            "{path}"
        );
    }
    let response = server.request("pages", "/").header("if-none-match", &etag).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "etag")), (304, &*etag));
    let response = server.request("pages", "/").header("range", "bytes=4-7").send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "content-range")), (206, "bytes 4-7/13"));
    assert_eq!(response.text().await.unwrap(), "home");
    let url = format!("http://127.0.0.1:{}/", server.port);
    let head = http().head(&url).header("host", server.host("pages")).send().await.unwrap();
    assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, "13"));

    let stored = ok(home.af().args(["storage", "list"]));
    assert!(stored.contains("deployed to sites"), "{stored}");
    let by_cid = server.get(root, "/about").await;
    assert_eq!(header(&by_cid, "cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(by_cid.text().await.unwrap(), "about");
}

#[tokio::test]
async fn what_a_site_cannot_send_is_a_problem() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let server = home.up(&[]);
    write(dir.path(), &[("index.html", "home")]);
    ok(home.af().args(["sites", "create", "--name", "pages"]));
    let problem = async |response: Response| {
        assert_eq!(header(&response, "content-type"), "application/problem+json");
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.unwrap()["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(problem(server.get("pages", "/").await).await, (404, "site_not_deployed".into()));
    ok(home.af().args(["sites", "deploy", "--name", "pages", "--path"]).arg(dir.path()));
    assert_eq!(problem(server.get("pages", "/nothing").await).await, (404, "page_not_found".into()));
    assert_eq!(
        problem(server.get("pages", "/%2e%2e/x").await).await,
        (404, "page_not_found".into()),
        "the client resolves it"
    );
    assert_eq!(problem(server.get("pages", "/a%2fb").await).await, (400, "invalid_path".into()));
    let unknown = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";
    assert_eq!(problem(server.get(unknown, "/").await).await, (404, "site_not_found".into()));
    let behind = server.request("pages", "/").header("range", "bytes=4-").send().await.unwrap();
    assert_eq!(header(&behind, "content-range"), "bytes */4");
    assert_eq!(problem(behind).await, (416, "range_not_satisfiable".into()));
    let other = server.request("pages", "/").header("if-match", "\"x\"").send().await.unwrap();
    assert_eq!(problem(other).await, (412, "precondition_failed".into()));
    let url = format!("http://127.0.0.1:{}/", server.port);
    let post = http().request(Method::POST, &url).header("host", server.host("pages")).body("x");
    let post = post.send().await.unwrap();
    assert_eq!(header(&post, "allow"), "GET, HEAD");
    assert_eq!(problem(post).await, (405, "method_not_allowed".into()));
}

#[tokio::test]
async fn a_site_changes_at_once_and_survives_a_restart() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let server = home.up(&[]);
    let large = "0123456789abcdef".repeat(200_000);
    write(dir.path(), &[("index.html", "one"), ("large.txt", &large)]);
    let deploy = || {
        ok(home
            .af()
            .args(["--json", "sites", "deploy", "--create", "--name", "pages", "--path"])
            .arg(dir.path()))
    };
    deploy();
    write(dir.path(), &[("index.html", "two")]);
    deploy();
    let text =
        async |server: &support::Server, path: &str| server.get("pages", path).await.text().await.unwrap();
    assert_eq!(text(&server, "/").await, "two");
    ok(home.af().args(["sites", "rollback", "--name", "pages"]));
    assert_eq!(text(&server, "/").await, "one");
    let list: Value =
        serde_json::from_str(&ok(home.af().args(["--json", "sites", "deployments", "--name", "pages"])))
            .unwrap();
    let live: Vec<_> = list.as_array().unwrap().iter().map(|row| row["live"].clone()).collect();
    assert_eq!(live, [false, true]);
    server.kill();

    let server = home.up(&[]);
    assert_eq!(text(&server, "/").await, "one");
    assert!(text(&server, "/large.txt").await == large);
    ok(home.af().args(["sites", "update", "--site", "pages", "--slug", "moved"]));
    let moved = async |slug: &str| server.get(slug, "/").await.status().as_u16();
    assert_eq!(moved("moved").await, 200);
    assert_eq!(moved("pages").await, 404);
    ok(home.af().args(["sites", "delete", "--name", "pages"]));
    assert_eq!(moved("moved").await, 404);
}

#[test]
fn rules_with_a_fault_are_not_sent() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let _server = home.up(&[]);
    write(dir.path(), &[("index.html", "home"), ("_redirects", "/a /b 301\n/c /d 999\n")]);
    let deploy = |name: &str| {
        refused(home.af().args(["sites", "deploy", "--create", "--name", name, "--path"]).arg(dir.path()))
    };
    let (code, text) = deploy("pages");
    assert_eq!(code, 1);
    assert!(text.contains("line 2 of the site's _redirects"), "{text}");
    let (_, text) = refused(home.af().args(["sites", "deploy", "--name", "pages", "--path", "/nowhere"]));
    assert!(text.contains("not a folder"), "{text}");
}
