//! Private functions: what is stored can be read by the platform's edges only, and answers as any other.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use af_content::car::Block;
use af_content::private::{Cipher, Sealing, new_key};
use af_content::unixfs;
use af_contract::{ContentId, ContentKey};
use serde_json::{Value, json};
use support::{Home, Server, car, guest, http, ok, refused};

/// Stands in a file.
const SECRET: &str = "the recipe of the house, which nobody may know";
/// Is a file's name.
const NAME: &str = "recipe-of-the-house.txt";
/// A guest that reads its own file has this text in it.
const IN_CODE: &[u8] = b"that is not one of the files";

/// A folder for `--assets`.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("nested-directory")).unwrap();
    fs::write(folder.path().join(NAME), SECRET).unwrap();
    fs::write(folder.path().join("empty-file"), "").unwrap();
    fs::write(folder.path().join("nested-directory/large.bin"), large()).unwrap();
    folder
}

/// More than two blocks and many segments, no two alike.
fn large() -> Vec<u8> {
    (0..2_500_000_u32).map(|n| (n ^ n >> 8 ^ n >> 16).to_le_bytes()[0]).collect()
}

fn private(home: &Home, name: &str, file: &str, folder: Option<&tempfile::TempDir>) -> Command {
    let mut command = home.af();
    command
        .args(["--json", "functions", "deploy", "--create", "--private", "-n", name, "-p"])
        .arg(guest(file));
    if let Some(folder) = folder {
        command.arg("--assets").arg(folder.path());
    }
    command
}

fn deployed(command: &mut Command) -> Value {
    serde_json::from_str(&ok(command)).unwrap()
}

