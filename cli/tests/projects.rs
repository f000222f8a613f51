//! Projects from the command line, and what options say to values that are none.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use serde_json::{Value, json};
use support::{Home, ok, refused};

fn json(home: &Home, args: &[&str]) -> Value {
    serde_json::from_str(&ok(home.af().arg("--json").args(args))).unwrap()
}

#[test]
fn a_project_is_listed_shown_and_changed() {
    let home = Home::new();
    let _server = home.up(&[]);
    let listed = json(&home, &["projects", "list"]);
    let id = listed[0]["id"].as_str().unwrap();
    assert!(ok(home.af().args(["project", "list"])).contains(id));
    // The one that one works in, or any by its id.
    assert_eq!(json(&home, &["projects", "get"]), json(&home, &["projects", "get", id]));
    assert_eq!(json(&home, &["projects", "get"])["id"], id);

    let said = ok(home.af().args([
        "projects",
        "update",
        "--name",
        "Shop front",
        "--keep",
        "5",
        "--keep-for",
        "30d",
    ]));
    assert!(said.contains(id) && said.contains("Shop front"), "{said}");
    let shown = ok(home.af().args(["projects", "get", id]));
    for part in ["Shop front", "the newest 5 deployments", "younger than 30days"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    json(&home, &["projects", "update", id, "--keep", "default"]);
    let shown = json(&home, &["projects", "get"]);
    assert_eq!((&shown["keep"], &shown["keepForSeconds"]), (&Value::Null, &json!(30 * 86_400)));
    ok(home.af().args(["projects", "update", "--keep-for", "default"]));
    assert_eq!(json(&home, &["projects", "get"])["keepForSeconds"], Value::Null);

    let quotas = ok(home.af().args(["projects", "quotas"]));
    assert!(quotas.starts_with("no plan") && quotas.contains("function deployments"), "{quotas}");
    assert_eq!(json(&home, &["projects", "quotas", id])["quotas"][0]["name"], "functions");
}

#[test]
fn what_cannot_be_done_to_a_project_says_what_can() {
    let home = Home::new();
    let _server = home.up(&[]);
    for (args, code, said) in [
        (["projects", "get", "prj_none"].as_slice(), 1, "there is no project \"prj_none\" that you can see"),
        (&["projects", "quotas", "prj_none"], 1, "there is no project"),
        (&["projects", "update"], 1, "nothing to change; give --name, --keep or --keep-for"),
        (&["projects", "update", "--name", " "], 1, "1 to 60 characters"),
        (&["projects", "update", "--name"], 2, "a value is required for '--name <NAME>'"),
        (&["projects", "update", "--keep"], 2, "a value is required for '--keep <N>'"),
        (&["projects", "updat", "--keep", "5"], 2, "unrecognized subcommand 'updat'"),
        (&["projects", "update", "--keeep", "5"], 2, "unexpected argument '--keeep'"),
        (&["projects", "update", "--keep", "lots"], 2, "give a whole number from 1 to 1000; or default"),
        (&["projects", "update", "--keep", "0"], 2, "give a whole number from 1 to 1000; or default"),
        (&["projects", "update", "--keep-for", "long"], 2, "such as 90s, 15m, 24h or 30d; or default"),
        (
            &["functions", "update", "-n", "a", "--keep", "defualt"],
            2,
            "give a whole number from 1 to 1000; or default",
        ),
    ] {
        let (found, why) = refused(home.af().args(args));
        assert!(found == code && why.contains(said), "{args:?}: {found} {why}");
    }
}

/// None of them asks a server, or starts one.
#[test]
fn a_value_that_is_none_is_told_what_it_has_to_be() {
    let home = Home::new();
    for (args, said) in [
        (["up", "--instances", "many"].as_slice(), "give a whole number from 1 to 10000"),
        (&["up", "--instances", "10001"], "give a whole number from 1 to 10000"),
        (&["up", "--storage-limit-mb", "1GB"], "give a whole number from 1 to 1073741824"),
        (&["up", "--cpu-limit-ms", "1s"], "give a whole number from 1 to 600000"),
        (&["up", "--api-rate-limit", "0"], "give a whole number from 1 to 1000000"),
        (&["up", "--max-functions-per-project", "all"], "give a whole number from 0 to 4294967295"),
        (&["up", "--gc-grace", "60"], "give a time with its unit, such as 90s"),
        (
            &["up", "--tls-listen", "127.0.0.1:0", "--https-port", "https"],
            "give a whole number from 1 to 65535",
        ),
        (&["functions", "rollout", "a", "1", "--percent", "101"], "give a whole number of percent, 0 to 100"),
        (
            &["functions", "rollout", "a", "1", "--percent", "half"],
            "give a whole number of percent, 0 to 100",
        ),
        (&["functions", "prune", "a", "--keep", "0"], "give a whole number from 1 to"),
        (&["functions", "deploy", "-n", "a", "--reuse", "x"], "give a whole number from 1 to 10000"),
        (&["pat", "create", "-n", "a", "--expires", "never"], "give a time with its unit"),
        (&["audit", "--limit", "all"], "give a whole number from 1 to"),
        (&["fetch", "--max-mb", "much"], "give a whole number from 1 to 1048576"),
        (
            &["admin", "plans", "set", "a", "--sites", "none"],
            "give a whole number from 0 to 1000000000; or default",
        ),
    ] {
        let (code, why) = refused(home.af().args(args));
        assert!(
            code == 2 && why.contains(said) && why.contains(args[args.len() - 1]),
            "{args:?}: {code} {why}"
        );
    }
}
