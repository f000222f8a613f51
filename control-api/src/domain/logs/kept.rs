//! The newest lines of each function, in memory: bounded for one function and for all. Whoever follows a function reads them by
//! their numbers, and so learns how many are gone before they came to them; nobody who writes waits for them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use af_contract::LogLine;
use tokio::sync::watch;

use crate::domain::now;

/// Of a function's lines: eight requests that log as much as they may, or one that does so in lines of a few characters.
const FUNCTION_BYTES: usize = 512 << 10;

/// Of all lines.
const ALL_BYTES: usize = 8 << 20;

/// What a function has in any case while there are too many lines: a few that log much do not cost the others theirs.
const SHARE_BYTES: usize = 32 << 10;

/// What a line takes besides its texts, roughly.
const LINE_OVERHEAD: usize = 128;

/// What a function takes besides its lines, roughly.
const RING_OVERHEAD: usize = 512;

/// Which line comes next. As text, `EPOCH-NUMBER`, it is the line's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Numbers of another epoch are of lines that are gone, as are all when the server ends.
    epoch: u64,
    number: u64,
}

/// Lines with their ids, oldest first.
pub(super) type Lines = Vec<(Position, Arc<LogLine>)>;

/// What somebody who follows a function has not read yet.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// Lines that are gone; `None`: nobody knows how many.
    pub(super) missed: Option<u64>,
    pub(super) lines: Lines,
}

/// All lines. Clones are one.
#[derive(Clone)]
pub(super) struct Kept(Arc<Mutex<Rings>>);

struct Rings {
    of: HashMap<Arc<str>, Ring>,
    /// Functions with lines, by when they logged last.
    quiet: BTreeMap<u64, Arc<str>>,
    bytes: usize,
    lines: u64,
    epoch: u64,
}

/// Of one function.
struct Ring {
    epoch: u64,
    /// The first line's.
    number: u64,
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
    /// Its place in `quiet`; none while it has no lines.
    stamp: Option<u64>,
    grown: watch::Sender<()>,
}

/// Somebody who follows a function.
pub(super) struct Following {
    kept: Kept,
    function: Arc<str>,
    next: Position,
    /// Lines were lost before the first one that is there, and nobody knows how many.
    unknown: bool,
    grown: Option<watch::Receiver<()>>,
}

impl Kept {
    pub(super) fn new() -> Self {
        // After a restart, it is a later one.
        let epoch = u64::try_from(now()).unwrap_or_default();
        let (of, quiet) = Default::default();
        Self(Arc::new(Mutex::new(Rings { of, quiet, bytes: 0, lines: 0, epoch })))
    }

    pub(super) fn push(&self, line: LogLine) {
        self.rings().push(line);
    }

    /// The newest lines of a function.
    pub(super) fn newest(&self, function: &str, most: usize) -> Lines {
        let rings = self.rings();
        let Some(ring) = rings.of.get(function) else { return Lines::new() };
        ring.from(ring.end().saturating_sub(most as u64), most)
    }

    /// Follows a function from the line after `after` on, or from the newest `most` lines.
    pub(super) fn follow(&self, function: &str, after: Option<Position>, most: usize) -> Following {
        let mut rings = self.rings();
        let ring = rings.ring(&function.into());
        let known = after.filter(|after| after.epoch == ring.epoch);
        let number = match known {
            Some(known) => known.number.saturating_add(1).min(ring.end()),
            // To whoever knows another epoch, all is new.
            None if after.is_some() => ring.number,
            None => ring.end().saturating_sub(most as u64).max(ring.number),
        };
        Following {
            kept: self.clone(),
            function: function.into(),
            next: Position { epoch: ring.epoch, number },
            unknown: after.is_some() && known.is_none(),
            grown: Some(ring.grown.subscribe()),
        }
    }

    /// Drops the lines of a function that is gone.
    pub(super) fn forget(&self, function: &str) {
        let mut rings = self.rings();
        if let Some(stamp) = rings.of.get(function).and_then(|ring| ring.stamp) {
            rings.quiet.remove(&stamp);
            rings.silence(function);
        }
    }

