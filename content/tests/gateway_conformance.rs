//! The published expectations of gateways (<https://github.com/ipfs/gateway-conformance>), against its own fixtures.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

use std::collections::HashMap;
use std::path::Path;

use af_content::DiskStore;
use af_content::car::{Block, CarDecoder};
use af_content::gateway::{Access, Gateway, GatewayBody, Request, Target};
use af_content::unixfs::{Looked, Lookup, Node};
use af_contract::{Codec, ContentId};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::Body;

const SUBDIR: &str = "trustless_gateway_car_subdir-with-two-single-block-files";
const HAMT: &str = "trustless_gateway_car_single-layer-hamt-with-multi-block-files";
const DOCUMENTS: &str = "trustless_gateway_car_dir-with-dag-cbor-with-links";
const MIXED: &str = "trustless_gateway_car_subdir-with-mixed-block-files";
const DUPLICATES: &str = "trustless_gateway_car_dir-with-duplicate-files";

/// What a CAR of the fixtures has. `None`: it has CIDs that are not supported.
struct Fixture {
    root: ContentId,
    blocks: HashMap<ContentId, Bytes>,
}

impl Fixture {
    fn open(name: &str) -> Option<Self> {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/gateway-conformance/{name}.car"));
        let mut decoder = CarDecoder::default();
        decoder.push(&std::fs::read(path).unwrap());
        let mut blocks = HashMap::new();
        let mut first = None;
        while let Some(block) = decoder.next_block().ok()? {
            first.get_or_insert(block.id);
            blocks.insert(block.id, block.bytes);
        }
        let root = decoder.roots().unwrap().first().copied().or(first).unwrap();
        Some(Self { root, blocks })
    }

    fn node(&self, id: &ContentId) -> Node {
        Node::decode(id, &self.blocks[id]).unwrap()
    }

    /// What names lead to, and all blocks on the way.
    fn way(&self, names: &[&str]) -> Vec<ContentId> {
        let mut way = vec![self.root];
        for name in names {
            let mut lookup = Lookup::new(*way.last().unwrap(), name);
            loop {
                match lookup.clone().step(self.node(&lookup.wanted())).unwrap() {
                    Looked::Found(entry) => break way.push(entry.id),
                    Looked::Deeper(deeper) => {
                        lookup = deeper;
                        way.push(lookup.wanted());
                    }
                    other => panic!("{name}: {other:?}"),
                }
            }
        }
        way
    }

    fn id(&self, names: &[&str]) -> ContentId {
        *self.way(names).last().unwrap()
    }

    /// Everything below, in depth-first order, each as often as it occurs.
    fn below(&self, id: &ContentId) -> Vec<ContentId> {
        if id.codec() != Codec::DagPb {
            return Vec::new();
        }
        self.node(id).links().flat_map(|link| std::iter::once(link).chain(self.below(&link))).collect()
    }

    /// All shards below a directory.
    fn shards(&self, id: &ContentId) -> Vec<ContentId> {
        let Node::Shard(links) = self.node(id) else { return Vec::new() };
        let inner = links.iter().filter(|link| link.name.len() == 2);
        inner.flat_map(|link| std::iter::once(link.id).chain(self.shards(&link.id))).collect()
    }
}

struct Served {
    gateway: Gateway,
    _dir: tempfile::TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn blocks(&self) -> Vec<ContentId> {
        let mut decoder = CarDecoder::default();
        decoder.push(&self.body);
        let mut ids = Vec::new();
        while let Some(block) = decoder.next_block().unwrap() {
            ids.push(block.id);
        }
        decoder.finish().unwrap();
        ids
    }
}

impl Served {
    fn with(fixtures: &[&Fixture]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = DiskStore::open(dir.path()).unwrap();
        for fixture in fixtures {
            for (id, bytes) in &fixture.blocks {
                store.keep(&Block { id: *id, bytes: bytes.clone() }).unwrap();
            }
        }
        Self { gateway: Gateway::new(store, Access::Public), _dir: dir }
    }