async fn bytes(server: &Server, slug: &str, path: &str) -> (u16, Vec<u8>) {
    let answer = server.get(slug, path).await;
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

async fn assert_answers(server: &Server, slug: &str) {
    assert_eq!(bytes(server, slug, &format!("/{NAME}")).await, (200, SECRET.into()), "{slug}");
    assert_eq!(bytes(server, slug, "/empty-file").await, (200, Vec::new()), "{slug}");
    assert!(bytes(server, slug, "/nested-directory/large.bin").await == (200, large()), "{slug}");
    assert_eq!(bytes(server, slug, "/none").await.0, 404, "{slug}");
}

/// All blocks that are stored.
fn blocks(home: &Home) -> Vec<(ContentId, PathBuf)> {
    let mut found = Vec::new();
    for shard in fs::read_dir(home.data().join("blocks")).unwrap() {
        for block in fs::read_dir(shard.unwrap().path()).unwrap() {
            let path = block.unwrap().path();
            if let Ok(id) = ContentId::parse(path.file_name().unwrap().to_str().unwrap()) {
                found.push((id, path));
            }
        }
    }
    found
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn secrets() -> [&'static [u8]; 5] {
    [SECRET.as_bytes(), NAME.as_bytes(), b"nested-directory", b"empty-file", IN_CODE]
}

/// The key of some content, as a client makes it; and that content, encrypted, as a CAR.
struct Package {
    key: ContentKey,
    roots: Vec<ContentId>,
    blake3: String,
    car: Vec<u8>,
}

impl Package {
    fn new(component: &[u8], sealed: bool, assets: Option<(ContentId, Vec<Block>)>) -> Self {
        let key = new_key().unwrap();
        let mut blocks = Vec::new();
        let mut put = |block| {
            blocks.push(block);
            Ok(())
        };
        let summary = if sealed {
            unixfs::import(Sealing::new(&Cipher::new(&key), component).unwrap(), &mut put)
        } else {
            unixfs::import(component, &mut put)
        };
        let summary = summary.unwrap();
        let mut roots = vec![summary.root];
        if let Some((root, more)) = assets {
            roots.push(root);
            blocks.extend(more);
        }
        Self { key, car: car(&roots, &blocks), roots, blake3: summary.blake3.to_string() }
    }

    /// Status and answer of a deploy with a key, as a client of the API would do it.
    async fn send(self, server: &Server, token: &str, function: &str, key: Option<&str>) -> (u16, Value) {
        let mut url = format!("{}/v1/functions/{function}/deployments?cid={}", server.api, self.roots[0]);
        url.push_str(&format!("&blake3={}", self.blake3));
        if let Some(assets) = self.roots.get(1) {
            url.push_str(&format!("&assets={assets}"));
        }
        let mut request = http().post(url).bearer_auth(token).body(self.car);
        if let Some(key) = key {
            request = request.header("af-content-key", key);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

fn function(home: &Home, name: &str) -> String {
    let made = ok(home.af().args(["--json", "functions", "create", "-n", name]));
    let made: Value = serde_json::from_str(&made).unwrap();
    made["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_private_function_answers_and_nothing_that_is_stored_tells_what_it_is() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "5000"]);
    let folder = folder();
    let mut said = Vec::new();
    for file in ["files", "files-p3"] {
        said.push(deployed(&mut private(&home, file, file, Some(&folder))));
        // Twice: from the disk, then from memory.
        for _ in 0..2 {
            assert_answers(&server, file).await;
        }
    }
    // Over the border of two blocks and of segments.
    let range =
        server.request("files", "/nested-directory/large.bin").header("range", "bytes=1048000-1114200");
    let answer = range.send().await.unwrap();
    assert_eq!(answer.status(), 206);
    assert!(answer.bytes().await.unwrap() == large()[1_048_000..=1_114_200]);
    let mut names: Vec<String> =
        String::from_utf8(bytes(&server, "files", "/").await.1).unwrap().lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["empty-file", "nested-directory/", NAME]);

    // What is public is what is stored.
    let clear = fs::read(guest("files")).unwrap();
    let of_clear = unixfs::import(&clear[..], |_| Ok(())).unwrap();
    let live: Value = server.get("files", "/.well-known/af-deployment").await.json().await.unwrap();
    let live = &live["live"];
    assert_eq!((&live["private"], &said[0]["deployment"]["private"]), (&json!(true), &json!(true)));
    assert_eq!(live["code"]["cid"], said[0]["deployment"]["cid"]);
    assert_eq!(live["code"]["blake3"], said[0]["deployment"]["blake3Hash"]);
    assert_ne!(live["code"]["blake3"], of_clear.blake3.to_string());
    assert!(live["code"]["size"].as_u64().unwrap() > clear.len() as u64);
    let stored = blocks(&home);
    assert!(stored.len() > 8, "{}", stored.len());
    for (id, path) in &stored {
        let block = fs::read(path).unwrap();
        for secret in
            secrets().into_iter().chain([&of_clear.blake3.0[..], &of_clear.root.to_cid().to_bytes()])
        {
            assert!(!contains(&block, secret), "{id} has {:?}", String::from_utf8_lossy(secret));
        }
    }
    assert!(!stored.iter().any(|(id, _)| *id == of_clear.root), "the component in clear is not stored");
    let database: Vec<u8> = ["af.sqlite", "af.sqlite-wal"]
        .iter()
        .filter_map(|name| fs::read(home.data().join(name)).ok())
        .flatten()
        .collect();
    assert!(database.len() > 10_000);
    for secret in secrets() {
        assert!(!contains(&database, secret));
    }
    let logged = home.logged();
    assert!(!logged.contains(&of_clear.blake3.to_string()) && !logged.contains("recipe"), "{logged}");

    // The files' public host has encrypted bytes under sealed names.
    let assets = said[0]["deployment"]["assetsCid"].as_str().unwrap();
    assert_eq!(bytes(&server, assets, &format!("/{NAME}")).await.0, 404);
    let directory = ContentId::parse(assets).unwrap();
    let (_, path) = stored.iter().find(|(id, _)| *id == directory).unwrap();
    let directory = unixfs::Node::decode(&directory, &fs::read(path).unwrap().into()).unwrap();
    let unixfs::Node::Directory(entries) = directory else { panic!("a directory") };
    assert_eq!(entries.len(), 3);
    for entry in entries {
        let (status, file) = bytes(&server, assets, &format!("/{}", entry.name)).await;
        assert!(status == 404 || file.starts_with(b"af-priv"), "{status}");
        assert!(!secrets().iter().any(|secret| contains(&file, secret)));
    }

    // A restart has its keys from the database.
    server.kill();
    let server = home.up(&["--cpu-limit-ms", "5000"]);
    for file in ["files", "files-p3"] {
        assert_answers(&server, file).await;
    }
    // So has one that compiles anew, from what is stored.
    server.kill();
    fs::remove_dir_all(home.data().join("artifacts")).unwrap();
    let server = home.up(&["--cpu-limit-ms", "5000"]);
    assert_answers(&server, "files").await;
    server.kill();
    assert_nothing_without_key(&home);
}

/// Without the master key nothing can be read, and that is said; no other one is made.
fn assert_nothing_without_key(home: &Home) {
    let key = home.data().join("master.key");
    fs::remove_file(&key).unwrap();
    let mut up = home.af();
    let (_, said) = refused(
        up.args(["up", "--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--data-dir"])
            .arg(home.data()),
    );
    assert!(said.contains("the master key in") && said.contains("is missing or is not the one"), "{said}");
    assert!(!key.exists());
}

#[tokio::test]
async fn deploying_again_rolling_back_and_rotating_the_key_work() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "5000"]);
    let folder = folder();
    let first = deployed(&mut private(&home, "files", "files", Some(&folder)));
    fs::write(folder.path().join(NAME), "another").unwrap();
    let second = deployed(&mut private(&home, "files", "files", Some(&folder)));
    assert_ne!(
        first["deployment"]["cid"], second["deployment"]["cid"],
        "no two deployments have a key in common"
    );
    assert_eq!(bytes(&server, "files", &format!("/{NAME}")).await, (200, b"another".to_vec()));
    let plain =
        ok(home.af().args(["--json", "functions", "deploy", "-n", "files", "-p"]).arg(guest("files")));
    assert_eq!(serde_json::from_str::<Value>(&plain).unwrap()["deployment"]["private"], false);
    assert_eq!(bytes(&server, "files", &format!("/{NAME}")).await.0, 404);

    let before = blocks(&home).len();
    assert!(ok(home.af().args(["functions", "rotate-key"])).contains("2 private deployments"));
    assert_eq!(blocks(&home).len(), before, "nothing is encrypted again");
    ok(home
        .af()
        .args(["functions", "rollback", "-n", "files", "--to"])
        .arg(first["deployment"]["id"].as_str().unwrap()));
    assert_answers(&server, "files").await;
    server.kill();
    let server = home.up(&["--cpu-limit-ms", "5000"]);
    assert_answers(&server, "files").await;
    ok(home
        .af()
        .args(["functions", "rollback", "-n", "files", "--to"])
        .arg(second["deployment"]["id"].as_str().unwrap()));
    assert_eq!(bytes(&server, "files", &format!("/{NAME}")).await, (200, b"another".to_vec()));
}

#[tokio::test]
async fn who_has_the_blocks_but_not_the_key_has_nothing() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "5000"]);
    let mine = deployed(&mut private(&home, "mine", "files", Some(&folder())));
    let stored: Vec<Block> = blocks(&home)
        .into_iter()
        .map(|(id, path)| Block { id, bytes: fs::read(path).unwrap().into() })
        .collect();
    let token = server.token();
    // Another project, which has fetched all blocks.
    let made = http().post(format!("{}/v1/projects", server.api)).bearer_auth(&token);
    let project: Value = made.json(&json!({ "name": "other" })).send().await.unwrap().json().await.unwrap();
    let url = format!("{}/v1/projects/{}/functions", server.api, project["id"].as_str().unwrap());
    let made = http().post(url).bearer_auth(&token).json(&json!({ "name": "theirs" }));
    let theirs: Value = made.send().await.unwrap().json().await.unwrap();
    let theirs = theirs["id"].as_str().unwrap();

    let root = |field: &str| ContentId::parse(mine["deployment"][field].as_str().unwrap()).unwrap();
    let below = |root: ContentId| {
        let store = af_content::DiskStore::open(home.data().join("blocks")).unwrap();
        let mut ids = std::collections::BTreeSet::new();
        store.dag(&root, &mut ids).unwrap();
        stored.iter().filter(|block| ids.contains(&block.id)).cloned().collect::<Vec<_>>()
    };
    let code = below(root("cid"));
    let as_code = |blocks: &[Block]| Package {
        key: new_key().unwrap(),
        roots: vec![root("cid")],
        blake3: mine["deployment"]["blake3Hash"].as_str().unwrap().to_owned(),
        car: car(&[root("cid")], blocks),
    };
    let (status, said) = as_code(&code).send(&server, &token, theirs, None).await;
    assert_eq!((status, &said["code"]), (422, &json!("not_a_component")), "{said}");
    let package = as_code(&code);
    let key = package.key.to_hex();
    let (status, said) = package.send(&server, &token, theirs, Some(&key)).await;
    assert_eq!((status, &said["code"]), (422, &json!("content_key_mismatch")), "{said}");
    assert!(!said.to_string().contains(&key), "a key is never repeated");

    // Their own guest with these files, as if those were their own: encrypted bytes under sealed names.
    let clear = fs::read(guest("files")).unwrap();
    let files = || Some((root("assetsCid"), below(root("assetsCid"))));
    let package = Package::new(&clear, true, files());
    let key = package.key.to_hex();
    let (status, said) = package.send(&server, &token, theirs, Some(&key)).await;
    assert_eq!((status, &said["code"]), (422, &json!("private_content_invalid")), "{said}");
    let (status, said) = Package::new(&clear, false, files()).send(&server, &token, theirs, None).await;
    assert_eq!(status, 201, "{said}");
    let slug = "theirs";
    let listing = loop {
        let (status, listing) = bytes(&server, slug, "/").await;
        if status == 200 {
            break String::from_utf8(listing).unwrap();
        }
    };
    assert_eq!(listing.lines().count(), 3);
    for name in listing.lines() {
        let (_, file) = bytes(&server, slug, &format!("/{name}")).await;
        for secret in secrets() {
            assert!(!contains(&file, secret) && !contains(listing.as_bytes(), secret));
        }
    }
}

