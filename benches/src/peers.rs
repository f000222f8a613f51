//! How the servers of others are started.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::servers::Server;

/// The worker answers as the JavaScript guest does.
const WORKER: &str = r#"
export default {
  fetch() {
    return new Response("Hello from JavaScript!\n", { headers: { "content-type": "text/plain" } });
  },
};
"#;

/// `wasmtime serve`
pub fn wasmtime(
    wasmtime: &Path,
    component: &Path,
    options: &[&str],
    dir: tempfile::TempDir,
) -> anyhow::Result<Server> {
    let port = free_port()?;
    let mut command = Command::new(wasmtime);
    command.args(["serve", "-S", "cli", "--addr"]).arg(format!("127.0.0.1:{port}"));
    command.args(options).arg(component);
    Server::of(command, port, dir)
}

/// `workerd serve`
pub fn workerd(workerd: &Path, dir: tempfile::TempDir) -> anyhow::Result<Server> {
    let port = free_port()?;
    let config = format!(
        r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = (
    modules = [(name = "worker.js", esModule = embed "worker.js")],
    compatibilityDate = "2026-01-01",
  ))],
  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "main")],
);
"#
    );
    std::fs::write(dir.path().join("worker.js"), WORKER)?;
    let path = dir.path().join("config.capnp");
    std::fs::write(&path, config)?;
    let mut command = Command::new(workerd);
    command.arg("serve").arg(path);
    Server::of(command, port, dir)
}

/// `spin up`
pub fn spin(
    spin: &Path,
    component: &Path,
    options: &[&str],
    dir: tempfile::TempDir,
) -> anyhow::Result<Server> {
    let port = free_port()?;
    let manifest = format!(
        r#"spin_manifest_version = 2
[application]
name = "hello"
version = "0.1.0"
[[trigger.http]]
route = "/..."
component = "hello"
[component.hello]
source = {component:?}
"#
    );
    let path = dir.path().join("spin.toml");
    std::fs::write(&path, manifest)?;
    let mut command = Command::new(spin);
    command.args(["up", "--quiet", "--from"]).arg(path).arg("--listen").arg(format!("127.0.0.1:{port}"));
    command.args(options);
    Server::of(command, port, dir)
}

/// A port that was free a moment ago: these servers print no port that they chose themselves.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
