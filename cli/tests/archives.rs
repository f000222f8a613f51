//! Content in cold archives: on Arweave, by a bundler that takes what arbundles finds valid, and back from its gateway; and on
//! Filecoin, by a pinning service.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

#[path = "support/arweave.rs"]
mod arweave;
#[path = "support/holders.rs"]
mod holders;
#[path = "support/ipfs.rs"]
mod ipfs;
mod support;
#[path = "support/tamper.rs"]
mod tamper;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use arweave::{Arweave, KEY, key_file};
use holders::{Holders, Kind};
use serde_json::{Value, json};
use support::{Home, guest, ok, refused};
use tamper::Tamper;

/// Longer than any of them takes.
const LONG: Duration = Duration::from_secs(60);

fn said(home: &Home, args: &[&str]) -> Value {
    serde_json::from_str(&ok(home.af().args(["--json", "storage"]).args(args))).unwrap()
}

fn store(home: &Home, path: &Path) -> String {
    let stored = said(home, &["add", path.to_str().unwrap()]);
    stored["pins"][0]["cid"].as_str().unwrap().to_owned()
}

/// Returns what the pin's only other place says, once it is like this.
fn held(home: &Home, cid: &str, like: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + LONG;
    loop {
        let pins = said(home, &["ls"]);
        let pin = pins.as_array().unwrap().iter().find(|pin| pin["cid"] == cid).unwrap();
        let place = pin["places"][0].clone();
        if like(&place) {
            return place;
        }
        assert!(Instant::now() < deadline, "{pin}");
    }
}

fn is(state: &str) -> impl Fn(&Value) -> bool {
    move |place| place["state"] == state
}

fn bytes(size: u32, seed: u32) -> Vec<u8> {
    (0..size).map(|n| (n.wrapping_mul(2_654_435_761).rotate_left(seed) >> 24) as u8).collect()
}

/// A server that archives, and one file and one folder that it has archived.
struct Archived {
    home: Home,
    _dir: tempfile::TempDir,
    _server: support::Server,
    file: String,
    folder: String,
}

