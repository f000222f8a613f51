//! Sources as they may be, honest and otherwise, and what the fetcher makes of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use af_contract::ContentId;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use super::*;
use crate::DiskStore;
use crate::unixfs::{self, Directory, Entry, Exceeded};

type Held = BTreeMap<ContentId, Bytes>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Honest,
    /// Sends other bytes.
    Lies,
    /// Never answers.
    Stalls,
    /// Fails in the first rounds.
    Fails(usize),
    /// Fails until then, after its first answer.
    Away(tokio::time::Instant),
    /// Wants to be asked later, the first time.
    Busy(Duration),
    /// Has nothing.
    Empty,
}

#[derive(Debug)]
struct Fake {
    manner: Manner,
    held: Held,
    bulk: Option<Vec<Block>>,
    asked: AtomicUsize,
}

impl Fake {
    fn new(manner: Manner, held: &Held) -> Arc<Self> {
        Arc::new(Self { manner, held: held.clone(), bulk: None, asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Source for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn block(&self, id: ContentId) -> BoxFuture<'_, Result<Hashed, SourceError>> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let held = self.held.get(&id).cloned().ok_or(SourceError::NotFound);
        async move {
            // So that others can ask at the same time.
            tokio::task::yield_now().await;
            let sent = match self.manner {
                Manner::Honest => held,
                Manner::Lies => Ok(Bytes::from_static(b"something else")),
                Manner::Stalls => std::future::pending().await,
                Manner::Fails(times) if asked < times => Err(SourceError::Unreachable("refused".into())),
                Manner::Fails(_) => held,
                Manner::Away(until) if asked > 0 && tokio::time::Instant::now() < until => {
                    Err(SourceError::Failed("status 500".to_owned()))
                }
                Manner::Away(_) => held,
                Manner::Busy(after) if asked == 0 => {
                    Err(SourceError::Busy { status: Some(429), after: Some(after) })
                }
                Manner::Busy(_) => held,
                Manner::Empty => Err(SourceError::NotFound),
            };
            sent.map(|bytes| Hashed::as_asked(&id, bytes))
        }
        .boxed()
    }

    fn dag(&self, _: ContentId) -> Option<Blocks<'_>> {
        let blocks = self.bulk.clone()?;
        Some(futures::stream::iter(blocks).map(Ok).boxed())
    }
}

struct Node {
    _dir: tempfile::TempDir,
    fetcher: Fetcher,
}

fn node(sources: &[Arc<Fake>]) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::open(dir.path()).unwrap();
    let sources = sources.iter().map(|source| Arc::clone(source) as Arc<dyn Source>);
    Node { fetcher: Fetcher::new(store, sources), _dir: dir }
}

fn one() -> (ContentId, Held) {
    let bytes = Bytes::from_static(b"hello world");
    let id = crate::identify(af_contract::Codec::Raw, &bytes);
    (id, Held::from([(id, bytes)]))
}

fn file(size: usize) -> (ContentId, Held) {
    let bytes: Vec<u8> = (0..size).map(|n| n.to_le_bytes()[2] ^ n.to_le_bytes()[0]).collect();
    let mut held = Held::new();
    let put = |block: Block| {
        held.insert(block.id, block.bytes);
        Ok(())
    };
    (unixfs::import(&bytes[..], put).unwrap().root, held)
}

fn directory() -> (ContentId, Vec<Block>) {
    let mut blocks = Vec::new();
    let mut put = |block: Block| {
        blocks.push(block);
        Ok(())
    };
    let entries: Vec<Entry> = (0..40_usize)
        .map(|number| {
            let text = format!("file {number}");
            let summary = unixfs::import(text.as_bytes(), &mut put).unwrap();
            Entry { name: format!("{number:02}"), id: summary.root, size: summary.size }
        })
        .collect();
    let (root, _) = Directory::write(&entries, &mut put).unwrap();
    // Parents first.
    blocks.reverse();
    (root, blocks)
}

const BOUNDS: DagBounds = DagBounds { bytes: 1 << 30, blocks: 10_000 };

async fn all(fetcher: &Fetcher, root: ContentId) -> Result<DagSummary, Arc<FetchError>> {
    fetcher.dag(root, BOUNDS, &mut |_| {}).await
}

