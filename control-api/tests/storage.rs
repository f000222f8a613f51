//! What projects store: who may, how much, and what a sweep leaves.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use af_content::car::{Block, CarDecoder};
use af_content::unixfs::{self, Directory, Entry};
use af_contract::ContentId;
use af_control_api::StorageConfig;
use serde_json::{Value, json};
use support::content::car_of;
use support::{OWNER, STRANGER, Served};

/// A file's root and blocks.
fn file(bytes: &[u8]) -> (ContentId, Vec<Block>) {
    let mut blocks = Vec::new();
    let root = unixfs::import(bytes, |block| {
        blocks.push(block);
        Ok(())
    });
    (root.unwrap().root, blocks)
}

/// So many bytes that no other test has, and no two blocks of which are the same.
fn bytes(seed: &str, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

struct Project {
    served: Served,
    path: String,
}

impl Project {
    async fn start(storage: StorageConfig) -> Self {
        let served = Served::storing(storage).await;
        let (_, page) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
        let path = format!("/v1/projects/{}/storage", page["data"][0]["id"].as_str().unwrap());
        Self { served, path }
    }

    async fn send(&self, blocks: &[Block]) -> (u16, Value) {
        self.served.upload(&format!("{}/blocks", self.path), OWNER, car_of(&[], blocks)).await
    }

    async fn pin(&self, cid: &ContentId) -> (u16, Value) {
        let body = json!({ "cid": cid.to_string() });
        self.served.call("post", &format!("{}/pins", self.path), Some(OWNER), body).await
    }

    async fn missing(&self, blocks: &[Block]) -> usize {
        let ids: Vec<String> = blocks.iter().map(|block| block.id.to_string()).collect();
        let body = json!({ "cids": ids });
        let (_, answer) =
            self.served.call("post", &format!("{}/missing", self.path), Some(OWNER), body).await;
        answer["missing"].as_array().unwrap().len()
    }

    async fn unpin(&self, cid: &ContentId) -> u16 {
        self.served.call("delete", &format!("{}/{cid}", self.path), Some(OWNER), Value::Null).await.0
    }

    async fn gc(&self, dry_run: bool) -> Value {
        let body = json!({ "dryRun": dry_run });
        let (status, swept) = self.served.call("post", "/v1/gc", Some(OWNER), body).await;
        assert_eq!(status, 200, "{swept}");
        swept
    }

    /// How many blocks a pin's CAR has; none where it is not whole.
    async fn blocks(&self, cid: &ContentId) -> Option<usize> {
        let (status, car) = self.served.download(&format!("{}/{cid}/car", self.path), OWNER).await;
        assert_eq!(status, 200);
        let mut decoder = CarDecoder::default();
        decoder.push(&car?);
        let mut blocks = 0;
        while let Some(_block) = decoder.next_block().unwrap() {
            blocks += 1;
        }
        decoder.finish().unwrap();
        Some(blocks)
    }
}

fn no_grace() -> StorageConfig {
    StorageConfig { grace: Duration::ZERO, ..StorageConfig::default() }
}

async fn blocks_are_sent_once_and_pinned_when_all_are_there() {
    let project = Project::start(StorageConfig::default()).await;
    let (root, blocks) = file(&bytes("one", 2_500_000));
    assert_eq!((blocks.len(), project.missing(&blocks).await), (4, 4));
    let (status, received) = project.send(&blocks[..2]).await;
    assert_eq!((status, received), (200, json!({ "blocks": 2, "bytes": 2 << 20 })));
    assert_eq!(project.missing(&blocks).await, 2);
    let (status, problem) = project.pin(&root).await;
    assert_eq!((status, &problem["code"]), (422, &json!("block_missing")), "{problem}");
    project.send(&blocks[2..]).await;
    let (status, pin) = project.pin(&root).await;
    assert_eq!((status, &pin["cid"], &pin["blocks"]), (201, &json!(root.to_string()), &json!(4)), "{pin}");
    let bytes: usize = blocks.iter().map(|block| block.bytes.len()).sum();
    assert_eq!(pin["bytes"], bytes);
    assert_eq!(project.pin(&root).await.1["id"], pin["id"], "pinning twice is pinning once");
    assert_eq!(project.blocks(&root).await, Some(4));
    let (_, list) = project.served.call("get", &project.path, Some(OWNER), Value::Null).await;
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    assert_eq!((project.unpin(&root).await, project.unpin(&root).await), (204, 404));
    let (status, _) = project.served.download(&format!("{}/{root}/car", project.path), OWNER).await;
    assert_eq!(status, 404);
}

async fn what_is_no_content_is_refused() {
    let project = Project::start(StorageConfig::default()).await;
    let (root, blocks) = file(&bytes("two", 100));
    let mut rotten = car_of(&[], &blocks);
    *rotten.last_mut().unwrap() ^= 1;
    let path = format!("{}/blocks", project.path);
    assert_eq!(project.served.upload(&path, OWNER, rotten).await.1["code"], "block_corrupt");
    let document =
        Block { id: af_content::identify(af_contract::Codec::DagCbor, b"\xa0"), bytes: b"\xa0"[..].into() };
    let node =
        Block { id: af_content::identify(af_contract::Codec::DagPb, b"node"), bytes: b"node"[..].into() };
    project.send(&[document.clone(), node.clone()]).await;
    assert_eq!(project.pin(&document.id).await.1["code"], "document_unsupported");
    assert_eq!(project.pin(&node.id).await.1["code"], "node_invalid");
    // A chain of directories without end, as one that makes them sees it.
    let (mut last, mut chain) = (root, Vec::new());
    for _ in 0..=unixfs::DAG_DEPTH {
        let entry = Entry { name: "a".into(), id: last, size: 1 };
        let mut keep = |block| {
            chain.push(block);
            Ok(())
        };
        last = Directory::write(&[entry], &mut keep).unwrap().0;
    }
    project.send(&chain).await;
    project.send(&blocks).await;
    let (status, problem) = project.pin(&last).await;
    assert_eq!((status, &problem["code"]), (413, &json!("dag_too_large")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("1024 levels"), "{problem}");
    let body = json!({ "cid": root.to_string(), "places": ["nowhere"] });
    let pins = format!("{}/pins", project.path);
    let (status, problem) = project.served.call("post", &pins, Some(OWNER), body).await;
    assert_eq!((status, &problem["code"]), (400, &json!("place_unknown")));
    let (status, problem) = project.served.upload(&project.path, OWNER, car_of(&[], &blocks)).await;
    assert_eq!((status, &problem["code"]), (400, &json!("no_root")));
    let (status, stored) = project.served.upload(&project.path, OWNER, car_of(&[root], &blocks)).await;
    assert_eq!((status, &stored["pins"][0]["cid"]), (201, &json!(root.to_string())));
}

async fn knowing_a_cid_gives_nobody_a_block_of_another_project() {
    let project = Project::start(StorageConfig::default()).await;
    let (root, blocks) = file(&bytes("secret", 2_000_000));
    project.send(&blocks).await;
    assert_eq!(project.pin(&root).await.0, 201);
    let theirs = "/v1/projects/prj_2/storage";
    let call = async |path: &str, body: Value| {
        project.served.call("post", &format!("{theirs}/{path}"), Some(STRANGER), body).await
    };
    let ids: Vec<String> = blocks.iter().map(|block| block.id.to_string()).collect();
    let (_, answer) = call("missing", json!({ "cids": ids })).await;
    assert_eq!(answer["missing"].as_array().unwrap().len(), blocks.len(), "not even that they are here");
    let (status, problem) = call("pins", json!({ "cid": root.to_string() })).await;
    assert_eq!((status, &problem["code"]), (422, &json!("block_missing")));
    // Nor does a node of their own that links to it.
    let mut own = Vec::new();
    let entry = Entry { name: "theirs".into(), id: root, size: 1 };
    let (folder, _) = Directory::write(&[entry], &mut |block| {
        own.push(block);
        Ok(())
    })
    .unwrap();
    let (status, problem) = project.served.upload(theirs, STRANGER, car_of(&[folder], &own)).await;
    assert_eq!((status, &problem["code"]), (422, &json!("block_missing")));
    assert!(problem["detail"].as_str().unwrap().contains(&root.to_string()), "{problem}");
    let (status, _) = project.served.download(&format!("{theirs}/{root}/car"), STRANGER).await;
    assert_eq!(status, 404);
    let (status, problem) = project.served.call("post", "/v1/gc", Some(STRANGER), json!({})).await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")), "only the operator sweeps");
}

async fn a_project_stores_no_more_than_it_may() {
    let limits =
        StorageConfig { bytes_per_project: 2 << 20, pins_per_project: 2, ..StorageConfig::default() };
    let project = Project::start(limits).await;
    let (first, blocks) = file(&bytes("first", 1_500_000));
    project.send(&blocks).await;
    assert_eq!(project.pin(&first).await.0, 201);
    let (second, blocks) = file(&bytes("second", 1_500_000));
    let ask = json!({ "cids": [], "coming": { "cid": second.to_string(), "bytes": 1_500_000 } });
    let (status, problem) =
        project.served.call("post", &format!("{}/missing", project.path), Some(OWNER), ask).await;
    assert_eq!((status, &problem["code"]), (409, &json!("storage_full")), "{problem}");
    assert_eq!(project.send(&blocks).await.0, 200, "what is not pinned has room of its own");
    assert_eq!(project.pin(&second).await.1["code"], "storage_full");
    let (_, blocks) = file(&bytes("third", 1_500_000));
    assert_eq!(project.send(&blocks).await.1["code"], "storage_loose_blocks");
    let usage = async || {
        project.served.call("get", &format!("{}/usage", project.path), Some(OWNER), Value::Null).await.1
    };
    assert_eq!((&usage().await["pins"], &usage().await["mostPins"]), (&json!(1), &json!(2)));
    assert_eq!(project.unpin(&first).await, 204);
    assert_eq!(project.pin(&second).await.0, 201);
    let (small, blocks) = file(b"small");
    project.send(&blocks).await;
    assert_eq!(project.pin(&small).await.0, 201);
    let (other, blocks) = file(b"other");
    let (status, problem) = project.served.upload(&project.path, OWNER, car_of(&[other], &blocks)).await;
    assert_eq!((status, &problem["code"]), (409, &json!("too_many_pins")), "{problem}");
}

async fn a_form_with_files_is_stored() {
    let project = Project::start(StorageConfig::default()).await;
    let large = bytes("form", 1_500_000);
    let mut body = Vec::new();
    for (name, bytes) in
        [("filename=\"a.txt\"", &b"hello"[..]), ("name=x", b"no file"), ("filename=\"large\"", &large)]
    {
        body.extend(format!("--x\r\nContent-Disposition: form-data; name=file; {name}\r\n\r\n").bytes());
        body.extend(bytes);
        body.extend(b"\r\n");
    }
    let cut = body.clone();
    body.extend(b"--x--\r\n");
    let send = async |body: Vec<u8>| {
        project.served.upload_as(&project.path, OWNER, "multipart/form-data; boundary=x", body).await
    };
    let (status, stored) = send(body).await;
    assert_eq!(status, 201, "{stored}");
    let pins = stored["pins"].as_array().unwrap();
    let found: Vec<_> = pins.iter().map(|pin| (pin["name"].clone(), pin["cid"].clone())).collect();
    let expected = [("a.txt", file(b"hello").0), ("large", file(&large).0)];
    assert_eq!(found, expected.map(|(name, cid)| (json!(name), json!(cid.to_string()))));
    assert_eq!(send(cut.clone()).await.1["code"], "upload_broken");
    // Under another profile; of a CAR it cannot be chosen any more.
    let whole = [&cut[..], b"--x--\r\n"].concat();
    let path = format!("{}?profile=unixfs-v0-2015", project.path);
    let kind = "multipart/form-data; boundary=x";
    let (status, stored) = project.served.upload_as(&path, OWNER, kind, whole.clone()).await;
    let hello = unixfs::import_as(unixfs::Profile::V0, &b"hello"[..], |_| Ok(())).unwrap().root;
    assert_eq!((status, &stored["pins"][0]["cid"]), (201, &json!(hello.to_string())), "{stored}");
    let path = format!("{}?profile=unixfs-v9", project.path);
    let (status, problem) = project.served.upload_as(&path, OWNER, kind, whole).await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_profile")));
    let path = format!("{}?profile=unixfs-v0-2015", project.path);
    let (root, blocks) = file(b"hello");
    let (status, problem) = project.served.upload(&path, OWNER, car_of(&[root], &blocks)).await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_profile")));
    assert_eq!(send(b"no form".to_vec()).await.1["code"], "form_invalid");
    assert_eq!(send(b"--x--\r\n".to_vec()).await.1["code"], "no_file");
}

async fn a_sweep_leaves_what_is_needed_and_what_is_young() {
    let project = Project::start(no_grace()).await;
    // Two pins that share their first block, and blocks that nobody pinned.
    let shared = bytes("shared", 1 << 20);
    let (one, blocks) = file(&[&shared[..], b"one"].concat());
    project.send(&blocks).await;
    project.pin(&one).await;
    let (two, blocks) = file(&[&shared[..], b"two"].concat());
    project.send(&blocks).await;
    project.pin(&two).await;
    let (_, loose) = file(b"loose");
    project.send(&loose).await;
    let dry = project.gc(true).await;
    assert_eq!((&dry["blocks"], &dry["cids"][0]), (&json!(1), &json!(loose[0].id.to_string())));
    assert_eq!(project.missing(&loose).await, 0, "a dry run removes nothing");
    assert_eq!(project.gc(false).await["blocks"], 1);
    assert_eq!(project.missing(&loose).await, 1);
    project.unpin(&one).await;
    assert_eq!(project.gc(false).await["blocks"], 2, "the shared one stays");
    assert_eq!(project.blocks(&two).await, Some(3));
    assert_eq!(project.gc(false).await["blocks"], 0);

    let patient = Project::start(StorageConfig::default()).await;
    patient.send(&loose).await;
    let swept = patient.gc(false).await;
    assert_eq!((&swept["blocks"], &swept["young"], patient.missing(&loose).await), (&json!(0), &json!(1), 0));
    patient.pin(&loose[0].id).await;
    assert_eq!(patient.gc(true).await["young"], 0);
    patient.unpin(&loose[0].id).await;
    assert_eq!(patient.gc(true).await["young"], 1, "it goes when it is older");
}

/// Sites and pins come, change and go while sweep follows sweep without any grace.
async fn nothing_is_lost_to_sweeps_that_run_all_the_time() {
    const ROUNDS: usize = 12;
    let project = Arc::new(Project::start(no_grace()).await);
    let done = Arc::new(AtomicBool::new(false));
    let sweeping = tokio::spawn({
        let (project, done) = (project.clone(), done.clone());
        async move {
            let mut swept = 0;
            while !done.load(Ordering::Relaxed) {
                swept += project.gc(false).await["blocks"].as_u64().unwrap();
            }
            swept
        }
    });
    let workers = (0..3).map(|worker| {
        let project = project.clone();
        tokio::spawn(async move {
            let mut kept = BTreeMap::new();
            for round in 0..ROUNDS {
                // All workers and rounds share blocks, which become loose and needed again.
                let text =
                    [&bytes("common", 1 << 20)[..], &bytes(&format!("{worker} {round}"), 1000)].concat();
                let (root, blocks) = file(&text);
                // A sweep may take loose blocks before they are pinned; then they are sent again.
                while project.pin(&root).await.0 != 201 {
                    project.missing(&blocks).await;
                    project.send(&blocks).await;
                }
                if round % 3 == 0 {
                    assert_eq!(project.unpin(&root).await, 204);
                } else {
                    kept.insert(root, blocks.len());
                }
            }
            kept
        })
    });
    let workers: Vec<_> = workers.collect();
    let sites = tokio::spawn({
        let project = project.clone();
        async move { deploy_sites(&project, ROUNDS).await }
    });
    let mut kept = BTreeMap::new();
    for worker in workers {
        kept.extend(worker.await.unwrap());
    }
    let sites = sites.await.unwrap();
    done.store(true, Ordering::Relaxed);
    let swept = sweeping.await.unwrap() + project.gc(false).await["blocks"].as_u64().unwrap();
    assert!(swept > 0, "there was something to sweep");
    for (root, blocks) in kept {
        assert_eq!(project.blocks(&root).await, Some(blocks), "{root}");
    }
    for (root, blocks) in sites {
        assert_eq!(project.blocks(&root).await, Some(blocks), "site {root}");
    }
}

/// Makes a site in each round; every second one is deleted. Returns the directories of the others.
async fn deploy_sites(project: &Project, rounds: usize) -> BTreeMap<ContentId, usize> {
    let mut kept = BTreeMap::new();
    for round in 0..rounds {
        let text = [&bytes("common", 1 << 20)[..], &bytes(&format!("site {round}"), 1000)].concat();
        let (id, mut blocks) = file(&text);
        let entry = Entry { name: "file".into(), id, size: text.len() as u64 };
        let put = &mut |block| {
            blocks.push(block);
            Ok(())
        };
        let root = Directory::write(&[entry], put).unwrap().0;
        let path = project.path.replace("/storage", "/sites");
        let body = json!({ "name": format!("site-{round}") });
        let (_, site) = project.served.call("post", &path, Some(OWNER), body).await;
        let site = format!("/v1/sites/{}", site["id"].as_str().unwrap());
        let car = car_of(&[root], &blocks);
        let (status, deployed) =
            project.served.upload(&format!("{site}/deployments?cid={root}"), OWNER, car).await;
        assert_eq!(status, 201, "{deployed}");
        if round % 2 == 0 {
            assert_eq!(project.served.call("delete", &site, Some(OWNER), Value::Null).await.0, 200);
        } else {
            kept.insert(root, blocks.len());
        }
    }
    kept
}

crate::on_both!(
    nothing_is_lost_to_sweeps_that_run_all_the_time,
    blocks_are_sent_once_and_pinned_when_all_are_there,
    what_is_no_content_is_refused,
    knowing_a_cid_gives_nobody_a_block_of_another_project,
    a_project_stores_no_more_than_it_may,
    a_form_with_files_is_stored,
    a_sweep_leaves_what_is_needed_and_what_is_young,
);
