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
use af_contract::{
    Change, Code, Codec, FunctionState, FunctionStatus, Limits, RouteTable, Slug, Update, World,
};
use af_runtime::artifact::compile::Compiler;
use af_runtime::artifact::{Artifact, ArtifactStore};
use af_runtime::content::ContentStore;
use af_runtime::host::{Given, Grants};
use af_runtime::logs::Logger;
use af_runtime::reports::Reports;
use af_runtime::request_id::RequestId;
use af_runtime::router::{self, Answer, RuntimeRouter};
use af_runtime::sandbox::{Call, Callee, Gate, IdleInstances, Sandbox, SandboxConfig};
use af_runtime::site::{Naming, Sites};
use af_runtime::usage::Counters;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http_body_util::BodyExt;
use serde_json::json;
use wasmtime_wasi_http::WasiBody;

fn save(store: &DiskStore, file: &[u8]) -> FileSummary {
    let staging = store.stage().unwrap();
    let summary = unixfs::import(file, |block| staging.put(&block).map_err(io::Error::other)).unwrap();
    staging.commit().unwrap().finish().unwrap();
    summary
}

struct Node {
    sandbox: Sandbox,
    gate: Gate,
    grants: Arc<Grants>,
    logger: Arc<Logger>,
    usage: Arc<Counters>,
    artifacts: ArtifactStore,
    blocks: DiskStore,
    _dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let blocks = DiskStore::open(dir.path().join("blocks")).unwrap();
        let sandbox = Sandbox::new(&SandboxConfig::default()).unwrap();
        let opened = ArtifactStore::open(
            &dir.path().join("artifacts"),
            1 << 30,
            sandbox.clone(),
            blocks.clone().into(),
            Compiler::Here,
        );
        Self {
            grants: Arc::new(Grants::new(sandbox.services(), Given::default())),
            logger: Arc::new(Logger::new("fn_1", "dep_1", sandbox.tap())),
            usage: sandbox.usage().of("fn_1"),
            sandbox,
            gate: Gate::default(),
            artifacts: opened.unwrap(),
            blocks,
            _dir: dir,
        }
    }

    async fn artifact(&self, guest: &str, world: World) -> Arc<Artifact> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let file =
            std::fs::read(target.join(format!("guests/{guest}.wasm"))).expect("run examples/build first");
        let summary = save(&self.blocks, &file);
        let code = Code { cid: summary.root, blake3: summary.blake3, size: summary.size, world };
        self.artifacts.artifact(&code, None).await.unwrap()
    }
}

/// One call, to the end of its response. `idle` says whether its instance is a fresh one.
async fn call(node: &Node, artifact: &Arc<Artifact>, idle: &Arc<IdleInstances>) {
    let callee = Callee {
        logger: node.logger.clone(),
        usage: node.usage.clone(),
        artifact: artifact.clone(),
        limits: Limits { cpu_ms: 10_000, ..Limits::default() },
        idle: idle.clone(),
        habits: Arc::default(),
        grants: node.grants.clone(),
    };
    let permit = node.sandbox.admission().admit(&node.gate).await.unwrap();
    let request = http::Request::get("http://hello.localhost/").body(WasiBody::default()).unwrap();
    let response = Call::new(&node.sandbox, callee, permit).run(RequestId::next(), request).await;
    black_box(response.unwrap().into_body().collect().await.unwrap());
    // What is left for a moment in which nobody waits is part of the cost, and would pile up here.
    tokio::task::yield_now().await;
}

fn instantiation(criterion: &mut Criterion) {
    // As a core of the edge has it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let node = runtime.block_on(async { Node::new() });
    for (instance, uses) in [("fresh", 1), ("reused", u32::MAX)] {
        let mut group = criterion.benchmark_group(format!("request to response, {instance} instance"));
        for (guest, world) in [
            ("hello-rust", World::Proxy02),
            ("hello-rust-p3", World::Service03),
            ("hello-js", World::Proxy02),
        ] {
            if guest == "hello-js" && uses > 1 {
                // StarlingMonkey answers one request only.
                continue;
            }
            let artifact = runtime.block_on(node.artifact(guest, world));
            let idle = Arc::new(IdleInstances::new(uses, 1, node.sandbox.idle().clone()));
            let run = || call(&node, &artifact, &idle);
            group.bench_function(guest, |bench| bench.to_async(&runtime).iter(run));
        }
    }
}

