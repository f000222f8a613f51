//! Criterion benches of the parts of a request: `cargo bench -p af-benches`.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::unwrap_used, reason = "a failure here ends the bench")]

use std::hint::black_box;
use std::io;
use std::path::Path;
use std::sync::Arc;

use af_content::car::{self, CarDecoder};
use af_content::unixfs::{self, FileSummary};
use af_content::{DiskStore, verify};
use af_contract::route::Target;
use af_contract::{
    Code, Codec, ContentId, DeploymentRef, FunctionStatus, HashKind, Limits, Route, Slug, World,
};
use af_runtime::artifact::{Artifact, ArtifactStore};
use af_runtime::request_id::RequestId;
use af_runtime::router::RuntimeRouter;
use af_runtime::sandbox::{Call, Sandbox, SandboxConfig};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wasmtime_wasi_http::WasiBody;

fn save(store: &DiskStore, file: &[u8]) -> FileSummary {
    let staging = store.stage().unwrap();
    let summary = unixfs::import(file, |block| staging.put(&block).map_err(io::Error::other)).unwrap();
    staging.commit().unwrap().finish().unwrap();
    summary
}

struct Node {
    sandbox: Sandbox,
    artifacts: ArtifactStore,
    blocks: DiskStore,
    _dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let blocks = DiskStore::open(dir.path().join("blocks")).unwrap();
        let sandbox = Sandbox::new(&SandboxConfig::default()).unwrap();
        let opened =
            ArtifactStore::open(&dir.path().join("artifacts"), 1 << 30, sandbox.clone(), blocks.clone());
        Self { sandbox, artifacts: opened.unwrap(), blocks, _dir: dir }
    }

    async fn artifact(&self, guest: &str, world: World) -> Arc<Artifact> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let file =
            std::fs::read(target.join(format!("guests/{guest}.wasm"))).expect("run examples/build first");
        let summary = save(&self.blocks, &file);
        let code = Code { cid: summary.root, blake3: summary.blake3, size: summary.size, world };
        self.artifacts.artifact(&code).await.unwrap()
    }
}

async fn call(node: &Node, artifact: &Arc<Artifact>) {
    let limits = Limits { cpu_ms: 10_000, ..Limits::default() };
    let permit = node.sandbox.admit().await.unwrap();
    let call = Call::new(&node.sandbox, artifact, &limits, permit);
    let request = http::Request::get("http://hello.localhost/").body(WasiBody::default()).unwrap();
    black_box(call.run(RequestId::next(), "fn_1", request).await.unwrap());
}

fn instantiation(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = runtime.block_on(async { Node::new() });
    let mut group = criterion.benchmark_group("fresh instance to response");
    for (guest, world) in
        [("hello-rust", World::Proxy02), ("hello-rust-p3", World::Service03), ("hello-js", World::Proxy02)]
    {
        let artifact = runtime.block_on(node.artifact(guest, world));
        group.bench_function(guest, |bench| bench.to_async(&runtime).iter(|| call(&node, &artifact)));
    }
}

fn routing(criterion: &mut Criterion) {
    let node = Node::new();
    let router = RuntimeRouter::new("localhost", node.blocks.clone(), node.artifacts.clone());
    let route = |number: u64| Route {
        revision: number + 1,
        slug: Slug::parse(&format!("function-{number}")).unwrap(),
        target: Some(Target {
            function: format!("fn_{number}"),
            status: FunctionStatus::Active,
            deployment: Some(DeploymentRef {
                id: format!("dep_{number}"),
                manifest: ContentId::new(Codec::DagCbor, HashKind::Sha2_256, [1; 32]),
            }),
        }),
    };
    router.apply((0..10_000).map(route).collect());
    criterion.bench_function("route one of 10,000 hosts", |bench| {
        bench.iter(|| router.find(black_box("function-7777.localhost:8080")).unwrap());
    });
}

fn verification(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::open(dir.path()).unwrap();
    let file: Vec<u8> = (0..5_000_000_u32).flat_map(|i| i.to_le_bytes()).take(5_000_000).collect();
    let summary = save(&store, &file);
    let mut group = criterion.benchmark_group("verify 5 MB");
    group.throughput(Throughput::Bytes(file.len() as u64));
    group.bench_function("read from disk, BLAKE3 of the whole", |bench| {
        bench.iter(|| store.file(&summary.root, &summary.blake3, 1 << 30).unwrap());
    });
    let block = af_content::identify(Codec::Raw, &file);
    group.bench_function("sha2-256", |bench| bench.iter(|| verify(&block, black_box(&file)).unwrap()));
    let mut stream = car::encode_header(&summary.root);
    unixfs::import(&file[..], |block| {
        stream.extend(car::encode_block_prefix(&block.id, block.bytes.len()));
        stream.extend_from_slice(&block.bytes);
        Ok(())
    })
    .unwrap();
    group.bench_function("decode a CAR, every block verified", |bench| {
        bench.iter(|| {
            let mut decoder = CarDecoder::default();
            for chunk in stream.chunks(64 << 10) {
                decoder.push(chunk);
                while let Some(block) = decoder.next_block().unwrap() {
                    black_box(block);
                }
            }
        });
    });
}

criterion_group!(parts, instantiation, routing, verification);
criterion_main!(parts);
