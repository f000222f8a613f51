//! What a connection costs that has been answered and waits.

use crate::load::{self, Connection};
use crate::servers::{Row, Server};
use crate::{Compare, servers};

/// As many as the server holds by default.
const CONNECTIONS: usize = 9_900;

/// Prints a table: this server, and hyper alone.
pub async fn run(options: &Compare) -> anyhow::Result<()> {
    println!("\n| {CONNECTIONS} idle connections, each answered once | KiB each |");
    println!("|---|---|");
    let bare = servers::available(options).into_iter().find(Row::is_limit);
    if let Some(bare) = bare {
        let server = Server::start(&bare, options).await?;
        print(bare.name, &server).await?;
    }
    let server =
        Server::af_with(&options.af, tempfile::tempdir()?, &["--max-connections-per-client", "10000"])?;
    server.deploy(&options.af, "hello", &options.guests.join("hello-rust.wasm"), &[])?;
    print("af", &server).await
}

async fn print(name: &str, server: &Server) -> anyhow::Result<()> {
    let request = load::get("hello.localhost", "/");
    // Caches, instances and threads are there before the first is counted.
    for _ in 0..1_000 {
        load::once(server.port, &request).await?;
    }
    let before = server.resident_mib();
    let mut open = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        open.push(Connection::answered(server.port, &request).await?);
    }
    let each = (server.resident_mib() - before) * 1024.0 / CONNECTIONS as f64;
    println!("| {name} | {each:.1} |");
    Ok(())
}
