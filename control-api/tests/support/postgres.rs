//! A real PostgreSQL on a free port of loopback, one for all tests of a file that run at the same time, each with a database
//! of its own. `AF_TEST_POSTGRES=postgres://HOST/postgres` names another one, whose user may make databases.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// Ends the server when this program ends, however it does: then the pipe breaks.
const GUARD: &str = r#""$@" & server=$!; cat >/dev/null; kill -QUIT $server; wait $server"#;

static RUNNING: Mutex<Weak<Server>> = Mutex::new(Weak::new());

/// A server that was started here.
struct Server {
    guard: Child,
    url: String,
    _dir: tempfile::TempDir,
}

/// A database that nobody else uses.
pub struct Postgres {
    pub url: String,
    _server: Option<Arc<Server>>,
}

impl Postgres {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        #[expect(clippy::disallowed_methods, reason = "it is given to the tests, not to the program")]
        let given = std::env::var("AF_TEST_POSTGRES").ok();
        let (server, url) = match given {
            Some(url) => (None, url),
            None => {
                let server = Server::shared();
                let url = server.url.clone();
                (Some(server), url)
            }
        };
        let name = format!("af_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        done(Command::new(programs().join("psql")).args([
            url.as_str(),
            "--quiet",
            "--command",
            &format!("drop database if exists {name}"),
            "--command",
            &format!("create database {name}"),
        ]));
        let server_url = url.rsplit_once('/').unwrap().0;
        Self { url: format!("{server_url}/{name}"), _server: server }
    }
}

impl Server {
    fn shared() -> Arc<Self> {
        let mut running = RUNNING.lock().unwrap();
        if let Some(server) = running.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start());
        *running = Arc::downgrade(&server);
        server
    }

    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let root = std::fs::metadata(&data).unwrap().uid() == 0;
        let run = |program: &Path| {
            if !root {
                return Command::new(program);
            }
            // It refuses to run as root.
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(program);
            command.current_dir("/");
            command
        };
        if root {
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
            std::fs::set_permissions(dir.path(), open).unwrap();
            done(Command::new("chown").arg("nobody:nogroup").arg(&data));
        }
        let programs = programs();
        let mut initdb = run(&programs.join("initdb"));
        initdb.args(["--no-locale", "--encoding=UTF8", "--auth=trust", "--username=af", "--no-sync"]);
        done(initdb.arg("--pgdata").arg(&data));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut guard = run(Path::new("sh"));
        guard.args(["-c", GUARD, "sh"]).arg(programs.join("postgres")).arg("-D").arg(&data);
        for setting in [
            &format!("port={port}"),
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            // What a power cut would do to it is not what is tested.
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "max_connections=400",
        ] {
            guard.args(["-c", setting]);
        }
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let guard = guard.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        let guard = guard.spawn().unwrap();
        let server = Self { guard, url: format!("postgres://af@127.0.0.1:{port}/postgres"), _dir: dir };
        server.wait(&programs, port);
        server
    }

    fn wait(&self, programs: &Path, port: u16) {
        for _ in 0..600 {
            let ready = Command::new(programs.join("pg_isready"))
                .args(["--host=127.0.0.1", "--timeout=1", "--quiet", &format!("--port={port}")])
                .status();
            if ready.unwrap().success() {
                return;
            }
            std::thread::yield_now();
        }
        let log = std::fs::read_to_string(self._dir.path().join("log")).unwrap();
        panic!("PostgreSQL does not start: {log}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ended = self.guard.wait();
    }
}

/// Where `initdb` and `postgres` are.
fn programs() -> PathBuf {
    let asked = Command::new("pg_config").arg("--bindir").output().ok();
    let asked = asked.filter(|output| output.status.success());
    let asked = asked.map(|output| PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()));
    let found = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let found = found.map(|version| version.unwrap().path().join("bin"));
    asked
        .into_iter()
        .chain(found)
        .chain(std::env::split_paths(&path()))
        .find(|dir| ["initdb", "postgres", "psql"].iter().all(|name| dir.join(name).is_file()))
        .expect(
            "the tests need PostgreSQL's server: install it (Debian: apt-get install postgresql), or name one \
             with AF_TEST_POSTGRES=postgres://HOST/postgres",
        )
}

fn path() -> String {
    #[expect(clippy::disallowed_methods, reason = "where programs are is in the environment only")]
    std::env::var("PATH").unwrap_or_default()
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
