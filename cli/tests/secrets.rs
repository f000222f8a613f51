//! Settings, secrets and the master key, as people use them: typed, imported, inherited, rolled back, rotated, and nowhere to be
//! read.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::{Home, Server, deploy, eventually, ok, refused};

const SECRET: &str = "correct horse battery staple";

/// Runs a command with something on its standard input.
fn piped(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What it printed, after it succeeded; the secret is in none of it.
fn said(output: Output) -> String {
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !text.contains(SECRET), "{text}");
    text
}

async fn told(server: &Server, slug: &str) -> String {
    server.get(slug, "/environment").await.text().await.unwrap()
}

#[tokio::test]
async fn what_is_set_reaches_functions_and_nobody_else() {
    let home = Home::new();
    let mut af = home.af();
    af.env("AF_LOG", "trace");
    let server = home.up_as(af, &[]);
    deploy(&home, "one", "hostile", &["-m", "the first one", "--source-hash", "0abc"]);
    deploy(&home, "two", "hostile", &[]);
    let text = said(piped(home.af().args(["secrets", "set", "KEY", "-n", "one"]), &format!("{SECRET}\n")));
    assert!(text.contains("changed KEY\none runs deployment 2 with it"), "{text}");
    assert_eq!(told(&server, "one").await, format!("[(\"KEY\", \"{SECRET}\")]"));

    let text = said(home.af().args(["env", "set", "MODE=fast", "LEVEL=2", "-m", "faster"]).output().unwrap());
    assert!(text.contains("one runs deployment 3") && text.contains("two runs deployment 2"), "{text}");
    assert_eq!(told(&server, "two").await, r#"[("LEVEL", "2"), ("MODE", "fast")]"#);
    let file = "# all of them\nexport TOKEN='a b'\nKEY=\"replaced\"\n";
    said(piped(home.af().args(["secrets", "import", "-", "-n", "one"]), file));
    let all = r#"[("KEY", "replaced"), ("LEVEL", "2"), ("MODE", "fast"), ("TOKEN", "a b")]"#;
    assert_eq!(told(&server, "one").await, all);
    let text = said(home.af().args(["functions", "rollback", "-n", "one"]).output().unwrap());
    assert!(text.contains("runs deployment 3"), "{text}");
    let before = format!(r#"[("KEY", "{SECRET}"), ("LEVEL", "2"), ("MODE", "fast")]"#);
    assert_eq!(told(&server, "one").await, before, "with the old value");

    let text = said(home.af().args(["secrets", "list", "-n", "one"]).output().unwrap());
    assert!(text.contains("KEY") && text.contains("function") && text.contains("owner"), "{text}");
    let text = said(home.af().args(["env", "list", "-n", "one"]).output().unwrap());
    assert!(text.contains("fast") && text.contains("project") && !text.contains("KEY"), "{text}");
    let text = said(home.af().args(["functions", "deployments", "-n", "one"]).output().unwrap());
    for message in ["the first one", "0abc", "secret KEY set", "faster", "secrets KEY, TOKEN set"] {
        assert!(text.contains(message), "{message}: {text}");
    }
    let text = said(home.af().args(["functions", "get", "-n", "one"]).output().unwrap());
    for told in ["by owner", "faster", "0abc", "the public internet", "wasi:cli/environment"] {
        assert!(text.contains(told), "{told}: {text}");
    }
    let text = said(home.af().args(["env", "set", "KEY=again", "-n", "one"]).output().unwrap());
    assert!(text.contains("changed KEY\nKEY is a secret and stays one"), "{text}");
    let text = said(home.af().args(["env", "unset", "LEVEL"]).output().unwrap());
    assert!(!text.contains("stays one"), "{text}");
    assert_eq!(told(&server, "two").await, r#"[("MODE", "fast")]"#);

    for (args, input, reason) in [
        (&["secrets", "set", "KEY=value"][..], "", "shell's history"),
        (&["secrets", "set", "ONE", "TWO"], "value", "one name only"),
        (&["secrets", "set", "KEY"], "", "no value"),
        (&["secrets", "unset", "NONE"], "", "no secret"),
        (&["secrets", "import", "-"], "A=1\nKEY=correct horse battery staple\n", "line 2 of standard input"),
        (&["secrets", "import", "-"], "# none\n", "standard input has no secrets"),
        (&["env", "set", "1KEY=x"], "", "not a setting's name"),
    ] {
        let output = piped(home.af().args(args), input);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(reason) && !text.contains(SECRET), "{text}");
    }
    server.kill();
    let found = Command::new("grep").args(["-rl", SECRET]).arg(home.data()).output().unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "", "no file has it");
    let log = home.logged();
    assert!(log.len() > 10_000 && !log.contains(SECRET), "nor has the log, which tells everything");
}

/// Projects with a key each, many more than are sealed anew in one step.
async fn fill(server: &Server) {
    let http = support::http();
    for number in 0..450 {
        let post = http.post(format!("{}/v1/projects", server.api)).bearer_auth(server.token());
        let made = post.json(&serde_json::json!({ "name": format!("p{number}") })).send().await.unwrap();
        let made: Value = made.json().await.unwrap();
        let url = format!("{}/v1/projects/{}/secrets", server.api, made["id"].as_str().unwrap());
        let change = http.patch(url).bearer_auth(server.token());
        let change = change.json(&serde_json::json!({ "values": { "KEY": "value" } })).send().await.unwrap();
        assert_eq!(change.status(), 200);
    }
}

#[tokio::test]
async fn the_master_key_is_rotated_under_a_server_and_survives_a_kill() {
    let home = Home::new();
    let server = home.up(&["--api-rate-limit", "10000"]);
    deploy(&home, "one", "hostile", &["--env", "KEY=value"]);
    fill(&server).await;
    let [key, next] = ["master.key", "master.key.next"].map(|name| home.data().join(name));
    let old = std::fs::read(&key).unwrap();
    let rotate = || {
        let mut command = home.af();
        command.args(["--json", "admin", "rotate-master-key", "--data-dir"]).arg(home.data());
        command
    };
    let mut rotating = rotate().stdout(Stdio::null()).spawn().unwrap();
    // From here on it is at work; how far it gets before it ends is nobody's business.
    eventually(async || (next.exists() || std::fs::read(&key).unwrap() != old).then_some(())).await;
    rotating.kill().unwrap();
    rotating.wait().unwrap();
    ok(home.af().args(["env", "set", "MORE=while it is cut off", "-n", "one"]));
    assert_eq!(told(&server, "one").await, r#"[("KEY", "value"), ("MORE", "while it is cut off")]"#);
    server.kill();

    let server = home.up(&["--api-rate-limit", "10000"]);
    assert!(!next.exists() && std::fs::read(&key).unwrap() != old, "the start has ended it");
    assert_eq!(told(&server, "one").await, r#"[("KEY", "value"), ("MORE", "while it is cut off")]"#);
    let done: Value = serde_json::from_str(&ok(&mut rotate())).unwrap();
    assert_eq!(done["sealed"], 451, "all of them can be opened");
    ok(home.af().args(["env", "set", "MORE=after it", "-n", "one"]));
    assert_eq!(told(&server, "one").await, r#"[("KEY", "value"), ("MORE", "after it")]"#);
    server.kill();
    std::fs::write(&key, old).unwrap();
    let (code, text) = refused(
        home.af()
            .args(["up", "--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--data-dir"])
            .arg(home.data()),
    );
    assert!(code == 1 && text.contains("is missing or is not the one"), "{text}");
}

#[tokio::test]
async fn the_master_key_may_be_in_the_environment() {
    let home = Home::new();
    let up = |variables: &[(&str, &str)]| {
        let mut af = home.af();
        af.envs(variables.iter().copied());
        home.up_as(af, &[])
    };
    let (first, second) = ("11".repeat(32), "22".repeat(32));
    let server = up(&[("AF_MASTER_KEY", &first)]);
    assert!(!home.data().join("master.key").exists());
    deploy(&home, "one", "hostile", &["--env", "KEY=value"]);
    server.kill();
    let both = [("AF_MASTER_KEY", second.as_str()), ("AF_MASTER_KEY_PREVIOUS", first.as_str())];
    let server = up(&both);
    assert_eq!(told(&server, "one").await, r#"[("KEY", "value")]"#);
    let text = ok(home.af().envs(both).args(["admin", "rotate-master-key", "--data-dir"]).arg(home.data()));
    assert!(text.contains("1 keys are sealed"), "{text}");
    server.kill();
    let server = up(&[("AF_MASTER_KEY", &second)]);
    assert_eq!(told(&server, "one").await, r#"[("KEY", "value")]"#);
    for (variable, value, options, reason) in [
        ("AF_MASTER_KEY", "short", &[][..], "64 hex digits"),
        ("AF_MASTER_KEY", first.as_str(), &["--master-key-file", "key"], "not from both"),
        (
            "AF_LOG",
            "info",
            &["--infisical-url", "http://127.0.0.1:1", "--infisical-project", "p"],
            "INFISICAL_",
        ),
    ] {
        let mut command = home.af();
        command.env(variable, value).args(["admin", "rotate-master-key", "--data-dir"]).arg(home.data());
        let (_, text) = refused(command.args(options));
        assert!(text.contains(reason) && !text.contains(value), "{text}");
    }
}
