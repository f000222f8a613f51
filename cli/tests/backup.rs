//! A backup while the server works, and a second machine that answers the same.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{Home, guest, ok, refused};

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
    let (_, why) = refused(&mut admin(&home, "restore", &open, &[]));
    assert!(why.contains("another `af up` uses"), "{why}");
    let token = server.token();
    assert!(server.stop().success());
    let (_, why) = refused(&mut admin(&home, "restore", &open, &[]));
    assert!(why.contains("not empty"), "{why}");

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
    refused(&mut admin(&home, "restore", &file, &[]));
    assert!(!home.data().join("af.sqlite").exists());
}
