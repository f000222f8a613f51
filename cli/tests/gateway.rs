//! Content by its CID, as others get it from a running server: at the edge and at the control plane.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::fs;
use std::path::Path;

use af_content::DiskStore;
use af_content::car::{Block, CarDecoder};
use af_content::unixfs;
use af_contract::ContentId;
use reqwest::{RequestBuilder, Response};
use serde_json::Value;
use support::{Home, Server, http_without_redirects, ok, refused};

const TOKEN: &str = "a-token-that-is-long-enough";

/// A site of three files, one of them in two blocks.
struct Site {
    root: String,
    large: Vec<u8>,
}

fn deploy(home: &Home) -> Site {
    let dir = tempfile::tempdir().unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1] ^ n.to_le_bytes()[2]).collect();
    fs::create_dir(dir.path().join("docs")).unwrap();
    for (path, bytes) in [
        ("index.html", &b"<h1>home</h1>"[..]),
        ("_redirects", b"/old/* /docs/:splat 302\n"),
        ("docs/a b.txt", b"text"),
        ("large.bin", &large),
    ] {
        fs::write(dir.path().join(path), bytes).unwrap();
    }
    let deploy = ["--json", "sites", "deploy", "--create", "--name", "pages", "--path"];
    let said: Value = serde_json::from_str(&ok(home.af().args(deploy).arg(dir.path()))).unwrap();
    Site { root: said["deployment"]["cid"].as_str().unwrap().to_owned(), large }
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// A request to the edge at any host.
fn at(server: &Server, host: &str, path: &str) -> RequestBuilder {
    let url = format!("http://127.0.0.1:{}{path}", server.port);
    http_without_redirects().get(url).header("host", format!("{host}:{}", server.port))
}

/// Both planes, by path.
fn by_path(server: &Server, path: &str) -> [RequestBuilder; 2] {
    [at(server, "127.0.0.1", path), http_without_redirects().get(format!("{}{path}", server.api))]
}

async fn answered(request: RequestBuilder) -> Response {
    request.send().await.unwrap()
}

async fn code(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let problem: Value = response.json().await.unwrap();
    (status, problem["code"].as_str().unwrap().to_owned())
}

fn blocks(car: &[u8]) -> Vec<Block> {
    let mut decoder = CarDecoder::default();
    let mut blocks = Vec::new();
    for chunk in car.chunks(1 << 20) {
        decoder.push(chunk);
        while let Some(block) = decoder.next_block().unwrap() {
            blocks.push(block);
        }
    }
    decoder.finish().unwrap();
    blocks
}

#[tokio::test]
async fn without_a_gateway_there_is_none() {
    let home = Home::new();
    let server = home.up(&[]);
    let root = deploy(&home).root;
    for path in ["/ipfs/bafkqaaa?format=raw".to_owned(), format!("/ipfs/{root}?format=car")] {
        let [edge, api] = by_path(&server, &path);
        assert_eq!(code(answered(edge).await).await, (404, "unknown_host".into()));
        assert_eq!(code(answered(api).await).await, (404, "unknown_path".into()));
    }
    let host = format!("{root}.ipfs.localhost");
    assert_eq!(code(answered(at(&server, &host, "/")).await).await, (404, "unknown_host".into()));
}

