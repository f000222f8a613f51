//! How the servers of others are started.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
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

/// nginx as a reverse proxy that tells the backend what ours tells it.
pub fn nginx(nginx: &Path, backend: u16, workers: usize, dir: tempfile::TempDir) -> anyhow::Result<Server> {
    let port = free_port()?;
    let servers = format!(
        r#"  upstream backend {{
    server 127.0.0.1:{backend};
    keepalive 64;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_set_header Connection "";
      proxy_set_header Host backend;
      proxy_set_header Via "1.1 nginx";
      proxy_set_header X-Request-Id $request_id;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Host $host;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header Forwarded "for=$remote_addr;host=$host;proto=$scheme";
    }}
  }}"#
    );
    start_nginx(nginx, port, workers, &servers, dir)
}

/// nginx with a certificate, and a text for everybody.
pub fn nginx_tls(nginx: &Path, files: &Certificate, workers: usize) -> anyhow::Result<Server> {
    let port = free_port()?;
    let (chain, key) = (files.chain.display(), files.key.display());
    let servers = format!(
        r#"  server {{
    listen 127.0.0.1:{port} ssl backlog=4096;
    ssl_certificate {chain};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{ return 200 "hello"; }}
  }}"#
    );
    start_nginx(nginx, port, workers, &servers, tempfile::tempdir()?)
}

/// A certificate and its key in PEM files.
pub struct Certificate {
    pub chain: PathBuf,
    pub key: PathBuf,
}

fn start_nginx(
    nginx: &Path,
    port: u16,
    workers: usize,
    servers: &str,
    dir: tempfile::TempDir,
) -> anyhow::Result<Server> {
    let root = dir.path().display();
    let config = format!(
        r"daemon off;
worker_processes {workers};
pid {root}/pid;
error_log {root}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {root}/body;
  proxy_temp_path {root}/proxy;
  fastcgi_temp_path {root}/fastcgi;
  uwsgi_temp_path {root}/uwsgi;
  scgi_temp_path {root}/scgi;
{servers}
}}
"
    );
    let path = dir.path().join("nginx.conf");
    std::fs::write(&path, config)?;
    let mut command = Command::new(nginx);
    command.arg("-p").arg(dir.path()).arg("-e").arg(dir.path().join("error.log")).arg("-c").arg(path);
    Server::of(command, port, dir)
}

/// A port that was free a moment ago: these servers print no port that they chose themselves.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
