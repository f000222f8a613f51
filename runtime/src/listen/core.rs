//! One core: a thread with a runtime of its own. A request, its instance and its memory stay on it, so
//! nothing is handed over between threads and caches stay warm.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::sync::mpsc;
use tracing::{debug, error, warn};

use super::connection::{self, Protocol, Serving, Shared};
use super::{Peer, Place};
use crate::tls::{Accepted, Tls};

/// A connection that was accepted, and its place among all.
pub struct Job {
    pub stream: TcpStream,
    pub address: SocketAddr,
    /// Set where it is to be encrypted.
    pub tls: Option<Arc<Tls>>,
    pub place: Place,
}

/// A core's inbox. The thread ends when it is dropped and the last connection has ended.
pub struct Core {
    jobs: mpsc::Sender<Job>,
    connections: Arc<AtomicUsize>,
}

impl Core {
    /// One for each core that this process may use.
    pub fn start_all(shared: &Shared) -> io::Result<Vec<Self>> {
        let cores = thread::available_parallelism()?.get();
        (0..cores).map(|number| Self::start(number, shared.clone())).collect()
    }

    fn start(number: usize, shared: Shared) -> io::Result<Self> {
        // Never full: each job holds a place.
        let (sender, jobs) = mpsc::channel(shared.config.connections);
        let connections = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let counted = connections.clone();
        let run = move || runtime.block_on(work(jobs, shared, counted));
        thread::Builder::new().name(format!("core-{number}")).spawn(run)?;
        Ok(Self { jobs: sender, connections })
    }

    /// Connections that it has.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Hands it a connection.
    pub fn give(&self, job: Job) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        if self.jobs.try_send(job).is_err() {
            // Only a panic outside of every task could end it, and the others go on.
            error!("a core has stopped; its connections are lost");
        }
    }
}

/// A connection that is counted until it ends, also by a panic.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn work(mut jobs: mpsc::Receiver<Job>, shared: Shared, connections: Arc<AtomicUsize>) {
    while let Some(job) = jobs.recv().await {
        let opening = Box::pin(open(job, shared.clone()));
        let counted = Open(connections.clone());
        shared.tasks.spawn(async move {
            if let Some(serving) = opening.await {
                serving.await;
            }
            drop(counted);
        });
    }
    // The drain's deadline is the tracker's, kept where all cores are.
    shared.tasks.wait().await;
    shared.service.drain().await;
}

/// Reads what a balancer says, makes the handshake where there is one, and begins to serve.
async fn open(job: Job, shared: Shared) -> Option<Serving> {
    let Job { stream, address, tls, place } = job;
    let stream = tokio::net::TcpStream::from_std(stream);
    let mut stream =
        stream.inspect_err(|error| debug!(%error, "a connection was gone before it was served")).ok()?;
    let client = match shared.config.proxy_protocol.client(&mut stream, address).await {
        Ok(client) => client,
        Err(error) => {
            // A balancer that is set up otherwise: the operator has to know.
            warn!(%address, %error, "a connection of a trusted proxy was closed");
            return None;
        }
    };
    let Some(tls) = tls else {
        return connection::open(stream, Protocol::Detect, Peer::plain(client), place, &shared).await;
    };
    // Until then nothing has been asked for, so nothing is cut when the server stops.
    match shared.stop.run_until_cancelled(tls.accept(stream)).await? {
        Ok(Accepted::Stream(stream, told)) => {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let protocol = if http2 { Protocol::Http2 } else { Protocol::Http1 };
            let peer = Peer { address: client, tls: Some(told) };
            connection::open(stream, protocol, peer, place, &shared).await
        }
        Ok(Accepted::Challenge) => {
            debug!("an authority looked for an answer");
            None
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            debug!(%error, cause, "a connection could not be encrypted");
            None
        }
    }
}
