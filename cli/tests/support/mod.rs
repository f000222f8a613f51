//! A real server with real functions, for tests: the `af` binary on free ports with its own directories.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use af_content::car::{self, Block};
use af_content::unixfs::{self, FileSummary};
use af_contract::ContentId;
use serde_json::Value;

/// Where a script of `tests/support` has got software of others; nothing where it cannot be had, which is told, and is a failure
/// on CI.
pub fn fetched(script: &str, what: &str) -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(script);
    let output = Command::new(script).output().unwrap();
    if output.status.success() {
        return Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()));
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    #[expect(clippy::disallowed_methods, reason = "CI says so in the environment only")]
    let on_ci = std::env::var("CI").is_ok();
    assert!(!on_ci, "{what} cannot be had: {reason}");
    println!("skipped: {what} cannot be had: {}", reason.lines().last().unwrap_or_default());
    None
}

/// An example component that `examples/build` has built.
pub fn guest(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let path = target.join("guests").join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing; run examples/build first", path.display());
    path
}

/// Directories that outlive a server, so that another one can be started on them.
pub struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config/af/config.json")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    /// What servers have logged. A request's lines are there when its response ends.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap()
    }

    /// `af` with this home and nothing else of the environment that could matter.
    pub fn af(&self) -> Command {
        let mut af = Command::new(env!("CARGO_BIN_EXE_af"));
        for variable in [
            "AF_API_URL",
            "AF_TOKEN",
            "AF_PROJECT_ID",
            "AF_BOOTSTRAP_TOKEN",
            "AF_LOG",
            "AF_MASTER_KEY",
            "RUST_BACKTRACE",
        ] {
            af.env_remove(variable);
        }
        af.env("XDG_CONFIG_HOME", self.dir.path().join("config")).env("XDG_DATA_HOME", self.dir.path());
        af.stdin(Stdio::null());
        af
    }

    /// Starts a server and returns when it serves.
    pub fn up(&self, options: &[&str]) -> Server {
        self.up_as(self.af(), options)
    }

    /// With an environment of its own.
    pub fn up_as(&self, command: Command, options: &[&str]) -> Server {
        self.role(command, "up", options)
    }

    /// A server of this role: `up`, `control` or `edge`.
    pub fn role(&self, mut command: Command, role: &str, options: &[&str]) -> Server {
        command.args(["--json", role, "--data-dir"]).arg(self.data()).args(options);
        for (option, value, other) in [
            ("--listen", "127.0.0.1:0", "control"),
            ("--instances", "100", "control"),
            ("--api-listen", "127.0.0.1:0", "edge"),
        ] {
            if role != other && !options.contains(&option) {
                command.args([option, value]);
            }
        }
        let log = File::options().append(true).create(true).open(self.log()).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        let said = loop {
            assert!(stdout.read_line(&mut text).unwrap() > 0, "the server did not start");
            if let Ok(said) = serde_json::from_str::<Value>(&text) {
                break said;
            }
        };
        // A control plane has no functions, an edge no API.
        let field = |name: &str| said[name].as_str().unwrap_or("none:0").to_owned();
        let port = field("functionsUrl").rsplit_once(':').unwrap().1.parse().unwrap();
        let metrics = said["metricsUrl"].as_str().map(str::to_owned);
        let plain = said["httpUrl"].as_str().map(|url| url.rsplit_once(':').unwrap().1.parse().unwrap());
        let home = self.dir.path().to_owned();
        Server { child, port, plain: plain.unwrap_or(port), api: field("apiUrl"), metrics, home, said }
    }
}

