//! The published expectations of gateways (<https://github.com/ipfs/gateway-conformance>), against its own fixtures; of CARs:
//! `gateway_cars.rs`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use http::Method;
use support::{Fixture, Served};

#[tokio::test]
async fn raw_blocks() {
    let fixture = Fixture::open("gateway-raw-block").unwrap();
    let node = Served::with(&[&fixture]);
    let accept = ("accept", "application/vnd.ipld.raw");
    let (dir, file) = (fixture.id(&["dir"]), fixture.id(&["dir", "ascii.txt"]));
    for answer in [
        node.get(&format!("/ipfs/{dir}?format=raw"), &[]).await,
        node.get(&format!("/ipfs/{dir}"), &[accept]).await,
        node.get(&format!("/ipfs/{}/dir?format=raw", fixture.root), &[]).await,
        node.get(&format!("/ipfs/{dir}?format=raw"), &[("accept", "application/vnd.ipld.car")]).await,
    ] {
        assert_eq!((answer.status.as_u16(), &answer.body), (200, &fixture.blocks[&dir]));
        assert_eq!(answer.header("content-type"), "application/vnd.ipld.raw");
    }
    for path in [format!("/ipfs/{file}"), format!("/ipfs/{}/dir/ascii.txt", fixture.root)] {
        let answer = node.get(&path, &[accept]).await;
        assert_eq!(answer.body, fixture.blocks[&file]);
        assert_eq!(answer.header("content-type"), "application/vnd.ipld.raw");
        assert_eq!(answer.header("content-length"), "31");
        assert_eq!(answer.header("content-disposition"), format!("attachment; filename=\"{file}.bin\""));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cache-control"), "public, max-age=29030400, immutable");
        assert_eq!(answer.header("x-ipfs-path"), path);
        assert!(answer.header("x-ipfs-roots").ends_with(&file.to_string()));
        assert_eq!(answer.header("content-location"), format!("{path}?format=raw"));
        assert_eq!(answer.header("vary"), "accept");
        assert_eq!(answer.header("etag"), format!("\"{file}.raw\""));
    }
    let named = node.get(&format!("/ipfs/{file}?filename=foobar.bin"), &[accept]).await;
    assert_eq!(named.header("content-disposition"), "attachment; filename=\"foobar.bin\"");
    assert_eq!(named.header("content-location"), format!("/ipfs/{file}?filename=foobar.bin&format=raw"));
    for (range, expected) in [("bytes=6-16", 6..17), ("bytes=-3", 28..31), ("bytes=6-16,0-4", 6..17)] {
        let part = node.get(&format!("/ipfs/{file}"), &[accept, ("range", range)]).await;
        assert_eq!(
            (part.status.as_u16(), &part.body[..]),
            (206, &fixture.blocks[&file][expected]),
            "{range}"
        );
    }
    let car = node.get(&format!("/ipfs/{dir}?format=car"), &[accept]).await;
    assert_eq!(car.header("content-type"), "application/vnd.ipld.car; version=1; order=dfs; dups=n");
}

#[tokio::test]
async fn directories() {
    let fixture = Fixture::open("dir_listing_fixtures").unwrap();
    let node = Served::with(&[&fixture]);
    let root = fixture.root;
    let page = node.get(&format!("/ipfs/{root}/"), &[]).await;
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(text.contains("Index of") && !text.contains(">..<"), "{text}");
    let moved = node.get(&format!("/ipfs/{root}/%C4%85/%C4%99?x=y"), &[]).await;
    assert_eq!(moved.status, 301);
    assert_eq!(moved.header("location"), format!("/ipfs/{root}/%C4%85/%C4%99/?x=y"));
    let page = node.get(&format!("/ipfs/{root}/%C4%85/%C4%99/"), &[]).await;
    assert!(page.header("etag").starts_with("\"DirIndex-"));
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(text.contains("<a href=\"./file-%C5%BA%C5%82.txt\">file-źł.txt</a>"), "{text}");
    assert!(text.contains("<a href=\"../\">..</a>"));
    assert_eq!(node.get(&format!("/ipfs/{root}/i-do-not-exist"), &[]).await.status, 404);
}

