//! The fixtures of the gateways' published expectations, and a gateway that has them.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

use std::collections::HashMap;
use std::path::Path;

use af_content::DiskStore;
use af_content::car::{Block, CarDecoder};
use af_content::gateway::{Access, Gateway, GatewayBody, Request, Target};
use af_content::unixfs::{Looked, Lookup, Node};
use af_contract::{Codec, ContentId};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::Body;

/// What a CAR of the fixtures has. `None`: it has CIDs that are not supported.
pub struct Fixture {
    pub root: ContentId,
    pub blocks: HashMap<ContentId, Bytes>,
}

impl Fixture {
    pub fn open(name: &str) -> Option<Self> {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/gateway-conformance/{name}.car"));
        let mut decoder = CarDecoder::default();
        decoder.push(&std::fs::read(path).unwrap());
        let mut blocks = HashMap::new();
        let mut first = None;
        while let Some(block) = decoder.next_block().ok()? {
            first.get_or_insert(block.id);
            blocks.insert(block.id, block.bytes);
        }
        let root = decoder.roots().unwrap().first().copied().or(first).unwrap();
        Some(Self { root, blocks })
    }

    pub fn node(&self, id: &ContentId) -> Node {
        Node::decode(id, &self.blocks[id]).unwrap()
    }

    /// What names lead to, and all blocks on the way.
    pub fn way(&self, names: &[&str]) -> Vec<ContentId> {
        let mut way = vec![self.root];
        for name in names {
            let mut lookup = Lookup::new(*way.last().unwrap(), name);
            loop {
                match lookup.clone().step(self.node(&lookup.wanted())).unwrap() {
                    Looked::Found(entry) => break way.push(entry.id),
                    Looked::Deeper(deeper) => {
                        lookup = deeper;
                        way.push(lookup.wanted());
                    }
                    other => panic!("{name}: {other:?}"),
                }
            }
        }
        way
    }

    /// What stands under a file or directory, in its order.
    pub fn below_of_file(&self) -> Vec<ContentId> {
        self.node(&self.root).links().collect()
    }

    pub fn id(&self, names: &[&str]) -> ContentId {
        *self.way(names).last().unwrap()
    }

    /// Everything below, in depth-first order, each as often as it occurs.
    pub fn below(&self, id: &ContentId) -> Vec<ContentId> {
        if id.codec() != Codec::DagPb {
            return Vec::new();
        }
        self.node(id).links().flat_map(|link| std::iter::once(link).chain(self.below(&link))).collect()
    }

    /// All shards below a directory.
    pub fn shards(&self, id: &ContentId) -> Vec<ContentId> {
        let Node::Shard(links) = self.node(id) else { return Vec::new() };
        let inner = links.iter().filter(|link| link.name.len() == 2);
        inner.flat_map(|link| std::iter::once(link.id).chain(self.shards(&link.id))).collect()
    }
}

pub struct Served {
    pub gateway: Gateway,
    _dir: tempfile::TempDir,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn blocks(&self) -> Vec<ContentId> {
        let mut decoder = CarDecoder::default();
        decoder.push(&self.body);
        let mut ids = Vec::new();
        while let Some(block) = decoder.next_block().unwrap() {
            ids.push(block.id);
        }
        decoder.finish().unwrap();
        ids
    }
}

impl Served {
    pub fn with(fixtures: &[&Fixture]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = DiskStore::open(dir.path()).unwrap();
        for fixture in fixtures {
            for (id, bytes) in &fixture.blocks {
                store.keep(&Block { id: *id, bytes: bytes.clone() }).unwrap();
            }
        }
        Self { gateway: Gateway::new(store, Access::Public), _dir: dir }
    }

    pub async fn ask(&self, method: Method, url: &str, headers: &[(&str, &str)]) -> Answer {
        let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
            })
            .collect();
        let response = async {
            let target = Target::of_path(path)?;
            self.gateway.respond(Request { method: &method, target: &target, query, headers: &headers }).await
        };
        match response.await {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                Answer { status: parts.status, headers: parts.headers, body: collected(body).await }
            }
            Err(error) => {
                let mut headers = HeaderMap::new();
                error.explain(&mut headers);
                Answer { status: error.status().0, headers, body: Bytes::from(error.to_string()) }
            }
        }
    }

    pub async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(Method::GET, url, headers).await
    }

    /// A CAR by the URL and by the header, with all that is expected of every CAR.
    pub async fn car(&self, url: &str, expected: &[ContentId]) {
        let query = if url.contains('?') { "&" } else { "?" };
        let accept = [("accept", "application/vnd.ipld.car")];
        for answer in [self.get(&format!("{url}{query}format=car"), &[]).await, self.get(url, &accept).await]
        {
            assert_eq!(answer.status, 200, "{url}: {:?}", answer.body);
            assert_eq!(answer.blocks(), expected, "{url}");
            assert_eq!(
                answer.header("content-type"),
                "application/vnd.ipld.car; version=1; order=dfs; dups=n"
            );
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert_eq!(answer.header("accept-ranges"), "none");
            assert!(answer.header("content-disposition").starts_with("attachment; filename=\""));
            assert!(answer.header("content-disposition").ends_with(".car\""));
            assert!(!answer.header("etag").is_empty());
        }
    }
}

async fn collected(body: GatewayBody) -> Bytes {
    let mut body = std::pin::pin!(body);
    let mut all = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        all.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    all.freeze()
}

pub fn each_once(ids: Vec<ContentId>) -> Vec<ContentId> {
    let mut seen = std::collections::HashSet::new();
    ids.into_iter().filter(|id| seen.insert(*id)).collect()
}

pub fn joined(parts: &[&[ContentId]]) -> Vec<ContentId> {
    each_once(parts.concat())
}