#[tokio::test(start_paused = true)]
async fn a_source_that_lies_is_found_out_and_the_next_one_serves() {
    let (id, held) = one();
    let sources = [Fake::new(Manner::Lies, &held), Fake::new(Manner::Honest, &held)];
    let node = node(&sources);
    assert_eq!(node.fetcher.block(id).await.unwrap(), held[&id]);
    assert_eq!(node.fetcher.store().block(&id).unwrap().as_ref(), Some(&held[&id]), "it is kept");
    let [liar, honest] = node.fetcher.reports().try_into().unwrap();
    assert_eq!((liar.lies, liar.paused, liar.blocks), (1, true, 0));
    assert_eq!((honest.blocks, honest.bytes), (1, 11));
    node.fetcher.block(id).await.unwrap();
    assert_eq!(sources[0].asked(), 1, "it is not asked again");
}

#[tokio::test(start_paused = true)]
async fn sources_that_stall_are_overtaken_and_then_asked_last() {
    let (root, held) = file(5_000_000);
    let sources = [
        Fake::new(Manner::Stalls, &held),
        Fake::new(Manner::Stalls, &held),
        Fake::new(Manner::Lies, &held),
        Fake::new(Manner::Honest, &held),
    ];
    let node = node(&sources);
    let summary = all(&node.fetcher, root).await.unwrap();
    assert_eq!((summary.blocks, summary.fetched), (held.len(), held.len()));
    assert_eq!(node.fetcher.store().file(&root, &blake3(&held, &root), 1 << 30).unwrap().len(), 5_000_000);
    assert!(sources[3].asked() == held.len(), "{}", sources[3].asked());
}

fn blake3(held: &Held, root: &ContentId) -> af_contract::Blake3Hash {
    let mut export = unixfs::Export::new(*root, 1 << 30);
    let mut hasher = blake3::Hasher::new();
    while let Some(id) = export.wanted() {
        hasher.update(&export.feed(&held[&id]).unwrap());
    }
    hasher.finalize().into()
}