fn routing(criterion: &mut Criterion) {
    let node = Node::new();
    let router = RuntimeRouter::new(
        &["localhost".into()],
        node.blocks.clone().into(),
        node.artifacts.clone(),
        Reports::default(),
    );
    let routes: serde_json::Map<_, _> = (0..HOST_ROUTES).map(|n| (pattern(n), json!("https://t"))).collect();
    let routes = RouteTable::parse(routes.into()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _within = runtime.enter();
    for number in 0..HOSTS {
        let state = FunctionState {
            slug: Slug::parse(&format!("function-{number}")).unwrap(),
            project: "prj_1".into(),
            status: FunctionStatus::Active,
            routes: (number == HOSTS / 2).then(|| routes.clone()).flatten(),
            deployment: None,
            previews: Vec::new(),
            rollout: None,
        };
        let change = Change::Function { id: format!("fn_{number}"), state: Some(state) };
        router.apply(vec![Update { revision: number + 1, change }]);
    }
    let host = format!("function-{}.localhost", HOSTS / 2);
    let mut group = criterion.benchmark_group("100,000 hosts, 100 routes on the host");
    for (name, path) in [
        ("first path", "/service-0/users/7"),
        ("last path", "/service-99/orders/2026/11/items.json"),
        ("no route", "/nothing/of/the/kind"),
    ] {
        group.bench_function(name, |bench| bench.iter(|| route(&router, black_box(&host), black_box(path))));
    }
    group.bench_function("unknown host", |bench| {
        bench.iter(|| router.find(black_box("www.example.com")).is_err());
    });
}

const HOSTS: u64 = 100_000;
const HOST_ROUTES: u64 = 100;

/// Of all kinds.
fn pattern(number: u64) -> String {
    match number % 4 {
        0 => format!("/service-{number}/users/:id"),
        1 => format!("/service-{number}/*"),
        2 => format!("/service-{number}/about"),
        _ => format!("/service-{number}/orders/*/:name.json"),
    }
}

/// All that routing adds to a request.
fn route(router: &RuntimeRouter, host: &str, path: &str) -> bool {
    let Answer::Function(function) = &*router.find(host).unwrap() else { return false };
    let path = router::path::normal(path).unwrap();
    function.routes().unwrap().find("GET", host, &path).is_some()
}

/// A page of a site that is in memory, two directories deep, and a large file's body.
fn sites(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::open(dir.path()).unwrap();
    let site = dir.path().join("site/docs/guide");
    std::fs::create_dir_all(&site).unwrap();
    std::fs::write(site.join("index.html"), "x".repeat(4096)).unwrap();
    std::fs::write(site.join("film.mp4"), "x".repeat(5_000_000)).unwrap();
    let staging = store.stage().unwrap();
    let mut put = |block: car::Block| staging.put(&block).map_err(io::Error::other);
    let root = unixfs::folder::import(&dir.path().join("site"), &mut put).unwrap().root;
    staging.commit().unwrap().finish().unwrap();
    let site = Sites::new(ContentStore::new(store)).site(root, Naming::Name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let get = |path: &str| {
        let request = http::Request::get(path).header("accept-encoding", "gzip, deflate, br, zstd");
        request.body(()).unwrap()
    };
    let answer = async |request: &http::Request<()>| {
        black_box(site.respond(request).await.unwrap().into_body().collect().await.unwrap());
    };
    let mut group = criterion.benchmark_group("site");
    for (name, path) in [("page of 4 KiB", "/docs/guide/"), ("file of 5 MB", "/docs/guide/film.mp4")] {
        let request = get(path);
        group.bench_function(name, |bench| bench.to_async(&runtime).iter(|| answer(&request)));
    }
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
    let mut stream = car::encode_header(&[summary.root]);
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

criterion_group!(parts, instantiation, routing, sites, verification);
criterion_main!(parts);
