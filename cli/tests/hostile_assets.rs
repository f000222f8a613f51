//! Uploads whose assets are not what they claim, or too much: each is refused with its own code, and nothing of
//! it stays.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::collections::BTreeSet;
use std::io;

use af_content::car::Block;
use af_content::unixfs::{self, Directory, Entry, FileSummary};
use af_contract::{Codec, ContentId, limits};
use bytes::Bytes;
use serde_json::Value;
use support::{Home, Server, car, guest, http, ok};

/// What a client sends. Begins with the component.
struct Upload {
    code: FileSummary,
    blocks: Vec<Block>,
    known: BTreeSet<ContentId>,
}

impl Upload {
    fn new() -> Self {
        let mut blocks = Vec::new();
        let component = std::fs::read(guest("hello-rust")).unwrap();
        let code = unixfs::import(&component[..], |block| {
            blocks.push(block);
            Ok(())
        });
        Self { code: code.unwrap(), known: blocks.iter().map(|block| block.id).collect(), blocks }
    }

    fn put(&mut self, block: Block) -> io::Result<()> {
        if self.known.insert(block.id) {
            self.blocks.push(block);
        }
        Ok(())
    }

    fn raw(&mut self, codec: Codec, bytes: &[u8]) -> ContentId {
        let id = af_content::identify(codec, bytes);
        self.put(Block { id, bytes: Bytes::copy_from_slice(bytes) }).unwrap();
        id
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Entry {
        let id = unixfs::import(bytes, |block| self.put(block)).unwrap().root;
        Entry { name: name.into(), id, size: bytes.len() as u64 }
    }

    fn directory(&mut self, name: &str, entries: &[Entry]) -> Entry {
        let (id, size) = Directory::write(entries, &mut |block| self.put(block)).unwrap();
        Entry { name: name.into(), id, size }
    }

    /// Status, code and sentence.
    async fn send(&self, server: &Server, function: &str, assets: &ContentId) -> (u16, String, String) {
        self.send_as(server, function, assets, &[self.code.root, *assets]).await
    }

    async fn send_as(
        &self,
        server: &Server,
        function: &str,
        assets: &ContentId,
        roots: &[ContentId],
    ) -> (u16, String, String) {
        let FileSummary { root, blake3, .. } = self.code;
        let url = format!(
            "{}/v1/functions/{function}/deployments?cid={root}&blake3={blake3}&assets={assets}",
            server.api
        );
        let request = http().post(url).bearer_auth(server.token()).body(car(roots, &self.blocks));
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let problem: Value = answer.json().await.unwrap();
        let field = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        (status, field("code"), field("detail"))
    }
}

fn function(home: &Home) -> String {
    let made = ok(home.af().args(["--json", "functions", "create", "-n", "target"]));
    serde_json::from_str::<Value>(&made).unwrap()["id"].as_str().unwrap().to_owned()
}

/// The blocks that a server has.
fn blocks(home: &Home) -> usize {
    let shards = std::fs::read_dir(home.data().join("blocks")).unwrap();
    shards.map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap().count()).sum()
}

#[tokio::test]
async fn assets_must_be_complete_and_nothing_else() {
    let home = Home::new();
    let server = home.up(&[]);
    let function = function(&home);
    let mut upload = Upload::new();
    let large = upload.file("large", &vec![7; 2_500_000]);
    let inner = upload.file("page.html", b"<p>hello</p>");
    let inner = upload.directory("inner", &[inner]);
    let root = upload.directory("", &[large, inner]).id;
    for index in 0..upload.blocks.len() {
        let block = upload.blocks.remove(index);
        let (status, code, said) = upload.send(&server, &function, &root).await;
        assert_eq!((status, code.as_str()), (422, "block_missing"), "{said}");
        assert!(said.contains(&block.id.to_string()), "{said}");
        upload.blocks.insert(index, block);
    }
    let extra = upload.raw(Codec::Raw, b"ballast");
    let (status, code, said) = upload.send(&server, &function, &root).await;
    assert_eq!((status, code.as_str()), (422, "block_unused"));
    assert!(said.contains(&extra.to_string()), "{said}");
    upload.blocks.pop();
    for roots in
        [vec![], vec![upload.code.root], vec![root, upload.code.root], vec![upload.code.root, root, root]]
    {
        let (status, code, said) = upload.send_as(&server, &function, &root, &roots).await;
        assert_eq!((status, code.as_str()), (422, "cid_mismatch"), "{said}");
    }
    assert_eq!(blocks(&home), 0, "nothing of it stays");
    assert_eq!(upload.send(&server, &function, &root).await.0, 201, "and the right one is accepted");
}

