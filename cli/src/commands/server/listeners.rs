//! Where a server listens, and how others reach it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use af_runtime::Edge;
use anyhow::Context;
use tokio::net::TcpListener;

use crate::args::server::{Controlling, Node, Serving};

/// Every listener of a server that answers requests.
pub struct Bound {
    pub plain: TcpListener,
    pub tls: Option<TcpListener>,
    pub metrics: Option<TcpListener>,
}

/// Where it is reached.
pub struct Urls {
    /// With `{slug}` in it.
    pub functions: String,
    /// Functions without encryption, where there is encryption, too.
    pub http: Option<String>,
    pub metrics: Option<String>,
    /// Where clients reach the encrypted listener.
    pub https_port: Option<u16>,
}

impl Bound {
    /// Binds all that the options name, so that a port that is taken is told before anything starts.
    pub async fn bind(options: &Serving) -> anyhow::Result<Self> {
        Ok(Self {
            plain: listen(options.listen, "--listen").await?,
            tls: listen_if(options.tls.tls_listen, "--tls-listen").await?,
            metrics: listen_if(options.metrics_listen, "--metrics-listen").await?,
        })
    }

    pub fn urls(&self, node: &Node, options: &Serving) -> anyhow::Result<Urls> {
        let plain = self.plain.local_addr()?;
        let tls = self.tls.as_ref().map(TcpListener::local_addr).transpose()?;
        let tls = tls.map(|at| SocketAddr::new(at.ip(), options.tls.https_port.unwrap_or(at.port())));
        let (scheme, address) = tls.map_or(("http", plain), |address| ("https", address));
        let metrics = self.metrics.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok(Urls {
            functions: Edge::url_of(scheme, node.primary_domain(), "{slug}", address),
            http: tls.map(|_| local_url(plain)),
            metrics: metrics.map(|address| format!("{}/metrics", local_url(address))),
            https_port: tls.map(|address| address.port()),
        })
    }
}

/// The control API's listener, and how clients on this machine reach it.
pub async fn bind_api(options: &Controlling) -> anyhow::Result<(TcpListener, String)> {
    let listener = listen(options.api_listen, "--api-listen").await?;
    let url = local_url(listener.local_addr()?);
    Ok((listener, url))
}

async fn listen_if(address: Option<SocketAddr>, option: &str) -> anyhow::Result<Option<TcpListener>> {
    match address {
        Some(address) => listen(address, option).await.map(Some),
        None => Ok(None),
    }
}

async fn listen(address: SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another address with {option}"))
}

/// How a client on this machine reaches a listener.
fn local_url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}
