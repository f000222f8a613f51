//! One core: a thread with a runtime of its own. A request, its instance and its memory stay on it, so
//! nothing is handed over between threads and caches stay warm.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use af_contract::limits;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use super::Peer;
use crate::http::Service;
use crate::tls::{Accepted, Tls};

/// How long a client may take to send a request's header.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Open connections of all cores; further ones wait in the kernel's queue.
pub const CONNECTIONS: usize = 10_000;

/// A connection that was accepted, and its place among all.
pub struct Job {
    pub stream: TcpStream,
    pub address: SocketAddr,
    /// Set where it is to be encrypted.
    pub tls: Option<Arc<Tls>>,
    pub permit: OwnedSemaphorePermit,
}

/// A core's inbox. The thread ends when it is dropped and the last connection has ended.
pub struct Core {
    jobs: mpsc::Sender<Job>,
    connections: Arc<AtomicUsize>,
}

/// What all connections of a core share.
#[derive(Clone)]
struct Shared {
    service: Arc<Service>,
    stop: CancellationToken,
    tasks: TaskTracker,
    connections: Arc<AtomicUsize>,
}

impl Core {
    /// One for each core that this process may use.
    pub fn start_all(
        service: &Arc<Service>,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> io::Result<Vec<Self>> {
        let cores = thread::available_parallelism()?.get();
        let start = |number| {
            let connections = Arc::new(AtomicUsize::new(0));
            let shared = Shared {
                service: service.clone(),
                stop: stop.clone(),
                tasks: tasks.clone(),
                connections: connections.clone(),
            };
            Self::start(number, shared).map(|jobs| Self { jobs, connections })
        };
        (0..cores).map(start).collect()
    }

    fn start(number: usize, shared: Shared) -> io::Result<mpsc::Sender<Job>> {
        // Never full: each job holds a permit.
        let (sender, jobs) = mpsc::channel(CONNECTIONS);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || runtime.block_on(work(jobs, shared));
        thread::Builder::new().name(format!("core-{number}")).spawn(run)?;
        Ok(sender)
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
struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn work(mut jobs: mpsc::Receiver<Job>, shared: Shared) {
    while let Some(job) = jobs.recv().await {
        let (tasks, shared) = (shared.tasks.clone(), shared.clone());
        tasks.spawn(async move {
            let _open = Open(&shared.connections);
            begin(job, &shared).await;
        });
    }
    // The drain's deadline is the tracker's, kept where all cores are.
    shared.tasks.wait().await;
    shared.service.drain().await;
}

/// Makes the handshake where there is one, and serves. The permit lasts as long.
async fn begin(job: Job, shared: &Shared) {
    let Job { stream, address, tls, permit: _permit } = job;
    let stream = match tokio::net::TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => {
            debug!(%error, "a connection was gone before it was served");
            return;
        }
    };
    let Some(tls) = tls else { return serve(stream, &Peer::plain(address), shared).await };
    match shared.stop.run_until_cancelled(tls.accept(stream)).await {
        Some(Ok(Accepted::Stream(stream, told))) => {
            serve(stream, &Peer { address, tls: Some(told) }, shared).await;
        }
        Some(Ok(Accepted::Challenge)) => debug!("an authority looked for an answer"),
        Some(Err(error)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            debug!(%error, cause, "a connection could not be encrypted");
        }
        // Nothing has been asked for yet, so nothing is cut.
        None => {}
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, peer: &Peer, shared: &Shared) {
    let service = &shared.service;
    let handler =
        service_fn(move |request| async move { Ok::<_, Infallible>(service.call(peer, request).await) });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(limits::HEADER_COUNT)
        .max_buf_size(limits::HEADER_BYTES + limits::URL_BYTES)
        .serve_connection(TokioIo::new(stream), handler);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shared.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "a connection ended with an error");
    }
}