#[tokio::test]
async fn both_planes_serve_blocks_cars_and_files() {
    let home = Home::new();
    let server = home.up(&["--gateway", "public"]);
    let site = deploy(&home);
    let root = &site.root;
    for ask in [0, 1] {
        let get = async |path: String| answered(by_path(&server, &path)[ask].try_clone().unwrap()).await;
        let car = get(format!("/ipfs/{root}?format=car")).await;
        assert_eq!(header(&car, "content-type"), "application/vnd.ipld.car; version=1; order=dfs; dups=n");
        assert_eq!(header(&car, "transfer-encoding"), "chunked");
        let sent = blocks(&car.bytes().await.unwrap());
        assert_eq!((sent.len(), sent[0].id.to_string()), (9, root.clone()));
        let raw = get(format!("/ipfs/{root}?format=raw")).await;
        assert_eq!(raw.bytes().await.unwrap(), sent[0].bytes);

        let page = get(format!("/ipfs/{root}/")).await;
        assert_eq!(
            (header(&page, "etag"), header(&page, "x-ipfs-roots")),
            (&*format!("\"{root}\""), &**root)
        );
        assert_eq!(header(&page, "cache-control"), "public, max-age=29030400, immutable");
        assert_eq!(header(&page, "content-security-policy"), "sandbox allow-scripts");
        assert_eq!(page.text().await.unwrap(), "<h1>home</h1>");
        let moved = get(format!("/ipfs/{root}/docs")).await;
        assert_eq!(
            (moved.status().as_u16(), header(&moved, "location")),
            (301, &*format!("/ipfs/{root}/docs/"))
        );
        let listed = get(format!("/ipfs/{root}/docs/")).await.text().await.unwrap();
        assert!(listed.contains("<a href=\"./a%20b.txt\">a b.txt</a>"), "{listed}");
        let large = get(format!("/ipfs/{root}/large.bin")).await;
        assert_eq!((header(&large, "content-length"), header(&large, "accept-ranges")), ("3000000", "bytes"));
        assert!(large.bytes().await.unwrap() == site.large);
        let part = by_path(&server, &format!("/ipfs/{root}/large.bin"))[ask].try_clone().unwrap();
        let part = answered(part.header("range", "bytes=1048570-2097160")).await;
        assert_eq!(header(&part, "content-range"), "bytes 1048570-2097160/3000000");
        assert!(part.bytes().await.unwrap() == site.large[1_048_570..=2_097_160]);

        for (path, status, expected) in [
            ("/ipfs/nonsense".to_owned(), 400, "invalid_cid"),
            ("/ipns/example.com/".to_owned(), 501, "not_supported"),
            (format!("/ipfs/{root}/a%2Fb"), 400, "invalid_path"),
            (format!("/ipfs/{root}/nothing?format=car"), 404, "path_not_found"),
            (format!("/ipfs/{root}?format=dag-json"), 406, "not_acceptable"),
            (format!("/ipfs/{root}?format=tar"), 501, "not_supported"),
            (format!("/ipfs/{root}/large.bin?format=car&entity-bytes=3000000:*"), 400, "invalid_parameter"),
        ] {
            let answer = get(path.clone()).await;
            assert_eq!(header(&answer, "access-control-allow-origin"), "*", "{path}");
            assert_eq!(code(answer).await, (status, expected.into()), "{path}");
        }
        let probe = by_path(&server, "/ipfs/bafkqaaa?format=raw")[ask].try_clone().unwrap().build().unwrap();
        let probe = http_without_redirects().head(probe.url().clone()).send().await.unwrap();
        assert_eq!((probe.status().as_u16(), header(&probe, "content-length")), (200, "0"));
    }
    // A function's or site's host is its own.
    let theirs = server.get("pages", &format!("/ipfs/{root}?format=raw")).await;
    assert_eq!(theirs.status(), 404);
}

