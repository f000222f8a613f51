//! Any request to the gateway names content in a format that is served, or is refused; and whatever blocks it leads through, a
//! CAR of them has blocks that match, in a stream that ends.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use af_content::car::{Block, CarDecoder};
use af_content::gateway::{Access, Gateway, GatewayBody, Request, Target};
use af_content::{DiskStore, identify};
use af_contract::Codec;
use http::header::{ACCEPT, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, HeaderValue, Method};
use http_body::Body;
use libfuzzer_sys::fuzz_target;

/// Runs whose blocks may lie on the disk: each has others.
const KEPT: usize = 500;

static DIR: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("af-fuzz-gateway-{}", std::process::id())));
static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));
static RUNS: AtomicUsize = AtomicUsize::new(0);

fuzz_target!(|input: (&[u8], &[u8], &str, &str, &[u8])| {
    let (node, leaf, below, query, header) = input;
    if RUNS.fetch_add(1, Ordering::Relaxed) % KEPT == 0 {
        // None at first.
        let _gone = std::fs::remove_dir_all(&*DIR);
    }
    let Ok(store) = DiskStore::open(&*DIR) else { return };
    let mut roots = Vec::new();
    for (codec, bytes) in [(Codec::DagPb, node), (Codec::DagCbor, node), (Codec::Raw, leaf)] {
        let block = Block { id: identify(codec, bytes), bytes: bytes.to_vec().into() };
        if store.keep(&block).is_ok() {
            roots.push(block.id);
        }
    }
    let headers: HeaderMap = HeaderValue::from_bytes(header)
        .map(|value| [ACCEPT, RANGE, IF_NONE_MATCH].map(|name| (name, value.clone())).into_iter().collect())
        .unwrap_or_default();
    let gateway = Gateway::new(store, Access::Public);
    for root in roots {
        for target in
            [Target::of_path(&format!("/ipfs/{root}{below}")), Target::of_host(&root.to_string(), below)]
        {
            let Ok(target) = target else { continue };
            let request =
                Request { method: &Method::GET, target: &target, query: Some(query), headers: &headers };
            RUNTIME.block_on(async {
                let Ok(response) = gateway.respond(request).await else { return };
                let is_car = response
                    .headers()
                    .get("content-type")
                    .is_some_and(|kind| kind.as_bytes().starts_with(b"application/vnd.ipld.car"));
                read(response.into_body(), is_car).await;
            });
        }
    }
});

async fn read(body: GatewayBody, is_car: bool) {
    let mut body = std::pin::pin!(body);
    let mut decoder = CarDecoder::default();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        // What is missing cuts the stream.
        let Ok(frame) = frame else { return };
        if let (true, Some(bytes)) = (is_car, frame.data_ref()) {
            decoder.push(bytes);
            while decoder.next_block().expect("blocks match").is_some() {}
        }
    }
    if is_car {
        // A root within a CID is nothing that the decoder takes, and none of these has one.
        decoder.finish().expect("it is complete");
    }
}
