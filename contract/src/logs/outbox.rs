//! Lines on their way: those that wait to be sent, bounded for each function and for all. Whoever writes waits for nobody, so what
//! is too much drops the oldest, and the line after them says how many.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::LogLine;

/// What a line takes besides its text, as JSON or in memory, at most.
const LINE_OVERHEAD: usize = 256;

/// Functions whose lost lines are counted while none of theirs waits.
const COUNTED: usize = 4_096;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of one function's lines.
    pub function: usize,
    /// Bytes of all lines.
    pub all: usize,
}

/// Lines that wait, oldest first.
#[derive(Debug)]
pub struct Outbox {
    bounds: Bounds,
    of: HashMap<Arc<str>, Queue>,
    /// Whose turn it is: for each line its function.
    turns: VecDeque<Arc<str>>,
    bytes: usize,
}

/// Of one function. It has a turn for each line, and those that are spare.
#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<LogLine>,
    bytes: usize,
    /// Turns of lines that were dropped: the next lines take them, so a function that says too much is not put behind others,
    /// and its lines are the first to go when all are too many.
    spare: usize,
    /// Lines that were lost before the first one.
    missed: u64,
}

impl Outbox {
    /// An empty one.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, of: HashMap::new(), turns: VecDeque::new(), bytes: 0 }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds a line. Returns how many others were dropped for it.
    pub fn push(&mut self, line: LogLine) -> u64 {
        let cost = cost(&line);
        let mut dropped = 0;
        let function = line.function.clone();
        self.make_room(&function);
        let queue = self.of.entry(function.clone()).or_default();
        while queue.bytes + cost > self.bounds.function
            && let Some(freed) = queue.drop_first()
        {
            self.bytes -= freed;
            dropped += 1;
        }
        queue.lines.push_back(line);
        queue.bytes += cost;
        self.bytes += cost;
        if queue.spare > 0 {
            queue.spare -= 1;
        } else {
            self.turns.push_back(function);
        }
        while self.bytes > self.bounds.all
            && let Some(function) = self.turns.pop_front()
        {
            let Some(queue) = self.of.get_mut(&function) else { continue };
            if let Some(freed) = queue.drop_first() {
                self.bytes -= freed;
                dropped += 1;
            }
            queue.spare = queue.spare.saturating_sub(1);
            self.tidy(&function);
        }
        dropped
    }

    /// The oldest lines, which as JSON ([`SentLine`](super::SentLine)) take at most so many bytes.
    pub fn take(&mut self, bytes: usize, most: usize) -> Vec<LogLine> {
        let (mut taken, mut size) = (Vec::new(), 0);
        while taken.len() < most
            && let Some(function) = self.turns.front().cloned()
        {
            let Some(queue) = self.of.get_mut(&function) else {
                self.turns.pop_front();
                continue;
            };
            let next = queue.lines.front().map(cost);
            if next.is_some_and(|next| size + next > bytes && !taken.is_empty()) {
                break;
            }
            self.turns.pop_front();
            match queue.lines.pop_front() {
                Some(mut line) => {
                    let cost = cost(&line);
                    queue.bytes -= cost;
                    self.bytes -= cost;
                    size += cost;
                    line.missed = line.missed.saturating_add(std::mem::take(&mut queue.missed));
                    taken.push(line);
                }
                None => queue.spare = queue.spare.saturating_sub(1),
            }
            self.tidy(&function);
        }
        taken
    }

    /// Lines that were taken did not arrive, and never will.
    pub fn lost(&mut self, lines: Vec<LogLine>) {
        for line in lines {
            self.make_room(&line.function);
            let queue = self.of.entry(line.function).or_default();
            queue.missed = queue.missed.saturating_add(1).saturating_add(line.missed);
        }
    }

    /// Forgets a function that has nothing.
    fn tidy(&mut self, function: &str) {
        let is_idle = |queue: &Queue| queue.lines.is_empty() && queue.spare == 0 && queue.missed == 0;
        if self.of.get(function).is_some_and(is_idle) {
            self.of.remove(function);
        }
    }

    /// Functions that only have lost something are not counted without end.
    fn make_room(&mut self, function: &str) {
        let is_waiting = |queue: &Queue| !queue.lines.is_empty() || queue.spare > 0;
        if self.of.len() >= COUNTED && !self.of.contains_key(function) {
            let waiting = self.of.values().filter(|queue| is_waiting(queue)).count();
            if waiting < self.of.len() {
                self.of.retain(|_, queue| is_waiting(queue));
            }
        }
    }
}

impl Queue {
    /// Bytes that this frees.
    fn drop_first(&mut self) -> Option<usize> {
        let line = self.lines.pop_front()?;
        let cost = cost(&line);
        self.bytes -= cost;
        self.spare += 1;
        self.missed = self.missed.saturating_add(1).saturating_add(line.missed);
        Some(cost)
    }
}

