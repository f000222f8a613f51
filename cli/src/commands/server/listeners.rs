//! Where a server listens, and how others reach it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use af_runtime::Edge;
use anyhow::Context;
use tokio::net::TcpListener;

use crate::args::Up;

/// Every listener of a server.
pub struct Bound {
    pub plain: TcpListener,
    pub tls: Option<TcpListener>,
    pub api: TcpListener,
    pub metrics: Option<TcpListener>,
}

/// Where it is reached.
pub struct Urls {
    /// With `{slug}` in it.
    pub functions: String,
    /// Functions without encryption, where there is encryption, too.
    pub http: Option<String>,
    pub api: String,
    pub metrics: Option<String>,
    /// Where clients reach the encrypted listener.
    pub https_port: Option<u16>,
}

impl Bound {
    /// Binds all that the options name, so that a port that is taken is told before anything starts.
    pub async fn bind(options: &Up) -> anyhow::Result<Self> {
        Ok(Self {
            plain: listen(options.listen, "--listen").await?,
            tls: listen_if(options.tls.tls_listen, "--tls-listen").await?,
            api: listen(options.api_listen, "--api-listen").await?,
            metrics: listen_if(options.metrics_listen, "--metrics-listen").await?,
        })
    }

    pub fn urls(&self, options: &Up) -> anyhow::Result<Urls> {
        let plain = self.plain.local_addr()?;
        let tls = self.tls.as_ref().map(TcpListener::local_addr).transpose()?;
        let tls = tls.map(|at| SocketAddr::new(at.ip(), options.tls.https_port.unwrap_or(at.port())));
        let (scheme, address) = tls.map_or(("http", plain), |address| ("https", address));
        let metrics = self.metrics.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok(Urls {
            functions: Edge::url_of(scheme, options.primary_domain(), "{slug}", address),
            http: tls.map(|_| local_url(plain)),
            api: local_url(self.api.local_addr()?),
            metrics: metrics.map(|address| format!("{}/metrics", local_url(address))),
            https_port: tls.map(|address| address.port()),
        })
    }
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
