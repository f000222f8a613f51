//! The reverse proxy without anything around it: a thread with a runtime for each core, as the edge has them.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use af_runtime::host::Trust;
use af_runtime::host::egress::Egress;
use af_runtime::listen::{Peer, TrustedProxies};
use af_runtime::metrics::Metrics;
use af_runtime::proxy::{Proxy, UpstreamScheme, UpstreamTarget, Upstreams};
use af_runtime::request_id::RequestId;
use anyhow::Context;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::mpsc;

/// Connections that wait for their core.
const QUEUE: usize = 1024;

/// What all cores share.
struct Route {
    proxy: Proxy,
    upstreams: Upstreams,
}

/// Prints its port and serves until it is killed.
pub fn serve(backend: u16, cores: usize) -> anyhow::Result<()> {
    let authority = format!("127.0.0.1:{backend}").parse()?;
    let target = UpstreamTarget::new(UpstreamScheme::Http, authority)?;
    let egress = Egress::new(&["127.0.0.0/8".parse()?]);
    let metrics = Arc::new(Metrics::default());
    let route = Arc::new(Route {
        proxy: Proxy::new(egress, Trust::default(), TrustedProxies::default(), metrics),
        upstreams: Upstreams::new(vec![Some(target)], Duration::from_secs(30)),
    });
    let cores: Vec<_> = (0..cores).map(|_| start(route.clone())).collect::<Result<_, _>>()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    for core in cores.iter().cycle() {
        core.try_send(listener.accept()?).ok().context("a core has stopped")?;
    }
    Ok(())
}

fn start(route: Arc<Route>) -> std::io::Result<mpsc::Sender<(TcpStream, SocketAddr)>> {
    let (sender, mut connections) = mpsc::channel(QUEUE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        runtime.block_on(async move {
            while let Some((stream, address)) = connections.recv().await {
                tokio::spawn(connection(stream, address, route.clone()));
            }
        });
    });
    Ok(sender)
}

async fn connection(stream: TcpStream, address: SocketAddr, route: Arc<Route>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let io = TokioIo::new(tokio::net::TcpStream::from_std(stream)?);
    let (peer, route) = (Peer::plain(address), &*route);
    let peer = &peer;
    let answer = service_fn(move |request: hyper::Request<hyper::body::Incoming>| async move {
        let path = request.uri().path_and_query().cloned();
        let path = path.unwrap_or_else(|| hyper::http::uri::PathAndQuery::from_static("/"));
        let Route { proxy, upstreams } = route;
        proxy.forward(peer, request, "shop.example", upstreams, vec![path], RequestId::next()).await
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
    builder.serve_connection(io, answer).with_upgrades().await?;
    Ok(())
}