/// At least what a line takes as JSON, where control characters are six, and in memory.
fn cost(line: &LogLine) -> usize {
    let byte = |byte| match byte {
        0..=0x1f => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    line.text.bytes().map(byte).sum::<usize>() + LINE_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::SentLine;

    const BOUNDS: Bounds = Bounds { function: 8 << 10, all: 32 << 10 };

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

    fn said(lines: &[LogLine]) -> Vec<(&str, u64)> {
        lines.iter().map(|line| (line.text.as_str(), line.missed)).collect()
    }

    #[test]
    fn lines_come_out_in_their_order_and_in_parts() {
        let mut outbox = Outbox::new(BOUNDS);
        for (function, text) in [("fn_1", "a"), ("fn_2", "b"), ("fn_1", "c")] {
            assert_eq!(outbox.push(line(function, text)), 0);
        }
        assert_eq!(said(&outbox.take(1, 10)), [("a", 0)], "one in any case");
        assert_eq!(said(&outbox.take(10_000, 1)), [("b", 0)]);
        assert!(!outbox.is_empty());
        assert_eq!(said(&outbox.take(10_000, 10)), [("c", 0)]);
        assert!(outbox.is_empty() && outbox.of.is_empty() && outbox.turns.is_empty());
    }

    #[test]
    fn a_function_that_says_too_much_loses_its_own_oldest_lines_only() {
        let mut outbox = Outbox::new(BOUNDS);
        outbox.push(line("quiet", "heard"));
        let mut dropped = 0;
        for number in 0..100 {
            dropped += outbox.push(line("loud", &format!("{number:0>1000}")));
        }
        assert!(outbox.of["loud"].bytes <= BOUNDS.function);
        let taken = outbox.take(1 << 20, 1_000);
        assert_eq!((taken[0].text.as_str(), taken[1].missed), ("heard", dropped));
        assert_eq!(taken.len() as u64 - 1 + dropped, 100);
        assert!(taken.last().unwrap().text.ends_with("99"));
        assert!(outbox.of.is_empty() && outbox.turns.is_empty(), "{outbox:?}");
    }

    #[test]
    fn all_lines_together_are_bounded_and_each_one_that_is_gone_is_counted() {
        let mut outbox = Outbox::new(BOUNDS);
        let (mut pushed, mut arrived, mut dropped) = (0_u64, 0, 0);
        // Lengths and functions that no pattern of turns fits.
        for number in 0_usize..20_000 {
            let text = "\u{1}".repeat(number * number % 1_300);
            dropped += outbox.push(line(&format!("fn_{}", number * 7 % 11), &text));
            pushed += 1;
            assert!(outbox.bytes <= BOUNDS.all);
            if number % 97 == 0 {
                arrived += outbox.take(4 << 10, 5).iter().map(|line| 1 + line.missed).sum::<u64>();
            }
        }
        let bytes: usize = outbox.of.values().map(|queue| queue.bytes).sum();
        assert_eq!(bytes, outbox.bytes);
        assert!(outbox.turns.len() <= BOUNDS.all / LINE_OVERHEAD, "{}", outbox.turns.len());
        while !outbox.is_empty() {
            arrived += outbox.take(4 << 10, 5).iter().map(|line| 1 + line.missed).sum::<u64>();
        }
        let counted: u64 = outbox.of.values().map(|queue| queue.missed).sum();
        assert!(dropped > 1_000);
        assert_eq!(arrived + counted, pushed);
    }

    #[test]
    fn what_did_not_arrive_is_counted_by_the_next_line() {
        let mut outbox = Outbox::new(BOUNDS);
        outbox.push(line("fn_1", "a"));
        let taken = outbox.take(10_000, 10);
        outbox.lost(taken);
        assert!(outbox.is_empty());
        outbox.push(line("fn_1", "b"));
        assert_eq!(said(&outbox.take(10_000, 10)), [("b", 1)]);
        for number in 0..2 * COUNTED {
            outbox.lost(vec![line(&format!("fn_{number}"), "a")]);
        }
        assert!(outbox.of.len() <= COUNTED);
    }

    #[test]
    fn what_a_line_counts_for_is_no_less_than_its_json() {
        let mut worst = line(&"f".repeat(29), "\u{0}\n\"\\ü\u{7f}");
        (worst.deployment, worst.request) = ("d".repeat(30).into(), "0".repeat(30));
        (worst.at, worst.missed, worst.stream) = (i64::MAX, u64::MAX, "critical");
        let json = serde_json::to_string(&SentLine::from(&worst)).unwrap();
        assert!(json.len() <= cost(&worst), "{}", json.len());
    }
}
