//! The help texts are documents: a change of them is meant.

mod support;

use support::{Home, ok};

#[test]
fn help_is_as_published() {
    let home = Home::new();
    let help = |args: &[&str]| ok(home.af().args(args).arg("--help").env("COLUMNS", "100"));
    let functions = [
        "create",
        "deploy",
        "list",
        "get",
        "deployments",
        "rollback",
        "rollout",
        "promote",
        "abort",
        "approve",
        "prune",
        "triggers",
        "trigger",
        "rotate-key",
        "update",
        "delete",
    ];
    let mut all = format!("$ af --help\n{}", help(&[]));
    for command in
        [["up"].as_slice(), &["login"], &["login", "approve"], &["whoami"], &["functions"], &["sites"]]
    {
        all.push_str(&format!("\n$ af {} --help\n{}", command.join(" "), help(command)));
    }
    for function in functions {
        all.push_str(&format!("\n$ af functions {function} --help\n{}", help(&["functions", function])));
    }
    for command in ["create", "deploy", "list", "deployments", "rollback", "update", "delete"] {
        all.push_str(&format!("\n$ af sites {command} --help\n{}", help(&["sites", command])));
    }
    all.push_str(&format!("\n$ af storage --help\n{}", help(&["storage"])));
    for command in ["add", "get", "ls", "pin", "unpin", "import", "export", "gc"] {
        all.push_str(&format!("\n$ af storage {command} --help\n{}", help(&["storage", command])));
    }
    for (command, subcommands) in [
        ("pat", ["create", "list", "rotate", "delete"].as_slice()),
        ("keys", &["create", "list", "rotate", "delete"]),
        ("admin", &["backup", "restore", "plans"]),
        ("projects", &["list", "get", "update", "quotas"]),
        ("orgs", &["list", "create", "quotas", "delete"]),
        ("members", &["list", "invite", "role", "remove"]),
    ] {
        all.push_str(&format!("\n$ af {command} --help\n{}", help(&[command])));
        for subcommand in subcommands {
            all.push_str(&format!("\n$ af {command} {subcommand} --help\n{}", help(&[command, subcommand])));
        }
    }
    for command in ["set", "assign"] {
        let plans = ["admin", "plans", command];
        all.push_str(&format!("\n$ af {} --help\n{}", plans.join(" "), help(&plans)));
    }
    all.push_str(&format!("\n$ af join --help\n{}", help(&["join"])));
    let domains = ["add", "verify", "list", "get", "update", "certificate", "remove"];
    all.push_str(&format!("\n$ af domains --help\n{}", help(&["domains"])));
    for command in domains {
        all.push_str(&format!("\n$ af domains {command} --help\n{}", help(&["domains", command])));
    }
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "golden", omit_expression => true }, {
        insta::assert_snapshot!("help", all);
    });
}