#[tokio::test]
async fn caching() {
    let fixture = Fixture::open("gateway-cache_fixtures").unwrap();
    let node = Served::with(&[&fixture]);
    let ids: Vec<_> = [&[][..], &["root2"], &["root2", "root3"], &["root2", "root3", "root4"]]
        .map(|names: &[&str]| fixture.id(names))
        .into();
    let index = fixture.id(&["root2", "root3", "root4", "index.html"]);
    let roots = |count: usize| ids[..count].iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let root = fixture.root;
    let listing = format!("/ipfs/{root}/root2/root3/");
    let answer = node.get(&listing, &[]).await;
    assert_eq!((answer.header("x-ipfs-path"), answer.header("x-ipfs-roots")), (&*listing, &*roots(3)));
    assert!(answer.header("etag").ends_with(&format!("_CID-{}\"", ids[2])));
    assert_eq!(answer.header("cache-control"), "public, max-age=604800, stale-while-revalidate=2678400");
    let tag = answer.header("etag").to_owned();
    for tag in [tag.clone(), format!("W/{tag}")] {
        assert_eq!(node.get(&listing, &[("if-none-match", &tag)]).await.status, 304);
    }
    let directory = format!("/ipfs/{root}/root2/root3/root4/");
    let file = format!("{directory}index.html");
    for (path, tag, roots) in
        [(&directory, ids[3], roots(4)), (&file, index, format!("{},{index}", roots(4)))]
    {
        let answer = node.get(path, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-ipfs-path")), (200, &**path));
        assert_eq!((answer.header("x-ipfs-roots"), answer.header("etag")), (&*roots, &*format!("\"{tag}\"")));
        assert_eq!(answer.header("cache-control"), "public, max-age=29030400, immutable");
        assert_eq!(answer.body, fixture.blocks[&index]);
        for known in
            [format!("\"{tag}\""), format!("W/\"{tag}\""), format!("\"a\", \"b\", \"{tag}\""), "*".to_owned()]
        {
            let answer = node.get(path, &[("if-none-match", &known)]).await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (304, 0), "{known}");
        }
        assert_eq!(node.get(path, &[("if-match", "\"other\"")]).await.status, 412);
    }
    let raw = node.get(&format!("{directory}?format=raw"), &[]).await;
    assert_eq!(raw.body, fixture.blocks[&ids[3]]);
    let cached = [("cache-control", "only-if-cached")];
    let absent = "/ipfs/QmYzfKSE55XCjD1MW128RfciAf2DViABhEiXfgVFMabSjN";
    for method in [Method::GET, Method::HEAD] {
        let here = node.ask(method.clone(), &format!("{directory}?format=raw"), &cached).await;
        assert_eq!(here.status, 200);
        assert_eq!(node.ask(method.clone(), absent, &cached).await.status, 412);
        for query in ["", "?format=raw", "?format=car"] {
            assert_eq!(node.ask(method.clone(), &format!("{absent}{query}"), &[]).await.status, 404);
        }
    }
}

#[tokio::test]
async fn files_and_ranges() {
    let fixture = Fixture::open("path_gateway_unixfs_dir-with-files").unwrap();
    let odd = Fixture::open("path_gateway_unixfs_dir-with-percent-encoded-filename").unwrap();
    let node = Served::with(&[&fixture, &odd]);
    let url = format!("/ipfs/{}/ascii.txt", fixture.root);
    let text = &fixture.blocks[&fixture.id(&["ascii.txt"])];
    let answer = node.get(&url, &[]).await;
    assert_eq!((answer.header("accept-ranges"), &answer.body), ("bytes", text));
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    for (range, said, bytes) in [
        ("bytes=6-16", "bytes 6-16/31", 6..17),
        ("bytes=-3", "bytes 28-30/31", 28..31),
        ("bytes=6-16,0-4", "bytes 6-16/31", 6..17),
    ] {
        let part = node.get(&url, &[("range", range)]).await;
        assert_eq!((part.status.as_u16(), part.header("content-range")), (206, said));
        assert_eq!(&part.body[..], &text[bytes]);
    }
    let behind = node.get(&url, &[("range", "bytes=31-")]).await;
    assert_eq!((behind.status.as_u16(), behind.header("content-range")), (416, "bytes */31"));
    let multiblock =
        node.get(&format!("/ipfs/{}/multiblock.txt", fixture.root), &[("range", "bytes=250-1025")]).await;
    assert_eq!((multiblock.status.as_u16(), multiblock.body.len()), (206, 776));
    let url = format!("/ipfs/{}/Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt", odd.root);
    let answer = node.get(&url, &[]).await;
    assert_eq!(answer.body, odd.blocks[&odd.id(&["Portugal%2C+España=Peninsula Ibérica.txt"])]);
}

