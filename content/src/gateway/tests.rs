//! What hostile clients and hostile content get, and that what is sent is enough to verify it.

use std::collections::HashMap;
use std::fs;

use af_contract::{Codec, ContentId};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Response};
use http_body::Body;

use super::*;
use crate::DiskStore;
use crate::car::{Block, CarDecoder};
use crate::unixfs::{self, Directory, Entry, Export};

struct Node {
    store: DiskStore,
    gateway: Gateway,
    _dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = DiskStore::open(dir.path()).unwrap();
        Self { gateway: Gateway::new(store.clone(), Access::Public), store, _dir: dir }
    }

    fn file(&self, bytes: &[u8]) -> ContentId {
        let keep = |block: Block| self.store.keep(&block).map_err(std::io::Error::other);
        unixfs::import(bytes, keep).unwrap().root
    }

    fn directory(&self, entries: &[(String, ContentId)]) -> ContentId {
        let entries: Vec<_> =
            entries.iter().map(|(name, id)| Entry { name: name.clone(), id: *id, size: 1 }).collect();
        Directory::write(&entries, &mut |block| self.store.keep(&block).map_err(std::io::Error::other))
            .unwrap()
            .0
    }

    async fn get(&self, url: &str) -> Result<Response<GatewayBody>, GatewayError> {
        let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
        let target = Target::of_path(path)?;
        let (method, headers) = (Method::GET, HeaderMap::new());
        self.gateway.respond(Request { method: &method, target: &target, query, headers: &headers }).await
    }

    async fn status(&self, url: &str) -> u16 {
        match self.get(url).await {
            Ok(response) => response.status().as_u16(),
            Err(error) => error.status().0.as_u16(),
        }
    }
}

/// All bytes that come, and why no more.
async fn read(response: Response<GatewayBody>) -> (Bytes, Option<GatewayBodyError>) {
    let mut body = std::pin::pin!(response.into_body());
    let mut all = BytesMut::new();
    loop {
        match std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            Some(Ok(frame)) => all.extend_from_slice(&frame.into_data().unwrap()),
            Some(Err(error)) => return (all.freeze(), Some(error)),
            None => return (all.freeze(), None),
        }
    }
}

async fn blocks(response: Response<GatewayBody>) -> HashMap<ContentId, Bytes> {
    let (bytes, error) = read(response).await;
    assert!(error.is_none(), "{error:?}");
    let mut decoder = CarDecoder::default();
    let mut blocks = HashMap::new();
    for chunk in bytes.chunks(100_000) {
        decoder.push(chunk);
        while let Some(block) = decoder.next_block().unwrap() {
            assert!(blocks.insert(block.id, block.bytes).is_none(), "{} came twice", block.id);
        }
    }
    decoder.finish().unwrap();
    blocks
}

fn mixed(size: usize, seed: u8) -> Vec<u8> {
    (0..size).map(|n| n.to_le_bytes()[1].wrapping_mul(7) ^ n.to_le_bytes()[2] ^ seed).collect()
}

#[tokio::test]
async fn an_entity_is_enough_to_verify_a_file() {
    let node = Node::new();
    let file = mixed(3_300_000, 1);
    let root = node.directory(&[("a".to_owned(), node.file(b"other")), ("b".to_owned(), node.file(&file))]);
    let id = {
        let blocks =
            blocks(node.get(&format!("/ipfs/{root}/b?format=car&dag-scope=entity")).await.unwrap()).await;
        assert_eq!(blocks.len(), 6, "the directory, the file's root and four leaves");
        let entry = Directory::find(&listed(root, &blocks), "b").unwrap().id;
        let mut export = Export::new(entry, 1 << 30);
        let mut out = Vec::new();
        while let Some(id) = export.wanted() {
            out.extend_from_slice(&export.feed(&blocks[&id]).unwrap());
        }
        assert!(out == file);
        entry
    };
    let part =
        blocks(node.get(&format!("/ipfs/{id}?format=car&entity-bytes=1048576:1048577")).await.unwrap()).await;
    assert_eq!(part.len(), 2);
}

fn listed(root: ContentId, blocks: &HashMap<ContentId, Bytes>) -> Directory {
    let mut listing = unixfs::Listing::new(root);
    while let Some(id) = listing.wanted() {
        listing.feed(&blocks[&id]).unwrap();
    }
    listing.finish().unwrap()
}