    async fn ask(&self, method: Method, url: &str, headers: &[(&str, &str)]) -> Answer {
        let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
            })
            .collect();
        let response = async {
            let target = Target::of_path(path)?;
            self.gateway.respond(Request { method: &method, target: &target, query, headers: &headers }).await
        };
        match response.await {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                Answer { status: parts.status, headers: parts.headers, body: collected(body).await }
            }
            Err(error) => {
                let mut headers = HeaderMap::new();
                error.explain(&mut headers);
                Answer { status: error.status().0, headers, body: Bytes::from(error.to_string()) }
            }
        }
    }

    async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(Method::GET, url, headers).await
    }

    /// A CAR by the URL and by the header, with all that is expected of every CAR.
    async fn car(&self, url: &str, expected: &[ContentId]) {
        let query = if url.contains('?') { "&" } else { "?" };
        let accept = [("accept", "application/vnd.ipld.car")];
        for answer in [self.get(&format!("{url}{query}format=car"), &[]).await, self.get(url, &accept).await]
        {
            assert_eq!(answer.status, 200, "{url}: {:?}", answer.body);
            assert_eq!(answer.blocks(), expected, "{url}");
            assert_eq!(
                answer.header("content-type"),
                "application/vnd.ipld.car; version=1; order=dfs; dups=n"
            );
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert_eq!(answer.header("accept-ranges"), "none");
            assert!(answer.header("content-disposition").starts_with("attachment; filename=\""));
            assert!(answer.header("content-disposition").ends_with(".car\""));
            assert!(!answer.header("etag").is_empty());
        }
    }
}

async fn collected(body: GatewayBody) -> Bytes {
    let mut body = std::pin::pin!(body);
    let mut all = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        all.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    all.freeze()
}

fn each_once(ids: Vec<ContentId>) -> Vec<ContentId> {
    let mut seen = std::collections::HashSet::new();
    ids.into_iter().filter(|id| seen.insert(*id)).collect()
}

fn joined(parts: &[&[ContentId]]) -> Vec<ContentId> {
    each_once(parts.concat())
}

