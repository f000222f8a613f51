//! Functions have the files that they were deployed with, and no others.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Home, Server, guest, http, ok, refused};

/// A folder for `--assets`.
struct Folder(tempfile::TempDir);

impl Folder {
    /// Of small and large files, and directories in directories.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("small.txt", b"a small file\n");
        folder.write("empty", b"");
        folder.write("with space and é.txt", b"named\n");
        folder.write("large.bin", &large());
        folder.write("nested/deep/er/page.html", b"<p>deep</p>");
        folder.write("nested/index.html", b"<p>index</p>");
        folder
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Three and a half blocks, no two alike.
fn large() -> Vec<u8> {
    (0..3_500_000_u32).map(|n| (n ^ n >> 8 ^ n >> 16).to_le_bytes()[0]).collect()
}

fn deploy(home: &Home, name: &str, file: &str, folder: Option<&Folder>) -> Value {
    let mut command = home.af();
    command.args(["--json", "functions", "deploy", "--create", "-n", name, "-p"]).arg(guest(file));
    if let Some(folder) = folder {
        command.arg("--assets").arg(folder.0.path());
    }
    serde_json::from_str(&ok(&mut command)).unwrap()
}

async fn bytes(server: &Server, slug: &str, path: &str) -> (u16, Vec<u8>) {
    let answer = server.get(slug, path).await;
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

async fn text(server: &Server, slug: &str, path: &str) -> String {
    String::from_utf8(bytes(server, slug, path).await.1).unwrap()
}

#[tokio::test]
async fn a_deployed_folder_is_read_back_exactly() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "2000"]);
    let folder = Folder::new();
    for guest in ["files", "files-p3"] {
        deploy(&home, guest, guest, Some(&folder));
        // Twice: from the disk, then from memory.
        for _ in 0..2 {
            assert_eq!(
                bytes(&server, guest, "/small.txt").await,
                (200, b"a small file\n".to_vec()),
                "{guest}"
            );
            assert!(bytes(&server, guest, "/large.bin").await == (200, large()), "{guest}");
        }
        assert_eq!(bytes(&server, guest, "/empty").await, (200, Vec::new()));
        assert_eq!(text(&server, guest, "/nested/deep/er/page.html").await, "<p>deep</p>");
        assert_eq!(bytes(&server, guest, "/small.txt/more").await.0, 404);
        assert_eq!(bytes(&server, guest, "/none").await.0, 404);
    }
    let listed = "empty\nlarge.bin\nnested/\nsmall.txt\nwith space and é.txt\n";
    assert_eq!(text(&server, "files", "/").await, listed);
    assert_eq!(text(&server, "files-p3", "/").await, listed.replace('/', ""));
    assert_eq!(text(&server, "files", "/nested").await, "<p>index</p>");
    assert_eq!(text(&server, "files", "/nested/deep").await, "er/\n");
    assert_eq!(text(&server, "files", "/with%20space%20and%20%C3%A9.txt").await, "named\n");
}

#[tokio::test]
async fn a_part_of_a_file_is_that_part() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "2000"]);
    deploy(&home, "files", "files", Some(&Folder::new()));
    let large = large();
    let mebibyte = 1 << 20;
    for (from, to) in [
        (0, 0),
        (5, 1000),
        (mebibyte - 1, mebibyte),
        (mebibyte, 2 * mebibyte - 1),
        (mebibyte - 7, 3 * mebibyte + 7),
        (large.len() - 1, large.len() - 1),
    ] {
        let request = server.request("files", "/large.bin").header("range", format!("bytes={from}-{to}"));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 206, "{from}-{to}");
        assert!(answer.bytes().await.unwrap() == large[from..=to], "{from}-{to}");
    }
    let beyond = format!("bytes={}-", large.len());
    let answer = server.request("files", "/large.bin").header("range", beyond).send().await.unwrap();
    assert_eq!(answer.status(), 416);
}

#[tokio::test]
async fn a_directory_that_is_sharded_is_read_like_any_other() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "2000"]);
    let folder = Folder(tempfile::tempdir().unwrap());
    let name = |n: usize| format!("{n:05} of many files, so that their directory is a large node");
    for n in 0..3000 {
        folder.write(&format!("many/{}", name(n)), n.to_string().as_bytes());
    }
    for guest in ["files", "files-p3"] {
        deploy(&home, guest, guest, Some(&folder));
        let listed: String = (0..3000).map(|n| name(n) + "\n").collect();
        assert!(text(&server, guest, "/many").await == listed, "{guest}");
    }
    assert_eq!(text(&server, "files", &format!("/many/{}", name(1234).replace(' ', "%20"))).await, "1234");
    assert_eq!(bytes(&server, "files", "/many/03000").await.0, 404);
}

