//! Parts of an archive: a window of it, whose blocks come verified, and a single block.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Response, StatusCode};

use super::Arweave;
use super::shelf::Archive;
use crate::car::{Block, CarDecoder};
use crate::source::gateway::under;
use crate::source::{SourceError, http};

/// What is read at once: a few blocks of the usual size, so that most of a DAG takes few requests.
const WINDOW: u64 = 8 << 20;

/// A part of an archive, as it comes.
#[derive(Debug)]
pub(super) struct Window {
    response: Response,
    decoder: CarDecoder,
    from: u64,
    /// Bytes that come before the part, from a gateway that knows no ranges.
    skip: u64,
    /// Bytes that are still to come.
    left: u64,
    end: bool,
}

impl Arweave {
    /// The next one of an archive, or nothing where it ends.
    pub(super) async fn window(&self, archive: &Arc<Archive>) -> Result<Option<Window>, SourceError> {
        let Some((from, roots)) = archive.next() else { return Ok(None) };
        let Some((response, skip)) = self.range(&archive.item, from, WINDOW).await? else {
            archive.ends();
            return Ok(None);
        };
        let decoder = match roots {
            Some(roots) => CarDecoder::resume(roots, from),
            None => CarDecoder::default(),
        };
        Ok(Some(Window { response, decoder, from, skip, left: WINDOW, end: false }))
    }

    /// Bytes of an item. Whoever asks verifies them.
    pub(super) async fn part(&self, item: &str, from: u64, size: usize) -> Result<Bytes, SourceError> {
        let Some((mut response, mut skip)) = self.range(item, from, size as u64).await? else {
            return Err(SourceError::NotFound);
        };
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            let Some(chunk) = response.chunk().await.map_err(http::unreachable)? else { break };
            let chunk = skipped(chunk, &mut skip);
            let most = chunk.len().min(size - bytes.len());
            bytes.extend(chunk.into_iter().take(most));
        }
        if bytes.len() < size {
            return Err(SourceError::Unexpected("less than it said that there is".to_owned()));
        }
        Ok(bytes.into())
    }

    /// An answer with a part of an item, and how much comes before it; nothing beyond the item's end.
    async fn range(&self, item: &str, from: u64, size: u64) -> Result<Option<(Response, u64)>, SourceError> {
        let request = self.client.get(under(&self.base, item, ""));
        let request = request.header(RANGE, format!("bytes={from}-{}", from + size - 1));
        let response = request.send().await.map_err(http::unreachable)?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(None);
        }
        let response = http::answered(response)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if begins(&response) == Some(from) => Ok(Some((response, 0))),
            StatusCode::PARTIAL_CONTENT => {
                Err(SourceError::Unexpected("another part than was asked for".to_owned()))
            }
            StatusCode::OK => Ok(Some((response, from))),
            // 202: it is on its way.
            _ => Err(SourceError::NotFound),
        }
    }
}

impl Window {
    /// The next block, and where its bytes begin in the archive.
    pub async fn next(&mut self) -> Result<Option<(Block, u64)>, SourceError> {
        loop {
            let next = self.decoder.next_block();
            if self.decoder.roots().is_none() && next.is_err() {
                return Err(SourceError::Unexpected("something else than a CAR".to_owned()));
            }
            if let Some(block) = next? {
                let at = self.decoder.position() - block.bytes.len() as u64;
                return Ok(Some((block, at)));
            }
            if self.left == 0 {
                // No section is that long.
                self.end = self.position() == self.from;
                return Ok(None);
            }
            let Some(chunk) = self.response.chunk().await.map_err(http::unreachable)? else {
                // Shorter than was asked for: this is the end of the item, unless the connection broke, which is an error.
                self.end = true;
                return Ok(None);
            };
            let mut chunk = skipped(chunk, &mut self.skip);
            chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= chunk.len() as u64;
            self.decoder.push(&chunk);
        }
    }

    /// Where the next section begins.
    pub const fn position(&self) -> u64 {
        self.decoder.position()
    }

    /// Whether the item ends here.
    pub const fn is_end(&self) -> bool {
        self.end
    }
}

/// Where a part begins.
fn begins(response: &Response) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

fn skipped(mut chunk: Bytes, skip: &mut u64) -> Bytes {
    let gone = usize::try_from(*skip).unwrap_or(usize::MAX).min(chunk.len());
    *skip -= gone as u64;
    chunk.advance(gone);
    chunk
}
