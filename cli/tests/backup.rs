//! A backup while the server works, and a second machine that answers the same.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use reqwest::Method;
use serde_json::Value;
use support::{Home, Server, deploy, guest, http, ok, refused};

const PASSPHRASE: &str = "correct horse battery staple";

fn admin(home: &Home, action: &str, file: &Path, options: &[&str]) -> Command {
    let mut af = home.af();
    af.args(["--json", "admin", action]).arg(file).arg("--data-dir").arg(home.data()).args(options);
    af
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_second_machine_answers_the_same() {
    let (home, second) = (Home::new(), Home::new());
    let dir = tempfile::tempdir().unwrap();
    let (sealed, open) = (dir.path().join("sealed"), dir.path().join("open"));
    let server = home.up(&[]);
    ok(home
        .af()
        .args(["functions", "deploy", "--create", "-n", "hello", "-e", "NAME=kept", "-p"])
        .arg(guest("hello-rust")));
    let answer = server.get("hello", "/").await.text().await.unwrap();

    let (_, why) = refused(&mut admin(&home, "backup", &sealed, &["--with-key"]));
    assert!(why.contains("AF_BACKUP_PASSPHRASE") && !sealed.exists(), "{why}");
    let made = ok(admin(&home, "backup", &sealed, &["--with-key"]).env("AF_BACKUP_PASSPHRASE", PASSPHRASE));
    let made: Value = serde_json::from_str(&made).unwrap();
    assert!(made["rows"].as_u64().unwrap() > 5 && made["withKey"] == true, "{made}");
    let warned = ok(home.af().args(["admin", "backup"]).arg(&open).arg("--data-dir").arg(home.data()));
    assert!(warned.contains("warning: the master key is not in it"), "{warned}");
    assert_eq!(made["entries"], 0);
    let (_, why) = refused(&mut admin(&home, "backup", &open, &[]));
    assert!(why.contains("is there already; choose another name, or add --replace"), "{why}");
    ok(&mut admin(&home, "backup", &open, &["--replace"]));
    let mode = fs::metadata(home.data().join("af.sqlite")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (_, why) = refused(&mut admin(&home, "restore", &open, &[]));
    assert!(why.contains("another `af up` uses"), "{why}");
    let token = server.token();
    assert!(server.stop().success());
    let (_, why) = refused(&mut admin(&home, "restore", &open, &[]));
    assert!(why.contains("not empty"), "{why}");

    // What lacks its end, or has another byte in its midst.
    let whole = fs::read(&open).unwrap();
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    for damaged in [&whole[..whole.len() - 9], &changed] {
        let (third, file) = (Home::new(), dir.path().join("damaged"));
        fs::write(&file, damaged).unwrap();
        let (_, why) = refused(&mut admin(&third, "restore", &file, &[]));
        assert!(why.contains(&file.display().to_string()) && why.contains("damaged"), "{why}");
    }

    let (_, why) = refused(&mut admin(&second, "restore", &sealed, &[]));
    assert!(why.contains("AF_BACKUP_PASSPHRASE"), "{why}");
    let (_, why) =
        refused(admin(&second, "restore", &sealed, &[]).env("AF_BACKUP_PASSPHRASE", "another passphrase"));
    assert!(why.contains("the passphrase is another one"), "{why}");
    ok(admin(&second, "restore", &sealed, &[]).env("AF_BACKUP_PASSPHRASE", PASSPHRASE));
    assert_eq!(
        fs::read(home.data().join("master.key")).unwrap(),
        fs::read(second.data().join("master.key")).unwrap()
    );
    copy(&home.data().join("blocks"), &second.data().join("blocks"));
    let server = second.up(&[]);
    assert_eq!(server.get("hello", "/").await.text().await.unwrap(), answer);
    let mut af = second.af();
    af.env("AF_TOKEN", token).env("AF_API_URL", &server.api).args(["functions", "list"]);
    assert!(ok(&mut af).contains("hello"));
}

async fn call(server: &Server, method: Method, key: &str, body: &str) -> String {
    let url = format!("http://127.0.0.1:{}{key}", server.port);
    let request = http().request(method, url).header("host", server.host("shop")).body(body.to_owned());
    request.send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn what_functions_keep_is_in_a_backup_that_is_made_while_they_write() {
    let [home, second, third, older] = [(); 4].map(|()| Home::new());
    let dir = tempfile::tempdir().unwrap();
    let [file, stopped, newer] = ["file", "stopped", "newer"].map(|name| dir.path().join(name));
    let server = home.up(&["--cpu-limit-ms", "1000"]);
    deploy(&home, "shop", "keyvalue", &[]);
    assert_eq!(call(&server, Method::PUT, "/name", "Ada").await, "done\n");
    assert_eq!(call(&server, Method::POST, "/count", "").await, "1\n");
    let mut backup = admin(&home, "backup", &file, &["--with-key"]);
    backup.env("AF_BACKUP_PASSPHRASE", PASSPHRASE);
    let mut making = tokio::task::spawn_blocking(move || ok(&mut backup));
    let made = loop {
        tokio::select! {
            made = &mut making => break made.unwrap(),
            _number = call(&server, Method::POST, "/count", "") => {}
        }
    };
    assert!(made.contains(r#""entries": 2"#), "{made}");
    let mode =
        |home: &Home, name: &str| fs::metadata(home.data().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&home, "keyvalue.redb"), mode(&home, "keyvalue.sock")), (0o600, 0o600));
    let count: u64 = call(&server, Method::POST, "/count", "").await.trim().parse().unwrap();
    assert!(!home.logged().contains("was not handed out"));

    // Of a server that answers nobody any more.
    assert!(server.stop().success());
    assert!(!home.data().join("keyvalue.sock").exists());
    let lock = fs::File::open(home.data().join("lock")).unwrap();
    lock.lock().unwrap();
    let (_, why) = refused(&mut admin(&home, "backup", &stopped, &[]));
    assert!(why.contains("does not hand out what functions keep"), "{why}");
    assert!(fs::read_dir(dir.path()).unwrap().count() == 1, "nothing is left of it");
    drop(lock);
    ok(admin(&home, "backup", &stopped, &["--with-key"]).env("AF_BACKUP_PASSPHRASE", PASSPHRASE));

    for (to, from, least) in [(&second, &file, 1), (&third, &stopped, count)] {
        let restored = ok(admin(to, "restore", from, &[]).env("AF_BACKUP_PASSPHRASE", PASSPHRASE));
        assert!(restored.contains(r#""entries": 2"#), "{restored}");
        assert_eq!(mode(to, "keyvalue.redb"), 0o600);
        copy(&home.data().join("blocks"), &to.data().join("blocks"));
        let server = to.up(&["--cpu-limit-ms", "1000"]);
        assert_eq!(call(&server, Method::GET, "/name", "").await, "Ada");
        let kept: u64 = call(&server, Method::POST, "/count", "").await.trim().parse().unwrap();
        assert!((least + 1..=count + 1).contains(&kept), "{kept} of {count}");
        assert!(server.stop().success());
    }

    // A part that a program does not know is refused, one that an older program did not write is not missed, and entries that
    // are there are not lost.
    let plain = String::from_utf8(zstd::decode_all(fs::File::open(&stopped).unwrap()).unwrap()).unwrap();
    let write = |text: &str| fs::write(&newer, zstd::encode_all(text.as_bytes(), 0).unwrap()).unwrap();
    let restore = |home: &Home| {
        let mut af = admin(home, "restore", &newer, &[]);
        af.env("AF_BACKUP_PASSPHRASE", PASSPHRASE);
        af
    };
    write(&plain.replacen("\"af_backup\":2", "\"af_backup\":3", 1));
    let (_, why) = refused(&mut restore(&older));
    assert!(why.contains("has the form 3, which this program does not know"), "{why}");
    write(&plain);
    let there = older.data().join("keyvalue.redb");
    fs::write(&there, "something").unwrap();
    let (_, why) = refused(&mut restore(&older));
    assert!(why.contains("is there already") && why.contains("keyvalue.redb"), "{why}");
    assert_eq!(fs::read(&there).unwrap(), b"something");
    let end = plain.find("{\"end_after_rows\"").unwrap();
    let end = end + plain[end..].find('\n').unwrap() + 1;
    for damaged in [&plain[..end], &plain[..plain.len() - 1], &format!("{plain}more")] {
        write(damaged);
        fs::remove_file(&there).unwrap_or_default();
        let (_, why) = refused(&mut restore(&older));
        assert!(why.contains("is damaged, and nothing of it was restored"), "{why}");
        assert!(!there.exists() && !older.data().join("keyvalue.redb.partial").exists());
    }
    write(&plain[..end].replacen("\"af_backup\":2", "\"af_backup\":1", 1));
    assert!(ok(&mut restore(&older)).contains(r#""entries": null"#));
}

#[test]
fn what_is_no_backup_is_refused() {
    let home = Home::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let (_, why) = refused(&mut admin(&home, "backup", &file, &[]));
    assert!(why.contains("there is no database"), "{why}");
    fs::write(&file, "no backup").unwrap();
    let name = file.display().to_string();
    for other in [&b"no backup"[..], b"", &zstd::encode_all(&b"{\"a\": 1}"[..], 0).unwrap()] {
        fs::write(&file, other).unwrap();
        let (_, why) = refused(&mut admin(&home, "restore", &file, &[]));
        assert!(why.contains(&format!("{name} is no backup that `af admin backup` has made")), "{why}");
    }
    assert!(!home.data().join("af.sqlite").exists());
}

/// A server that is made of a backup answers as the first one did.
async fn assert_answers(home: &Home, from: &Home, variables: &[(&str, &str)], answer: &str) {
    copy(&from.data().join("blocks"), &home.data().join("blocks"));
    let mut af = home.af();
    af.envs(variables.iter().copied());
    let server = home.up_as(af, &[]);
    assert_eq!(server.get("hello", "/environment").await.text().await.unwrap(), answer);
    assert!(server.stop().success());
}

#[tokio::test]
async fn a_backup_has_the_master_key_wherever_it_comes_from_also_while_it_is_rotated() {
    let [home, filed, given, rotating] = [(); 4].map(|()| Home::new());
    let dir = tempfile::tempdir().unwrap();
    let [first, second, third] = ["first", "second", "third"].map(|name| dir.path().join(name));
    let (key, other) = ("11".repeat(32), "22".repeat(32));
    let (key, other) = (("AF_MASTER_KEY", key.as_str()), ("AF_MASTER_KEY", other.as_str()));
    let mut af = home.af();
    af.env(key.0, key.1);
    let server = home.up_as(af, &[]);
    deploy(&home, "hello", "hostile", &["--env", "NAME=kept"]);
    let answer = server.get("hello", "/environment").await.text().await.unwrap();
    assert!(answer.contains("kept"), "{answer}");
    let run = |home: &Home, action: &str, file: &Path, key: Option<(&str, &str)>| {
        let with_key: &[&str] = if action == "backup" { &["--with-key"] } else { &[] };
        let mut af = admin(home, action, file, with_key);
        af.env("AF_BACKUP_PASSPHRASE", PASSPHRASE).envs(key);
        af
    };
    let (_, why) = refused(&mut run(&home, "backup", &first, None));
    assert!(why.contains("cannot put the master key in"), "{why}");
    let (_, why) = refused(&mut run(&home, "backup", &first, Some(other)));
    assert!(why.contains("not the one that the database was sealed with") && !first.exists(), "{why}");
    ok(&mut run(&home, "backup", &first, Some(key)));
    assert!(server.stop().success());

    // A server that gets its key from elsewhere has to get this one; one that does not has it in a file.
    let (_, why) = refused(&mut run(&given, "restore", &first, Some(other)));
    assert!(why.contains("another than the one that was given"), "{why}");
    assert!(ok(&mut run(&given, "restore", &first, Some(key))).contains(r#""masterKey": true"#));
    let file = given.data().join("master.key");
    assert!(!file.exists());
    assert_answers(&given, &home, &[key], &answer).await;
    assert!(!file.exists());
    ok(&mut run(&filed, "restore", &first, None));
    let file = filed.data().join("master.key");
    assert_eq!(fs::read(&file).unwrap(), [0x11; 32]);
    assert_answers(&filed, &home, &[], &answer).await;

    // As a rotation begins; whoever gets both keys ends it.
    fs::write(filed.data().join("master.key.next"), [0x33; 32]).unwrap();
    ok(&mut run(&filed, "backup", &second, None));
    ok(&mut run(&rotating, "restore", &second, None));
    let [file, next] = ["master.key", "master.key.next"].map(|name| rotating.data().join(name));
    assert_eq!((fs::read(&file).unwrap(), fs::read(&next).unwrap()), (vec![0x11; 32], vec![0x33; 32]));
    assert_answers(&rotating, &home, &[], &answer).await;
    assert!(!next.exists() && fs::read(&file).unwrap() == [0x33; 32]);
    ok(rotating.af().args(["admin", "rotate-master-key", "--data-dir"]).arg(rotating.data()));
    ok(&mut run(&rotating, "backup", &third, None));
    let last = Home::new();
    ok(&mut run(&last, "restore", &third, None));
    assert_eq!(fs::read(&file).unwrap(), fs::read(last.data().join("master.key")).unwrap());
    assert_answers(&last, &home, &[], &answer).await;
}
