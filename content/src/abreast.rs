//! Hashing two blocks side by side that come at the same time, whoever waits for them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::yield_now;

use crate::sha256::Sha256;

/// Who has bytes to hash, and lets others come before it does that by itself.
static WAITING: Mutex<Option<Box<Waiting>>> = Mutex::new(None);

struct Waiting {
    ticket: u64,
    hash: Sha256,
    bytes: Bytes,
    done: oneshot::Sender<Sha256>,
}

/// [`Sha256::update`], together with another task that has bytes to hash now, if there is one. Others have their turn in
/// between. What is dropped before its end leaves nothing useful in `hash`.
pub async fn update(hash: &mut Sha256, bytes: Bytes) {
    if !hash.is_faster_in_pairs() {
        hash.update(&bytes);
        return yield_now().await;
    }
    match meet(hash, bytes) {
        Met::Other(mut other, bytes) => {
            Sha256::update_both((hash, &bytes), (&mut other.hash, &other.bytes));
            // It may have been dropped.
            let _gone = other.done.send(other.hash);
            yield_now().await;
        }
        Met::Nobody(ticket, done) => {
            yield_now().await;
            let nobody_came = waiting().take_if(|waiting| waiting.ticket == ticket);
            *hash = match nobody_came {
                Some(mut alone) => {
                    alone.hash.update(&alone.bytes);
                    alone.hash
                }
                // A source must not be blamed for a wrong hash: where that task panicked, this one does.
                None => done.await.expect("whoever takes a hash gives it back"),
            };
        }
    }
}

enum Met {
    /// And the bytes that were brought.
    Other(Box<Waiting>, Bytes),
    /// The hash and the bytes wait themselves.
    Nobody(u64, oneshot::Receiver<Sha256>),
}

fn meet(hash: &mut Sha256, bytes: Bytes) -> Met {
    static TICKETS: AtomicU64 = AtomicU64::new(0);
    let mut waiting = waiting();
    if let Some(other) = waiting.take() {
        return Met::Other(other, bytes);
    }
    let (ticket, (done, hashed)) = (TICKETS.fetch_add(1, Ordering::Relaxed), oneshot::channel());
    *waiting = Some(Box::new(Waiting { ticket, hash: std::mem::take(hash), bytes, done }));
    Met::Nobody(ticket, hashed)
}

fn waiting() -> MutexGuard<'static, Option<Box<Waiting>>> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::join_all;

    use super::*;

    async fn hashed(seed: u8) -> bool {
        let mut message = vec![0; 200_000 + 1000 * usize::from(seed)];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut message);
        let message = Bytes::from(message);
        let mut hash = Sha256::default();
        for piece in message.chunks(10_000 + usize::from(seed)) {
            update(&mut hash, message.slice_ref(piece)).await;
        }
        hash.finish() == ring::digest::digest(&ring::digest::SHA256, &message).as_ref()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_at_once_do_not_mix_their_hashes() {
        for hashed in join_all((0..40).map(|seed| tokio::spawn(hashed(seed)))).await {
            assert!(hashed.unwrap());
        }
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_others_alone() {
        for _ in 0..10 {
            // It has brought its bytes, and nobody has come yet.
            assert!(hashed(1).now_or_never().is_none());
            assert!(hashed(2).await);
        }
    }
}