#[tokio::test]
async fn a_block_that_is_missing_or_rotten_cuts_the_answer() {
    let node = Node::new();
    let file = mixed(5_000_000, 2);
    let root = node.file(&file);
    let third = crate::identify(Codec::Raw, &file[2 << 20..3 << 20]);
    for damage in [b"rotten".to_vec(), Vec::new()] {
        if damage.is_empty() {
            fs::remove_file(node.store.path(&third)).unwrap();
        } else {
            fs::write(node.store.path(&third), damage).unwrap();
        }
        for query in ["?format=car", "?format=car&car-dups=y", ""] {
            let (bytes, error) = read(node.get(&format!("/ipfs/{root}{query}")).await.unwrap()).await;
            assert!(matches!(error, Some(GatewayBodyError::Read(_))), "{query}: {error:?}");
            assert!(bytes.len() >= 2 << 20 && bytes.len() < 3 << 20, "{query}: {}", bytes.len());
        }
        // What does not need it is not kept from anybody.
        let part =
            read(node.get(&format!("/ipfs/{root}?format=car&entity-bytes=0:2097151")).await.unwrap()).await;
        assert!(part.1.is_none());
        assert_ne!(node.status(&format!("/ipfs/{third}?format=raw")).await, 200);
    }
    fs::remove_file(node.store.path(&root)).unwrap();
    assert_eq!(node.status(&format!("/ipfs/{root}?format=car")).await, 404);
}

#[tokio::test]
async fn a_small_dag_that_unfolds_without_end_is_sent_once() {
    let node = Node::new();
    let mut id = node.file(b"leaf");
    for _ in 0..100 {
        id = node.directory(&[("a".to_owned(), id), ("b".to_owned(), id)]);
    }
    let sent = blocks(node.get(&format!("/ipfs/{id}?format=car")).await.unwrap()).await;
    assert_eq!(sent.len(), 101);
    let deep = "/a".repeat(64);
    assert_eq!(node.status(&format!("/ipfs/{id}{deep}?format=raw")).await, 200);
    assert_eq!(node.status(&format!("/ipfs/{id}{deep}/a?format=raw")).await, 400);
    // Whoever asks for each of them takes what they ask for, and may stop.
    let unfolding = node.get(&format!("/ipfs/{id}?format=car&car-dups=y")).await.unwrap();
    drop(unfolding);
}

