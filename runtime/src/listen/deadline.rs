//! Ends connections in time: those whose client is too slow, those that nobody uses, and all when the server stops.
//!
//! One timer a connection, which is set anew when the connection begins to wait for something else, not for each request.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep};
use tracing::debug;

use super::ListenConfig;
use super::connection::{Answering, Ended};
use super::progress::{Phase, Progress};

/// No function may take longer, so a response on which nothing happens for so long is held up by its client.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// A connection of hyper's.
pub trait Driven: Future<Output = hyper::Result<()>> + Unpin {
    /// Lets requests finish and takes no more.
    fn shut_down(self: Pin<&mut Self>);
}

/// Drives a connection to its end.
pub async fn drive<C: Driven>(connection: &mut C, answering: &Answering) -> Ended {
    let progress = answering.progress();
    let mut stopped = pin!(answering.stopped());
    let mut deadline = pin!(Deadline::new(answering.config()));
    let mut closing = false;
    let mut cut: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = Pin::new(&mut *connection).poll(cx) {
                if let Err(error) = result {
                    debug!(%error, "a connection ended with an error");
                }
                return Poll::Ready(Ended::Closed);
            }
            if cut.as_mut().is_some_and(|cut| cut.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(Ended::TooSlow(progress.phase()));
            }
            if cut.is_none() && progress.is_given_up() {
                // What others were answered may still be on its way.
                cut = Some(Box::pin(sleep(answering.config().write_timeout)));
                if !std::mem::replace(&mut closing, true) {
                    Pin::new(&mut *connection).shut_down();
                }
                continue;
            }
            if !closing && stopped.as_mut().poll(cx).is_ready() {
                closing = true;
                Pin::new(&mut *connection).shut_down();
                continue;
            }
            let phase = ready!(deadline.as_mut().get_mut().poll(progress, cx));
            if closing || phase != Phase::Quiet {
                return Poll::Ready(Ended::TooSlow(phase));
            }
            // Clients of HTTP/2 are told; they have as long again to go.
            closing = true;
            deadline.as_mut().get_mut().restart();
            Pin::new(&mut *connection).shut_down();
        }
    })
    .await
}

struct Deadline<'a> {
    config: &'a ListenConfig,
    timer: Pin<Box<Sleep>>,
    phase: Phase,
    /// As it was when the timer was set last, and when it last was another.
    activity: u32,
    since: Instant,
}

impl<'a> Deadline<'a> {
    fn new(config: &'a ListenConfig) -> Self {
        let timer = Box::pin(sleep(config.idle_timeout));
        Self { config, timer, phase: Phase::Quiet, activity: 0, since: Instant::now() }
    }

    fn poll(&mut self, progress: &Progress, cx: &mut Context<'_>) -> Poll<Phase> {
        loop {
            let phase = progress.phase();
            if phase != self.phase {
                self.phase = phase;
                self.restart();
            }
            ready!(self.timer.as_mut().poll(cx));
            if phase != Phase::Quiet {
                return Poll::Ready(phase);
            }
            let activity = progress.activity();
            if activity != self.activity {
                self.activity = activity;
                self.since = Instant::now();
            } else if !progress.is_active() || self.since.elapsed() > LONGEST {
                return Poll::Ready(phase);
            }
            self.restart();
        }
    }

    fn restart(&mut self) {
        let time = match self.phase {
            Phase::Head(_) => self.config.header_timeout,
            Phase::Blocked(_) => self.config.write_timeout,
            Phase::Quiet => self.config.idle_timeout,
        };
        self.timer.as_mut().reset(tokio::time::Instant::now() + time);
    }
}
