//! Signing in without a token: a terminal that waits, and another one or a page that approves it, in real processes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;
#[path = "support/waiting.rs"]
mod waiting;

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde_json::{Value, json};
use support::{Home, free_port, http, ok, refused};
use waiting::Waiting;

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn a_terminal_is_signed_in_by_another_one() {
    let (home, elsewhere) = (Home::new(), Home::new());
    let server = home.up(&[]);
    let login = ["--json", "login", "--browser", "--api-url", &server.api];
    let mut waiting = Waiting::start(&elsewhere, &login);
    let shown = waiting.shown();
    assert!(text(&shown["verificationUrl"]).starts_with(&format!("{}/login/", server.api)), "{shown}");
    assert_eq!(shown["expiresIn"], 600);
    let code = text(&shown["userCode"]);

    let (exit, why) = refused(home.af().args(["login", "approve", "BCDF-GHJK"]));
    assert!(exit == 1 && why.contains("unknown, used or too old"), "{why}");
    let (exit, why) = refused(elsewhere.af().args(["login", "approve", code]).env("AF_API_URL", &server.api));
    assert!(exit == 3 && why.contains("not signed in"), "{why}");
    let made = ok(home.af().args(["--json", "pat", "create", "-n", "narrow", "--scope", "tokens:write"]));
    let narrow: Value = serde_json::from_str(&made).unwrap();
    let mut approve = home.af();
    approve.args(["login", "approve", code]).env("AF_TOKEN", text(&narrow["token"]));
    let (exit, why) = refused(&mut approve);
    assert!(exit == 1 && why.contains("one that is"), "{why}");

    let said =
        ok(home.af().args(["login", "approve", &code.to_lowercase(), "-n", "other", "--expires", "12h"]));
    assert!(said.contains(code) && said.contains("127.0.0.1") && said.contains("\"other\""), "{said}");
    let signed_in: Value = serde_json::from_str(&waiting.signed_in()).unwrap();
    let who = |home: &Home| serde_json::from_str::<Value>(&ok(home.af().args(["--json", "whoami"]))).unwrap();
    assert_eq!(
        (&signed_in["apiUrl"], &signed_in["projectId"]),
        (&server.api.clone().into(), &who(&home)["projectId"])
    );
    assert_eq!(who(&elsewhere)["user"]["id"], who(&home)["user"]["id"]);
    assert_ne!(who(&elsewhere)["user"]["tokenId"], who(&home)["user"]["tokenId"]);
    let mode = std::fs::metadata(elsewhere.config()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let tokens = ok(home.af().args(["pat", "list"]));
    assert!(tokens.contains("other"), "{tokens}");
    ok(home.af().args(["pat", "delete", "other"]));
    assert_eq!(refused(elsewhere.af().arg("whoami")).0, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_signs_it_in_also_after_the_server_was_away() {
    let (home, elsewhere) = (Home::new(), Home::new());
    let listen = format!("127.0.0.1:{}", free_port());
    let server = home.up(&["--api-listen", &listen]);
    let token = server.token();
    let mut waiting = Waiting::start(&elsewhere, &["login", "--browser", "--api-url", &server.api]);
    let url = waiting.line().trim().strip_prefix("open ").unwrap().to_owned();
    let code = waiting.line().trim().rsplit_once(' ').unwrap().1.to_owned();
    assert!(waiting.line().contains(&format!("af login approve {code}")));

    server.kill();
    let server = home.up(&["--api-listen", &listen]);
    let page = http().get(&url).send().await.unwrap().text().await.unwrap();
    assert!(page.contains(&code), "{page}");
    let form = format!("token={token}");
    let request = http().post(&url).header("content-type", "application/x-www-form-urlencoded").body(form);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let said = tokio::task::block_in_place(|| waiting.signed_in());
    assert!(said.contains(&format!("signed in to {}", server.api)), "{said}");
    assert!(ok(elsewhere.af().arg("whoami")).contains(&server.api));
}

#[test]
fn where_nobody_can_approve_it_says_what_to_do() {
    let (home, elsewhere) = (Home::new(), Home::new());
    let server = home.up(&[]);
    let (exit, why) = refused(elsewhere.af().args(["login", "--api-url", &server.api]));
    assert!(exit == 1 && why.contains("--token TOKEN") && why.contains("--browser"), "{why}");
    let (exit, _) = refused(elsewhere.af().args(["login", "--browser", "--token", "x"]));
    assert_eq!(exit, 2);
    let nobody = ["login", "--browser", "--api-url", "http://127.0.0.1:1"];
    assert_eq!(refused(elsewhere.af().args(nobody)).0, 4);
    assert!(!elsewhere.config().exists());
}

#[test]
fn a_token_is_checked_and_stored_for_its_owner_only() {
    let (home, elsewhere, piped) = (Home::new(), Home::new(), Home::new());
    let server = home.up(&[]);
    let (exit, why) =
        refused(elsewhere.af().args(["login", "--api-url", &server.api, "--token", "af_live_of_nobody"]));
    assert!(exit == 3 && why.contains("valid token"), "{why}");
    assert!(!elsewhere.config().exists());

    let said = ok(elsewhere.af().args(["login", "--api-url", &server.api, "--token", &server.token()]));
    assert!(said.contains(&format!("signed in to {}", server.api)), "{said}");
    let token = home.config().with_file_name("token");
    std::fs::write(&token, format!("{}\n", server.token())).unwrap();
    let mut login = piped.af();
    ok(login.args(["login", "--api-url", &server.api]).stdin(File::open(&token).unwrap()));
    for home in [&elsewhere, &piped] {
        let mode = std::fs::metadata(home.config()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(ok(home.af().args(["functions", "list"])).contains("no functions yet"));
    }
}

#[test]
fn who_has_several_projects_is_signed_in_all_the_same() {
    let (home, elsewhere) = (Home::new(), Home::new());
    let server = home.up(&[]);
    let organizations: Value = serde_json::from_str(&ok(home.af().args(["--json", "orgs", "list"]))).unwrap();
    let body = json!({ "name": "second", "organizationId": organizations[0]["id"] });
    let request = http().post(format!("{}/v1/projects", server.api)).bearer_auth(server.token()).json(&body);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(request.send()).unwrap().status().as_u16(), 201);
    let mut waiting = Waiting::start(&elsewhere, &["--json", "login", "--browser", "--api-url", &server.api]);
    let shown = waiting.shown();
    ok(home.af().args(["login", "approve", text(&shown["verificationUrl"])]));
    let signed_in: Value = serde_json::from_str(&waiting.signed_in()).unwrap();
    assert_eq!(signed_in["projectId"], Value::Null);
    let (_, why) = refused(elsewhere.af().args(["functions", "list"]));
    assert!(why.contains("AF_PROJECT_ID"), "{why}");
}

/// A control API that says this to a terminal, and what it answers it each time that it comes back, the last again and again. Its
/// address, and how often it was asked.
async fn pretend(started: Value, answers: Vec<(u16, Value)>) -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let poll = post(async move || {
        let number = count.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
        let (status, answer) = answers[number].clone();
        let status = StatusCode::from_u16(status).unwrap();
        (status, [("retry-after", "2")], Json(answer)).into_response()
    });
    let start = post(async move || Json(started.clone()));
    let me = get(async || Json(json!({ "id": "usr_1", "name": "somebody", "tokenId": "tok_1" })));
    let projects = get(async || Json(json!({ "data": [{ "id": "prj_1" }], "next": null })));
    let router = axum::Router::new().route("/auth/cli/start", start).route("/auth/cli/poll", poll);
    let router = router.route("/v1/me", me).route("/v1/projects", projects);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, asked)
}

fn started(expires_in: u64, code: &str) -> Value {
    let session = "0123456789abcdef0123456789abcdef";
    json!({
        "verificationSessionId": session, "pollSecret": "s", "userCode": code, "expiresIn": expires_in, "interval": 1
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_comes_back_until_it_is_told_or_it_is_late() {
    let later = json!({ "type": "about:blank" });
    let answers = vec![
        (429, later.clone()),
        (503, later),
        (202, json!({ "status": "pending" })),
        (200, json!({ "success": true, "token": "af_live_made" })),
    ];
    let (url, asked) = pretend(started(600, "BCDF-GHJK"), answers).await;
    let home = Home::new();
    let login = |home: &Home, url: &str| {
        let mut af = home.af();
        af.args(["login", "--browser", "--api-url", url]);
        af
    };
    let said = tokio::task::block_in_place(|| ok(&mut login(&home, &url)));
    assert!(said.contains("as somebody, project prj_1"), "{said}");
    assert_eq!(asked.load(Ordering::Relaxed), 4);

    // The project is gone: the token, which nobody is shown again, is kept nonetheless.
    let made = vec![(200, json!({ "success": true, "token": "af_live_made" }))];
    let (url, _) = pretend(started(600, "BCDF-GHJK"), made.clone()).await;
    let home = Home::new();
    let (_, why) =
        tokio::task::block_in_place(|| refused(login(&home, &url).args(["--project", "prj_gone"])));
    assert!(why.contains("you are signed in to"), "{why}");
    assert!(std::fs::read_to_string(home.config()).unwrap().contains("af_live_made"));
    // Where it cannot be kept, nobody is asked to approve it.
    let (url, asked) = pretend(started(600, "BCDF-GHJK"), made).await;
    std::fs::remove_file(home.config()).unwrap();
    std::fs::create_dir(home.config()).unwrap();
    let (_, why) = tokio::task::block_in_place(|| refused(&mut login(&home, &url)));
    assert_eq!(asked.load(Ordering::Relaxed), 0, "{why}");

    let pending = vec![(202, json!({ "status": "pending" }))];
    let (url, asked) = pretend(started(3, "BCDF-GHJK"), pending.clone()).await;
    let home = Home::new();
    let (exit, why) = tokio::task::block_in_place(|| refused(&mut login(&home, &url)));
    assert!(exit == 1 && why.contains("nobody has approved this terminal in time"), "{why}");
    assert!((1..=3).contains(&asked.load(Ordering::Relaxed)));

    // What a server says is text, and nothing that changes the terminal.
    let (url, asked) = pretend(started(600, "\u{1b}[2J"), pending).await;
    let (exit, why) = tokio::task::block_in_place(|| refused(&mut login(&home, &url)));
    assert!(exit == 1 && why.contains("--token TOKEN") && !why.contains('\u{1b}'), "{why}");
    assert_eq!((asked.load(Ordering::Relaxed), home.config().exists()), (0, false));
}