#[tokio::test]
async fn a_private_gateway_wants_its_token() {
    let home = Home::new();
    let mut without = home.af();
    without
        .env_remove("AF_GATEWAY_TOKEN")
        .args(["up", "--gateway", "private", "--data-dir"])
        .arg(home.data());
    let (_, said) = refused(without.args(["--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"]));
    assert!(said.contains("--gateway-token-file"), "{said}");

    let file = home.data().with_file_name("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let by_file = home.up(&["--gateway", "private", "--gateway-token-file", file.to_str().unwrap()]);
    let site = deploy(&home);
    private(&by_file, &site).await;
    assert!(by_file.stop().success());
    let mut command = home.af();
    command.env("AF_GATEWAY_TOKEN", TOKEN);
    private(&home.up_as(command, &["--gateway", "private"]), &site).await;
}

async fn private(server: &Server, site: &Site) {
    let root = &site.root;
    let hosted = at(server, &format!("{root}.ipfs.localhost"), "/");
    let platform = at(server, "localhost", &format!("/ipfs/{root}/"));
    for request in by_path(server, &format!("/ipfs/{root}?format=raw")).into_iter().chain([hosted, platform])
    {
        let stranger = answered(request.try_clone().unwrap()).await;
        assert_eq!(header(&stranger, "www-authenticate"), "Bearer");
        assert_eq!(code(stranger).await, (401, "unauthenticated".into()));
        let wrong = answered(request.try_clone().unwrap().bearer_auth("another-token-that-is-long")).await;
        assert_eq!(wrong.status(), 401);
        let known = answered(request.bearer_auth(TOKEN)).await;
        assert!(known.status().is_success() || known.status() == 301, "{known:?}");
        assert!(header(&known, "cache-control").starts_with("private"), "{known:?}");
    }
}

#[tokio::test]
async fn a_cid_is_a_host_with_what_sites_have() {
    let home = Home::new();
    let server = home.up(&["--gateway", "public"]);
    let site = deploy(&home);
    let root = &site.root;
    let host = format!("{root}.ipfs.localhost");
    let page = answered(at(&server, &host, "/")).await;
    assert_eq!((page.status().as_u16(), header(&page, "af-site")), (200, &**root));
    assert_eq!(header(&page, "access-control-allow-origin"), "*");
    assert_eq!(header(&page, "content-security-policy"), "");
    assert_eq!(page.text().await.unwrap(), "<h1>home</h1>");
    let rule = answered(at(&server, &host, "/old/a%20b.txt")).await;
    assert_eq!((rule.status().as_u16(), header(&rule, "location")), (302, "/docs/a%20b.txt"));
    let listed = answered(at(&server, &host, "/docs/")).await.text().await.unwrap();
    assert!(listed.contains("Index of"), "{listed}");
    let raw =
        answered(at(&server, &host, "/docs/a%20b.txt").header("accept", "application/vnd.ipld.raw")).await;
    assert_eq!(header(&raw, "content-location"), "/docs/a%20b.txt?format=raw");
    let file = header(&raw, "x-ipfs-roots").rsplit(',').next().unwrap().to_owned();
    assert_eq!(raw.text().await.unwrap(), "text");
    // A file has a host, too.
    let text = answered(at(&server, &format!("{file}.ipfs.localhost"), "/")).await;
    assert_eq!((header(&text, "content-type"), text.status().as_u16()), ("text/plain; charset=utf-8", 200));
    let nowhere = answered(at(&server, &host, "/nothing")).await;
    assert_eq!(code(nowhere).await, (404, "path_not_found".into()));
    assert_eq!(answered(at(&server, "x.ipfs.localhost", "/")).await.status(), 400);

    // From the platform's own name, browsers go where content is an origin of its own. Verifying clients need not.
    let moved = answered(at(&server, "localhost", &format!("/ipfs/{root}/docs/a%20b.txt?x=y"))).await;
    let to = format!("//{host}:{}/docs/a%20b.txt?x=y", server.port);
    assert_eq!((moved.status().as_u16(), header(&moved, "location")), (301, &*to));
    let raw = answered(at(&server, "localhost", &format!("/ipfs/{root}?format=raw"))).await;
    assert_eq!(raw.status(), 200);
    let odd = answered(at(&server, "localhost", &format!("/ipfs/{root}//example.com/"))).await;
    assert!(header(&odd, "location").starts_with(&format!("//{host}:")));
}

#[tokio::test]
async fn a_rotten_block_breaks_the_connection_off() {
    let home = Home::new();
    let server = home.up(&["--gateway", "public"]);
    let site = deploy(&home);
    let car = answered(
        by_path(&server, &format!("/ipfs/{}/large.bin?format=car", site.root))[0].try_clone().unwrap(),
    );
    let sent = blocks(&car.await.bytes().await.unwrap());
    let last = sent.last().unwrap().id;
    rot(&home.data().join("blocks"), &last);
    for path in ["large.bin?format=car", "large.bin"] {
        for request in by_path(&server, &format!("/ipfs/{}/{path}", site.root)) {
            let response = answered(request).await;
            assert_eq!(response.status(), 200);
            response.bytes().await.expect_err("it is not complete");
        }
    }
    for request in by_path(&server, &format!("/ipfs/{last}?format=raw")) {
        assert_eq!(code(answered(request).await).await, (500, "content_corrupt".into()));
    }
}

fn rot(blocks: &Path, id: &ContentId) {
    let text = id.to_string();
    let path = blocks.join(&text[text.len() - 3..text.len() - 1]).join(&text);
    fs::write(path, b"rotten").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_platform_gives_another_what_it_lacks() {
    let (home, other) = (Home::new(), Home::new());
    let file: Vec<u8> = (0..5_000_000_u32).map(|n| n.to_le_bytes()[1] ^ n.to_le_bytes()[2]).collect();
    let store = DiskStore::open(home.data().join("blocks")).unwrap();
    let keep = |block: Block| store.keep(&block).map_err(std::io::Error::other);
    let root = unixfs::import(&file[..], keep).unwrap().root.to_string();
    let mut command = home.af();
    command.env("AF_GATEWAY_TOKEN", TOKEN);
    let server = home.up_as(command, &["--gateway", "private"]);
    let edge = format!("http://127.0.0.1:{}", server.port);
    for peer in [&edge, &server.api] {
        let out = other.config().with_file_name("fetched");
        fs::create_dir_all(out.parent().unwrap()).unwrap();
        let fetch = ["--json", "fetch", &root, "--source", &format!("peer={peer}"), "-o"];
        let fetched = ok(other.af().env("AF_GATEWAY_TOKEN", TOKEN).args(fetch).arg(&out));
        assert!(fs::read(&out).unwrap() == file, "{fetched}");
        refused(other.af().env_remove("AF_GATEWAY_TOKEN").args(fetch).arg(&out));
    }
}
