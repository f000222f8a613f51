//! Triggers with the real binary: a function is called by the platform, and nobody else can make it believe so.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use serde_json::Value;
use support::{Home, guest, ok, refused};

#[tokio::test]
async fn the_platform_calls_a_function_and_no_client_can_pretend_to() {
    let home = Home::new();
    let server = home.up(&[]);
    let af = |args: &[&str]| ok(home.af().args(args));
    let deploy = |crons: &[&str]| {
        let mut deploy = home.af();
        deploy.args(["--json", "functions", "deploy", "--create", "-n", "work", "-p"]).arg(guest("cron"));
        for cron in crons {
            deploy.args(["--cron", cron]);
        }
        serde_json::from_str::<Value>(&ok(&mut deploy)).unwrap()
    };
    // Months away, so that the clock of the machine does not matter.
    let deployed = deploy(&["0 0 29 2 *=/work?a=b"]);
    assert_eq!(deployed["deployment"]["triggers"][0]["path"], "/work?a=b");
    let report = async || server.get("work", "/").await.text().await.unwrap();
    assert_eq!(report().await, "0 times, last for never\n");

    let forged =
        server.request("work", "/work").header("AF-Trigger", "cron").header("af-scheduled-at", "now");
    assert_eq!(forged.send().await.unwrap().status(), 403);

    let run: Value = serde_json::from_str(&af(&["--json", "functions", "trigger", "-n", "work"])).unwrap();
    assert_eq!((&run["outcome"], &run["status"]), (&"succeeded".into(), &200.into()), "{run}");
    let host = server.host("work");
    let told = report().await;
    assert!(
        told.starts_with("1 times, last for 20") && told.ends_with(&format!("Z at {host}/work?a=b\n")),
        "{told}"
    );
    assert!(af(&["functions", "trigger", "-n", "work", "--path", "/work?a=b"]).contains("status 200"));
    assert!(report().await.starts_with("2 times"));

    deploy(&["@yearly=/fail", "@yearly=/work"]);
    let (code, said) = refused(home.af().args(["functions", "trigger", "-n", "work", "--path", "/fail"]));
    assert!(code == 1 && said.contains("/fail failed: status 500"), "{said}");
    let (_, said) = refused(home.af().args(["functions", "trigger", "-n", "work"]));
    assert!(said.contains("several triggers; say which path: /fail, /work"), "{said}");
    let shown = af(&["functions", "triggers", "-n", "work"]);
    for part in ["@yearly", "NEXT", "succeeded", "failed", "500"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }

    af(&["functions", "update", "-n", "work", "--status", "INACTIVE"]);
    let (_, said) = refused(home.af().args(["functions", "trigger", "-n", "work", "--path", "/work"]));
    assert!(said.contains("no triggers now"), "{said}");
}

#[tokio::test]
async fn a_function_that_breaks_a_limit_is_a_failed_run() {
    let home = Home::new();
    let _server = home.up(&[]);
    let deploy = ["functions", "deploy", "--create", "-n", "spin", "--cron", "@yearly=/spin", "-p"];
    ok(home.af().args(deploy).arg(guest("hostile")));
    let (_, said) = refused(home.af().args(["functions", "trigger", "-n", "spin"]));
    assert!(said.contains("/spin failed: status 503"), "{said}");
    let schedule = ok(home.af().args(["--json", "functions", "triggers", "-n", "spin"]));
    let schedule: Value = serde_json::from_str(&schedule).unwrap();
    assert_eq!(schedule["runs"][0]["outcome"], "failed");
    assert!(schedule["runs"][0]["error"].as_str().unwrap().contains("CPU"), "{schedule}");
}

#[test]
fn what_is_no_trigger_is_refused_at_once() {
    let home = Home::new();
    for (cron, said) in [
        ("* * * * *", "is not a trigger; one looks like"),
        ("* * * *=/", "is not a cron expression"),
        ("@daily=tick", "is not a trigger's path"),
    ] {
        let (code, error) =
            refused(home.af().args(["functions", "deploy", "-n", "x", "-p", "x", "--cron", cron]));
        assert!(code == 2 && error.contains(said), "{error}");
    }
}