fn archived(arweave: &Arweave, key: &str) -> Archived {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let to = arweave.place(&key_file(dir.path(), key));
    let server = home.up(&["--pin-to", &to, "--api-rate-limit", "100000"]);
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(dir.path().join("file"), bytes(3_500_000, 1)).unwrap();
    for n in 0..30 {
        fs::write(folder.join(n.to_string()), bytes(50_000 + n, n)).unwrap();
    }
    let (file, folder) = (store(&home, &dir.path().join("file")), store(&home, &folder));
    held(&home, &file, is("PINNED"));
    held(&home, &folder, is("PINNED"));
    Archived { home, _dir: dir, _server: server, file, folder }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_archived_on_arweave_is_served_from_there_by_another_server() {
    let Some(software) = ipfs::software() else { return };
    let mut arweave = Arweave::start(&software);
    let at = archived(&arweave, KEY);
    let place = held(&at.home, &at.file, is("PINNED"));
    let state = arweave.state();
    // Both are sent at once.
    let of_file = |item: &&Value| item["tags"].as_array().unwrap().iter().any(|tag| tag["value"] == at.file);
    let item = state["items"].as_array().unwrap().iter().find(of_file).unwrap();
    // arbundles found the signature and the item right, or it would not be there.
    assert_eq!((&item["type"], state["uploads"].as_u64()), (&json!(2), Some(2)));
    assert_eq!(place["detail"], format!("item {}", item["id"].as_str().unwrap()));
    assert_eq!(place["permanent"], true);
    let tags: Vec<_> =
        item["tags"].as_array().unwrap().iter().map(|tag| (&tag["name"], &tag["value"])).collect();
    let (car, root) = (json!("application/vnd.ipld.car"), json!(at.file));
    assert_eq!(
        tags,
        [(&json!("Content-Type"), &car), (&json!("App-Name"), &json!("af")), (&json!("IPFS-CID"), &root)]
    );

    // What is deployed is archived, too.
    let deploy = [
        "--json",
        "functions",
        "deploy",
        "--create",
        "-n",
        "hello",
        "-p",
        guest("hello-rust").to_str().unwrap(),
    ]
    .map(str::to_owned);
    let deployed: Value = serde_json::from_str(&ok(at.home.af().args(deploy))).unwrap();
    let code = deployed["deployment"]["cid"].as_str().unwrap().to_owned();
    support::eventually(async || {
        let state = arweave.state();
        let tags = |item: &Value| item["tags"].as_array().unwrap().iter().any(|tag| tag["value"] == code);
        state["items"].as_array().unwrap().iter().any(tags).then_some(())
    })
    .await;

    let other = Home::new();
    let server = other.up(&["--source", &arweave.source()]);
    ok(other.af().args(["functions", "deploy", "--create", "-n", "hello", "--cid", &code]));
    assert_eq!(server.get("hello", "/").await.text().await.unwrap(), "Hello from Rust and WASI 0.2!\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_folders_come_back_block_by_block_and_a_fetch_goes_on_where_it_was() {
    let Some(software) = ipfs::software() else { return };
    let arweave = Arweave::start(&software);
    let at = archived(&arweave, KEY);
    let (alone, out) = (Home::new(), tempfile::tempdir().unwrap());
    let blocks = out.path().join("blocks");
    let fetch = |cid: &str, name: &str, more: &[&str]| -> Value {
        let path = out.path().join(name);
        let mut fetch = alone.af();
        fetch.args(["--json", "fetch", cid, "--source", &arweave.source(), "--blocks"]).arg(&blocks);
        let fetched = ok(fetch.arg("-o").arg(path).args(more));
        serde_json::from_str(&fetched).unwrap()
    };
    let fetched = fetch(&at.file, "file", &[]);
    assert!(fs::read(out.path().join("file")).unwrap() == bytes(3_500_000, 1));
    assert_eq!((&fetched["fetched"], &fetched["sources"][0]["lies"]), (&json!(5), &json!(0)));
    let fetched = fetch(&at.folder, "folder.car", &["--car"]);
    assert_eq!(fetched["fetched"], 31);

    // The middle is lost; its parents are here.
    let leaf = af_content::identify(af_contract::Codec::Raw, &bytes(50_015, 15)).to_string();
    let lost = blocks.join(&leaf[leaf.len() - 3..leaf.len() - 1]).join(&leaf);
    fs::remove_file(&lost).unwrap();
    assert_eq!(fetch(&at.folder, "again.car", &["--car"])["fetched"], 1);
    assert_eq!(fs::read(&lost).unwrap(), bytes(50_015, 15));
    assert_eq!(
        fs::read(out.path().join("again.car")).unwrap(),
        fs::read(out.path().join("folder.car")).unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_changes_a_byte_is_left_alone_and_another_one_serves() {
    let Some(software) = ipfs::software() else { return };
    let arweave = Arweave::start(&software);
    let at = archived(&arweave, KEY);
    let tamper = Tamper::http(ipfs::address(&arweave.url));
    tamper.flip(300_000);
    let source = format!("arweave={}", tamper.url());
    let alone = Home::new();
    let verify = ["verify", &at.file, "--source", &source].map(str::to_owned);
    let (_, said) = refused(alone.af().args(verify));
    assert!(said.contains("wrong bytes came from arweave http://"), "{said}");
    let seen = tamper.seen();

    let mut both = alone.af();
    both.args(["--json", "verify", &at.file, "--source", &source, "--source", &arweave.source()]);
    let verified: Value = serde_json::from_str(&ok(&mut both)).unwrap();
    assert!(tamper.seen() > seen, "it was asked");
    assert_eq!(verified["cid"], at.file, "{verified}");
}

#[tokio::test(flavor = "multi_thread")]
async fn false_archives_of_others_do_not_count() {
    let Some(software) = ipfs::software() else { return };
    let mut arweave = Arweave::start(&software);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), bytes(3_500_000, 1)).unwrap();
    let planned = Home::new();
    let server = planned.up(&[]);
    let cid = store(&planned, &dir.path().join("file"));
    drop(server);
    // They were there first.
    arweave.forge(&cid, "no CAR at all");
    let at = archived(&arweave, KEY);
    assert_eq!(at.file, cid);
    let alone = Home::new();
    ok(alone.af().args(["verify", &cid, "--source", &arweave.source()]));
    let owner = arweave.state()["items"][1]["owner"].as_str().unwrap().to_owned();
    ok(alone.af().args(["verify", &cid, "--source", &format!("{},owner={owner}", arweave.source())]));
    let nobody = format!("{},owner={}", arweave.source(), "A".repeat(43));
    let (_, said) = refused(alone.af().args(["verify", &cid, "--source", &nobody]));
    assert!(said.contains("does not have the block"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_pays_once_for_what_was_cut_off_or_unpinned() {
    let Some(software) = ipfs::software() else { return };
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let mut arweave = Arweave::start(&software);
    let wallet = arweave.wallet();
    let to = arweave.place(&key_file(dir.path(), &wallet));
    let file = dir.path().join("file");
    fs::write(&file, bytes(1_500_000, 3)).unwrap();
    // The bundler has it, and the connection breaks before it says so; then this server ends, too.
    arweave.be(json!({ "cut": 1, "hidden": true, "status": { "status": "CONFIRMED", "info": "new" } }));
    let server = home.up(&["--pin-to", &to, "--api-rate-limit", "100000"]);
    let cid = store(&home, &file);
    support::eventually(async || (arweave.state()["uploads"] == 1).then_some(())).await;
    server.kill();
    let _server = home.up(&["--pin-to", &to, "--api-rate-limit", "100000"]);
    let coming = held(&home, &cid, is("PINNING"));
    let item = arweave.state()["items"][0].clone();
    assert_eq!(coming["detail"], format!("item {}, new", item["id"].as_str().unwrap()));
    assert_eq!(item["type"], 1, "signed by a wallet, and arbundles found it valid");
    arweave.be(json!({ "hidden": false, "status": { "status": "FINALIZED" } }));
    held(&home, &cid, is("PINNED"));

    let mut unpin = home.af();
    let unpinned = ok(unpin.args(["storage", "unpin", &cid]));
    assert!(
        unpinned.contains("it stays at arweave:127.0.0.1") && unpinned.contains(item["id"].as_str().unwrap()),
        "{unpinned}"
    );
    let item_id = item["id"].as_str().unwrap();
    support::eventually(async || {
        let left = ok(home.af().args(["storage", "ls", "--left"]));
        (left.contains(&cid) && left.contains("for good") && left.contains(item_id)).then_some(())
    })
    .await;
    assert!(ok(home.af().args(["storage", "ls"])).contains("1 that was unpinned is still at other places"));
    let again = store(&home, &file);
    assert_eq!(again, cid);
    held(&home, &cid, is("PINNED"));
    assert!(!ok(home.af().args(["storage", "ls", "--left"])).contains(&cid), "it is stored again");
    assert_eq!(arweave.state()["uploads"], 1, "it is there, and was paid for");
    assert!(!home.logged().contains(wallet.get(600..640).unwrap()), "the key is in no log");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bundler_does_wrong_is_told_and_tried_again() {
    let Some(software) = ipfs::software() else { return };
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let mut arweave = Arweave::start(&software);
    let to = arweave.place(&key_file(dir.path(), KEY));
    let _server = home.up(&["--pin-to", &to, "--api-rate-limit", "100000"]);
    let file = dir.path().join("file");
    fs::write(&file, b"something small").unwrap();
    arweave.be(json!({ "receipt": "B".repeat(43), "status": { "status": "FAILED", "reason": "no_funds" } }));
    let cid = store(&home, &file);
    let told = |text: &'static str| {
        move |place: &Value| place["error"].as_str().is_some_and(|error| error.contains(text))
    };
    held(&home, &cid, told("a receipt for another item"));
    arweave.be(json!({ "receipt": null }));
    held(&home, &cid, told("no_funds"));
    arweave.be(json!({ "status": { "status": "FINALIZED" } }));
    held(&home, &cid, is("PINNED"));
    assert_eq!(arweave.state()["items"].as_array().unwrap().len(), 1, "one key and one DAG are one item");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let key = key_file(dir.path(), KEY);
    let up = |place: String| {
        let mut up = home.af();
        up.args(["up", "--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--pin-to", &place]);
        refused(up.arg("--data-dir").arg(home.data())).1
    };
    let place = |key: &Path| {
        format!("arweave=http://127.0.0.1:1/v1,key={},gateway=http://127.0.0.1:1", key.display())
    };
    fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    let said = up(place(&key));
    assert!(said.contains("other users can read it") && said.contains("chmod 600"), "{said}");
    let said = up(place(&key_file(dir.path(), "{\"kty\":\"RSA\"}")));
    assert!(said.contains("neither an Arweave wallet"), "{said}");
    let said = up("arweave=http://127.0.0.1:1/v1".to_owned());
    assert!(said.contains(",key=FILE,gateway=URL"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filecoin_pinning_service_tells_where_content_is_held() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let service = Holders::start(Kind::Filecoin).await;
    let mut af = home.af();
    af.env("AF_PIN_TOKEN", holders::TOKEN);
    let to = format!("filecoin={}", service.url());
    let _server = home.up_as(af, &["--pin-to", &to, "--api-rate-limit", "100000"]);
    let file = dir.path().join("file");
    fs::write(&file, b"cold").unwrap();
    service.decide("failed");
    let cid = store(&home, &file);
    let failed = held(&home, &cid, |place| place["attempts"].as_i64() > Some(1));
    assert!(failed["error"].as_str().unwrap().contains("out of space"), "{failed}");
    assert!(failed["place"].as_str().unwrap().starts_with("filecoin:127.0.0.1"), "{failed}");
    service.decide("pinned");
    let place = held(&home, &cid, is("PINNED"));
    assert_eq!(place["detail"], "synapse_piece_cid bafkzcib-of-a-piece, synapse_data_set_id 7");
    assert_eq!(place["permanent"], false);
    assert_eq!(
        service.pins(),
        std::slice::from_ref(&cid),
        "one request, although it does not find it by its CID"
    );
    let listed = ok(home.af().args(["storage", "ls"]));
    assert!(listed.contains("synapse_data_set_id 7"), "{listed}");
    said(&home, &["unpin", &cid]);
    service.until(Vec::is_empty).await;
}