#[tokio::test]
async fn a_deployment_says_which_files_it_has_and_inherits_none() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "2000"]);
    let folder = Folder::new();
    for hidden in [".env", ".git/config", "nested/.htpasswd"] {
        folder.write(hidden, b"secret");
    }
    folder.write(".well-known/security.txt", b"public");
    let first = deploy(&home, "files", "files", Some(&folder));
    let cid = first["assets"]["cid"].as_str().unwrap();
    assert_eq!((&first["assets"]["files"], &first["assets"]["leftOut"]), (&7.into(), &3.into()));
    assert_eq!(first["deployment"]["assetsCid"], cid);
    let live: Value = server.get("files", "/.well-known/af-deployment").await.json().await.unwrap();
    assert_eq!(live["live"]["assets"], cid);
    assert_eq!(text(&server, "files", "/.well-known/security.txt").await, "public");
    for hidden in ["/.env", "/.git/config", "/nested/.htpasswd"] {
        assert_eq!(bytes(&server, "files", hidden).await.0, 404, "{hidden}");
    }

    let second = deploy(&home, "files", "files", None);
    assert_eq!(second["deployment"]["assetsCid"], Value::Null);
    assert_eq!(bytes(&server, "files", "/small.txt").await.0, 404, "nothing is inherited");
    ok(home.af().args(["functions", "rollback", "-n", "files"]));
    assert_eq!(text(&server, "files", "/small.txt").await, "a small file\n");
    let said = ok(home
        .af()
        .args(["functions", "deploy", "-n", "files", "-p"])
        .arg(guest("files"))
        .arg("--assets")
        .arg(folder.0.path()));
    assert!(
        said.contains("7 files") && said.contains("3 names that begin with a dot were left out"),
        "{said}"
    );
}

#[tokio::test]
async fn what_cannot_be_published_is_refused_by_its_path() {
    let home = Home::new();
    let _server = home.up(&[]);
    let folder = Folder::new();
    let link = folder.0.path().join("nested/passwd");
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    let deploying = |assets: &Path| {
        let mut command = home.af();
        command.args(["functions", "deploy", "--create", "-n", "files", "-p"]).arg(guest("files"));
        refused(command.arg("--assets").arg(assets)).1
    };
    let said = deploying(folder.0.path());
    assert!(said.contains(&format!("{} is a symbolic link", link.display())), "{said}");
    assert!(deploying(&folder.0.path().join("small.txt")).contains("is not a folder"));
    assert!(deploying(&folder.0.path().join("none")).contains("is not a folder"));
}

#[tokio::test]
async fn no_path_leads_out_of_the_files() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "2000"]);
    deploy(&home, "bad", "hostile", Some(&Folder::new()));
    for (path, expected) in [
        ("small.txt", "Some(Ok(13))"),
        ("nested/../small.txt", "Some(Ok(13))"),
        ("./nested//deep/../../small.txt", "Some(Ok(13))"),
        ("..", "not-permitted"),
        ("../small.txt", "not-permitted"),
        ("nested/../../small.txt", "not-permitted"),
        ("nested/../../../../../../etc/passwd", "not-permitted"),
        ("/etc/passwd", "not-permitted"),
        ("/small.txt", "not-permitted"),
        ("small.txt/", "not-directory"),
        ("small.txt/../small.txt", "not-directory"),
        ("none/../small.txt", "no-entry"),
        ("", "no-entry"),
        (".", "is-directory"),
        ("nested", "is-directory"),
    ] {
        let said = text(&server, "bad", &format!("/open?{path}")).await;
        assert!(said.contains(expected), "{path}: {said}");
    }
    let long = "x/../".repeat(1000);
    assert!(text(&server, "bad", &format!("/open?{long}small.txt")).await.contains("name-too-long"));
}

#[tokio::test]
async fn nothing_can_be_changed() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "2000"]);
    deploy(&home, "bad", "hostile", Some(&Folder::new()));
    let said = text(&server, "bad", "/change").await;
    assert!(said.starts_with("[] Err(") && said.contains("invalid"), "{said}");
}