#[tokio::test]
async fn documents() {
    let fixture = Fixture::open("path_gateway_dag_dag-cbor-traversal").unwrap();
    let node = Served::with(&[&fixture]);
    let root = fixture.root;
    let answer = node.get(&format!("/ipfs/{root}"), &[]).await;
    assert_eq!((answer.status.as_u16(), &answer.body), (200, &fixture.blocks[&root]));
    assert_eq!(answer.header("content-type"), "application/vnd.ipld.dag-cbor");
    assert_eq!(node.get(&format!("/ipfs/{root}?format=dag-json"), &[]).await.status, 406);
    assert_eq!(node.get(&format!("/ipfs/{root}?format=tar"), &[]).await.status, 501);
    let all = node.get(&format!("/ipfs/{root}?format=car"), &[]).await;
    assert_eq!(all.blocks().len(), fixture.blocks.len());
    let nothing = node.get(&format!("/ipfs/{root}/no-such-field"), &[]).await;
    assert_eq!(nothing.status, 404);
}

#[tokio::test]
async fn symbolic_links_are_blocks_and_nothing_more() {
    let Some(fixture) = Fixture::open("path_gateway_unixfs_symlink") else {
        return eprintln!("skipped: its blocks have CIDs of version 0, which are not supported");
    };
    let node = Served::with(&[&fixture]);
    let root = fixture.root;
    let page = node.get(&format!("/ipfs/{root}/"), &[]).await;
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(text.contains(">foo<") && text.contains(">bar<"), "{text}");
    assert_eq!(node.get(&format!("/ipfs/{root}?format=raw"), &[]).await.body, fixture.blocks[&root]);
    // Where others follow it.
    assert_eq!(node.get(&format!("/ipfs/{root}/bar"), &[]).await.status, 501);
    assert_eq!(node.get(&format!("/ipfs/{root}?format=car"), &[]).await.blocks().len(), 3);
}

#[tokio::test]
async fn pages_of_other_origins_may_read() {
    let node = Served::with(&[]);
    for method in [Method::GET, Method::OPTIONS, Method::POST] {
        let answer = node.ask(method, "/ipfs/bafkqabtimvwgy3yk/", &[]).await;
        let has = |name, words: &[&str]| {
            words.iter().all(|word| answer.header(name).split(", ").any(|said| said == *word))
        };
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert!(has("access-control-allow-methods", &["GET", "HEAD", "OPTIONS"]));
        assert!(has(
            "access-control-allow-headers",
            &["Content-Type", "Range", "User-Agent", "X-Requested-With"]
        ));
        let exposed = [
            "Content-Range",
            "Content-Length",
            "X-Ipfs-Path",
            "X-Ipfs-Roots",
            "X-Chunked-Output",
            "X-Stream-Output",
        ];
        assert!(has("access-control-expose-headers", &exposed));
    }
    assert_eq!(node.get("/ipfs/bafkqabtimvwgy3yk/", &[]).await.body, "hello\n");
}

#[tokio::test]
async fn the_probe_is_answered() {
    let node = Served::with(&[]);
    let raw = node.get("/ipfs/bafkqaaa?format=raw", &[]).await;
    assert_eq!((raw.status.as_u16(), raw.body.len()), (200, 0));
    let car = node.get("/ipfs/bafkqaaa?format=car", &[]).await;
    assert_eq!(car.status, 200);
    // A header with the one root, and nothing else.
    assert_eq!(&car.body[..], b"\x19\xa2eroots\x81\xd8*E\0\x01U\0\0gversion\x01");
    for query in ["?format=raw", "?format=car", ""] {
        assert_eq!(node.ask(Method::HEAD, &format!("/ipfs/bafkqaaa{query}"), &[]).await.status, 200);
    }
}
