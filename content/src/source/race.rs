//! One block out of several sources: asked in turn, the next one also when one fails or is slow; the first block that is
//! what its id says wins, and the others are let go.

use std::sync::Arc;
use std::time::Duration;

use af_contract::ContentId;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::standing::Standing;
use super::{Source, SourceError, SourceReport};
use crate::pieces::Pieces;

/// Requests to one source at the same time.
const REQUESTS: usize = 32;

/// How long one source may take for one block: 2 MiB at a megabit a second.
const BLOCK_TIME: Duration = Duration::from_secs(20);

/// A source with what is known of it.
#[derive(Debug)]
pub(super) struct Candidate {
    pub source: Arc<dyn Source>,
    pub standing: Standing,
    requests: Semaphore,
}

/// A source that gave no block.
#[derive(Debug)]
pub struct Tried {
    /// Its name.
    pub source: String,
    /// What it said; nothing when it had not answered in the end.
    pub outcome: Option<SourceError>,
}

impl Candidate {
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source, standing: Standing::default(), requests: Semaphore::new(REQUESTS) }
    }

    /// What it has done so far, and those behind it.
    pub fn report(&self) -> SourceReport {
        SourceReport { peers: self.source.peers(), ..self.standing.report(self.source.name()) }
    }

    /// Asks for a block, and takes no other.
    async fn ask(&self, id: ContentId) -> Result<Pieces, SourceError> {
        let Ok(_permit) = self.requests.acquire().await else {
            return Err(SourceError::Busy { status: None, after: None });
        };
        self.standing.asked();
        let began = Instant::now();
        let asked = tokio::time::timeout(BLOCK_TIME, self.source.block(id)).await;
        let block = asked.unwrap_or(Err(SourceError::Timeout(BLOCK_TIME)))?;
        let size = block.size();
        let pieces = block.expect_pieces(&id)?;
        self.standing.gave(size, began.elapsed());
        Ok(pieces)
    }
}

/// Those that may be asked now, in their order, and those that are slow after the others; and why the rest is left alone.
pub(super) fn in_turn(candidates: &[Arc<Candidate>]) -> (Vec<Arc<Candidate>>, Vec<Tried>) {
    let mut turns = Vec::with_capacity(candidates.len());
    let mut left = Vec::new();
    for candidate in candidates {
        match candidate.standing.left_alone() {
            Some(error) => {
                let source = candidate.source.name().to_owned();
                left.push(Tried { source, outcome: Some(error) });
            }
            None => turns.push((candidate.standing.turn(), candidate)),
        }
    }
    turns.sort_by_key(|(turn, _)| *turn);
    (turns.into_iter().map(|(_, candidate)| Arc::clone(candidate)).collect(), left)
}

/// The block from whoever has it first.
///
/// # Errors
/// With what each one said, when none has.
pub(super) async fn race(candidates: &[Arc<Candidate>], id: ContentId) -> Result<Pieces, Vec<Tried>> {
    type Asked = (usize, Result<Pieces, SourceError>);
    let mut waiting = candidates.iter().enumerate();
    let mut asked: FuturesUnordered<BoxFuture<'_, Asked>> = FuturesUnordered::new();
    let mut tried: Vec<Tried> = Vec::with_capacity(candidates.len());
    loop {
        let patience = if let Some((number, candidate)) = waiting.next() {
            tried.push(Tried { source: candidate.source.name().to_owned(), outcome: None });
            asked.push(Box::pin(async move { (number, candidate.ask(id).await) }));
            candidate.standing.patience()
        } else if asked.is_empty() {
            return Err(tried);
        } else {
            // Nobody is left who could be asked as well.
            BLOCK_TIME
        };
        // Until the next one's turn, whoever answers.
        let next = tokio::time::timeout(patience, asked.next()).await;
        let Ok(Some((number, outcome))) = next else { continue };
        match outcome {
            Ok(pieces) => {
                overtaken(candidates, &tried, number);
                return Ok(pieces);
            }
            Err(error) => {
                if let Some(candidate) = candidates.get(number) {
                    candidate.standing.failed(&error);
                }
                if let Some(entry) = tried.get_mut(number) {
                    entry.outcome = Some(error);
                }
            }
        }
    }
}

/// Those that were asked before the winner, and have not answered.
fn overtaken(candidates: &[Arc<Candidate>], tried: &[Tried], winner: usize) {
    for (candidate, _) in
        candidates.iter().zip(tried).take(winner).filter(|(_, tried)| tried.outcome.is_none())
    {
        candidate.standing.was_overtaken();
    }
}
