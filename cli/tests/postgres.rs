//! `af up` with PostgreSQL in the place of its file.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

#[path = "../../control-api/tests/support/postgres.rs"]
mod postgres;
mod support;

use postgres::Postgres;
use support::{Home, guest, ok, refused};

#[tokio::test]
async fn a_function_is_deployed_and_answers_after_a_crash() {
    let database = Postgres::new();
    let home = Home::new();
    let start = || {
        // As operators do it: the address has a password, which is nobody's who looks at processes.
        let mut af = home.af();
        af.env("AF_DATABASE_URL", &database.url);
        home.up_as(af, &[])
    };
    let server = start();
    ok(home.af().args(["functions", "create", "-n", "hello"]));
    ok(home.af().args(["functions", "deploy", "-n", "hello", "-p"]).arg(guest("hello-rust")));
    assert_eq!(server.get("hello", "/").await.text().await.unwrap(), "Hello from Rust and WASI 0.2!\n");
    assert!(!home.data().join("af.sqlite").exists());
    server.kill();
    let server = start();
    assert_eq!(server.get("hello", "/").await.text().await.unwrap(), "Hello from Rust and WASI 0.2!\n");
    assert!(ok(home.af().args(["functions", "list"])).contains("hello"));
}

#[test]
fn an_address_that_leads_nowhere_is_told_without_its_password() {
    let home = Home::new();
    let (code, error) = refused(home.af().args(["up", "--database", "mysql://af:secret@127.0.0.1/af"]));
    assert!(code == 2 && error.contains("postgres://"), "{error}");
    let mut af = home.af();
    af.env("AF_DATABASE_URL", "postgres://af:secret@127.0.0.1:9/af").args(["up", "--listen", "127.0.0.1:0"]);
    let (code, error) = refused(af.args(["--api-listen", "127.0.0.1:0", "--data-dir"]).arg(home.data()));
    assert!(code == 1 && error.contains("127.0.0.1:9") && !error.contains("secret"), "{error}");
}
