//! Answers that labels may come for, in memory, by the hash of the request's id: bounded in bytes, and the oldest go first.
//!
//! It answers as `control::store::AnswerStore` does, for a fraction of the time; it ends with the process.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::canary::{Arm, Routing};
use crate::control::store::{Heard, KeptAnswer};

/// A request.
#[derive(Debug)]
struct Row {
    /// When it was heard of first.
    at_ms: i64,
    /// How often it was answered: a label may come for one that was once. One that is used up counts as answered again.
    times: u32,
    came: Option<(Arm, Routing)>,
    stable: Option<Box<str>>,
    canary: Option<Box<str>>,
}

/// What a row takes without its texts: a map has up to twice as many places as rows.
const ROW_BYTES: usize = 2 * size_of::<(u64, Row)>() + size_of::<u64>();

impl Row {
    fn new(at_ms: i64) -> Self {
        Self {
            at_ms,
            times: 0,
            came: None,
            stable: None,
            canary: None,
        }
    }

    fn bytes(&self) -> usize {
        let texts = [&self.stable, &self.canary].into_iter().flatten();
        ROW_BYTES + texts.map(|text| text.len()).sum::<usize>()
    }

    fn hear(&mut self, heard: Heard) {
        self.times = self.times.saturating_add(heard.times);
        self.came = heard.came.or(self.came);
        let newer =
            |text: Option<String>, before: Option<Box<str>>| text.map(Into::into).or(before);
        self.stable = newer(heard.stable, self.stable.take());
        self.canary = newer(heard.canary, self.canary.take());
    }

    fn kept(&self) -> Option<KeptAnswer> {
        let (arm, routing) = self.came.filter(|_| self.times == 1)?;
        let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        Some(KeptAnswer {
            arm,
            routing,
            stable: text(&self.stable),
            canary: text(&self.canary),
        })
    }
}

/// The answers of one rollout.
#[derive(Debug)]
pub(super) struct AnswerTable {
    rows: HashMap<u64, Row>,
    /// The keys of the rows, in the order in which they came.
    ages: VecDeque<u64>,
    bytes: usize,
    bytes_max: usize,
}

impl AnswerTable {
    /// Room for so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            rows: HashMap::new(),
            ages: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Remembers what is heard now, and forgets what was heard before `oldest_ms`, and the oldest where there is no more room.
    pub(super) fn keep(&mut self, heard: Vec<Heard>, now_ms: i64, oldest_ms: i64) {
        for one in heard {
            let row = match self.rows.entry(one.id_hash) {
                Entry::Occupied(row) => {
                    let row = row.into_mut();
                    self.bytes -= row.bytes();
                    row
                }
                Entry::Vacant(place) => {
                    self.ages.push_back(one.id_hash);
                    place.insert(Row::new(now_ms))
                }
            };
            row.hear(one);
            self.bytes += row.bytes();
        }
        while let Some(id_hash) = self.ages.front()
            && let Some(oldest) = self.rows.get(id_hash)
            && (oldest.at_ms < oldest_ms || self.bytes > self.bytes_max)
        {
            self.bytes -= oldest.bytes();
            self.rows.remove(id_hash);
            self.ages.pop_front();
        }
    }

    /// Gives each request to `judge`, with its place in the list; none where nothing is known of it that was heard since `oldest_ms`. Where
    /// it says so, nothing more is said of that request.
    pub(super) fn use_up(
        &mut self,
        ids: &[u64],
        oldest_ms: i64,
        mut judge: impl FnMut(usize, Option<KeptAnswer>) -> bool,
    ) {
        for (place, id_hash) in ids.iter().enumerate() {
            let row = self.rows.get_mut(id_hash);
            let row = row.filter(|row| row.at_ms >= oldest_ms);
            let is_used = judge(place, row.as_ref().and_then(|row| row.kept()));
            if is_used && let Some(row) = row {
                self.bytes -= row.bytes();
                *row = Row {
                    times: 2,
                    ..Row::new(row.at_ms)
                };
                self.bytes += row.bytes();
            }
        }
    }

    /// Requests that are remembered, and their bytes.
    #[cfg(test)]
    pub(super) fn size(&self) -> (u64, u64) {
        (self.rows.len() as u64, self.bytes as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_oldest_are_forgotten_first() {
        let mut table = AnswerTable::new(1 << 20);
        for at in 0..20_000 {
            let stable = Some("[1]".to_owned());
            let heard = Heard {
                stable,
                ..Heard::request(at)
            };
            table.keep(vec![heard], 0, 0);
        }
        let (rows, bytes) = table.size();
        assert!(
            rows > 1000 && bytes <= 1 << 20,
            "{rows} rows, {bytes} bytes"
        );
        let mut known = Vec::new();
        table.use_up(
            &[0, 19_999 - rows, 20_000 - rows, 19_999],
            0,
            |place, kept| {
                known.extend(kept.map(|_| place));
                true
            },
        );
        assert_eq!(known, [2, 3]);
        // What is used up has no text any more, and goes like the others.
        assert_eq!(table.size(), (rows, bytes - 6));
        table.keep(Vec::new(), 0, 1);
        assert_eq!(table.size(), (0, 0));
    }
}
