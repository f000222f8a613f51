//! Messages on a stream: read and checked within bounds, and written.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use af_contract::{Cid, Codec, ContentId, HashKind, Multihash};
use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::message::{DecodeError, Entry, MESSAGE_BYTES, Message, Payload, Prefix, Presence, Version};
use crate::hash::Hashed;

/// For a message to come or go once it has begun: 4 MiB at half a megabit per second.
const MESSAGE_TIME: Duration = Duration::from_secs(60);

/// For a peer to say that it has read a stream to its end.
const CLOSE_TIME: Duration = Duration::from_secs(10);

/// Memory for a message before any of it has come.
const FIRST_BYTES: usize = 64 << 10;

/// Below it, hashing takes less than handing it to another thread.
const HASHED_AT_ONCE: usize = 16 << 10;

/// A message that came, with its blocks' ids.
#[derive(Debug)]
pub struct Incoming {
    pub wants: Vec<Entry>,
    pub full: bool,
    /// Under the ids that their bytes have, whatever the peer meant them for.
    pub blocks: Vec<Hashed>,
    /// Blocks of kinds that nobody here asks for.
    pub foreign: usize,
    pub presences: Vec<Presence>,
    /// Its bytes count until it is dealt with.
    _budget: OwnedSemaphorePermit,
}

/// Why no message could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream broke or stalled, which can happen to anybody.
    #[error("the stream broke")]
    Io(#[from] io::Error),
    /// Larger than a message may be.
    #[error("a message of {0} bytes was announced")]
    TooLarge(u64),
    /// No message.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Reads the next message, or `None` at the end. What is read at the same time takes its bytes from `budget`.
pub async fn read<S>(stream: &mut S, budget: &Arc<Semaphore>) -> Result<Option<Incoming>, ReadError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(size) = read_size(stream).await? else {
        // The other side waits for our end of the stream, too; a reset could overtake what it still sends elsewhere.
        let _gone = timeout(CLOSE_TIME, stream.close()).await;
        return Ok(None);
    };
    let permits = u32::try_from(size).ok().filter(|_| size <= MESSAGE_BYTES as u64);
    let permits = permits.ok_or(ReadError::TooLarge(size))?;
    let _budget = Arc::clone(budget).acquire_many_owned(permits).await.map_err(io::Error::other)?;
    let body = timeout(MESSAGE_TIME, read_body(stream, size)).await.map_err(io::Error::from)??;
    let Message { wants, full, blocks, presences } = Message::decode(body)?;
    let total = blocks.len();
    let blocks = identify(blocks).await?;
    let foreign = total - blocks.len();
    Ok(Some(Incoming { wants, full, blocks, foreign, presences, _budget }))
}

async fn read_size<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<u64>> {
    let mut buffer = unsigned_varint::encode::u64_buffer();
    for read in 0..buffer.len() {
        let (before, rest) = buffer.split_at_mut(read);
        let Some(byte) = rest.get_mut(..1) else { break };
        if stream.read(byte).await? == 0 {
            let cut = io::Error::from(io::ErrorKind::UnexpectedEof);
            return if before.is_empty() { Ok(None) } else { Err(cut) };
        }
        if unsigned_varint::decode::is_last(byte.first().copied().unwrap_or_default()) {
            break;
        }
    }
    unsigned_varint::decode::u64(&buffer).map(|(size, _)| Some(size)).map_err(io::Error::other)
}