#[tokio::test]
async fn what_no_edge_could_read_is_refused() {
    let home = Home::new();
    let server = home.up(&[]);
    let token = server.token();
    let id = function(&home, "hello");
    let clear = fs::read(guest("files")).unwrap();
    for (sealed, key, expected) in [
        (false, None, 201),
        (false, Some("key"), 422),
        (true, None, 422),
        (true, Some("other"), 422),
        (true, Some("slip"), 400),
        (true, Some("key"), 201),
    ] {
        let package = Package::new(&clear, sealed, None);
        let key = key.map(|key| match key {
            "key" => package.key.to_hex(),
            "other" => new_key().unwrap().to_hex(),
            _ => format!("{}x", &package.key.to_hex()[..63]),
        });
        let (status, said) = package.send(&server, &token, &id, key.as_deref()).await;
        assert_eq!(status, expected, "{sealed} {key:?}: {said}");
    }
    let long = tempfile::tempdir().unwrap();
    fs::write(long.path().join("x".repeat(200)), "").unwrap();
    let (_, said) = refused(&mut private(&home, "files", "files", Some(&long)));
    assert!(said.contains("144 bytes"), "{said}");
}

#[tokio::test]
async fn a_damaged_block_is_never_served() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "5000"]);
    deployed(&mut private(&home, "files", "files", Some(&folder())));
    server.kill();
    fs::remove_dir_all(home.data().join("artifacts")).unwrap();
    for (_, path) in blocks(&home) {
        let mut block = fs::read(&path).unwrap();
        // The middle of each large block: of the component, and of the large file.
        if block.len() > 100_000 {
            let middle = block.len() / 2;
            block[middle] ^= 1;
            fs::write(&path, block).unwrap();
        }
    }
    let server = home.up(&["--cpu-limit-ms", "5000"]);
    let answer = server.get("files", &format!("/{NAME}")).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "content_corrupt");
}
