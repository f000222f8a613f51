//! No bytes of a balancer make the edge panic or read past the header, and what is accepted means what it says.

#![no_main]

#[path = "../../src/listen/proxy_protocol.rs"]
mod proxy_protocol;
#[path = "../../src/listen/trusted.rs"]
mod trusted;

use std::net::SocketAddr;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use proxy_protocol::ProxyProtocol;
use tokio::runtime::{Builder, Runtime};
use trusted::TrustedProxies;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());

fuzz_target!(|bytes: &[u8]| {
    let senders = ProxyProtocol::from(TrustedProxies::new(&["127.0.0.0/8".parse().unwrap()]));
    let balancer = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut rest = bytes;
    let Ok(client) = RUNTIME.block_on(senders.client(&mut rest, balancer)) else { return };
    let header = &bytes[..bytes.len() - rest.len()];
    assert!(header.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    assert_eq!(header.len(), 16 + length);
    // What is believed stands in the header, port and all.
    let says = |bytes: &[u8]| header.windows(bytes.len()).any(|window| window == bytes);
    assert!(client == balancer || says(&client.port().to_be_bytes()));
});
