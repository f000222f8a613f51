//! Content that others have: fetched by its CID from sources that need not be trusted.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

#[path = "support/gateway.rs"]
mod gateway;
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use af_content::unixfs::{self, FileSummary};
use af_contract::ContentId;
use bytes::Bytes;
use gateway::{FakeGateway, Manner};
use serde_json::Value;
use support::{Home, guest, ok};

type Blocks = BTreeMap<ContentId, Bytes>;

fn refused(command: &mut std::process::Command) -> String {
    support::refused(command).1
}

fn imported(file: &Path) -> (FileSummary, Blocks) {
    let mut blocks = Blocks::new();
    let summary = unixfs::import(std::fs::File::open(file).unwrap(), |block| {
        blocks.insert(block.id, block.bytes);
        Ok(())
    });
    (summary.unwrap(), blocks)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_deployed_by_its_cid_and_answers_without_the_network() {
    let (code, blocks) = imported(&guest("hello-rust"));
    let cid = code.root.to_string();
    let home = Home::new();
    let honest = FakeGateway::start(Manner::Honest, &blocks).await;
    let server = home.up(&["--source", &honest.source()]);
    let deployed =
        ok(home.af().args(["--json", "functions", "deploy", "--create", "-n", "hello", "--cid", &cid]));
    let deployed: Value = serde_json::from_str(&deployed).unwrap();
    assert_eq!(deployed["deployment"]["cid"], cid);
    assert_eq!(deployed["deployment"]["blake3Hash"], code.blake3.to_string());
    assert_eq!(server.get("hello", "/").await.text().await.unwrap(), "Hello from Rust and WASI 0.2!\n");
    assert_eq!(honest.asked(), blocks.len(), "each block once");

    // The network is cut, and all that was compiled is gone.
    drop(honest);
    assert!(server.stop().success());
    std::fs::remove_dir_all(home.data().join("artifacts")).unwrap();
    let server = home.up(&["--source", "gateway=http://127.0.0.1:1"]);
    assert_eq!(server.get("hello", "/").await.text().await.unwrap(), "Hello from Rust and WASI 0.2!\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_deployed_by_its_cid_and_a_file_is_none() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("index.html"), "<h1>from elsewhere</h1>").unwrap();
    std::fs::write(dir.path().join("style.css"), "h1 { color: red }").unwrap();
    let mut blocks = Blocks::new();
    let mut keep = |block: af_content::car::Block| {
        blocks.insert(block.id, block.bytes);
        Ok::<(), std::io::Error>(())
    };
    let folder = unixfs::folder::import(dir.path(), &mut keep).unwrap();
    let (file, more) = imported(&guest("hello-rust"));
    blocks.extend(more);
    let home = Home::new();
    let honest = FakeGateway::start(Manner::Honest, &blocks).await;
    let server = home.up(&["--source", &honest.source()]);
    let deploy = |cid: &ContentId| {
        let mut af = home.af();
        af.args(["--json", "sites", "deploy", "--create", "-n", "pages", "--cid", &cid.to_string()]);
        af
    };
    let deployed: Value = serde_json::from_str(&ok(&mut deploy(&folder.root))).unwrap();
    assert_eq!(deployed["deployment"]["cid"], folder.root.to_string());
    let page = server.get("pages", "/").await;
    assert_eq!(
        (page.status().as_u16(), page.text().await.unwrap().as_str()),
        (200, "<h1>from elsewhere</h1>")
    );
    let said = refused(&mut deploy(&file.root));
    assert!(said.contains("director"), "{said}");
    let nowhere = af_content::identify(af_contract::Codec::DagPb, b"nobody has this");
    assert!(refused(&mut deploy(&nowhere)).contains(&nowhere.to_string()));
    assert_eq!(server.get("pages", "/style.css").await.text().await.unwrap(), "h1 { color: red }");
    let both = refused(home.af().args(["sites", "deploy", "--path", ".", "--cid", &folder.root.to_string()]));
    assert!(both.contains("cannot be used with"), "{both}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rots_or_is_lost_on_the_disk_is_fetched_again() {
    let (code, blocks) = imported(&guest("hello-rust"));
    let home = Home::new();
    let honest = FakeGateway::start(Manner::Honest, &blocks).await;
    let server = home.up(&[]);
    ok(home.af().args(["functions", "deploy", "--create", "-n", "hello", "-p"]).arg(guest("hello-rust")));
    assert!(server.stop().success());
    std::fs::remove_dir_all(home.data().join("artifacts")).unwrap();
    let file = |id: &ContentId| {
        let text = id.to_string();
        home.data().join("blocks").join(&text[text.len() - 3..text.len() - 1]).join(text)
    };
    let rotten = blocks.keys().find(|id| **id != code.root).unwrap_or(&code.root);
    std::fs::write(file(rotten), b"rot").unwrap();
    if *rotten != code.root {
        std::fs::remove_file(file(&code.root)).unwrap();
    }

    let server = home.up(&["--source", &honest.source(), "--metrics-listen", "127.0.0.1:0"]);
    assert_eq!(server.get("hello", "/").await.text().await.unwrap(), "Hello from Rust and WASI 0.2!\n");
    assert_eq!(std::fs::read(file(rotten)).unwrap(), blocks[rotten]);
    let counted = server.metrics().await;
    assert!(counted.contains("af_source_blocks_total{source=\"gateway http://127.0.0.1:"), "{counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_that_lie_stall_fail_or_never_end_do_not_keep_the_honest_one_from_serving() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|n| n.to_le_bytes()[1] ^ n.to_le_bytes()[2]).collect();
    std::fs::write(&file, &bytes).unwrap();
    let (summary, blocks) = imported(&file);
    let mut sources = Vec::new();
    for manner in [Manner::Silent, Manner::Lies, Manner::Endless, Manner::Fails, Manner::Honest] {
        sources.push(FakeGateway::start(manner, &blocks).await);
    }
    let home = Home::new();
    let out = dir.path().join("out");
    let mut fetch = home.af();
    fetch.args(["--json", "fetch", &summary.root.to_string(), "-o"]).arg(&out);
    for source in &sources {
        fetch.args(["--source", &source.source()]);
    }
    let fetched = tokio::task::spawn_blocking(move || ok(&mut fetch)).await.unwrap();
    let fetched: Value = serde_json::from_str(&fetched).unwrap();
    assert!(std::fs::read(&out).unwrap() == bytes);
    assert_eq!(fetched["blake3Hash"], summary.blake3.to_string());
    assert_eq!(fetched["fetched"], blocks.len());
    let lies: Vec<u64> = fetched["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|source| source["lies"].as_u64().unwrap())
        .collect();
    assert!(lies[1] > 0 && lies[4] == 0, "{fetched:#}");
    assert_eq!(fetched["sources"][4]["blocks"], blocks.len());

    // Only those who lie, or do not end.
    for liar in &sources[1..=2] {
        let mut alone = home.af();
        alone.args(["verify", &summary.root.to_string(), "--source", &liar.source()]);
        let said = tokio::task::spawn_blocking(move || refused(&mut alone)).await.unwrap();
        assert!(said.contains("wrong bytes came from gateway http://127.0.0.1:"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_fetch_goes_on_from_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, vec![7; 3_500_000]).unwrap();
    let (summary, blocks) = imported(&file);
    let mut part = blocks.clone();
    // All leaves but the last one are the same block.
    let last = *blocks.iter().find(|(_, bytes)| bytes.len() > 100_000 && bytes.len() < 1 << 20).unwrap().0;
    part.remove(&last);
    let (poor, rich) =
        (FakeGateway::start(Manner::Honest, &part).await, FakeGateway::start(Manner::Honest, &blocks).await);
    let home = Home::new();
    let fetch = |source: &FakeGateway| {
        let mut fetch = home.af();
        fetch.args(["--json", "fetch", &summary.root.to_string(), "--source", &source.source(), "--blocks"]);
        fetch.arg(dir.path().join("kept"));
        fetch
    };
    let mut first = fetch(&poor);
    let said = tokio::task::spawn_blocking(move || refused(&mut first)).await.unwrap();
    assert!(said.contains(&format!("block {last} cannot be had")), "{said}");
    let mut second = fetch(&rich);
    let fetched = tokio::task::spawn_blocking(move || ok(&mut second)).await.unwrap();
    let fetched: Value = serde_json::from_str(&fetched).unwrap();
    assert_eq!(fetched["blocks"], blocks.len());
    assert_eq!(rich.asked() as u64, fetched["fetched"].as_u64().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_becomes_a_folder_a_file_or_a_car() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("given/inner")).unwrap();
    std::fs::write(at("given/inner/large"), vec![7; 1_500_000]).unwrap();
    std::fs::write(at("given/small"), "small").unwrap();
    let mut blocks = Blocks::new();
    let put = &mut |block: af_content::car::Block| {
        blocks.insert(block.id, block.bytes);
        Ok(())
    };
    let root = unixfs::folder::import(&at("given"), put).unwrap().root.to_string();
    let small = af_content::identify(af_contract::Codec::Raw, b"small").to_string();
    let honest = FakeGateway::start(Manner::Honest, &blocks).await;
    let home = Home::new();
    let fetch = |cid: &str, options: &[&str], out: &Path| {
        let mut fetch = home.af();
        fetch.args(["fetch", cid, "--source", &honest.source()]).args(options).arg("-o").arg(out);
        fetch.output().unwrap()
    };
    let fetched = |cid: &str, options: &[&str], out: &str| {
        let output = fetch(cid, options, &at(out));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let refused = |cid: &str, options: &[&str], out: &Path| {
        let output = fetch(cid, options, out);
        assert!(!output.status.success() && output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    };
    fetched(&root, &[], "folder");
    assert_eq!(std::fs::read(at("folder/inner/large")).unwrap(), vec![7; 1_500_000]);
    assert_eq!(std::fs::read(at("folder/small")).unwrap(), b"small");
    assert!(refused(&root, &[], &at("folder")).contains("is there already"));
    assert!(refused(&root, &[], Path::new("-")).contains("-o NAME"));
    // A file may be replaced.
    std::fs::write(at("file"), "another one").unwrap();
    fetched(&small, &[], "file");
    assert_eq!(std::fs::read(at("file")).unwrap(), b"small");
    assert_eq!(fetch(&small, &[], Path::new("-")).stdout, b"small");

    fetched(&root, &["--car"], "all.car");
    ok(home.af().args(["verify", "--cid", &root]).arg(at("all.car")));
    let car = std::fs::read(at("all.car")).unwrap();
    assert!(fetch(&root, &["--car"], Path::new("-")).stdout == car);
    let mut decoder = af_content::car::CarDecoder::default();
    decoder.push(&car);
    let first = decoder.next_block().unwrap().unwrap();
    assert_eq!(first.id.to_string(), root, "parents before children");
    let left = std::fs::read_dir(dir.path()).unwrap();
    assert_eq!(left.count(), 4, "nothing else is left there");
}

#[test]
fn files_and_cars_are_verified() {
    let home = Home::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hello");
    std::fs::write(&file, "hello world").unwrap();
    let cid = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
    let said = ok(home.af().arg("verify").arg(&file).args(["--cid", cid]));
    assert!(
        said.contains(cid)
            && said.contains("d74981efa70a0c880b8d8c1985d075dbcbf679b99a5f9914e5aaf96b831a9e24"),
        "{said}"
    );
    std::fs::write(&file, "hello w0rld").unwrap();
    assert!(refused(home.af().arg("verify").arg(&file).args(["--cid", cid])).contains("WRONG"));
    assert!(
        refused(home.af().args(["verify", "nothing"])).contains("neither a file or folder here nor a CID")
    );
    assert!(refused(home.af().args(["fetch", cid])).contains("--source gateway="));
    let typo = refused(home.af().args(["fetch", cid, "--source", "gatway=https://example.com"]));
    assert!(typo.contains("the kinds are gateway, peer, kubo, arweave, routing"), "{typo}");
}

/// CIDs of js-ipfs' importer (ipfs-unixfs-importer 12), with `cidVersion`, `rawLeaves` and `maxChunkSize` as it says.
const OF_OTHERS: [(&str, &str, &str); 6] = [
    (
        "1, true, 256 KiB",
        "bafybeicqpykkeufuiaqs7q43xyhel55wgnvemzwgn3we5qpenru7tjnlmq",
        "bafybeig7kllruh7irujv6cdcgwvegulb5cq3b4fiqfyk2tnbv4b6koq7yy",
    ),
    (
        "1, false, 256 KiB",
        "bafybeie35lf3egxdtgfqzgujfwyo3wfldzwizmld4e6zzspxywjtjeiie4",
        "bafybeigpllma3pyemqvsbw3wtwuol7cbnrvlwas2ftglccdj5oi4iwojpi",
    ),
    (
        "0, true, 256 KiB",
        "QmTkrqC2o8tJBdH113wR7AxMMY2mVLnxeB493w1SAakQeX",
        "QmNn5URGswdX13X1iinh4kmrRn2R2jMMQymzDWH61rUxMj",
    ),
    (
        "0, false, 256 KiB",
        "QmbvvajB4uUtRZn2UntuMEyWF1WcvtonCyist9jPDUKatK",
        "QmceA9o5gTewdU8sefjfKWjwqeALYosASZnxFK8SaxNRB4",
    ),
    (
        "1, true, 1 MiB",
        "bafybeihx4l6zcy2nv4473ru2icco6ddp7hgp6n5uiokxbfxzf4qd3quzqm",
        "bafybeihy5tofuzm2u3m2hwsg42mdk54qer7ufnchgipzud7k46pdjpbp7q",
    ),
    (
        "0, false, 1 MiB",
        "QmTbqnb8Umffg85uWMZBEdaZgNCL8k4gFPQPwAfXtciUu7",
        "QmaMjeMqpUGdvUFTnsavx2qrNLav4RL57eZPJU8PUfS2ug",
    ),
];

#[test]
fn files_and_folders_are_verified_whichever_tool_made_their_cid() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let folder = dir.path().join("folder");
    std::fs::create_dir_all(folder.join("a")).unwrap();
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|n| {
            let [a, b, c, _] = n.to_le_bytes();
            a ^ b ^ c
        })
        .collect();
    let large = folder.join("a/large");
    std::fs::write(&large, &bytes).unwrap();
    std::fs::write(folder.join("small"), &bytes[..5]).unwrap();
    let verify = |path: &Path, options: &[&str]| {
        let mut af = home.af();
        af.args(["--json", "verify"]).arg(path).args(options);
        af
    };
    for (how, of_file, of_folder) in OF_OTHERS {
        for (path, cid) in [(&large, of_file), (&folder, of_folder)] {
            let verified: Value = serde_json::from_str(&ok(&mut verify(path, &["--cid", cid]))).unwrap();
            let id = ContentId::parse(cid).unwrap().to_string();
            assert_eq!(verified["roots"][0], id, "{how}: {verified}");
        }
    }

    // What another way of making blocks may explain is not called wrong, and what nothing explains is.
    let one_block = af_content::identify(af_contract::Codec::Raw, b"other").to_string();
    let unknown =
        af_content::identify(af_contract::Codec::DagPb, b"made with a chunker of its own").to_string();
    let profile = ["--cid", OF_OTHERS[3].1, "--profile", "unixfs-v1-2025"];
    for (path, options, code, hint) in [
        (&large, ["--cid", &unknown].as_slice(), "not_proven", "compare the BLAKE3"),
        (&folder, &["--cid", &unknown], "not_proven", "compare the folders"),
        (&large, &profile, "not_proven", "without --profile"),
        (&large, &["--cid", &one_block], "wrong", "WRONG"),
        (&folder, &["--cid", &one_block], "wrong", "WRONG"),
        (&folder, &["--blake3", &"0".repeat(64)], "failed", "no BLAKE3 of its own"),
    ] {
        let said: Value = serde_json::from_str(&refused(&mut verify(path, options))).unwrap();
        assert_eq!(said["error"]["code"], code, "{said}");
        assert!(said["error"]["detail"].as_str().unwrap().contains(hint), "{said}");
    }
}

#[test]
fn a_car_has_two_blake3_hashes_and_what_is_none_is_told_so() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let at = |name: &str| dir.path().join(name);
    let (summary, car) = support::car_of(&vec![7; 1_500_000]);
    std::fs::write(at("a.car"), &car).unwrap();
    let verify = |hash: &str| {
        let mut af = home.af();
        af.arg("verify").arg(at("a.car")).args(["--blake3", hash]);
        af
    };
    let (of_file, of_car) = (summary.blake3.to_string(), blake3::hash(&car).to_string());
    assert!(ok(&mut verify(&of_file)).contains(&format!("BLAKE3 of the file  {of_file}")));
    assert!(ok(&mut verify(&of_car)).contains(&of_car));
    let said = refused(&mut verify(&"0".repeat(64)));
    assert!(said.contains("WRONG") && said.contains(&of_file) && said.contains(&of_car), "{said}");
    std::fs::write(at("text.car"), "hello world").unwrap();
    let said = refused(home.af().arg("verify").arg(at("text.car")));
    assert!(said.contains("is no CAR, or only the beginning of one"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_asked_is_told_of_a_fetch_that_fails_and_of_one_to_standard_output() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let file = dir.path().join("file");
    std::fs::write(&file, "hello world").unwrap();
    let (summary, blocks) = imported(&file);
    let honest = FakeGateway::start(Manner::Honest, &blocks).await;
    let liar = FakeGateway::start(Manner::Lies, &blocks).await;
    let fetch = |what: &str, options: &[&str], source: &str| {
        let mut af = home.af();
        af.args(options).args(["fetch", what, "-o", "-", "--source", source]);
        tokio::task::block_in_place(|| af.output().unwrap())
    };
    let cid = summary.root.to_string();
    for what in [cid.clone(), format!("ipfs://{cid}"), format!("/ipfs/{cid}/")] {
        let peer = honest.source().replace("gateway=", "peer=");
        let output = fetch(&what, &[], &peer);
        assert_eq!(output.stdout, b"hello world", "{}", String::from_utf8_lossy(&output.stderr));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("peer http://127.0.0.1:") && told.contains("1 block, 11 bytes"), "{told}");
        assert!(told.contains("every block is what its CID says"), "{told}");
    }
    let told = String::from_utf8(fetch(&cid, &[], &liar.source()).stderr).unwrap();
    let (table, error) = told.split_once("error: ").unwrap();
    assert!(table.contains("WRONG BYTES") && error.contains("wrong bytes came from"), "{told}");
    let told: Value = serde_json::from_slice(&fetch(&cid, &["--json"], &liar.source()).stderr).unwrap();
    assert_eq!(told["error"]["code"], "not_fetched");
    assert!(told["error"]["sources"][0]["lies"].as_u64().unwrap() > 0, "{told}");
    let inner = String::from_utf8(fetch(&format!("{cid}/a"), &[], &honest.source()).stderr).unwrap();
    assert!(inner.contains("a path within content is not followed here"), "{inner}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cid_that_nobody_has_is_refused_with_who_was_asked() {
    let (code, _) = imported(&guest("hello-rust"));
    let cid = code.root.to_string();
    let home = Home::new();
    let _server = home.up(&[]);
    let deploy = |home: &Home| {
        refused(home.af().args(["functions", "deploy", "--create", "-n", "hello", "--cid", &cid]))
    };
    let said = deploy(&home);
    assert!(said.contains("no source of content is configured"), "{said}");
    drop(_server);
    let empty = FakeGateway::start(Manner::Honest, &Blocks::new()).await;
    let _server = home.up(&["--source", &empty.source()]);
    let said = tokio::task::block_in_place(|| deploy(&home));
    assert!(said.contains("it does not have the block"), "{said}");
}
