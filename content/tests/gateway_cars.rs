//! The published expectations of gateways (<https://github.com/ipfs/gateway-conformance>) of CARs, against its own fixtures.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_contract::ContentId;
use support::{Fixture, Served, each_once, joined};

const SUBDIR: &str = "trustless_gateway_car_subdir-with-two-single-block-files";
const HAMT: &str = "trustless_gateway_car_single-layer-hamt-with-multi-block-files";
const DOCUMENTS: &str = "trustless_gateway_car_dir-with-dag-cbor-with-links";
const MIXED: &str = "trustless_gateway_car_subdir-with-mixed-block-files";
const DUPLICATES: &str = "trustless_gateway_car_dir-with-duplicate-files";

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