#[tokio::test]
async fn a_function_sees_its_own_files_only() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "2000"]);
    let (mine, theirs) = (Folder(tempfile::tempdir().unwrap()), Folder(tempfile::tempdir().unwrap()));
    mine.write("name", b"mine");
    theirs.write("name", b"theirs");
    theirs.write("more", b"theirs");
    for guest in ["files", "files-p3"] {
        deploy(&home, "mine", guest, Some(&mine));
        deploy(&home, "theirs", guest, Some(&theirs));
        for _ in 0..3 {
            assert_eq!(text(&server, "mine", "/name").await, "mine");
            assert_eq!(text(&server, "theirs", "/name").await, "theirs");
            assert_eq!(bytes(&server, "mine", "/more").await.0, 404);
        }
    }
    deploy(&home, "bad", "hostile", None);
    assert_eq!(text(&server, "bad", "/open?name").await, "None\n", "without files there is no directory");
    assert!(text(&server, "bad", "/files").await.starts_with("Err("));
}

/// Files below the block store that hold these bytes.
fn stored(home: &Home, part: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for shard in fs::read_dir(home.data().join("blocks")).unwrap() {
        for block in fs::read_dir(shard.unwrap().path()).unwrap() {
            let path = block.unwrap().path();
            let bytes = if path.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            if bytes == part {
                found.push(path);
            }
        }
    }
    found
}

#[tokio::test]
async fn a_rotten_or_missing_block_is_never_served() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "2000"]);
    deploy(&home, "files", "files", Some(&Folder::new()));
    deploy(&home, "files-p3", "files-p3", Some(&Folder::new()));
    server.kill();
    let large = large();
    let [rotten] = stored(&home, &large[2 << 20..3 << 20]).try_into().unwrap();
    let mut bytes_of = fs::read(&rotten).unwrap();
    bytes_of[1000] ^= 1;
    fs::write(&rotten, bytes_of).unwrap();
    let [missing] = stored(&home, b"a small file\n").try_into().unwrap();
    fs::remove_file(&missing).unwrap();

    let server = home.up(&["--cpu-limit-ms", "2000"]);
    for slug in ["files", "files-p3"] {
        let answer = server.request(slug, "/large.bin").send().await.unwrap();
        let status = answer.status();
        let whole = answer.bytes().await;
        assert!(status != 200 || whole.is_err(), "{slug} must not look complete: {status}");
        let answer = server.request(slug, "/small.txt").send().await.unwrap();
        assert!(answer.status() != 200 || answer.bytes().await.is_err(), "{slug}");
        assert_eq!(
            text(&server, slug, "/nested/deep/er/page.html").await,
            "<p>deep</p>",
            "others still answer"
        );
    }
    let part = server.request("files", "/large.bin").header("range", "bytes=0-2000000").send().await.unwrap();
    assert!(part.bytes().await.unwrap() == large[..=2_000_000], "what is well is served");
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let logged = home.logged();
    for block in [&rotten, &missing] {
        assert!(logged.contains(&name(block)), "the log names {}", block.display());
    }
}

#[tokio::test]
async fn reading_is_paid_for() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "300", "--metrics-listen", "127.0.0.1:0"]);
    deploy(&home, "bad", "hostile", Some(&Folder::new()));
    for file in ["large.bin", "small.txt"] {
        let answer = server.get("bad", &format!("/reread?{file}")).await;
        assert_eq!(answer.status(), 503, "{file}");
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], "cpu_limit_exceeded");
    }
    assert_eq!(text(&server, "bad", "/impatient").await, "2000 true\n");
    assert_eq!(server.get("bad", "/").await.status(), 200);
    server.settled().await;
}

#[tokio::test]
async fn recovery_after_a_crash_keeps_files_that_are_deployed() {
    let home = Home::new();
    let server = home.up(&["--cpu-limit-ms", "2000"]);
    deploy(&home, "files", "files", Some(&Folder::new()));
    server.kill();
    // As an upload of the same files leaves it that was cut off before its deployment was committed.
    let staging = home.data().join("blocks/staging/upload-cut-off");
    fs::create_dir(&staging).unwrap();
    let mut listed = 0;
    for shard in fs::read_dir(home.data().join("blocks")).unwrap() {
        let shard = shard.unwrap().path();
        for block in fs::read_dir(&shard).unwrap().filter(|_| !shard.ends_with("staging")) {
            let block = block.unwrap().path();
            fs::copy(&block, staging.join(block.file_name().unwrap())).unwrap();
            listed += 1;
        }
    }
    assert!(listed > 10, "{listed}");
    let server = home.up(&["--cpu-limit-ms", "2000"]);
    assert!(!staging.exists());
    assert!(bytes(&server, "files", "/large.bin").await == (200, large()));
    assert_eq!(text(&server, "files", "/nested/deep/er/page.html").await, "<p>deep</p>");
    let health = http().get(format!("{}/health", server.api)).send().await.unwrap();
    assert_eq!(health.status(), 200);
}
