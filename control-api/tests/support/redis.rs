//! A real Redis on a free port of loopback.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ends the server when this program ends, however it does: then the pipe breaks.
const GUARD: &str = r#""$@" & server=$!; cat >/dev/null; kill -KILL $server; wait $server"#;

pub struct Redis {
    guard: Child,
    pub port: u16,
    _dir: tempfile::TempDir,
}

impl Redis {
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        Self::start_at(port)
    }

    /// Where another one was.
    pub fn start_at(port: u16) -> Self {
        let find = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/redis-server");
        let found = Command::new(find).output().unwrap();
        assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
        let program = String::from_utf8(found.stdout).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "sh", program.trim(), "--port", &port.to_string()]);
        guard.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]).arg(dir.path());
        let guard = guard.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let redis = Self { guard, port, _dir: dir };
        let started = Instant::now();
        while !redis.answers() {
            assert!(started.elapsed() < Duration::from_secs(60), "Redis does not start");
            std::thread::yield_now();
        }
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/1", self.port)
    }

    fn answers(&self) -> bool {
        let mut answer = [0; 5];
        let asked = TcpStream::connect(("127.0.0.1", self.port)).and_then(|mut stream| {
            stream.write_all(b"PING\r\n")?;
            stream.read_exact(&mut answer)
        });
        asked.is_ok() && &answer == b"+PONG"
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ended = self.guard.wait();
    }
}