/// A running `af up`; killed when it is dropped.
pub struct Server {
    child: Child,
    /// Of the listener that functions are announced at.
    pub port: u16,
    /// Of the unencrypted listener.
    pub plain: u16,
    pub api: String,
    metrics: Option<String>,
    home: PathBuf,
    /// All that it announced.
    pub said: Value,
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`: nothing is flushed, nothing is said.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit status.
    pub fn stop(mut self) -> std::process::ExitStatus {
        self.terminate();
        self.child.wait().unwrap()
    }

    /// The exit status of one that was told to stop.
    pub fn ended(mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }

    pub fn terminate(&self) {
        Command::new("kill").arg(self.pid().to_string()).status().unwrap();
    }

    pub fn signal(&self, name: &str) {
        Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
    }

    /// `GET` of a path of a function.
    pub async fn get(&self, slug: &str, path: &str) -> reqwest::Response {
        self.request(slug, path).send().await.unwrap()
    }

    /// What a server with `--metrics-listen` counts.
    pub async fn metrics(&self) -> String {
        http().get(self.metrics.as_ref().unwrap()).send().await.unwrap().text().await.unwrap()
    }

    /// Status and text of another path of that listener.
    pub async fn operators(&self, path: &str) -> (u16, String) {
        let url = self.metrics.as_ref().unwrap().replace("/metrics", path);
        let answer = http().get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The value of one of them, without labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.metrics().await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{name} is not in {text}"))
    }

    /// Returns when no guest is at work any more; a response may be there a moment before.
    pub async fn settled(&self) {
        let settled = async { while self.metric("af_instances_running").await > 0.0 {} };
        tokio::time::timeout(std::time::Duration::from_secs(20), settled).await.expect("a guest stays");
    }

    /// A request to a function.
    pub fn request(&self, slug: &str, path: &str) -> reqwest::RequestBuilder {
        http().get(format!("http://127.0.0.1:{}{path}", self.port)).header("host", self.host(slug))
    }

    pub fn host(&self, slug: &str) -> String {
        format!("{slug}.localhost:{}", self.port)
    }

    /// The token that the first start stored.
    pub fn token(&self) -> String {
        let config = std::fs::read_to_string(self.home.join("config/af/config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        let servers = config["servers"].as_object().unwrap();
        servers.values().next().unwrap()["token"].as_str().unwrap().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_reaped = self.child.wait();
    }
}

/// An HTTP client with its own connections.
pub fn http() -> reqwest::Client {
    client().build().unwrap()
}

/// One that follows no redirects.
pub fn http_without_redirects() -> reqwest::Client {
    client().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

fn client() -> reqwest::ClientBuilder {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy()
}

/// An HTTPS client that trusts these roots (PEM), finds these names on this machine, and makes a new connection for
/// each request.
pub fn https(roots: &[&[u8]], names: &[&str]) -> reqwest::Client {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let roots = roots.iter().map(|pem| reqwest::Certificate::from_pem(pem).unwrap());
    let mut client = reqwest::Client::builder().no_proxy().tls_certs_only(roots).tls_info(true);
    for name in names {
        client = client.resolve(name, std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
    }
    client.pool_max_idle_per_host(0).redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// The certificate that a response came with.
pub fn certificate(response: &reqwest::Response) -> Vec<u8> {
    let info = response.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
    info.peer_certificate().unwrap().to_vec()
}

/// Makes a function of an example and deploys it.
pub fn deploy(home: &Home, name: &str, file: &str, options: &[&str]) {
    let mut deploy = home.af();
    deploy.args(["functions", "deploy", "--create", "-n", name, "-p"]).arg(guest(file)).args(options);
    ok(&mut deploy);
}

/// A port that is free now, for servers of others, which are told theirs before they start.
///
/// It is none that systems give to whoever asks for any (32768 and above on Linux), so nobody gets it by chance between two
/// servers that have it one after the other.
pub fn free_port() -> u16 {
    loop {
        let number = RandomState::new().build_hasher().finish() % 12_000;
        let address = SocketAddr::from(([127, 0, 0, 1], 20_000 + u16::try_from(number).unwrap()));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address.port();
        }
    }
}

/// What comes of asking again and again until there is something: an edge learns of a change a moment after its command has ended.
pub async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            match ask().await {
                Some(answer) => return answer,
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), asking).await.expect("it does not come to it")
}

/// What a command printed, after it succeeded.
pub fn ok(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code and standard error of a command that failed.
pub fn refused(command: &mut Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    assert!(!status.success(), "{command:?} succeeded");
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

/// A file as a CAR.
pub fn car_of(file: &[u8]) -> (FileSummary, Vec<u8>) {
    let mut blocks = Vec::new();
    let summary = unixfs::import(file, |block| {
        blocks.push(block);
        Ok(())
    })
    .unwrap();
    (summary, car(&[summary.root], &blocks))
}

/// A CAR of any blocks.
pub fn car(roots: &[ContentId], blocks: &[Block]) -> Vec<u8> {
    let mut out = car::encode_header(roots);
    for block in blocks {
        out.extend(car::encode_block_prefix(&block.id, block.bytes.len()));
        out.extend_from_slice(&block.bytes);
    }
    out
}
