//! The real servers that certificates are tested against: an authority (pebble), the DNS server that it asks, and a
//! DNS server that takes updates (knot). On free ports, stopped when they are dropped.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;

use super::support::{fetched, free_port};

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(20);

/// Where they are.
pub fn servers() -> Option<PathBuf> {
    fetched("acme-servers", "pebble and knot")
}

/// An authority that is not started yet, so that a server can be told of it.
pub struct Authority {
    dir: tempfile::TempDir,
    servers: PathBuf,
    port: u16,
    management: u16,
    /// How long its certificates are good for, seconds.
    pub validity: u64,
}

impl Authority {
    /// Has a certificate of its own from a private root.
    pub fn new(servers: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = root.self_signed(&root_key).unwrap();
        let leaf = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &Issuer::from_params(&root, &root_key)).unwrap();
        fs::write(dir.path().join("root.pem"), certificate.pem()).unwrap();
        fs::write(dir.path().join("cert.pem"), leaf.pem()).unwrap();
        fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
        let (port, management) = (free_port(), free_port());
        Self { dir, servers: servers.to_owned(), port, management, validity: 90 * 86_400 }
    }

    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    /// The file with the root of its own certificate.
    pub fn root(&self) -> String {
        self.dir.path().join("root.pem").display().to_string()
    }

    /// Starts it, so that it looks for answers at these ports of this machine, and asks this DNS server or one for
    /// which every name is here.
    pub async fn start(&self, http: u16, tls: u16, dns: Option<SocketAddr>) -> Pebble {
        let path = |name: &str| self.dir.path().join(name);
        let config = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.port),
            "managementListenAddress": format!("127.0.0.1:{}", self.management),
            "certificate": path("cert.pem"), "privateKey": path("key.pem"),
            "httpPort": http, "tlsPort": tls,
            "retryAfter": { "authz": 1, "order": 1 },
            "certificateValidityPeriod": self.validity,
        } });
        fs::write(path("config.json"), config.to_string()).unwrap();
        let mut running = Vec::new();
        let dns = dns.unwrap_or_else(|| {
            let server = DnsServer::start(&self.servers, "127.0.0.1");
            running.push(server.running);
            server.address
        });
        let mut pebble = Command::new(self.servers.join("usr/bin/pebble"));
        pebble.arg("-config").arg(path("config.json")).args(["-strict", "-dnsserver", &dns.to_string()]);
        // It waits for no reason otherwise, and refuses some of the good nonces, as real ones do.
        pebble.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "5").env("PEBBLE_AUTHZREUSE", "0");
        let addresses = [self.management, self.port].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        running.push(Running::start(&mut pebble, &path("pebble.log"), &addresses));
        let own = fs::read(path("root.pem")).unwrap();
        let client = super::support::https(&[&own], &[]);
        let issuer =
            client.get(format!("https://127.0.0.1:{}/roots/0", self.management)).send().await.unwrap();
        Pebble { running, log: path("pebble.log"), issuer: issuer.bytes().await.unwrap().to_vec() }
    }
}

/// A running authority.
pub struct Pebble {
    running: Vec<Running>,
    log: PathBuf,
    /// The root of what it issues, PEM.
    pub issuer: Vec<u8>,
}

impl Pebble {
    /// How many orders were asked for, also in vain.
    pub fn orders(&self) -> usize {
        let log = fs::read_to_string(&self.log).unwrap();
        log.lines()
            .filter(|line| line.contains("There are now") && line.contains("authorizations in the db"))
            .count()
    }

    /// What it has said.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

/// A DNS server (pebble-challtestsrv) whose records are set over HTTP.
pub struct DnsServer {
    running: Running,
    pub address: SocketAddr,
    management: SocketAddr,
    _dir: tempfile::TempDir,
}

impl DnsServer {
    /// Every name has this IPv4 address, or none where it is empty, until a record is set.
    pub fn start(servers: &Path, default: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [address, management] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let mut command = Command::new(servers.join("usr/bin/pebble-challtestsrv"));
        command.args(["-dns01", &address.to_string(), "-management", &management.to_string()]);
        command.args(["-defaultIPv4", default]);
        // No other part of it.
        for option in ["-doh", "-http01", "-https01", "-tlsalpn01", "-defaultIPv6"] {
            command.args([option, ""]);
        }
        let running = Running::start(&mut command, &dir.path().join("log"), &[address, management]);
        Self { running, address, management, _dir: dir }
    }

    /// Sets or removes a record: `set-txt`, `clear-txt`, `set-cname`, `add-a`.
    pub async fn set(&self, what: &str, body: serde_json::Value) {
        let url = format!("http://{}/{what}", self.management);
        let answer = super::support::http().post(url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{what}");
    }
}

/// A name server for one zone, that takes updates signed with a key.
pub struct Knot {
    _running: Running,
    _dir: tempfile::TempDir,
    pub address: SocketAddr,
}

/// The key, in base64.
pub const TSIG_SECRET: &str = "c2l4dGVlbiBieXRlcyBvciBtb3JlIG9mIGEgc2VjcmV0";

impl Knot {
    pub fn start(servers: &Path, zone: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let path = |name: &str| dir.path().join(name).display().to_string();
        let zone_file = format!(
            "{zone}. 60 SOA ns.{zone}. admin.{zone}. 1 60 60 60 60\n{zone}. 60 NS ns.{zone}.\nns.{zone}. 60 A 127.0.0.1\n*.{zone}. 60 A 127.0.0.1\n"
        );
        fs::write(path("zone"), zone_file).unwrap();
        let config = format!(
            "server:\n  rundir: {dir}\n  listen: 127.0.0.1@{port}\ndatabase:\n  storage: {dir}\nlog:\n  - target: stderr\n    any: info\n\
             key:\n  - id: updates\n    algorithm: hmac-sha256\n    secret: {TSIG_SECRET}\n\
             acl:\n  - id: updates\n    key: updates\n    action: update\n\
             zone:\n  - domain: {zone}\n    file: {dir}/zone\n    acl: updates\n    zonefile-sync: -1\n    journal-content: none\n",
            dir = dir.path().display(),
            port = address.port(),
        );
        fs::write(path("knot.conf"), config).unwrap();
        let mut knot = Command::new(servers.join("usr/sbin/knotd"));
        knot.env("LD_LIBRARY_PATH", servers.join("libraries")).args(["-c", &path("knot.conf")]);
        let running = Running::start(&mut knot, &dir.path().join("log"), &[address]);
        Self { _running: running, _dir: dir, address }
    }
}

/// A process that is killed when this is dropped.
struct Running(Child);

impl Running {
    /// Returns when it listens everywhere.
    fn start(command: &mut Command, log: &Path, addresses: &[SocketAddr]) -> Self {
        let mut file = File::create(log).unwrap();
        writeln!(file, "{command:?}").unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut running = Self(command.spawn().unwrap());
        let since = Instant::now();
        while addresses.iter().any(|address| TcpStream::connect(address).is_err()) {
            let ended = running.0.try_wait().unwrap().is_some();
            let said = || fs::read_to_string(log).unwrap();
            assert!(!ended && since.elapsed() < START, "{command:?} does not listen: {}", said());
            std::thread::yield_now();
        }
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _already_reaped = self.0.wait();
    }
}
