//! The control API's pages in a real browser: what they show, to whom they are of use, and what pages of others can do with them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;
#[path = "support/waiting.rs"]
mod waiting;

use std::process::Command;

use serde_json::{Value, json};
use support::{Home, fetched, ok, refused};
use waiting::Waiting;

/// What a browser saw in one of the steps of `pages.mjs`.
fn browse(step: &str, arguments: &[&str]) -> Option<Value> {
    let dir = fetched("browser/install", "a browser")?;
    // It finds packages beside it only.
    let work = tempfile::tempdir_in(&dir).unwrap();
    let script = work.path().join("pages.mjs");
    std::fs::write(&script, include_str!("support/browser/pages.mjs")).unwrap();
    let mut node = Command::new("node");
    node.arg(&script).arg(dir.join("browser")).arg(step).args(arguments);
    node.env("HOME", work.path()).env("TMPDIR", work.path()).env("XDG_CONFIG_HOME", work.path());
    Some(serde_json::from_str(&ok(&mut node)).unwrap())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn the_docs_show_every_operation_and_ask_nobody_else() {
    let home = Home::new();
    let server = home.up(&[]);
    let Some(saw) = browse("docs", &[&server.api]) else { return };
    assert!(saw["operations"].as_u64().unwrap() > 80, "{saw}");
    for nothing in ["missing", "found", "complaints"] {
        assert_eq!(saw[nothing], json!([]), "{nothing}");
    }
    for so in ["byKeyboard", "inView", "heard"] {
        assert_eq!(saw[so], true, "{so}");
    }
    assert!(text(&saw["withoutScript"]).contains("needs JavaScript"), "{saw}");
}

#[test]
fn a_browser_signs_a_terminal_in_and_pages_of_others_cannot() {
    let (home, elsewhere) = (Home::new(), Home::new());
    let server = home.up(&[]);
    let made = |name: &str, options: &[&str]| {
        let said = ok(home.af().args(["--json", "pat", "create", "-n", name]).args(options));
        text(&serde_json::from_str::<Value>(&said).unwrap()["token"]).to_owned()
    };
    let (narrow, others) = (made("narrow", &["--scope", "tokens:write"]), made("others", &[]));
    let mut waiting = Waiting::start(&elsewhere, &["--json", "login", "--browser", "--api-url", &server.api]);
    let shown = waiting.shown();
    let (url, code) = (text(&shown["verificationUrl"]), text(&shown["userCode"]));
    let Some(saw) = browse("login", &[url, &server.token(), &narrow, &others]) else { return };

    assert!(
        text(&saw["text"]).contains(code) && text(&saw["text"]).contains("as this browser does"),
        "{saw}"
    );
    for nothing in ["found", "complaints", "cookies"] {
        assert_eq!(saw[nothing], json!([]), "{nothing}");
    }
    let header = |name: &str| text(&saw["headers"][name]);
    assert!(header("content-security-policy").contains("frame-ancestors 'none'"));
    assert_eq!(
        (header("x-frame-options"), header("cache-control"), header("referrer-policy")),
        ("DENY", "no-store", "no-referrer")
    );
    for host in ["127.0.0.1", "a-game.localhost"] {
        let told = &saw["attacked"][host];
        assert_eq!(told["sent"], json!([403, 403, 403]), "{told}");
        assert_eq!(told["forms"], 0, "it is shown inside another page");
        assert_eq!(
            told["scripts"],
            json!({ "form": "opaque", "page": "refused", "me": "refused" }),
            "{told}"
        );
    }

    assert!(text(&saw["tries"]["none"]).contains("no token, or it has expired"), "{saw}");
    assert!(text(&saw["tries"]["narrow"]).contains("everything"), "{saw}");
    assert_eq!((&saw["kept"], &saw["focused"], &saw["stored"]), (&json!(""), &json!("token"), &json!(0)));
    assert_eq!((&saw["address"], &saw["showsToken"]), (&json!(url), &json!(false)));
    for over in ["used", "wrong"] {
        assert!(text(&saw[over]).contains("unknown, used or too old"), "{saw}");
    }

    waiting.signed_in();
    let who = |home: &Home| serde_json::from_str::<Value>(&ok(home.af().args(["--json", "whoami"]))).unwrap();
    assert_eq!(who(&elsewhere)["user"]["id"], who(&home)["user"]["id"]);
    // Whose token approved it, no page of others did.
    let tokens: Value = serde_json::from_str(&ok(home.af().args(["--json", "pat", "list"]))).unwrap();
    assert!(tokens.to_string().contains("af on"), "{tokens}");
    assert_eq!(refused(elsewhere.af().args(["login", "approve", code])).0, 1);
}
