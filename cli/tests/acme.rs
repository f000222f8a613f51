//! Certificates that appear by themselves, from a real authority: pebble, which Let's Encrypt tests clients with.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

#[path = "support/pebble.rs"]
mod pebble;
mod support;

use std::time::Duration;

use pebble::{Authority, DnsServer, Knot, Pebble, TSIG_SECRET, servers};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use support::{Home, Server, certificate, free_port, guest, https, ok};

const DOMAIN: &str = "fn.localhost";

/// Longer than any order takes.
const LONG: Duration = Duration::from_secs(60);

fn up(home: &Home, authority: &Authority, more: &[&str]) -> Server {
    let (directory, root) = (authority.directory(), authority.root());
    let mut options = vec!["--domain", DOMAIN, "--acme-directory", &directory, "--acme-ca", &root];
    options.extend(["--metrics-listen", "127.0.0.1:0", "--acme-email", "operator@example.com"]);
    if !more.contains(&"--tls-listen") {
        options.extend(["--tls-listen", "127.0.0.1:0"]);
    }
    options.extend(more);
    home.up(&options)
}

fn create(home: &Home, name: &str) {
    ok(home.af().args(["functions", "create", "-n", name]));
}

/// A new connection. A function without a deployment answers, too: it says so.
async fn get(server: &Server, pebble: &Pebble, slug: &str) -> reqwest::Result<Response> {
    let name = format!("{slug}.{DOMAIN}");
    let client = https(&[&pebble.issuer], &[&name]);
    client.get(format!("https://{name}:{}/.well-known/af-deployment", server.port)).timeout(LONG).send().await
}

