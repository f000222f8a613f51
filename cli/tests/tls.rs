//! HTTPS with the operator's own certificates: which one is served, what changes with them, and the way from http to
//! https.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use reqwest::StatusCode;
use support::{Home, certificate, guest, http, https, ok, refused};

/// Writes `NAME.crt` and `NAME.key`, and returns the certificate, which is its own root.
fn write(dir: &Path, file: &str, names: &[&str]) -> Vec<u8> {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(dir.join(format!("{file}.key")), made.signing_key.serialize_pem()).unwrap();
    fs::write(dir.join(format!("{file}.crt")), made.cert.pem()).unwrap();
    made.cert.pem().into_bytes()
}

fn options<'a>(dir: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut options =
        vec!["--domain", "fn.localhost", "--tls-listen", "127.0.0.1:0", "--tls-dir", dir.to_str().unwrap()];
    options.extend(more);
    options
}

fn certificates() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    (dir, path)
}

#[tokio::test]
async fn a_function_is_deployed_and_answers_over_https() {
    let (_dir, dir) = certificates();
    let root = write(&dir, "wild", &["*.fn.localhost"]);
    let home = Home::new();
    let server = home.up(&options(&dir, &["--hsts", "3600", "--https-redirect"]));
    let mut deploy = home.af();
    deploy.args(["--json", "functions", "deploy", "--create", "-n", "hello", "-p"]).arg(guest("hello-rust"));
    let told: serde_json::Value =
        serde_json::from_str(&ok(deploy.env("SSL_CERT_FILE", dir.join("wild.crt")))).unwrap();
    let url = told["url"].as_str().unwrap();
    assert_eq!(url, format!("https://hello.fn.localhost:{}", server.port));

    let answer = https(&[&root], &["hello.fn.localhost"]).get(url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=3600");

    // What is plain goes to the same place, whatever its method.
    let plain =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let plain = plain
        .post(format!("http://127.0.0.1:{}/a%20b?c=d", server.plain))
        .header("host", "hello.fn.localhost:1");
    let sent = plain.body("kept by the client").send().await.unwrap();
    assert_eq!(sent.status(), StatusCode::PERMANENT_REDIRECT);
    assert_eq!(sent.headers()["location"], format!("{url}/a%20b?c=d"));
    assert!(!sent.headers().contains_key("strict-transport-security"), "it counts over HTTPS only");
    assert!(sent.headers().contains_key("x-request-id"));
}

#[tokio::test]
async fn plain_requests_are_answered_unless_they_are_redirected() {
    let (_dir, dir) = certificates();
    write(&dir, "wild", &["*.fn.localhost"]);
    let home = Home::new();
    let server = home.up(&options(&dir, &[]));
    let plain =
        http().get(format!("http://127.0.0.1:{}/", server.plain)).header("host", "nobody.fn.localhost");
    assert_eq!(plain.send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let challenge = format!("http://127.0.0.1:{}/.well-known/acme-challenge/token", server.plain);
    let challenge = http().get(challenge).header("host", "nobody.fn.localhost");
    assert_eq!(challenge.send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_changed_certificate_is_served_on_sighup_and_a_broken_one_is_not() {
    let (_dir, dir) = certificates();
    let old = write(&dir, "wild", &["*.fn.localhost"]);
    let exact = write(&dir, "exact", &["exact.fn.localhost"]);
    let home = Home::new();
    let server = home.up(&options(&dir, &[]));
    let names = ["a.fn.localhost", "exact.fn.localhost", "a.b.fn.localhost"];
    let get = async |roots: &[&[u8]], name: &str| {
        https(roots, &names).get(format!("https://{name}:{}/", server.port)).send().await
    };
    let status =
        async |roots: &[&[u8]], name: &str| get(roots, name).await.map(|answer| answer.status()).ok();
    assert_eq!(status(&[&old], "a.fn.localhost").await, Some(StatusCode::NOT_FOUND));
    assert_eq!(status(&[&exact], "exact.fn.localhost").await, Some(StatusCode::NOT_FOUND));
    assert_eq!(status(&[&old, &exact], "a.b.fn.localhost").await, None, "there is no certificate for it");
    assert_eq!(
        get(&[&exact], "exact.fn.localhost").await.map(|answer| certificate(&answer).is_empty()).ok(),
        Some(false)
    );

    fs::write(dir.join("wild.crt"), "torn").unwrap();
    server.signal("HUP");
    let told = || home.logged().contains("changed certificates cannot be used");
    let waited = async {
        while !told() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), waited).await.unwrap();
    assert_eq!(status(&[&old], "a.fn.localhost").await, Some(StatusCode::NOT_FOUND), "the old one goes on");

    let new = write(&dir, "wild", &["*.fn.localhost"]);
    server.signal("HUP");
    let waited = async { while status(&[&new], "a.fn.localhost").await.is_none() {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), waited).await.unwrap();
    assert_eq!(status(&[&exact], "exact.fn.localhost").await, Some(StatusCode::NOT_FOUND));
    assert!(server.stop().success(), "SIGHUP did not end it");
}

#[tokio::test]
async fn clients_that_do_not_speak_tls_cost_their_own_connection_only() {
    let (_dir, dir) = certificates();
    let root = write(&dir, "wild", &["*.fn.localhost"]);
    let home = Home::new();
    let server = home.up(&options(&dir, &["--metrics-listen", "127.0.0.1:0"]));
    let connect = || TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let mut silent = connect();
    let mut plain = connect();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: a.localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // An alert, and the end.
    let _reset = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let address = format!("https://127.0.0.1:{}/", server.port);
    assert!(https(&[&root], &[]).get(address).send().await.is_err(), "an address has no certificate");
    let served = https(&[&root], &["a.fn.localhost"]).get(format!("https://a.fn.localhost:{}/", server.port));
    assert_eq!(served.send().await.unwrap().status(), StatusCode::NOT_FOUND);
    assert!(server.metric("af_handshakes_failed_total").await >= 2.0);
    // A stop does not wait for a handshake.
    assert!(server.stop().success());
    let _reset = silent.read_to_end(&mut answer);
}

#[test]
fn options_that_do_not_fit_together_are_refused_before_anything_starts() {
    let (_dir, dir) = certificates();
    write(&dir, "one", &["one.localhost"]);
    let (chain, key) = (dir.join("one.crt"), dir.join("one.key"));
    let (chain, key) = (chain.to_str().unwrap(), key.to_str().unwrap());
    let listen = ["--tls-listen", "127.0.0.1:0"];
    let cases: [(&[&str], &str); 7] = [
        (&[], "--tls-listen needs certificates"),
        (&["--tls-cert", chain], "each --tls-cert needs its --tls-key"),
        (&["--tls-cert", key, "--tls-key", chain], "the key cannot be read as PEM"),
        (&["--tls-cert", "/nowhere", "--tls-key", key], "cannot read /nowhere"),
        (&["--acme-directory", "letsdecrypt"], "is not letsencrypt"),
        (&["--acme-directory", "letsencrypt", "--acme-dns", "desec"], "needs DESEC_TOKEN in the environment"),
        (&["--acme-directory", "http://acme.test/"], "an https URL"),
    ];
    for (options, expected) in cases {
        let home = Home::new();
        let mut up = home.af();
        up.args(["up", "--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--instances", "10"])
            .args(listen);
        let (code, said) =
            refused(up.args(options).arg("--data-dir").arg(home.data()).env_remove("DESEC_TOKEN"));
        assert_eq!((code, said.contains(expected)), (1, true), "{options:?}: {said}");
    }
    let home = Home::new();
    let (code, _) = refused(home.af().args(["up", "--https-redirect"]));
    assert_eq!(code, 2, "without --tls-listen");
}
