//! One server runs what another one has, by each way from one to the other, and goes on when it is alone.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

use af_content::unixfs;
use af_contract::{Codec, ContentId};
use support::{Home, Server, eventually, free_port, guest, ok};

const HELLO: &str = "Hello from Rust and WASI 0.2!\n";
const PAGE: &str = "<h1>a page of a site</h1>";

/// What the one has: a site, and two functions that do the same under different CIDs.
struct Published {
    dir: tempfile::TempDir,
    components: [PathBuf; 2],
}

impl Published {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("site")).unwrap();
        fs::write(dir.path().join("site/index.html"), PAGE).unwrap();
        let mut second = fs::read(guest("hello-rust")).unwrap();
        // A custom section.
        second.extend(b"\0\x07\x06second");
        let path = dir.path().join("second.wasm");
        fs::write(&path, second).unwrap();
        Self { components: [guest("hello-rust"), path], dir }
    }

    fn deploy_site(&self, home: &Home) {
        let deploy = ["sites", "deploy", "--create", "--name", "pages", "--path"];
        ok(home.af().args(deploy).arg(self.dir.path().join("site")));
    }
}

/// A file's CID, and how many blocks it has.
fn imported(path: &Path) -> (ContentId, u32) {
    let mut blocks = 0;
    let summary = unixfs::import(fs::File::open(path).unwrap(), |_| {
        blocks += 1;
        Ok(())
    });
    (summary.unwrap().root, blocks)
}

fn deployment(home: &Home, name: &str) -> Command {
    let mut deploy = home.af();
    deploy.args(["functions", "deploy", "--create", "--name", name]);
    deploy
}

async fn says(server: &Server, name: &str, expected: &str) {
    let answer = server.get(name, "/").await;
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, expected), "{name}");
}

/// Returns what the reader had counted before the giver was gone.
async fn one_reads_and_goes_on_alone(
    giving: &[&str],
    source: impl Fn(&Server) -> [String; 2],
    published: &Published,
) -> String {
    let (home, theirs) = (Home::new(), Home::new());
    let giver = theirs.up(giving);
    published.deploy_site(&theirs);
    for (name, component) in ["first", "second"].iter().zip(&published.components) {
        ok(deployment(&theirs, name).arg("--path").arg(component));
    }
    // The reader has the site, but for a page that it lost.
    let server = home.up(&[]);
    published.deploy_site(&home);
    assert!(server.stop().success());
    let page = af_content::identify(Codec::Raw, PAGE.as_bytes()).to_string();
    fs::remove_file(home.data().join("blocks").join(&page[page.len() - 3..page.len() - 1]).join(page))
        .unwrap();

    let [option, from] = source(&giver);
    let up = || home.up(&[&option, &from, "--metrics-listen", "127.0.0.1:0"]);
    let deploy_by_cid = |name: &str, number: usize| {
        let cid = imported(&published.components[number]).0.to_string();
        deployment(&home, name).args(["--cid", &cid]).output().unwrap().status.success()
    };
    let server = up();
    assert!(deploy_by_cid("first", 0));
    says(&server, "first", HELLO).await;
    says(&server, "pages", PAGE).await;

    // The giver is away, and comes back.
    assert!(giver.stop().success());
    says(&server, "first", HELLO).await;
    says(&server, "pages", PAGE).await;
    assert!(!deploy_by_cid("second", 1), "nobody has it");
    let giver = theirs.up(giving);
    eventually(async || deploy_by_cid("second", 1).then_some(())).await;
    says(&server, "second", HELLO).await;
    let counted = server.metrics().await;

    // It is gone for good, and the reader starts again with nothing but its blocks.
    giver.kill();
    says(&server, "second", HELLO).await;
    assert!(server.stop().success());
    fs::remove_dir_all(home.data().join("artifacts")).unwrap();
    let server = up();
    for (name, expected) in [("first", HELLO), ("second", HELLO), ("pages", PAGE)] {
        says(&server, name, expected).await;
    }
    counted
}

fn value(counted: &str, name: &str) -> u32 {
    let line = counted.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in {counted}")).parse().unwrap()
}

impl Published {
    /// Blocks that the reader lacked: both components', which may share some, and the page.
    fn lacking(&self) -> RangeInclusive<u32> {
        let [first, second] = self.components.each_ref().map(|path| imported(path).1);
        first + 2..=first + second + 1
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_its_gateway() {
    let published = Published::new();
    let at = format!("127.0.0.1:{}", free_port());
    let source = |_: &Server| ["--source".to_owned(), format!("peer=http://{at}")];
    let giving = ["--gateway", "public", "--listen", &at];
    let counted = one_reads_and_goes_on_alone(&giving, source, &published).await;
    let value =
        |name: &str| value(&counted, &format!("af_source_{name}_total{{source=\"peer http://{at}\"}}"));
    assert!(published.lacking().contains(&value("blocks")), "{counted}");
    assert_eq!(value("lies"), 0);
    assert!(!counted.contains("bitswap"), "it is no peer");
}

#[cfg(feature = "bitswap")]
#[tokio::test(flavor = "multi_thread")]
async fn by_bitswap() {
    let published = Published::new();
    let at = format!("/ip4/127.0.0.1/tcp/{}", free_port());
    let giving = ["--bitswap-listen", &at, "--bitswap-serve", "anyone"];
    let source =
        |giver: &Server| ["--bitswap-peer".to_owned(), giver.said["bitswap"][0].as_str().unwrap().to_owned()];
    let counted = one_reads_and_goes_on_alone(&giving, source, &published).await;
    let value = |name: &str| value(&counted, &format!("af_bitswap_{name}"));
    let received = value("blocks_received_total");
    assert!(published.lacking().contains(&received), "{counted}");
    assert!(value("blocks_wanted_total") > received, "nobody had one of them at first: {counted}");
    assert!(value("received_bytes_total") > 0, "{counted}");
    assert_eq!((value("peers"), value("blocks_bad_total"), value("blocks_sent_total")), (1, 0, 0));
}