/// Takes memory as the bytes come: their number is only a claim.
async fn read_body<S: AsyncRead + Unpin>(stream: &mut S, size: u64) -> io::Result<Bytes> {
    let mut body = Vec::with_capacity(usize::try_from(size).unwrap_or(FIRST_BYTES).min(FIRST_BYTES));
    stream.take(size).read_to_end(&mut body).await?;
    if body.len() as u64 == size { Ok(body.into()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

async fn identify(blocks: Vec<Payload>) -> io::Result<Vec<Hashed>> {
    let hash = |blocks: Vec<Payload>| blocks.into_iter().filter_map(hashed).collect();
    if blocks.iter().map(|block| block.data.len()).sum::<usize>() <= HASHED_AT_ONCE {
        return Ok(hash(blocks));
    }
    tokio::task::spawn_blocking(move || hash(blocks)).await.map_err(io::Error::other)
}

/// A block, if its id is one that can be asked for here.
fn hashed(block: Payload) -> Option<Hashed> {
    let (codec, kind) = kinds(block.prefix)?;
    Some(Hashed::new(codec, kind, block.data))
}

fn kinds(prefix: Prefix) -> Option<(Codec, HashKind)> {
    let digest = [0; 32];
    let hash = Multihash::wrap(prefix.hash, digest.get(..usize::try_from(prefix.size).ok()?)?).ok()?;
    let id = ContentId::try_from(Cid::new_v1(prefix.codec, hash)).ok()?;
    Some((id.codec(), id.kind()?))
}

/// The id that a CID of either version names here.
pub fn content_id(cid: &Cid) -> Option<ContentId> {
    ContentId::try_from(Cid::new_v1(cid.codec(), *cid.hash())).ok()
}

/// Writes a message, and returns when it is on its way.
pub async fn write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    message: &Message,
    version: Version,
) -> io::Result<()> {
    let bytes = message.encode(version);
    let written = async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    };
    timeout(MESSAGE_TIME, written).await?
}

/// Ends a stream that messages were written to. Waits until the other side ends it, too: dropping it before would reset
/// it, and with it what the other side has not read yet.
pub async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let ended = async {
        stream.close().await?;
        stream.read(&mut [0]).await
    };
    let _at_any_rate = timeout(CLOSE_TIME, ended).await;
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;
    use crate::hash;

    fn budget() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(MESSAGE_BYTES))
    }

    async fn read_bytes(bytes: Vec<u8>) -> Result<Option<Incoming>, ReadError> {
        read(&mut Cursor::new(bytes), &budget()).await
    }

    #[tokio::test]
    async fn blocks_come_under_the_ids_that_their_bytes_have() {
        let cid = hash::identify(Codec::Raw, b"hello").to_cid();
        let block =
            |data: &'static [u8]| Payload { prefix: Prefix::of(&cid), data: Bytes::from_static(data) };
        let foreign = Prefix { codec: 0x129, ..Prefix::of(&cid) };
        let foreign = Payload { prefix: foreign, data: Bytes::from_static(b"?") };
        let message =
            Message { blocks: vec![block(b"hello"), block(b"other"), foreign], ..Message::default() };
        let read = read_bytes(message.encode(Version::V1_2)).await.unwrap().unwrap();
        let ids: Vec<_> = read.blocks.iter().map(Hashed::id).collect();
        assert_eq!(ids, [hash::identify(Codec::Raw, b"hello"), hash::identify(Codec::Raw, b"other")]);
        assert_eq!(read.foreign, 1);
    }

    #[tokio::test]
    async fn what_is_too_large_or_cut_is_refused_without_memory_for_it() {
        let mut large = Vec::new();
        let size = unsigned_varint::encode::u64(1 << 40, &mut unsigned_varint::encode::u64_buffer()).to_vec();
        large.extend(size);
        assert!(matches!(read_bytes(large).await, Err(ReadError::TooLarge(_))));
        assert!(matches!(read_bytes(vec![200, 1, 7]).await, Err(ReadError::Io(_))));
        assert!(matches!(read_bytes(vec![0x80]).await, Err(ReadError::Io(_))));
        assert!(matches!(read_bytes(vec![0xff; 20]).await, Err(ReadError::Io(_))));
        assert!(matches!(read_bytes(vec![2, 0xff, 0xff]).await, Err(ReadError::Decode(_))));
        assert!(read_bytes(Vec::new()).await.unwrap().is_none());
    }
}