    fn rings(&self) -> MutexGuard<'_, Rings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Following {
    /// Up to `most` lines, without waiting for any.
    pub(super) fn unread(&mut self, most: usize) -> Unread {
        let rings = self.kept.rings();
        let Some(ring) = rings.of.get(&self.function) else {
            return Unread { missed: Some(0), ..Unread::default() };
        };
        let missed = ring.number.saturating_sub(self.next.number);
        let lines = ring.from(self.next.number, most);
        self.next.number = self.next.number.max(ring.number) + lines.len() as u64;
        let missed = (!std::mem::take(&mut self.unknown)).then_some(missed);
        Unread { missed, lines }
    }

    /// Returns when there may be more to read.
    pub(super) async fn grown(&mut self) {
        // The ring stays as long as somebody follows it.
        if let Some(grown) = &mut self.grown
            && grown.changed().await.is_err()
        {
            std::future::pending().await
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        drop(self.grown.take());
        self.kept.rings().tidy(&self.function);
    }
}

impl Rings {
    fn ring(&mut self, function: &Arc<str>) -> &mut Ring {
        self.of.entry(function.clone()).or_insert_with(|| {
            self.epoch += 1;
            self.bytes += RING_OVERHEAD;
            Ring {
                epoch: self.epoch,
                number: 0,
                lines: VecDeque::new(),
                bytes: 0,
                stamp: None,
                grown: watch::Sender::new(()),
            }
        })
    }

    fn push(&mut self, line: LogLine) {
        self.lines += 1;
        let (stamp, function, cost) = (self.lines, line.function.clone(), cost(&line));
        // It counts a ring that it makes.
        let _made = self.ring(&function);
        let Self { of, quiet, bytes, .. } = self;
        let Some(ring) = of.get_mut(&function) else { return };
        ring.lines.push_back(Arc::new(line));
        ring.bytes += cost;
        *bytes += cost;
        while ring.bytes > FUNCTION_BYTES || (*bytes > ALL_BYTES && ring.bytes > SHARE_BYTES) {
            *bytes -= ring.drop_first();
        }
        if ring.grown.receiver_count() > 0 {
            ring.grown.send_replace(());
        }
        if let Some(before) = ring.stamp.replace(stamp) {
            quiet.remove(&before);
        }
        quiet.insert(stamp, function);
        while self.bytes > ALL_BYTES
            && let Some((_, function)) = self.quiet.pop_first()
        {
            self.silence(&function);
        }
    }

    /// Drops all lines of a function, which is in `quiet` no more.
    fn silence(&mut self, function: &str) {
        let Some(ring) = self.of.get_mut(function) else { return };
        self.bytes -= ring.bytes;
        ring.number = ring.end();
        (ring.bytes, ring.stamp) = (0, None);
        ring.lines = VecDeque::new();
        self.tidy(function);
    }

    /// Drops a ring that has no lines and nobody follows.
    fn tidy(&mut self, function: &str) {
        let idle = |ring: &Ring| ring.lines.is_empty() && ring.grown.receiver_count() == 0;
        if self.of.get(function).is_some_and(idle) {
            self.of.remove(function);
            self.bytes -= RING_OVERHEAD;
        }
    }
}

impl Ring {
    /// The number of the line that comes next.
    fn end(&self) -> u64 {
        self.number + self.lines.len() as u64
    }

    /// Up to `most` lines from this number on.
    fn from(&self, number: u64, most: usize) -> Lines {
        let skipped = usize::try_from(number.saturating_sub(self.number)).unwrap_or(usize::MAX);
        let numbers = self.number.max(number)..;
        let lines = numbers.zip(self.lines.iter().skip(skipped).take(most));
        lines.map(|(number, line)| (Position { epoch: self.epoch, number }, line.clone())).collect()
    }