#[tokio::test(start_paused = true)]
async fn a_source_that_comes_back_is_asked_again() {
    let (id, held) = one();
    let node = node(&[Fake::new(Manner::Fails(2), &held)]);
    node.fetcher.block(id).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_for_a_moment_ends_no_fetch_of_many_blocks() {
    let (root, held) = file(20_000_000);
    let until = tokio::time::Instant::now() + Duration::from_secs(3);
    let source = Fake::new(Manner::Away(until), &held);
    let node = node(std::slice::from_ref(&source));
    all(&node.fetcher, root).await.unwrap();
    assert!(tokio::time::Instant::now() >= until && source.asked() > held.len());
}

#[tokio::test(start_paused = true)]
async fn who_is_busy_is_asked_again_when_it_says_and_no_earlier() {
    let (id, held) = one();
    let began = tokio::time::Instant::now();
    let after = Duration::from_secs(9);
    let source = Fake::new(Manner::Busy(after), &held);
    node(std::slice::from_ref(&source)).fetcher.block(id).await.unwrap();
    assert!(began.elapsed() >= after && source.asked() == 2);

    let node = node(&[Fake::new(Manner::Busy(Duration::from_secs(50)), &held)]);
    let said = node.fetcher.block(id).await.unwrap_err().to_string();
    assert!(said.ends_with("fake: it is busy (status 429), and wants to be asked again in 50 s"), "{said}");
    let said = node.fetcher.block(id).await.unwrap_err().to_string();
    assert!(
        said.contains("fake: it is not asked for another 50 s; before, it is busy (status 429)"),
        "{said}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_nobody_has_is_said_at_once_with_who_was_asked() {
    let (id, held) = one();
    let sources = [Fake::new(Manner::Empty, &held), Fake::new(Manner::Empty, &held)];
    let node = node(&sources);
    let error = node.fetcher.block(id).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "block {id} cannot be had: fake: it does not have the block; fake: it does not have the block"
        )
    );
    assert_eq!(sources[0].asked(), 1);
    let nobody = super::tests::node(&[]);
    assert!(matches!(*nobody.fetcher.block(id).await.unwrap_err(), FetchError::NoSource(_)));
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_at_once_share_one_fetch() {
    let (id, held) = one();
    let source = Fake::new(Manner::Honest, &held);
    let node = node(std::slice::from_ref(&source));
    let asked = (0..50).map(|_| node.fetcher.block(id));
    let got = futures::future::join_all(asked).await;
    assert!(got.into_iter().all(|got| got.is_ok_and(|bytes| bytes == held[&id])));
    assert_eq!(source.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_fetch_goes_on_with_what_is_missing() {
    let (root, held) = file(5_000_000);
    let mut part = held.clone();
    let (last, _) = part.iter().find(|(id, _)| **id != root).map(|(id, bytes)| (*id, bytes.clone())).unwrap();
    part.remove(&last);
    let (poor, rich) = (Fake::new(Manner::Honest, &part), Fake::new(Manner::Honest, &held));
    let first = node(std::slice::from_ref(&poor));
    all(&first.fetcher, root).await.unwrap_err();
    let again = Fetcher::new(first.fetcher.store().clone(), [Arc::clone(&rich) as Arc<dyn Source>]);
    let summary = all(&again, root).await.unwrap();
    assert_eq!(summary.blocks, held.len());
    assert_eq!(summary.fetched, rich.asked());
    assert!((1..held.len()).contains(&summary.fetched), "{}", summary.fetched);
}

#[tokio::test(start_paused = true)]
async fn a_directory_comes_by_one_request_and_only_what_belongs_to_it_is_kept() {
    let (root, blocks) = directory();
    let held: Held = blocks.iter().map(|block| (block.id, block.bytes.clone())).collect();
    let (unasked, _) = one();
    let stranger = Block { id: unasked, bytes: Bytes::from_static(b"hello world") };
    let mut bulk = blocks.clone();
    bulk.insert(3, stranger);
    // It ends early: the rest is asked for.
    bulk.truncate(30);
    let mut source = Fake::new(Manner::Honest, &held);
    Arc::get_mut(&mut source).unwrap().bulk = Some(bulk);
    let node = node(std::slice::from_ref(&source));
    let summary = all(&node.fetcher, root).await.unwrap();
    assert_eq!(summary.blocks, held.len());
    assert_eq!(source.asked(), 1 + held.len() - 29, "the root, and what did not come");
    assert!(!node.fetcher.store().has(&unasked).unwrap());
    let [report] = node.fetcher.reports().try_into().unwrap();
    assert_eq!((report.blocks, report.bytes), (held.len() as u64, summary.bytes), "whichever way they came");
}

#[tokio::test(start_paused = true)]
async fn more_than_is_allowed_is_refused() {
    let (root, held) = file(5_000_000);
    let node = node(&[Fake::new(Manner::Honest, &held)]);
    let bounds = DagBounds { bytes: 2_000_000, ..BOUNDS };
    let error = node.fetcher.dag(root, bounds, &mut |_| {}).await.unwrap_err();
    assert!(matches!(*error, FetchError::Exceeded(Exceeded::FileBytes { most: 2_000_000, .. })), "{error}");
    let bounds = DagBounds { blocks: 3, ..BOUNDS };
    let error = node.fetcher.dag(root, bounds, &mut |_| {}).await.unwrap_err();
    assert!(matches!(*error, FetchError::Exceeded(Exceeded::Blocks(3))), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_few_blocks_that_claim_to_be_petabytes_are_refused_at_once() {
    let (mut root, mut held) = one();
    let mut size = 11_u64;
    for _ in 0..5 {
        let link = unixfs::Link { name: String::new(), id: root, size: 1 };
        let fields: Vec<_> = [(3, size * 1000)].into_iter().chain([(4, size)].repeat(1000)).collect();
        let (id, block) = unixfs::encoded(2, &fields, &vec![link; 1000]);
        held.insert(id, block);
        (root, size) = (id, size * 1000);
    }
    let source = Fake::new(Manner::Honest, &held);
    let node = node(std::slice::from_ref(&source));
    let error = all(&node.fetcher, root).await.unwrap_err();
    assert!(matches!(*error, FetchError::Exceeded(Exceeded::FileBytes { .. })), "{error}");
    assert_eq!(source.asked(), 1, "the root says it");
}

#[tokio::test(start_paused = true)]
async fn what_stands_in_a_cid_is_never_asked_for() {
    let (leaf, mut held) = one();
    let inline = ContentId::inline(af_contract::Codec::Raw, b"hello").unwrap();
    let link = |name: &str, id| unixfs::Link { name: name.to_owned(), id, size: 1 };
    let (_, inner) = unixfs::encoded(1, &[], &[link("leaf", leaf)]);
    let inner = ContentId::inline(af_contract::Codec::DagPb, &inner).unwrap();
    let (root, block) = unixfs::encoded(1, &[], &[link("a", inline), link("b", inner)]);
    held.insert(root, block);
    let source = Fake::new(Manner::Honest, &held);
    let node = node(std::slice::from_ref(&source));
    let summary = all(&node.fetcher, root).await.unwrap();
    assert_eq!((summary.blocks, source.asked()), (2, 2), "the root and the leaf");
    let summary = all(&node.fetcher, inline).await.unwrap();
    assert_eq!((summary.fetched, source.asked()), (0, 2));
    assert_eq!(node.fetcher.block(inline).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_rotten_block_is_replaced() {
    let (id, held) = one();
    let node = node(&[Fake::new(Manner::Honest, &held)]);
    let rotten = Block { id, bytes: Bytes::from_static(b"hello w0rld") };
    node.fetcher.store().keep(&rotten).unwrap();
    let seen = Mutex::new(Vec::new());
    node.fetcher.dag(id, BOUNDS, &mut |progress| seen.lock().unwrap().push(progress.fetched)).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [true]);
    assert_eq!(node.fetcher.store().block(&id).unwrap().as_ref(), Some(&held[&id]));
}

/// Nothing, of what is no file.
async fn streamed(
    fetcher: &Fetcher,
    root: ContentId,
    bounds: DagBounds,
) -> Result<Option<Vec<u8>>, StreamError> {
    let Some(mut file) = fetcher.file(root, bounds).await? else { return Ok(None) };
    let mut bytes = Vec::new();
    while let Some(block) = file.next().await? {
        block.iter().for_each(|piece| bytes.extend_from_slice(piece));
    }
    assert_eq!(file.finish().1, ::blake3::hash(&bytes).into());
    Ok(Some(bytes))
}

fn imported(bytes: &[u8]) -> (ContentId, Held) {
    let mut held = Held::new();
    let put = |block: Block| {
        held.insert(block.id, block.bytes);
        Ok(())
    };
    (unixfs::import(bytes, put).unwrap().root, held)
}

#[tokio::test(start_paused = true)]
async fn a_file_is_streamed_in_its_order_and_not_kept() {
    // The first block comes twice, at both ends; between them are zeros.
    let mut bytes = vec![0; 40 << 20];
    for (place, byte) in (0..=255).cycle().take(1 << 20).enumerate() {
        bytes[place] = byte;
        bytes[(39 << 20) + place] = byte;
    }
    let (root, held) = imported(&bytes);
    let sources = [Fake::new(Manner::Lies, &held), Fake::new(Manner::Honest, &held)];
    let node = node(&sources);
    assert!(streamed(&node.fetcher, root, BOUNDS).await.unwrap().unwrap() == bytes);
    assert!(sources[1].asked() <= 4, "zeros are asked for once: {}", sources[1].asked());
    for id in held.keys() {
        assert!(!node.fetcher.store().has(id).unwrap());
    }
    // What is here already is asked of nobody.
    all(&node.fetcher, root).await.unwrap();
    let asked = sources[1].asked();
    assert!(streamed(&node.fetcher, root, BOUNDS).await.unwrap().unwrap() == bytes);
    assert_eq!(sources[1].asked(), asked);
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_bounds_and_is_of_a_file() {
    let (root, held) = imported(&vec![0; 40 << 20]);
    let node = node(&[Fake::new(Manner::Honest, &held)]);
    let few = DagBounds { bytes: 1 << 30, blocks: 39 };
    let error = streamed(&node.fetcher, root, few).await.unwrap_err();
    assert_eq!(error.to_string(), "it is not fetched: the DAG has more than 39 blocks");
    let small = DagBounds { bytes: 39 << 20, blocks: 100 };
    assert!(matches!(streamed(&node.fetcher, root, small).await, Err(StreamError::Export(_))));
    let (root, blocks) = directory();
    let held = blocks.into_iter().map(|block| (block.id, block.bytes)).collect();
    let node = self::node(&[Fake::new(Manner::Honest, &held)]);
    assert_eq!(streamed(&node.fetcher, root, BOUNDS).await.unwrap(), None);
    assert!(node.fetcher.store().has(&root).unwrap(), "who fetches it otherwise need not ask again");
}
