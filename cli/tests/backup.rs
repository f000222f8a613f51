//! A backup while the server works, and a second machine that answers the same.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{Home, deploy, guest, ok, refused};

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
    let entries = home.data().join("keyvalue.redb");
    assert!(warned.contains(&format!("are not in it. They are in {}", entries.display())), "{warned}");
    assert_eq!(made["keyValueFile"], entries.to_str().unwrap());
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