#[tokio::test]
async fn a_path_through_large_blocks_ends() {
    let node = Node::new();
    let mut id = node.file(b"leaf");
    for level in 0..64 {
        // A plain directory of nearly two megabytes.
        let mut links: Vec<_> =
            (0..30_000).map(|n| unixfs::Link { name: format!("{level}-{n}"), id, size: 1 }).collect();
        links.push(unixfs::Link { name: "a".to_owned(), id, size: 1 });
        let (root, block) = unixfs::encoded(1, &[], &links);
        node.store.keep(&Block { id: root, bytes: block }).unwrap();
        id = root;
    }
    let error = node.get(&format!("/ipfs/{id}{}?format=raw", "/a".repeat(64))).await.unwrap_err();
    assert!(matches!(error, GatewayError::Unreadable(DagError::TooMuch(_))), "{error:?}");
    assert_eq!(node.status(&format!("/ipfs/{id}/a/a?format=raw")).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_cut_off_and_leaves_its_place() {
    let node = Node::new();
    let root = node.file(&mixed(8_000_000, 3));
    let mut held = Vec::new();
    let url = format!("/ipfs/{root}");
    for _ in 0..64 {
        held.push(node.get(&url).await.unwrap());
    }
    assert!(matches!(node.get(&url).await, Err(GatewayError::Busy)));
    tokio::time::advance(std::time::Duration::from_secs(31)).await;
    // Their places are free, and what they were sent is not complete.
    let (bytes, error) = read(node.get(&url).await.unwrap()).await;
    assert_eq!((bytes.len(), error.is_none()), (8_000_000, true));
    let (bytes, error) = read(held.swap_remove(0)).await;
    assert!(
        matches!(error, Some(GatewayBodyError::Cut)) && bytes.len() < 4_000_000,
        "{} {error:?}",
        bytes.len()
    );
}

#[tokio::test]
async fn what_stands_in_a_link_is_served_and_not_sent_besides() {
    let node = Node::new();
    let leaf = node.file(b"a block");
    let inline = ContentId::inline(Codec::Raw, b"inline").unwrap();
    let (_, inner) = unixfs::encoded(1, &[], &[unixfs::Link { name: "leaf".into(), id: leaf, size: 7 }]);
    let inner = ContentId::inline(Codec::DagPb, &inner).unwrap();
    let (root, block) = unixfs::encoded(
        1,
        &[],
        &[("a", inline), ("b", inner)].map(|(name, id)| unixfs::Link { name: name.into(), id, size: 1 }),
    );
    node.store.keep(&Block { id: root, bytes: block }).unwrap();
    let get = async |path: String| read(node.get(&path).await.unwrap()).await.0;
    assert_eq!(get(format!("/ipfs/{root}/a")).await, "inline");
    for path in [format!("{root}/b/leaf"), format!("{inner}/leaf")] {
        assert_eq!(get(format!("/ipfs/{path}")).await, "a block", "{path}");
    }
    assert_eq!(get(format!("/ipfs/{inline}")).await, "inline");
    for (path, expected) in [(root, vec![root, leaf]), (inner, vec![leaf]), (inline, vec![])] {
        let sent = blocks(node.get(&format!("/ipfs/{path}?format=car")).await.unwrap()).await;
        assert_eq!(sent.len(), expected.len(), "{path}");
        assert!(expected.iter().all(|id| sent.contains_key(id)), "{path}");
    }
}

#[tokio::test]
async fn pages_have_no_power_over_the_gateway() {
    let node = Node::new();
    let page = node.file(b"<script>alert(1)</script>");
    let root = node.directory(&[("index.html".to_owned(), page), ("<i>&\"'.svg".to_owned(), page)]);
    let policy =
        |response: &Response<GatewayBody>| response.headers().contains_key("content-security-policy");
    for path in ["/", "/index.html", "/%3Ci%3E&%22'.svg"] {
        let response = node.get(&format!("/ipfs/{root}{path}")).await.unwrap();
        assert!(policy(&response) && response.headers()["x-content-type-options"] == "nosniff", "{path}");
    }
    // Not guessed from what it has.
    let response = node.get(&format!("/ipfs/{page}")).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    let target = Target::of_host(&root.to_string(), "/index.html").unwrap();
    let (method, headers) = (Method::GET, HeaderMap::new());
    let request = Request { method: &method, target: &target, query: None, headers: &headers };
    assert!(!policy(&node.gateway.respond(request).await.unwrap()), "it has an origin of its own there");
    let listed = node.directory(&[("<b>&\"'".to_owned(), page)]);
    let (text, _) = read(node.get(&format!("/ipfs/{listed}/")).await.unwrap()).await;
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(!text.contains("<b>") && text.contains("&lt;b&gt;&amp;&quot;&#39;"), "{text}");
    let worker = HeaderMap::from_iter([("service-worker".parse().unwrap(), "script".parse().unwrap())]);
    let target = Target::of_path(&format!("/ipfs/{root}")).unwrap();
    let request = Request { method: &method, target: &target, query: None, headers: &worker };
    assert!(matches!(node.gateway.respond(request).await, Err(GatewayError::ServiceWorker)));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(24))]
    #[test]
    fn what_is_sent_as_a_car_can_be_read(
        sizes in proptest::collection::vec(0usize..2_500_000, 1..4), seed: u8, depth in 0usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let node = Node::new();
            let files: Vec<_> = sizes.iter().enumerate()
                .map(|(n, size)| (n.to_string(), node.file(&mixed(*size, seed.wrapping_add(n.to_le_bytes()[0]))))).collect();
            let mut root = node.directory(&files);
            for _ in 0..depth {
                root = node.directory(&[("d".to_owned(), root), ("e".to_owned(), root)]);
            }
            let mut expected = std::collections::BTreeSet::new();
            node.store.dag(&root, &mut expected).unwrap();
            let sent = blocks(node.get(&format!("/ipfs/{root}?format=car")).await.unwrap()).await;
            assert_eq!(sent.into_keys().collect::<std::collections::BTreeSet<_>>(), expected);
            let way = "/d".repeat(depth);
            let (bytes, error) = read(node.get(&format!("/ipfs/{root}{way}/0")).await.unwrap()).await;
            assert!(error.is_none() && bytes == mixed(sizes[0], seed));
        });
    }
}