#[tokio::test]
async fn assets_of_another_project_cannot_be_claimed_by_their_cid() {
    let home = Home::new();
    let server = home.up(&[]);
    let function = function(&home);
    let mut theirs = Upload::new();
    let file = theirs.file("secret", b"theirs");
    let root = theirs.directory("", &[file]).id;
    assert_eq!(theirs.send(&server, &function, &root).await.0, 201);
    let (status, code, _) = Upload::new().send(&server, &function, &root).await;
    assert_eq!((status, code.as_str()), (422, "block_missing"), "who has them can send them");
}

#[tokio::test]
async fn assets_that_are_no_tree_of_files_are_refused() {
    let home = Home::new();
    let server = home.up(&[]);
    let function = function(&home);
    // UnixFS by hand: a symbolic link to ../../etc/passwd; a directory with an entry named "..".
    let link = b"\x0a\x14\x08\x04\x12\x10../../etc/passwd";
    let parent = |id: &ContentId| {
        let cid = id.to_cid().to_bytes();
        let mut node =
            vec![0x12, u8::try_from(cid.len()).unwrap() + 8, 0x0a, u8::try_from(cid.len()).unwrap()];
        node.extend(cid);
        node.extend(b"\x12\x02..\x18\x05\x0a\x02\x08\x01");
        node
    };

    let mut upload = Upload::new();
    let symlink = upload.raw(Codec::DagPb, link);
    let root = upload.directory("", &[Entry { name: "passwd".into(), id: symlink, size: 1 }]).id;
    let (status, code, said) = upload.send(&server, &function, &root).await;
    assert_eq!((status, code.as_str()), (422, "assets_symlink"), "{said}");

    let mut upload = Upload::new();
    let file = upload.file("", b"hello").id;
    let root = upload.raw(Codec::DagPb, &parent(&file));
    let (status, code, said) = upload.send(&server, &function, &root).await;
    assert_eq!((status, code.as_str()), (422, "assets_invalid"), "{said}");
    assert!(said.contains("an entry named \"..\""), "{said}");

    for (codec, bytes) in
        [(Codec::Raw, &b"a file"[..]), (Codec::DagPb, b"\xff\xff"), (Codec::DagCbor, b"\xa0")]
    {
        let mut upload = Upload::new();
        let root = upload.raw(codec, bytes);
        let (status, code, said) = upload.send(&server, &function, &root).await;
        assert_eq!((status, code.as_str()), (422, "assets_invalid"), "{said}");
    }

    let mut upload = Upload::new();
    let lie = Entry { size: 6, ..upload.file("name", b"hello") };
    let root = upload.directory("", &[lie]).id;
    let (status, code, said) = upload.send(&server, &function, &root).await;
    assert_eq!((status, code.as_str()), (422, "assets_invalid"), "{said}");
    assert_eq!(blocks(&home), 0, "nothing of it stays");
}

#[tokio::test]
async fn assets_over_a_limit_are_refused() {
    let home = Home::new();
    let server = home.up(&[]);
    let function = function(&home);

    let mut deep = Upload::new();
    let mut entry = deep.directory("a", &[]);
    for _ in 0..=limits::ASSETS_DEPTH {
        entry = deep.directory("a", &[entry]);
    }
    let (status, code, said) = deep.send(&server, &function, &entry.id).await;
    assert_eq!((status, code.as_str()), (422, "assets_too_deep"), "{said}");

    let mut many = Upload::new();
    let file = many.file("", b"x");
    let named = |n: usize| Entry { name: n.to_string(), ..file.clone() };
    let half: Vec<_> = (0..limits::ASSETS_ENTRIES / 2).map(named).collect();
    let half = many.directory("half", &half);
    let root = many.directory("", &[half.clone(), Entry { name: "other".into(), ..half }]).id;
    let (status, code, said) = many.send(&server, &function, &root).await;
    assert_eq!((status, code.as_str()), (422, "assets_too_many_entries"), "{said}");

    // Small to send, endless to unfold.
    let mut bomb = Upload::new();
    let mut entry = bomb.file("0", &vec![0; 1 << 20]);
    for _ in 0..20 {
        let entries: Vec<_> = (0..20).map(|n| Entry { name: n.to_string(), ..entry.clone() }).collect();
        entry = bomb.directory("", &entries);
    }
    let (status, code, said) = bomb.send(&server, &function, &entry.id).await;
    assert!(status == 422 || status == 413, "{status}");
    assert!(["assets_too_many_entries", "assets_too_large"].contains(&code.as_str()), "{said}");

    let mut large = Upload::new();
    let file = large.file("", &vec![0; 1 << 20]);
    let entries: Vec<_> = (0..101).map(|n| Entry { name: n.to_string(), ..file.clone() }).collect();
    let root = large.directory("", &entries).id;
    let (status, code, said) = large.send(&server, &function, &root).await;
    assert_eq!((status, code.as_str()), (413, "assets_too_large"), "{said}");
    assert_eq!(blocks(&home), 0, "nothing of it stays");
}
