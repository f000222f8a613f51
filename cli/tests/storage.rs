//! Stored content from the command line to the disk and back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

#[path = "support/stored.rs"]
mod stored;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use af_content::car::Block;
use af_content::identify;
use af_content::unixfs::Link;
use af_contract::{Codec, ContentId};
use serde_json::{Value, json};
use stored::{bytes, path, said, storage};
use support::{Home, Server, car, deploy, http, ok, refused};

/// The files of a store that hold blocks.
fn blocks(home: &Home) -> Vec<PathBuf> {
    let shards = fs::read_dir(home.data().join("blocks")).unwrap().map(|shard| shard.unwrap().path());
    let shards = shards.filter(|shard| !shard.ends_with("staging"));
    shards.flat_map(|shard| fs::read_dir(shard).unwrap().map(|block| block.unwrap().path())).collect()
}

#[test]
fn a_file_comes_back_as_it_was() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let _server = home.up(&[]);
    let (file, out, archive) = (dir.path().join("file"), dir.path().join("out"), dir.path().join("a.car"));
    fs::write(&file, bytes(1, 3_500_000)).unwrap();
    let first = said(&mut storage(&home, &["add", path(&file)]));
    let cid = first["pins"][0]["cid"].as_str().unwrap();
    assert_eq!(
        (&first["sent"]["blocks"], &first["known"], &first["pins"][0]["name"]),
        (&json!(5), &json!(0), &json!("file"))
    );
    let again = said(&mut storage(&home, &["add", path(&file), "--name", "other"]));
    assert_eq!(
        (&again["sent"]["blocks"], &again["known"], &again["pins"][0]["name"]),
        (&json!(0), &json!(5), &json!("other"))
    );
    let got = said(&mut storage(&home, &["get", cid, "-o", path(&out)]));
    assert_eq!(got["blocks"], 5);
    assert!(fs::read(&out).unwrap() == fs::read(&file).unwrap());
    let (_, error) = refused(&mut storage(&home, &["get", cid, "-o", path(&out)]));
    assert!(error.contains("is there already"), "{error}");

    said(&mut storage(&home, &["export", cid, "-o", path(&archive)]));
    for (how, expected) in [("get", &file), ("export", &archive)] {
        let output = storage(&home, &[how, cid, "-o", "-"]).output().unwrap();
        assert!(output.status.success() && output.stdout == fs::read(expected).unwrap(), "{how}");
        let told: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(told["blocks"], 5, "{how}");
    }
    let (_, error) = refused(&mut storage(&home, &["get", cid, "-o", path(&dir.path().join("none/file"))]));
    assert!(error.contains("there is no directory") && !error.contains(".af-partial"), "{error}");
    let (_, error) = refused(&mut storage(&home, &["import", path(&file)]));
    assert!(error.contains("CAR"), "{error}");
    assert_eq!(said(&mut storage(&home, &["unpin", cid]))["unpinned"], cid);
    let (code, error) = refused(&mut storage(&home, &["get", cid, "-o", path(&dir.path().join("none"))]));
    assert_eq!((code, error.contains("not_found")), (1, true), "{error}");
    let imported = said(&mut storage(&home, &["import", path(&archive)]));
    assert_eq!((imported["pins"][0]["cid"].as_str(), &imported["sent"]["blocks"]), (Some(cid), &json!(0)));
    // Another file with the same content does not rename it, but who names it does.
    assert_eq!(imported["pins"][0]["name"], "a.car");
    assert_eq!(said(&mut storage(&home, &["add", path(&file)]))["pins"][0]["name"], "a.car");
    let named = said(&mut storage(&home, &["add", path(&file), "--name", "mine"]));
    assert_eq!(named["pins"][0]["name"], "mine");
    let list = ok(home.af().args(["storage", "ls"]));
    assert!(list.contains(cid) && list.contains("here") && list.contains("1 of 10000 pins"), "{list}");
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "nothing of a transfer is left behind: {left:?}");
}