/// What the function says, once the edge has learned of it.
async fn answers(server: &Server, pebble: &Pebble, slug: &str) -> Response {
    let learned = async {
        loop {
            match get(server, pebble, slug).await {
                Ok(answer) if answer.status() != StatusCode::NOT_FOUND => return answer,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let answer = tokio::time::timeout(LONG, learned).await;
    let answer = answer.unwrap_or_else(|_| panic!("{slug} does not answer: {}", pebble.said()));
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "nothing is deployed");
    answer
}

#[tokio::test]
async fn a_new_name_gets_its_certificate_on_its_first_request() {
    let Some(servers) = servers() else { return };
    for kind in ["tls-alpn-01", "http-01"] {
        let (home, authority) = (Home::new(), Authority::new(&servers));
        let server = up(&home, &authority, &["--acme-challenge", kind, "--https-redirect"]);
        let pebble = authority.start(server.plain, server.port, None).await;
        create(&home, "hello");
        create(&home, "second");
        assert!(get(&server, &pebble, "nobody").await.is_err(), "a name that nothing answers at");
        assert_eq!(pebble.orders(), 0, "the authority is not asked for such a name");
        let first = certificate(&answers(&server, &pebble, "hello").await);
        assert_eq!(certificate(&answers(&server, &pebble, "hello").await), first);
        assert_eq!(pebble.orders(), 1, "{kind}: {}", pebble.said());

        // Those who come at once wait for one order.
        let together = futures::future::join_all((0..10).map(|_| answers(&server, &pebble, "second"))).await;
        let second = certificate(&together[0]);
        assert!(together.iter().all(|answer| certificate(answer) == second) && second != first);
        assert_eq!(pebble.orders(), 2, "{kind}");
        let counted = server.metrics().await;
        assert!(counted.contains("af_certificates_ordered_total{code=\"issued\"} 2"), "{counted}");
        let token = format!("http://127.0.0.1:{}/.well-known/acme-challenge/token", server.plain);
        let gone = https(&[], &[]).get(token).header("host", format!("hello.{DOMAIN}")).send().await.unwrap();
        assert_eq!(gone.status(), StatusCode::PERMANENT_REDIRECT, "no answer stays");
    }
}

/// What most users want: a domain of theirs answers over HTTPS, and nobody did anything for it.
#[tokio::test]
async fn a_custom_domain_is_answered_over_https_from_its_first_request() {
    let Some(servers) = servers() else { return };
    let (home, authority, dns) =
        (Home::new(), Authority::new(&servers), DnsServer::start(&servers, "127.0.0.1"));
    let server = up(&home, &authority, &["--dns-server", &dns.address.to_string()]);
    let pebble = authority.start(server.plain, server.port, Some(dns.address)).await;
    let issuer = home.data().with_extension("issuer.pem");
    std::fs::write(&issuer, &pebble.issuer).unwrap();
    let mut deploy = home.af();
    deploy.args(["functions", "deploy", "--create", "-n", "shop", "-p"]).arg(guest("hello-rust"));
    ok(deploy.env("SSL_CERT_FILE", &issuer));
    let orders = pebble.orders();

    let name = "shop.example.com";
    let url = format!("https://{name}:{}/", server.port);
    let client = https(&[&pebble.issuer], &[name]);
    ok(home.af().args(["domains", "add", name, "--function", "shop"]));
    assert!(client.get(&url).send().await.is_err(), "it is not verified");
    assert_eq!(pebble.orders(), orders, "so the authority is not asked");
    let shown: Value = serde_json::from_str(&ok(home.af().args(["--json", "domains", "get", name]))).unwrap();
    let value = format!("af-site-verification={}", shown["txtVerificationToken"].as_str().unwrap());
    dns.set("set-txt", json!({ "host": format!("{name}."), "value": value })).await;
    ok(home.af().args(["domains", "verify", name, "--wait"]));

    let learned = async {
        loop {
            match client.get(&url).send().await {
                Ok(answer) => return answer,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let answer = tokio::time::timeout(LONG, learned)
        .await
        .unwrap_or_else(|_| panic!("{}\n{}", home.logged(), pebble.said()));
    let issued = certificate(&answer);
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.text().await.unwrap(), "Hello from Rust and WASI 0.2!\n");
    assert_eq!(pebble.orders(), orders + 1);

    // Who holds this certificate need not be who answers for another host.
    let other = client.get(&url).header("host", "shop.fn.localhost").send().await.unwrap();
    assert_eq!(other.status(), StatusCode::MISDIRECTED_REQUEST);

    // A certificate of one's own takes its place.
    let own = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let [chain, key] = ["own.crt", "own.key"].map(|file| home.data().with_extension(file));
    std::fs::write(&chain, own.cert.pem()).unwrap();
    std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    ok(home.af().args(["domains", "certificate", name, "--cert"]).arg(&chain).arg("--key").arg(&key));
    // Each with a client of its own: a session that is resumed has the certificate that it began with.
    let served = async || {
        let client = https(&[&pebble.issuer, own.cert.pem().as_bytes()], &[name]);
        certificate(&client.get(&url).send().await.unwrap())
    };
    let changed = async { while served().await == issued {} };
    tokio::time::timeout(LONG, changed).await.expect("it is not served");
    assert_eq!(served().await, own.cert.der().to_vec());
    ok(home.af().args(["domains", "remove", name]));
}

#[tokio::test]
async fn the_other_challenge_is_tried_when_the_first_does_not_convince() {
    let Some(servers) = servers() else { return };
    let (home, authority) = (Home::new(), Authority::new(&servers));
    let server = up(&home, &authority, &[]);
    // Port 443 is somebody else's, who answers nothing.
    let pebble = authority.start(server.plain, free_port(), None).await;
    create(&home, "hello");
    answers(&server, &pebble, "hello").await;
    assert_eq!(pebble.orders(), 2);
}

#[tokio::test]
async fn a_name_that_failed_is_not_asked_for_again_at_once_also_after_a_restart() {
    let Some(servers) = servers() else { return };
    let (home, authority) = (Home::new(), Authority::new(&servers));
    let server = up(&home, &authority, &["--acme-challenge", "http-01"]);
    let pebble = authority.start(free_port(), free_port(), None).await;
    create(&home, "hello");
    // The first ones may come before the edge has learned of the function.
    let failed = async {
        while !home.logged().contains("the authority is not convinced") {
            assert!(get(&server, &pebble, "hello").await.is_err());
        }
    };
    let failed = tokio::time::timeout(LONG, failed).await;
    failed.unwrap_or_else(|_| panic!("{}\n{}", home.logged(), pebble.said()));
    assert!(get(&server, &pebble, "hello").await.is_err());
    assert!(server.stop().success());
    let server = up(&home, &authority, &["--acme-challenge", "http-01"]);
    assert!(get(&server, &pebble, "hello").await.is_err());
    assert_eq!(pebble.orders(), 1);
}

#[tokio::test]
async fn a_restart_serves_what_was_stored_and_an_authority_that_forgot_the_account_gets_another() {
    let Some(servers) = servers() else { return };
    let (home, authority) = (Home::new(), Authority::new(&servers));
    let server = up(&home, &authority, &[]);
    let pebble = authority.start(server.plain, server.port, None).await;
    create(&home, "hello");
    let first = certificate(&answers(&server, &pebble, "hello").await);
    assert!(server.stop().success());

    let server = up(&home, &authority, &[]);
    assert_eq!(certificate(&answers(&server, &pebble, "hello").await), first);
    assert_eq!(pebble.orders(), 1);

    // Another pebble knows nothing of what the first one knew.
    drop(pebble);
    let pebble = authority.start(server.plain, server.port, None).await;
    create(&home, "second");
    answers(&server, &pebble, "second").await;
    let mode = |name: &str| {
        let path = home.data().join("certificates").join(name);
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777
    };
    assert_eq!(mode("account.json"), 0o600);
    assert_eq!(mode(&format!("second.{DOMAIN}.pem")), 0o600);
}

#[tokio::test]
async fn a_certificate_is_renewed_ahead_of_time_and_served_meanwhile() {
    let Some(servers) = servers() else { return };
    let (home, mut authority) = (Home::new(), Authority::new(&servers));
    authority.validity = 12;
    let server = up(&home, &authority, &[]);
    let pebble = authority.start(server.plain, server.port, None).await;
    create(&home, "hello");
    let first = certificate(&answers(&server, &pebble, "hello").await);
    let renewed = async { while certificate(&answers(&server, &pebble, "hello").await) == first {} };
    tokio::time::timeout(LONG, renewed).await.expect("it is not renewed");
    assert!(!home.logged().contains("WARN"), "{}", home.logged());
}

#[tokio::test]
async fn the_platforms_wildcard_is_got_through_the_zone() {
    let Some(servers) = servers() else { return };
    let knot = Knot::start(&servers, DOMAIN);
    let (home, authority) = (Home::new(), Authority::new(&servers));
    // Nobody answers at these ports: only the zone can convince.
    let pebble = authority.start(free_port(), free_port(), Some(knot.address)).await;
    let mut command = home.af();
    for (name, value) in [
        ("RFC2136_SERVER", knot.address.to_string().as_str()),
        ("RFC2136_TSIG_NAME", "updates"),
        ("RFC2136_TSIG_SECRET", TSIG_SECRET),
    ] {
        command.env(name, value);
    }
    let (directory, root) = (authority.directory(), authority.root());
    let server = home.up_as(
        command,
        &[
            "--domain",
            DOMAIN,
            "--tls-listen",
            "127.0.0.1:0",
            "--acme-directory",
            &directory,
            "--acme-ca",
            &root,
            "--acme-dns",
            "rfc2136",
            "--acme-dns-wait",
            "0",
        ],
    );
    create(&home, "hello");
    let first = certificate(&answers(&server, &pebble, "hello").await);
    create(&home, "second");
    assert_eq!(certificate(&answers(&server, &pebble, "second").await), first);
    assert_eq!(pebble.orders(), 1);
    assert!(!home.logged().contains("stays behind"), "{}", home.logged());
}
