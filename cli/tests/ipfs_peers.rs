//! Our CIDs are those of real IPFS software.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

#[path = "support/ipfs.rs"]
mod ipfs;
mod support;
#[path = "support/tamper.rs"]
mod tamper;

use std::fs;
use std::path::{Path, PathBuf};

use af_content::unixfs::folder::{self, FolderTerms};
use af_content::unixfs::{self, Profile};
use ipfs::{Helia, JsIpfs, Kubo, PinningService, RoutingServer, Stop, address, software};
use serde_json::{Value, json};
use tamper::Tamper;

/// Files at the borders of chunks and nodes, a plain directory, and one that is so large that it is sharded.
struct Samples {
    _dir: tempfile::TempDir,
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl Samples {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sizes = [0, 1, 256 << 10, (256 << 10) + 1, 1 << 20, (1 << 20) + 1, 5_000_000];
        let files = sizes.map(|size| {
            let path = dir.path().join(size.to_string());
            fs::write(&path, bytes(size)).unwrap();
            path
        });
        let (plain, sharded) = (dir.path().join("plain"), dir.path().join("sharded"));
        fs::create_dir_all(plain.join("a/empty")).unwrap();
        fs::write(plain.join("a/large"), bytes(1_500_000)).unwrap();
        fs::write(plain.join("é"), "hello").unwrap();
        fs::create_dir(&sharded).unwrap();
        for n in 0..6000 {
            fs::write(sharded.join(format!("a-file-with-a-name-{n}")), "x").unwrap();
        }
        Self { _dir: dir, files: files.into(), directories: vec![plain, sharded] }
    }

    fn all(&self) -> Vec<&Path> {
        self.files.iter().chain(&self.directories).map(PathBuf::as_path).collect()
    }
}

/// Any bytes, the same each time.
fn bytes(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut state = 1_u64;
    for byte in &mut bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = state.to_be_bytes()[0];
    }
    bytes
}

fn our_cid(profile: Profile, path: &Path) -> String {
    let root = if path.is_dir() {
        let terms = FolderTerms { chunking: profile.into(), ..FolderTerms::default() };
        folder::import_as(&terms, path, &mut |_| Ok(())).unwrap().root
    } else {
        unixfs::import_as(profile, fs::File::open(path).unwrap(), |_| Ok(())).unwrap().root
    };
    profile.cid(&root).to_string()
}

fn our_cids(profile: Profile, paths: &[&Path]) -> Vec<String> {
    paths.iter().map(|path| our_cid(profile, path)).collect()
}

#[test]
fn our_cids_are_those_of_helia() {
    let Some(software) = software() else { return };
    let samples = Samples::new();
    let helia = Helia::start(&software, &samples.all());
    assert_eq!(helia.added(), our_cids(Profile::V1, &samples.all()));
}

#[test]
fn our_cids_of_v0_are_those_of_kubo() {
    let Some(software) = software() else { return };
    let samples = Samples::new();
    let kubo = Kubo::start(&software, &samples.all());
    let ours = our_cids(Profile::V0, &samples.all());
    assert!(ours.iter().all(|cid| cid.starts_with("Qm")), "{ours:?}");
    assert_eq!(kubo.added(), ours);
}

#[test]
fn generated_files_and_trees_have_the_cids_that_others_give_them() {
    let Some(software) = software() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut chance = Chance(7);
    let paths: Vec<_> = (0..32)
        .map(|n| {
            let path = dir.path().join(format!("{n}"));
            if n % 2 == 0 {
                chance.file(&path, 6 << 20)
            } else {
                // js-ipfs takes white space from what paths begin with.
                fs::create_dir(&path).unwrap();
                chance.tree(&path.join("tree"), 0)
            }
            path
        })
        .collect();
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let helia = Helia::start(&software, &paths);
    assert_eq!(helia.added(), our_cids(Profile::V1, &paths), "Helia");
    let ours = our_cids(Profile::V0, &paths);
    let kubo = Kubo::start(&software, &paths);
    assert_eq!(kubo.added(), ours, "Kubo");
    let js_ipfs = JsIpfs::start(&software, &paths);
    assert_eq!(js_ipfs.added(), ours, "js-ipfs");
}

