//! Tokens, keys, organizations and members, from the command line.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use serde_json::Value;
use support::{Home, ok, refused};

fn json(home: &Home, args: &[&str]) -> Value {
    serde_json::from_str(&ok(home.af().arg("--json").args(args))).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn a_token_does_what_it_is_for_until_it_is_deleted() {
    let home = Home::new();
    let _server = home.up(&[]);
    ok(home.af().args(["functions", "create", "-n", "hello"]));
    let made = json(
        &home,
        &["pat", "create", "-n", "reader", "--scope", "functions:read,projects:read", "--expires", "90d"],
    );
    assert_eq!(text(&made["scopes"]), "functions:read projects:read");
    let token = text(&made["token"]).to_owned();
    let with = |token: &str, args: &[&str]| {
        let mut af = home.af();
        af.env("AF_TOKEN", token).args(args);
        af
    };
    assert!(ok(&mut with(&token, &["functions", "list"])).contains("hello"));
    let (code, why) = refused(&mut with(&token, &["functions", "delete", "-n", "hello"]));
    assert!(code == 1 && why.contains("functions:write"), "{why}");
    let listed = ok(home.af().args(["pat", "list"]));
    assert!(listed.contains("reader") && !listed.contains(&token), "{listed}");

    let rotated = json(&home, &["pat", "rotate", "reader", "--overlap", "1h"]);
    for token in [&token, text(&rotated["token"])] {
        ok(&mut with(token, &["functions", "list"]));
    }
    ok(home.af().args(["pat", "delete", "reader"]));
    for token in [&token, text(&rotated["token"])] {
        assert_eq!(refused(&mut with(token, &["functions", "list"])).0, 3);
    }
    let (_, why) = refused(home.af().args(["pat", "delete", "reader"]));
    assert!(why.contains("there is no token"), "{why}");
    let bounded = ["pat", "create", "-n", "one", "--function", "hello"];
    assert_eq!(json(&home, &bounded)["functionId"], json(&home, &["functions", "get", "-n", "hello"])["id"]);
}

#[test]
fn a_key_belongs_to_the_project() {
    let home = Home::new();
    let _server = home.up(&[]);
    assert!(ok(home.af().args(["keys", "list"])).contains("no keys yet"));
    let made = json(&home, &["keys", "create", "-n", "ci", "--role", "viewer"]);
    let mut af = home.af();
    assert!(
        ok(af.env("AF_TOKEN", text(&made["token"])).args(["functions", "list"])).contains("no functions")
    );
    let (_, why) =
        refused(home.af().env("AF_TOKEN", text(&made["token"])).args(["functions", "create", "-n", "mine"]));
    assert!(why.contains("viewer"), "{why}");
    assert_eq!(json(&home, &["keys", "list"])[0]["role"], "viewer");
    ok(home.af().args(["keys", "rotate", text(&made["id"])]));
    ok(home.af().args(["keys", "delete", "ci"]));
    assert!(json(&home, &["keys", "list"]).as_array().unwrap().is_empty());
}

#[test]
fn whoever_has_the_code_joins() {
    let (home, other) = (Home::new(), Home::new());
    let server = home.up(&[]);
    let organization = json(&home, &["orgs", "list"])[0]["id"].clone();
    assert!(text(&json(&home, &["orgs", "create", "-n", "second"])["id"]).starts_with("org_"));
    let invited = json(&home, &["members", "invite", "--role", "viewer"]);
    let joined = json(&other, &["join", text(&invited["code"]), "--name", "new", "--api-url", &server.api]);
    assert_eq!(text(&joined["role"]), "viewer");
    assert!(ok(other.af().args(["whoami"])).contains("new"), "signed in");
    let (_, why) = refused(other.af().args(["join", text(&invited["code"])]));
    assert!(why.contains("unknown, used or too old"), "{why}");
    // Who is signed in stays who they are.
    let invited = json(&home, &["members", "invite", "--role", "developer", "--org", text(&organization)]);
    let again = json(&other, &["join", text(&invited["code"])]);
    assert_eq!((&again["userId"], &again["token"]), (&joined["userId"], &Value::Null));
    let user = text(&joined["userId"]);
    ok(home.af().args(["members", "role", user, "developer"]));
    let members = ok(home.af().args(["members", "list"]));
    assert!(members.contains(user) && members.contains("developer"), "{members}");
    ok(home.af().args(["members", "remove", user]));
    ok(home.af().args(["members", "remove", user, "--org", text(&organization)]));
    let (_, why) = refused(other.af().args(["functions", "list"]));
    assert!(why.contains("no project"), "{why}");
}

#[test]
fn organizations_projects_and_invitations_are_made_renamed_and_taken_back() {
    let (home, other) = (Home::new(), Home::new());
    let server = home.up(&[]);
    let organization = text(&json(&home, &["orgs", "create", "-n", "first"])["id"]).to_owned();
    let said = ok(home.af().args(["orgs", "update", &organization, "--name", "renamed"]));
    assert!(said.contains("renamed"), "{said}");
    let made = json(&home, &["projects", "create", "-n", "shop", "--org", &organization]);
    assert_eq!(text(&made["organizationId"]), organization);
    let listed = ok(home.af().args(["projects", "list"]));
    assert!(listed.contains("shop"), "{listed}");
    ok(home.af().args(["projects", "delete", text(&made["id"])]));
    assert!(!ok(home.af().args(["projects", "list"])).contains("shop"));

    let invite = ["members", "invite", "--role", "billing", "--org", &organization];
    let [kept, withdrawn] = [(); 2].map(|()| json(&home, &invite));
    let open = ["members", "invitations", "--org", &organization];
    assert_eq!(json(&home, &open).as_array().unwrap().len(), 2);
    ok(home.af().args(["members", "withdraw", text(&withdrawn["id"])]));
    let listed = ok(home.af().args(open));
    assert!(listed.contains(text(&kept["id"])) && !listed.contains(text(&withdrawn["id"])), "{listed}");
    let joins = |code: &Value| {
        let mut af = other.af();
        af.args(["join", text(code), "--name", "new", "--api-url", &server.api]);
        af
    };
    refused(&mut joins(&withdrawn["code"]));
    ok(&mut joins(&kept["code"]));

    // A member of an organization without projects.
    let said = ok(other.af().arg("whoami"));
    assert!(said.contains("new") && said.contains("`af projects create` makes one"), "{said}");
    let (_, why) = refused(other.af().args(["functions", "list"]));
    assert!(why.contains("you have no project yet; make one with `af projects create"), "{why}");
}

#[test]
fn the_audit_log_is_shown_and_exported() {
    let home = Home::new();
    let _server = home.up(&[]);
    assert!(ok(home.af().arg("audit")).contains("nothing was done yet"));
    for name in ["one", "two", "three"] {
        ok(home.af().args(["functions", "create", "-n", name]));
    }
    let newest = json(&home, &["audit", "--limit", "2"]);
    let actions: Vec<&str> = newest.as_array().unwrap().iter().map(|entry| text(&entry["action"])).collect();
    assert_eq!(actions, ["function.create"; 2]);
    let organization = text(&json(&home, &["orgs", "list"])[0]["id"]).to_owned();
    let shown = ok(home.af().args(["audit", "--organization", &organization]));
    assert_eq!(shown.matches("function.create").count(), 3, "{shown}");

    let file = home.data().join("audit.ndjson");
    let project = text(&newest[0]["projectId"]).to_owned();
    let said = ok(home.af().args(["audit", "--project", &project, "--export"]).arg(&file));
    assert!(said.contains("3 entries"), "{said}");
    let exported = std::fs::read_to_string(&file).unwrap();
    let first: Value = serde_json::from_str(exported.lines().next().unwrap()).unwrap();
    assert_eq!((exported.lines().count(), &first["id"]), (3, &newest[0]["id"]));
    let again = |more: &[&str]| {
        let mut af = home.af();
        af.args(["audit", "--project", &project, "--export"]).arg(&file).args(more);
        af
    };
    let (_, why) = refused(&mut again(&[]));
    assert!(why.contains("is there already; choose another name, or add --replace"), "{why}");
    ok(&mut again(&["--replace"]));
    let (_, why) = refused(home.af().args(["audit", "--project", "prj_none"]));
    assert!(why.contains("there is no project"), "{why}");
}