#[test]
fn a_folder_comes_back_as_it_was() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let _server = home.up(&[]);
    let from = dir.path().join("from");
    fs::create_dir_all(from.join("a/b")).unwrap();
    fs::create_dir(from.join("empty")).unwrap();
    fs::write(from.join("a/b/large"), bytes(2, 1_500_000)).unwrap();
    fs::write(from.join("a/é"), "hello").unwrap();
    fs::write(from.join("zero"), "").unwrap();
    fs::write(from.join(".hidden"), "").unwrap();
    for (link, to) in [("link", from.join("zero")), ("links", from.clone())] {
        std::os::unix::fs::symlink(to, dir.path().join(link)).unwrap();
        let (_, error) = refused(&mut storage(&home, &["add", path(&dir.path().join(link))]));
        assert!(error.contains("is a symbolic link, which is not followed"), "{error}");
    }
    let added = said(&mut storage(&home, &["add", path(&from)]));
    assert_eq!(added["leftOut"], 1);
    let to = dir.path().join("to");
    said(&mut storage(&home, &["get", added["pins"][0]["cid"].as_str().unwrap(), "-o", path(&to)]));
    fs::remove_file(from.join(".hidden")).unwrap();
    ok(Command::new("diff").arg("-r").arg(&from).arg(&to));
}

#[test]
fn a_profile_decides_which_cid_there_is() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let _server = home.up(&[]);
    let (file, folder) = (dir.path().join("hello"), dir.path().join("folder"));
    fs::write(&file, "hello world").unwrap();
    fs::create_dir_all(folder.join("a")).unwrap();
    fs::write(folder.join("a/large"), bytes(8, 1_500_000)).unwrap();
    fs::write(folder.join("a/é"), "hello").unwrap();
    for (profile, cid, v0) in [
        ("unixfs-v1-2025", "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e", None),
        (
            "unixfs-v0-2015",
            "bafybeihykld7uyxzogax6vgyvag42y7464eywpf55gxi5qpoisibh3c5wa",
            Some("Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"),
        ),
        ("unixfs-v1-2025-blake3", "bafkr4igxjga67jykbseaxdmmdgc5a5o3zp3htom2l6mrjznk7fvyggu6eq", None),
    ] {
        let added = said(&mut storage(&home, &["add", path(&file), "--profile", profile]));
        let pin = &added["pins"][0];
        assert_eq!((pin["cid"].as_str(), pin["cidV0"].as_str()), (Some(cid), v0), "{profile}");
        let verified = said(home.af().args(["--json", "verify", path(&file), "--cid", v0.unwrap_or(cid)]));
        assert_eq!(verified["roots"], json!([cid]), "{profile}");
        let added = said(&mut storage(&home, &["add", path(&folder), "--profile", profile]));
        let to = dir.path().join(profile);
        said(&mut storage(&home, &["get", added["pins"][0]["cid"].as_str().unwrap(), "-o", path(&to)]));
        ok(Command::new("diff").arg("-r").arg(&folder).arg(&to));
    }
    let list = said(&mut storage(&home, &["ls"]));
    let v0 =
        list.as_array().unwrap().iter().find(|pin| pin["cid"].as_str().unwrap().starts_with("bafybeihykld7"));
    assert_eq!(v0.unwrap()["cidV0"], "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD");
    let (code, error) = refused(&mut storage(&home, &["add", path(&file), "--profile", "unixfs-v9"]));
    assert_eq!((code, error.contains("unixfs-v0-2015")), (2, true), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_private_comes_back_to_members_only() {
    const SECRET: &str = "a secret that stands in this file";
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let server = home.up(&["--gateway", "public"]);
    let from = dir.path().join("from");
    fs::create_dir_all(from.join("nested-directory/empty-directory")).unwrap();
    fs::write(from.join("secret-name.txt"), SECRET).unwrap();
    fs::write(from.join("empty-file"), "").unwrap();
    fs::write(from.join("nested-directory/large"), bytes(9, 2_500_000)).unwrap();
    let mut cids = Vec::new();
    for (n, what) in [&from, &from.join("secret-name.txt"), &from].into_iter().enumerate() {
        let profile = ["unixfs-v1-2025", "unixfs-v0-2015", "unixfs-v1-2025-blake3"][n];
        let added = said(&mut storage(&home, &["add", "--private", "--profile", profile, path(what)]));
        let pin = &added["pins"][0];
        assert_eq!((&pin["private"], &added["known"]), (&json!(true), &json!(0)));
        let (cid, to) = (pin["cid"].as_str().unwrap().to_owned(), dir.path().join(format!("to-{n}")));
        assert!(added["sent"]["bytes"].as_u64() <= pin["bytes"].as_u64(), "{added}");
        said(&mut storage(&home, &["get", &cid, "-o", path(&to)]));
        ok(Command::new("diff").arg("-r").arg(what).arg(&to));
        cids.push(cid);
    }
    assert_ne!(cids[0], cids[2], "another key each time");
    let list = ok(home.af().args(["storage", "ls"]));
    assert!(list.contains("members") && !list.contains("anyone"), "{list}");

    // What lies here, what a gateway gives, and what an export has is encrypted, names included.
    let archive = dir.path().join("a.car");
    said(&mut storage(&home, &["export", &cids[0], "-o", path(&archive)]));
    let mut stored: Vec<Vec<u8>> = blocks(&home).iter().map(|block| fs::read(block).unwrap()).collect();
    stored.push(fs::read(&archive).unwrap());
    for cid in &cids {
        let answer = http().get(format!("{}/ipfs/{cid}?format=car", server.api)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        stored.push(answer.bytes().await.unwrap().to_vec());
    }
    let shows =
        |secret: &str| stored.iter().any(|bytes| bytes.windows(secret.len()).any(|w| w == secret.as_bytes()));
    for secret in [SECRET, "secret-name", "nested-directory", "empty-"] {
        assert!(!shows(secret), "{secret}");
    }
    let key = format!("{}/v1/projects/{}/storage/{}/key", server.api, project(&server).await, cids[0]);
    assert_eq!(http().get(&key).send().await.unwrap().status(), 401);
    let answer = http().get(&key).bearer_auth(server.token()).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["cache-control"]),
        (200, &"no-store".parse().unwrap())
    );

    // The key outlives a rotation, and goes with the pin: then the blocks are noise, also for who stores them again.
    ok(home.af().args(["functions", "rotate-key"]));
    let again = dir.path().join("again");
    said(&mut storage(&home, &["get", &cids[0], "-o", path(&again)]));
    ok(Command::new("diff").arg("-r").arg(&from).arg(&again));
    said(&mut storage(&home, &["unpin", &cids[0]]));
    assert_eq!(http().get(&key).bearer_auth(server.token()).send().await.unwrap().status(), 404);
    let imported = said(&mut storage(&home, &["import", path(&archive)]));
    assert_eq!(
        (imported["pins"][0]["cid"].as_str(), &imported["pins"][0]["private"]),
        (Some(&*cids[0]), &json!(false))
    );
}

