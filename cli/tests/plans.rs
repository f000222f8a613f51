//! Plans from the command line: the operator makes and gives them, and who has one sees what counts.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use serde_json::{Value, json};
use support::{Home, ok, refused};

fn json(home: &Home, args: &[&str]) -> Value {
    serde_json::from_str(&ok(home.af().arg("--json").args(args))).unwrap()
}

#[test]
fn the_operator_gives_organizations_plans_and_they_see_what_counts() {
    let (home, other) = (Home::new(), Home::new());
    let server = home.up(&[]);
    let invited = json(&home, &["members", "invite", "--role", "viewer"]);
    json(&other, &["join", invited["code"].as_str().unwrap(), "--name", "new", "--api-url", &server.api]);
    assert!(ok(home.af().args(["admin", "plans", "list"])).contains("no plans yet"));

    let said = ok(home.af().args([
        "admin",
        "plans",
        "set",
        "small",
        "--functions",
        "1",
        "--storage-mb",
        "2",
        "--members",
        "5",
    ]));
    assert_eq!(said.trim(), "made small: members 5, functions 1, storage bytes 2097152", "{said}");
    let changed = json(&home, &["admin", "plans", "set", "small", "--members", "default", "--sites", "0"]);
    let limits = &changed["limits"];
    assert_eq!(
        (&limits["members"], &limits["sites"], &limits["functions"]),
        (&Value::Null, &json!(0), &json!(1))
    );
    let organization = json(&home, &["projects", "get"])["organizationId"].as_str().unwrap().to_owned();
    let said = ok(home.af().args(["admin", "plans", "assign", &organization, "small"]));
    assert!(said.contains("has the plan small now"), "{said}");
    let listed = ok(home.af().args(["admin", "plans", "list"]));
    let row = listed.lines().find(|line| line.contains("small")).unwrap();
    assert!(row.split_whitespace().any(|cell| cell == "1") && row.contains("functions 1"), "{listed}");
    assert!(ok(home.af().args(["orgs", "list"])).contains("small"));

    ok(home.af().args(["functions", "create", "-n", "first"]));
    let (code, why) = refused(home.af().args(["functions", "create", "-n", "second"]));
    assert!(
        code == 1 && why.contains("a project has at most 1 functions by the plan small, and this one has 1"),
        "{why}"
    );
    // A member of the project sees what counts there, and has nothing to do with plans.
    let shown = ok(other.af().args(["projects", "quotas"]));
    let row = shown.lines().find(|line| line.starts_with("functions ")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["functions", "project", "1", "1", "plan"], "{shown}");
    assert!(shown.starts_with("plan small\n"), "{shown}");
    for args in [
        ["admin", "plans", "list"].as_slice(),
        &["admin", "plans", "set", "mine"],
        &["orgs", "quotas", &organization],
    ] {
        let (code, why) = refused(other.af().args(args));
        assert!(code == 1 && why.contains("not_found"), "{args:?}: {code} {why}");
        assert!(args[0] != "admin" || why.contains("plans are for the platform's operator alone"), "{why}");
    }
    // The project's organization, where none is named.
    assert_eq!(json(&home, &["orgs", "quotas"]), json(&home, &["orgs", "quotas", &organization]));
    let shown = ok(home.af().args(["orgs", "quotas"]));
    let row = shown.lines().find(|line| line.starts_with("members ")).unwrap();
    assert_eq!(
        row.split_whitespace().collect::<Vec<_>>(),
        ["members", "organization", "2", "any", "server"],
        "{shown}"
    );

    let (_, why) = refused(home.af().args(["admin", "plans", "remove", "small"]));
    assert!(why.contains("plan_in_use"), "{why}");
    assert!(
        ok(home.af().args(["admin", "plans", "set", "small", "--rename", "free"]))
            .starts_with("changed free")
    );
    let said = ok(home.af().args(["admin", "plans", "unassign", &organization]));
    assert!(said.contains("has no plan now"), "{said}");
    ok(home.af().args(["functions", "create", "-n", "second"]));
    assert_eq!(ok(home.af().args(["admin", "plan", "remove", "free"])).trim(), "removed free");
}

#[test]
fn mistyped_plans_say_what_there_is() {
    let home = Home::new();
    let _server = home.up(&[]);
    ok(home.af().args(["admin", "plans", "set", "small"]));
    let organization = json(&home, &["orgs", "list"])[0]["id"].as_str().unwrap().to_owned();
    for (args, code, said) in [
        (
            ["admin", "plans", "assign", &organization, "smal"].as_slice(),
            1,
            "there is no plan smal; `af admin plans list`",
        ),
        (&["admin", "plans", "remove", "smal"], 1, "there is no plan smal"),
        (&["admin", "plans", "set", "smal", "--rename", "big"], 1, "there is no plan smal"),
        (&["admin", "plans", "set", "small"], 1, "nothing to change"),
        (&["admin", "plans", "set", "a plan"], 1, "1 to 64 letters"),
        (&["admin", "plans", "assign", "org_none", "small"], 1, "there is no organization"),
        (&["admin", "plans", "unassign", "org_none"], 1, "there is no organization"),
        (&["admin", "plans", "assign", &organization], 2, "<NAME>"),
        (&["admin", "plans", "set", "small", "--sites"], 2, "a value is required for '--sites <N>'"),
        (
            &["admin", "plans", "set", "small", "--storage-mb", "1GB"],
            2,
            "give a whole number from 0 to 1073741824; or default",
        ),
        (
            &["admin", "plans", "set", "small", "--requests-per-minute", "0"],
            2,
            "from 1 to 60000000; or default",
        ),
    ] {
        let (found, why) = refused(home.af().args(args));
        assert!(found == code && why.contains(said), "{args:?}: {found} {why}");
    }
}
