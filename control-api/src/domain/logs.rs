//! What functions log: the newest lines, and those that come. The edge of this process hands its lines in as a [`LogSink`], edges of
//! their own send theirs, and other servers of the same database hand theirs on. They are in memory, and gone when the server ends.

mod kept;
pub(crate) mod relay;
pub(crate) mod shipped;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use af_contract::{LogLine, LogSink};
use tokio::sync::watch;
use tokio::time::Instant;

pub use self::kept::Position;
use self::kept::{Following, Kept};
use self::relay::Relay;
use self::shipped::Shipped;
use super::access::{self, Noun};
use super::{Actor, Error, State, tokens};
use crate::places::{Place, Places};
use crate::store::FunctionRow;

/// Lines that are shown of what was said before.
pub const NEWEST: usize = 100;

/// Followers of one user, whatever their token.
const PER_USER: usize = 20;

/// Followers of all. Each has a connection, and lines of which it holds a few.
const ALL: usize = 500;

/// Lines that a follower takes at once.
const BATCH: usize = 64;

/// Between two looks whether the token still counts, and its owner may still see the function.
const RECHECK: Duration = Duration::from_secs(5);

/// Then whoever follows asks again, and shows a token again: a short-lived one may have ended meanwhile.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Lines, and who follows them.
pub(crate) struct Logs {
    kept: Kept,
    places: Places,
    shipped: Shipped,
    relay: Relay,
}

/// What a follower is told.
#[derive(Debug)]
pub enum Said {
    /// A line, and its id.
    Line(Position, Arc<LogLine>),
    /// So many lines before the next one are gone, because they were lost on their way or not read in time. `None`: nobody knows how
    /// many, because the server was started anew, or too long ago for its memory.
    Missed(Option<u64>),
}

/// Somebody who follows a function.
pub struct Follower {
    state: Arc<State>,
    actor: Actor,
    function: FunctionRow,
    lines: Following,
    said: VecDeque<Said>,
    committed: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    recheck: Instant,
    until: Instant,
    ended: bool,
    _place: Place,
}

impl Default for Logs {
    fn default() -> Self {
        let (shipped, relay) = Default::default();
        Self { kept: Kept::new(), places: Places::new(PER_USER, ALL), shipped, relay }
    }
}

impl Logs {
    /// Drops the lines of a function that is gone.
    pub(super) fn forget(&self, function: &str) {
        self.kept.forget(function);
    }

    /// An edge was removed.
    pub(super) fn forget_edge(&self, edge: &str) {
        self.shipped.forget(edge);
    }
}

impl LogSink for Logs {
    fn take(&self, line: LogLine) {
        self.relay.push(&line);
        self.kept.push(line);
    }
}

/// The newest lines of a function, oldest first, at most [`NEWEST`].
///
/// # Errors
/// When there is no function that the actor may see.
pub async fn newest(
    state: &State,
    actor: &Actor,
    function: &str,
) -> Result<Vec<(Position, Arc<LogLine>)>, Error> {
    let function = access::function(state, actor, function, Noun::Functions.read()).await?;
    Ok(state.logs.kept.newest(&function.id, NEWEST))
}

/// Follows a function: the lines after `after`, or the newest [`NEWEST`], and then all that come.
///
/// # Errors
/// As [`newest`]; and when the user, or all, follow as many as they may.
pub async fn follow(
    state: &Arc<State>,
    actor: &Actor,
    function: &str,
    after: Option<Position>,
) -> Result<Follower, Error> {
    let function = access::function(state, actor, function, Noun::Functions.read()).await?;
    let place = state.logs.places.take(&actor.user).ok_or_else(|| {
        let detail = format!("a user follows at most {PER_USER} logs, all together {ALL}; end one first");
        Error::Limit { code: "too_many_followers", detail, seconds: 1 }
    })?;
    let now = Instant::now();
    Ok(Follower {
        lines: state.logs.kept.follow(&function.id, after, NEWEST),
        said: VecDeque::new(),
        committed: state.changes.subscribe(),
        stopping: state.stopping.subscribe(),
        recheck: now + RECHECK,
        until: now + LONGEST,
        ended: false,
        state: state.clone(),
        actor: actor.clone(),
        function,
        _place: place,
    })
}

impl Follower {
    /// The next thing that is said; none when the server ends, or after an hour: whoever goes on asks again. After an error
    /// there is nothing more.
    ///
    /// # Errors
    /// When the token or the function is gone, or the actor may not see it any more.
    pub async fn next(&mut self) -> Option<Result<Said, Error>> {
        if self.ended {
            return None;
        }
        let mut stopping = self.stopping.clone();
        let next = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => None,
            () = tokio::time::sleep_until(self.until) => None,
            next = self.line() => Some(next),
        };
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }

    async fn line(&mut self) -> Result<Said, Error> {
        loop {
            if self.recheck <= Instant::now() {
                self.check().await?;
                self.recheck = Instant::now() + RECHECK;
            }
            if let Some(said) = self.said.pop_front() {
                return Ok(said);
            }
            let unread = self.lines.unread(BATCH);
            if unread.missed != Some(0) {
                self.said.push_back(Said::Missed(unread.missed));
            }
            for (position, line) in unread.lines {
                if line.missed > 0 {
                    self.said.push_back(Said::Missed(Some(line.missed)));
                }
                self.said.push_back(Said::Line(position, line));
            }
            if !self.said.is_empty() {
                // What was committed may have been the function's end.
                if self.committed.has_changed().is_ok_and(|changed| changed) {
                    self.committed.mark_unchanged();
                    self.check().await?;
                }
                continue;
            }
            tokio::select! {
                () = self.lines.grown() => {}
                () = tokio::time::sleep_until(self.recheck) => {}
            }
        }
    }

    /// Whether the actor may still see this.
    async fn check(&self) -> Result<(), Error> {
        tokens::still(&self.state, &self.actor).await?;
        access::function(&self.state, &self.actor, &self.function.id, Noun::Functions.read()).await?;
        Ok(())
    }
}