#[test]
fn content_that_stands_in_its_cid_needs_no_block() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let _server = home.up(&[]);
    // A directory with a file of one block, one within its link, and a directory within its link that has the block, too.
    let archive = dir.path().join("a.car");
    let content = &b"a block"[..];
    let block = Block { id: identify(Codec::Raw, content), bytes: content.into() };
    let inline = ContentId::inline(Codec::Raw, b"inline").unwrap();
    let link = |name: &str, id: ContentId| Link { name: name.to_owned(), id, size: 7 };
    let inner = directory(&[link("file", block.id)]);
    let inner = ContentId::inline(Codec::DagPb, &inner.bytes).unwrap();
    let root = directory(&[link("a", block.id), link("b", inline), link("c", inner)]);
    fs::write(&archive, car(&[root.id], &[root.clone(), block.clone()])).unwrap();
    let verified = said(home.af().args(["--json", "verify", path(&archive)]));
    assert_eq!(verified["blocks"], 2);
    let imported = said(&mut storage(&home, &["import", path(&archive)]));
    assert_eq!((&imported["sent"]["blocks"], &imported["pins"][0]["blocks"]), (&json!(2), &json!(2)));
    let to = dir.path().join("to");
    let got = said(&mut storage(&home, &["get", &root.id.to_string(), "-o", path(&to)]));
    assert_eq!(got["blocks"], 2);
    for (name, content) in [("a", "a block"), ("b", "inline"), ("c/file", "a block")] {
        assert_eq!(fs::read_to_string(to.join(name)).unwrap(), content, "{name}");
    }
    // As a root: nothing is sent, nothing is fetched.
    for (cid, name, content) in [(inline, "b", "inline"), (inner, "c/file", "a block")] {
        let pin = said(&mut storage(&home, &["pin", &cid.to_string()]));
        assert_eq!(pin["blocks"], i64::from(cid == inner));
        let to = dir.path().join(format!("of-{}", name.replace('/', "-")));
        said(&mut storage(&home, &["get", &cid.to_string(), "-o", path(&to)]));
        let file = if cid == inner { to.join("file") } else { to };
        assert_eq!(fs::read_to_string(file).unwrap(), content);
    }
}