    /// Returns how many bytes that was; none is there only while none are counted.
    fn drop_first(&mut self) -> usize {
        let Some(first) = self.lines.pop_front() else { return std::mem::take(&mut self.bytes) };
        self.number += 1;
        let freed = cost(&first);
        self.bytes -= freed;
        freed
    }
}

fn cost(line: &LogLine) -> usize {
    line.text.len() + line.request.len() + LINE_OVERHEAD
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.epoch, self.number)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, number) = text.split_once('-').ok_or(())?;
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| ())?;
        Ok(Self { epoch, number: number.parse().map_err(|_| ())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(function: &str, text: &str) -> LogLine {
        LogLine {
            function: function.into(),
            deployment: "dep_1".into(),
            request: "01".into(),
            at: 1,
            stream: "stdout",
            text: text.into(),
            edge: None,
            missed: 0,
        }
    }

    fn texts(lines: &Lines) -> Vec<&str> {
        lines.iter().map(|(_, line)| line.text.as_str()).collect()
    }

    #[test]
    fn a_follower_gets_what_was_said_and_then_what_comes() {
        let kept = Kept::new();
        for text in ["a", "b", "c"] {
            kept.push(line("fn_1", text));
        }
        kept.push(line("fn_2", "of another one"));
        assert_eq!(texts(&kept.newest("fn_1", 2)), ["b", "c"]);
        let mut following = kept.follow("fn_1", None, 2);
        let unread = following.unread(10);
        assert_eq!((unread.missed, texts(&unread.lines)), (Some(0), vec!["b", "c"]));
        assert!(following.unread(10).lines.is_empty());
        kept.push(line("fn_1", "d"));
        assert_eq!(texts(&following.unread(10).lines), ["d"]);

        // Who comes again goes on where they were, but not by an id of another life.
        let (after, _) = unread.lines[0];
        assert_eq!(texts(&kept.follow("fn_1", Some(after), 2).unread(10).lines), ["c", "d"]);
        assert_eq!(after.to_string().parse(), Ok(after));
        let other = Position { epoch: after.epoch - 1, ..after };
        let unread = kept.follow("fn_1", Some(other), 2).unread(10);
        assert_eq!((unread.missed, texts(&unread.lines)), (None, vec!["a", "b", "c", "d"]));
        let forged = Position { number: u64::MAX, ..after };
        assert!(kept.follow("fn_1", Some(forged), 2).unread(10).lines.is_empty());
    }

    #[test]
    fn who_reads_too_slowly_learns_how_much_they_missed() {
        let kept = Kept::new();
        let mut following = kept.follow("fn_1", None, 2);
        let text = "x".repeat(8 << 10);
        for _ in 0..100 {
            kept.push(line("fn_1", &text));
        }
        let unread = following.unread(1_000);
        let there = FUNCTION_BYTES / (text.len() + "01".len() + LINE_OVERHEAD);
        assert_eq!((unread.missed, unread.lines.len()), (Some(100 - there as u64), there));
        kept.forget("fn_1");
        assert_eq!(following.unread(10).missed, Some(0), "they have read all of it");
        kept.push(line("fn_1", "unread"));
        kept.forget("fn_1");
        assert_eq!(following.unread(10).missed, Some(1));
    }

    #[test]
    fn all_lines_together_are_bounded_and_many_of_one_function_cost_others_nothing() {
        let kept = Kept::new();
        for number in 0..2_000 {
            kept.push(line(&format!("fn_{number}"), "a few words"));
        }
        let text = "x".repeat(8 << 10);
        for number in 0..10_000 {
            kept.push(line(&format!("loud_{}", number % 100), &text));
        }
        for number in 0..2_000 {
            assert_eq!(kept.newest(&format!("fn_{number}"), 1).len(), 1, "{number}");
        }
        for number in 0..50_000 {
            kept.push(line(&format!("many_{number}"), "a few words"));
        }
        let rings = kept.rings();
        assert!(kept_bytes(&rings) <= ALL_BYTES && rings.bytes == kept_bytes(&rings), "{}", rings.bytes);
        assert!(!rings.of.contains_key("fn_0") && rings.of.contains_key("many_49999"));
    }

    fn kept_bytes(rings: &Rings) -> usize {
        let bytes = |ring: &Ring| RING_OVERHEAD + ring.lines.iter().map(|line| cost(line)).sum::<usize>();
        rings.of.values().map(bytes).sum()
    }

    #[test]
    fn what_nobody_follows_and_nobody_logged_takes_nothing() {
        let kept = Kept::new();
        let following = kept.follow("fn_1", None, 2);
        kept.push(line("fn_2", "a"));
        kept.forget("fn_2");
        assert_eq!(kept.rings().of.len(), 1);
        drop(following);
        let rings = kept.rings();
        assert_eq!((rings.of.len(), rings.quiet.len(), rings.bytes), (0, 0, 0));
    }
}