/// Makes files and trees, others for another seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }

    /// As long as it happens, or a byte more or less than what ends a chunk.
    fn file(&mut self, path: &Path, most: usize) {
        let size = match self.below(3) {
            0 => (self.below(8) * (256 << 10) + self.below(3)).saturating_sub(1).min(most),
            1 => self.below(100),
            _ => self.below(most),
        };
        let mut content = bytes(size);
        content.iter_mut().for_each(|byte| *byte ^= self.0.to_le_bytes()[3]);
        fs::write(path, content).unwrap();
    }

    fn tree(&mut self, path: &Path, depth: usize) {
        fs::create_dir(path).unwrap();
        for n in 0..self.below(9) {
            let letters = ["a", "Z", "é", "日本", " ", "%41", "x-", "🦀"];
            let name: String = (0..=self.below(8)).map(|_| letters[self.below(letters.len())]).collect();
            let inner = path.join(format!("{name}{n}"));
            if depth < 4 && self.below(3) == 0 {
                self.tree(&inner, depth + 1);
            } else {
                self.file(&inner, 600_000);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_under_blake3_is_verified_by_helia() {
    let Some(software) = software() else { return };
    let (home, dir) = (support::Home::new(), tempfile::tempdir().unwrap());
    let server = home.up(&["--gateway", "public"]);
    let file = dir.path().join("file");
    fs::write(&file, bytes(3_500_000)).unwrap();
    let mut add = home.af();
    add.args(["--json", "storage", "add", "--profile", "unixfs-v1-2025-blake3"]).arg(&file);
    let added: Value = serde_json::from_str(&support::ok(&mut add)).unwrap();
    let cid = added["pins"][0]["cid"].as_str().unwrap().to_owned();
    assert!(cid.starts_with("bafyb4i"), "a node by its BLAKE3: {cid}");
    let gateway = server.api.clone();
    let fetch = move || Helia::fetch_by_gateway(&software, &gateway, &cid);
    let fetched = tokio::task::spawn_blocking(fetch).await.unwrap();
    assert!(fetched.unwrap() == bytes(3_500_000));
}

#[tokio::test]
async fn the_software_that_tests_talk_to_works_is_restarted_and_tampered_with() {
    let Some(software) = software() else { return };
    let samples = Samples::new();
    let large = bytes(5_000_000);
    let mut kubo = Kubo::start(&software, &[&samples.files[6]]);
    let mut helia = Helia::start(&software, &[]);
    let cid = kubo.added().remove(0);
    kubo.stop(Stop::AtOnce);
    kubo.start_again();
    helia.connect(&kubo.addresses()[0]).unwrap();
    assert!(helia.fetch(&cid).unwrap() == large);
    // The gateway has what bitswap brought, and goes on with it.
    kubo.stop(Stop::InOrder);
    helia.stop(Stop::InOrder);
    helia.start_again();
    let proxy = Tamper::http(address(&helia.gateway));
    let url = format!("{}/ipfs/{cid}", proxy.url());
    let get = async || support::http().get(&url).send().await.unwrap().bytes().await.unwrap();
    assert!(get().await == large);
    proxy.flip(4_000_000);
    let wrong: Vec<_> = get().await.iter().zip(&large).map(|(one, other)| one ^ other).collect();
    assert_eq!(wrong.iter().map(|&bits| u32::from(bits)).sum::<u32>(), 1);
    assert_eq!(wrong[4_000_000], 1);
    assert_eq!(proxy.seen(), 2);
    // A client that verifies refuses it.
    proxy.be_honest();
    let fetch = async |proxy: &Tamper| {
        let (software, gateway, cid) = (software.clone(), proxy.url(), cid.clone());
        let fetch = move || Helia::fetch_by_gateway(&software, &gateway, &cid);
        tokio::task::spawn_blocking(fetch).await.unwrap()
    };
    assert!(fetch(&proxy).await.unwrap() == large);
    proxy.flip(100);
    fetch(&proxy).await.unwrap_err();
}

#[test]
fn a_bit_that_is_flipped_on_the_wire_ends_an_encrypted_connection() {
    let Some(software) = software() else { return };
    let samples = Samples::new();
    let kubo = Kubo::start(&software, &[&samples.files[1]]);
    let mut helia = Helia::start(&software, &[]);
    let real = kubo.addresses().remove(0);
    let port = real.split('/').nth(4).unwrap().to_owned();
    let proxy = Tamper::tcp(format!("127.0.0.1:{port}").parse().unwrap());
    let through = real.replace(&port, &proxy.address.port().to_string());
    proxy.flip(300);
    helia.connect(&through).unwrap_err();
    proxy.be_honest();
    helia.connect(&through).unwrap();
    assert_eq!(helia.fetch(&kubo.added()[0]).unwrap(), bytes(1));
}

#[tokio::test]
async fn services_answer_as_their_specifications_say() {
    let Some(software) = software() else { return };
    let samples = Samples::new();
    let mut js_ipfs = JsIpfs::start(&software, &[&samples.files[5]]);
    let file = js_ipfs.added().remove(0);
    js_ipfs.stop(Stop::InOrder);
    js_ipfs.start_again();
    let cat = support::http().post(format!("{}/api/v0/cat?arg={file}", js_ipfs.rpc));
    assert!(cat.send().await.unwrap().bytes().await.unwrap() == bytes((1 << 20) + 1));
    let pinning = PinningService::start(&software);
    let pins = || support::http().post(format!("{}/pins", pinning.url));
    assert_eq!(pins().send().await.unwrap().status(), 401);
    let pin = pins().bearer_auth(pinning.token).json(&json!({ "cid": file, "name": "pinned-file" }));
    let pin: Value = pin.send().await.unwrap().json().await.unwrap();
    assert_eq!(pin["status"], "pinned");
    let gateway = ["/ip4/127.0.0.1/tcp/8080/http".to_owned()];
    let mut routing = RoutingServer::start(&software, &[]);
    let providers = format!("{}/routing/v1/providers/{file}", routing.url);
    for known in [0, 1] {
        let found: Value = support::http().get(&providers).send().await.unwrap().json().await.unwrap();
        let found = found["Providers"].as_array().unwrap();
        assert_eq!(found.len(), known);
        assert!(found.iter().all(|provider| provider["Addrs"] == json!(gateway)));
        routing.provide(&file, &gateway);
    }
}