#[tokio::test]
async fn cars_of_paths() {
    let (subdir, hamt, documents) = [SUBDIR, HAMT, DOCUMENTS].map(|name| Fixture::open(name).unwrap()).into();
    let node = Served::with(&[&subdir, &hamt, &documents]);
    node.car(&format!("/ipfs/{}/subdir/ascii.txt", subdir.root), &subdir.way(&["subdir", "ascii.txt"])).await;
    let file = hamt.way(&["685.txt"]);
    node.car(&format!("/ipfs/{}/685.txt", hamt.root), &joined(&[&file, &hamt.below(file.last().unwrap())]))
        .await;
    let document = documents.id(&["document"]);
    let single = ContentId::parse("bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4").unwrap();
    node.car(&format!("/ipfs/{document}/files/single"), &[document, single]).await;
    let missing = node.get(&format!("/ipfs/{}/subdir/i-do-not-exist?format=car", subdir.root), &[]).await;
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn cars_of_blocks_entities_and_all() {
    let (subdir, hamt, documents) = [SUBDIR, HAMT, DOCUMENTS].map(|name| Fixture::open(name).unwrap()).into();
    let mixed = Fixture::open(MIXED).unwrap();
    let node = Served::with(&[&subdir, &hamt, &documents, &mixed]);
    for names in [&["subdir"][..], &["subdir", "ascii.txt"]] {
        let url = format!("/ipfs/{}/{}?dag-scope=block", subdir.root, names.join("/"));
        node.car(&url, &subdir.way(names)).await;
    }
    node.car(&format!("/ipfs/{}/1.txt?dag-scope=block", hamt.root), &hamt.way(&["1.txt"])).await;
    node.car(&format!("/ipfs/{}?dag-scope=entity", subdir.root), &[subdir.root]).await;
    let shards = joined(&[&[hamt.root], &hamt.shards(&hamt.root)]);
    assert!(shards.len() > 1);
    node.car(&format!("/ipfs/{}?dag-scope=entity", hamt.root), &shards).await;
    node.car(&format!("/ipfs/{}?dag-scope=entity&entity-bytes=0:*", hamt.root), &shards).await;
    node.car(
        &format!("/ipfs/{}/subdir/ascii.txt?dag-scope=entity", mixed.root),
        &mixed.way(&["subdir", "ascii.txt"]),
    )
    .await;
    let file = mixed.way(&["subdir", "multiblock.txt"]);
    let file = joined(&[&file, &mixed.below(file.last().unwrap())]);
    for query in ["dag-scope=entity", "dag-scope=all", "dag-scope=entity&entity-bytes=0:*"] {
        node.car(&format!("/ipfs/{}/subdir/multiblock.txt?{query}", mixed.root), &file).await;
    }
    let all = joined(&[&mixed.way(&["subdir"]), &mixed.below(&mixed.id(&["subdir"]))]);
    node.car(&format!("/ipfs/{}/subdir?dag-scope=all", mixed.root), &all).await;
    let document = documents.way(&["document"]);
    node.car(&format!("/ipfs/{}/document?dag-scope=entity", documents.root), &document).await;
}

#[tokio::test]
async fn cars_of_a_files_bytes() {
    let mixed = Fixture::open(MIXED).unwrap();
    let node = Served::with(&[&mixed]);
    let file = mixed.id(&["subdir", "multiblock.txt"]);
    let parts = mixed.below(&file);
    assert_eq!(parts.len(), 5);
    for (range, expected) in [
        ("512:*", 2..5),
        ("512:1023", 2..4),
        ("512:-256", 2..4),
        ("-5:*", 3..5),
        ("-9999:*", 0..5),
        ("-9999:-3", 0..4),
        ("0:0", 0..1),
        ("5:-9999", 0..0),
    ] {
        let expected = joined(&[&[file], &parts[expected]]);
        node.car(&format!("/ipfs/{file}?dag-scope=entity&entity-bytes={range}"), &expected).await;
    }
    for outside in ["1026:*", "9999:99999", "x", "9:3"] {
        let answer = node.get(&format!("/ipfs/{file}?format=car&entity-bytes={outside}"), &[]).await;
        assert_eq!(answer.status, 400, "{outside}");
    }
}

#[tokio::test]
async fn bytes_of_a_file_that_lacks_a_block() {
    let Some(fixture) = Fixture::open("trustless_gateway_car_file-3k-and-3-blocks-missing-block") else {
        return eprintln!("skipped: its blocks have CIDs of version 0, which are not supported");
    };
    let node = Served::with(&[&fixture]);
    let parts = fixture.below_of_file();
    let root = fixture.root;
    node.car(&format!("/ipfs/{root}?dag-scope=entity&entity-bytes=0:1000"), &[root, parts[0]]).await;
    node.car(&format!("/ipfs/{root}?dag-scope=entity&entity-bytes=2200:*"), &[root, parts[2]]).await;
    for (range, expected) in
        [("bytes=997-1000", "bytes 997-1000/3072"), ("bytes=2200-2201", "bytes 2200-2201/3072")]
    {
        let answer = node.get(&format!("/ipfs/{root}"), &[("range", range)]).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-range")), (206, expected));
    }
}

impl Fixture {
    fn below_of_file(&self) -> Vec<ContentId> {
        self.node(&self.root).links().collect()
    }
}

#[tokio::test]
async fn orders_and_duplicates() {
    let fixture = Fixture::open(DUPLICATES).unwrap();
    let node = Served::with(&[&fixture]);
    let root = fixture.root;
    let every = joined_with_duplicates(&fixture);
    let once = each_once(every.clone());
    assert_ne!(every, once);
    let accept = |text| [("accept", text)];
    for (query, header, kind, expected) in [
        ("", "application/vnd.ipld.car; version=1; order=dfs; dups=y", "y", &every),
        ("", "application/vnd.ipld.car; version=1; order=dfs; dups=n", "n", &once),
        ("", "application/vnd.ipld.car; version=1; order=unk", "n", &once),
        ("?format=car", "application/vnd.ipld.car; version=1; order=dfs; dups=y", "y", &every),
        ("?format=car&car-order=dfs", "application/vnd.ipld.car; order=unk", "n", &once),
        ("?format=car&car-dups=y", "application/vnd.ipld.car; dups=n", "y", &every),
    ] {
        let answer = node.get(&format!("/ipfs/{root}{query}"), &accept(header)).await;
        assert_eq!(
            answer.header("content-type"),
            format!("application/vnd.ipld.car; version=1; order=dfs; dups={kind}")
        );
        assert_eq!(&answer.blocks(), expected, "{query} {header}");
    }
    // Content within a CID is no block.
    let inline = "/ipfs/bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa";
    let answer = node.get(inline, &accept("application/vnd.ipld.car; dups=y")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type").contains("dups=y")), (200, true));
    assert!(answer.body.len() > 20);
}

fn joined_with_duplicates(fixture: &Fixture) -> Vec<ContentId> {
    std::iter::once(fixture.root).chain(fixture.below(&fixture.root)).collect()
}

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