/// A directory, which af-content's importer would write otherwise: it puts nothing into links.
fn directory(links: &[Link]) -> Block {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        // Short enough for one or two bytes of a varint.
        let length = u16::try_from(bytes.len()).unwrap();
        let [low, high] = (length & 0x7f | (length >> 7) << 8).to_le_bytes();
        let mut out = vec![number << 3 | 2, if high > 0 { low | 0x80 } else { low }];
        out.extend((high > 0).then_some(high));
        out.extend_from_slice(bytes);
        out
    }
    let mut out = Vec::new();
    for link in links {
        let cid = field(1, &link.id.to_cid().to_bytes());
        out.extend(field(2, &[cid, field(2, link.name.as_bytes())].concat()));
    }
    out.extend(field(1, &[8, 1]));
    Block { id: identify(Codec::DagPb, &out), bytes: out.into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_broke_off_goes_on_where_it_stopped() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let server = home.up(&[]);
    let file = dir.path().join("file");
    let content = bytes(3, 8 << 20);
    fs::write(&file, &content).unwrap();
    // What a client that is killed leaves: half of a request. No pause: the server keeps what came before the end.
    let (_, whole) = support::car_of(&content);
    let half = whole.len() / 2;
    let project = project(&server).await;
    let url = format!("{}/v1/projects/{project}/storage/blocks", server.api);
    let cut = futures::stream::iter([Ok(whole[..half].to_vec()), Err(std::io::Error::other("killed"))]);
    let request = http().post(url).bearer_auth(server.token()).body(reqwest::Body::wrap_stream(cut));
    request.send().await.unwrap_err();
    let known = tokio::time::timeout(Duration::from_secs(20), async {
        while blocks(&home).len() < 3 {
            tokio::task::yield_now().await;
        }
    });
    known.await.expect("what came is kept");
    let sent = said(&mut storage(&home, &["add", path(&file)]));
    let count = |value: &Value| value.as_u64().unwrap();
    assert!(count(&sent["known"]) >= 3, "{sent}");
    assert_eq!(count(&sent["known"]) + count(&sent["sent"]["blocks"]), 9, "{sent}");
    let out = dir.path().join("out");
    said(&mut storage(&home, &["get", sent["pins"][0]["cid"].as_str().unwrap(), "-o", path(&out)]));
    assert!(fs::read(&out).unwrap() == content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_while_blocks_come_loses_none_that_it_had() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let server = home.up(&[]);
    let file = dir.path().join("file");
    let content = bytes(11, 100 << 20);
    fs::write(&file, &content).unwrap();
    let mut adding = storage(&home, &["add", path(&file)]);
    let mut adding =
        adding.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    while blocks(&home).is_empty() {
        assert!(adding.try_wait().unwrap().is_none(), "it was faster");
    }
    server.kill();
    adding.kill().unwrap();
    adding.wait().unwrap();
    let _server = home.up(&["--gc-grace", "1h"]);
    said(&mut storage(&home, &["gc"]));
    let sent = said(&mut storage(&home, &["add", path(&file)]));
    let count = |value: &Value| value.as_u64().unwrap();
    assert_eq!(count(&sent["known"]) + count(&sent["sent"]["blocks"]), 101, "{sent}");
    let out = dir.path().join("out");
    said(&mut storage(&home, &["get", sent["pins"][0]["cid"].as_str().unwrap(), "-o", path(&out)]));
    assert!(fs::read(&out).unwrap() == content);
}

async fn project(server: &Server) -> String {
    let request = http().get(format!("{}/v1/projects", server.api)).bearer_auth(server.token());
    let page: Value = request.send().await.unwrap().json().await.unwrap();
    page["data"][0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_rotten_here_or_there_is_not_written() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let _server = home.up(&[]);
    let file = dir.path().join("file");
    fs::write(&file, bytes(4, 2 << 20)).unwrap();
    let cid = said(&mut storage(&home, &["add", path(&file)]))["pins"][0]["cid"].as_str().unwrap().to_owned();
    let block = blocks(&home).into_iter().find(|block| block.metadata().unwrap().len() == 1 << 20).unwrap();
    let mut rotten = fs::read(&block).unwrap();
    rotten[1000] ^= 1;
    fs::write(&block, &rotten).unwrap();
    let out = dir.path().join("out");
    refused(&mut storage(&home, &["get", &cid, "-o", path(&out)]));
    refused(&mut storage(&home, &["export", &cid, "-o", path(&out)]));
    assert!(!out.exists());
    let archive = dir.path().join("rotten.car");
    let (summary, mut bytes) = support::car_of(b"hello");
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&archive, bytes).unwrap();
    let (_, error) = refused(&mut storage(&home, &["import", path(&archive)]));
    assert!(error.contains("hash to"), "{error}");
    fs::write(&archive, car(&[summary.root], &[])).unwrap();
    let (_, error) = refused(&mut storage(&home, &["import", path(&archive)]));
    assert!(error.contains("block_missing"), "{error}");
}

#[test]
fn limits_are_told_before_anything_is_sent() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let _server = home.up(&["--storage-limit-mb", "1", "--pin-limit", "1"]);
    let file = dir.path().join("file");
    fs::write(&file, bytes(5, 2_000_000)).unwrap();
    let (_, error) = refused(&mut storage(&home, &["add", path(&file)]));
    assert!(error.contains("storage_full"), "{error}");
    assert!(blocks(&home).is_empty(), "nothing was sent");
    fs::write(&file, "small").unwrap();
    said(&mut storage(&home, &["add", path(&file)]));
    fs::write(&file, "other").unwrap();
    let (_, error) = refused(&mut storage(&home, &["add", path(&file)]));
    assert!(error.contains("too_many_pins"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_leaves_what_functions_and_pins_need() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let server = home.up(&["--gc-grace", "0s"]);
    deploy(&home, "hello", "hello-rust", &[]);
    let (kept, given_up) = (dir.path().join("kept"), dir.path().join("given-up"));
    fs::write(&kept, bytes(6, 1_500_000)).unwrap();
    fs::write(&given_up, bytes(7, 1_500_000)).unwrap();
    let add = |file: &Path| {
        said(&mut storage(&home, &["add", path(file)]))["pins"][0]["cid"].as_str().unwrap().to_owned()
    };
    let (kept_cid, cid) = (add(&kept), add(&given_up));
    said(&mut storage(&home, &["unpin", &cid]));
    let dry = said(&mut storage(&home, &["gc", "--dry-run"]));
    let before = blocks(&home).len();
    assert_eq!(
        (&dry["blocks"], dry["bytes"].as_u64().is_some_and(|bytes| bytes > 1_500_000)),
        (&json!(3), true)
    );
    let swept = said(&mut storage(&home, &["gc"]));
    assert_eq!((&swept["blocks"], blocks(&home).len()), (&json!(3), before - 3));
    server.kill();
    let server = home.up(&["--gc-grace", "0s"]);
    assert_eq!(server.get("hello", "/").await.status(), 200);
    let out = dir.path().join("out");
    said(&mut storage(&home, &["get", &kept_cid, "-o", path(&out)]));
    assert!(fs::read(&out).unwrap() == fs::read(&kept).unwrap());
}

#[test]
fn content_that_sources_have_is_pinned_without_being_sent() {
    let (there, here, dir) = (Home::new(), Home::new(), tempfile::tempdir().unwrap());
    let source = there.up(&["--gateway", "public"]);
    let file = dir.path().join("file");
    fs::write(&file, bytes(15, 2_500_000)).unwrap();
    let cid =
        said(&mut storage(&there, &["add", path(&file)]))["pins"][0]["cid"].as_str().unwrap().to_owned();
    let server = here.up(&[]);
    let (_, error) = refused(&mut storage(&here, &["pin", &cid]));
    assert!(error.contains("af storage add") && error.contains("--source"), "{error}");
    server.kill();
    let from = format!("gateway={}", source.api);
    let _server = here.up(&["--source", &from]);
    said(&mut storage(&here, &["pin", &cid]));
    let (out, missing) =
        (dir.path().join("out"), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
    said(&mut storage(&here, &["get", &cid, "-o", path(&out)]));
    assert!(fs::read(&out).unwrap() == bytes(15, 2_500_000));
    let (_, error) = refused(&mut storage(&here, &["pin", missing]));
    assert!(error.contains("content_unavailable"), "{error}");
}
