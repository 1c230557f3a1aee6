//! What the oracle has seen, counted.

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    pub(crate) outcomes: u64,
    pub(crate) values: u64,
    pub(crate) hits: u64,
    pub(crate) loads: u64,
    pub(crate) bounds: u64,
    pub(crate) micros: u64,
    /// Keys that were asked again, loads that were taken apart, loads inside loads, gets that closed a ring.
    pub(crate) again: u64,
    pub(crate) isolated: u64,
    pub(crate) nested: u64,
    pub(crate) cycles: u64,
    /// Keys given up as unprocessed, for want of budget, and batches that weight made smaller.
    pub(crate) unprocessed: u64,
    pub(crate) unbudgeted: u64,
    pub(crate) weighed: u64,
    /// Rings that waiters closed as they moved.
    pub(crate) moved: u64,
    /// Items of streams.
    pub(crate) streamed: u64,
    /// Calls of a load to another batcher, and rings that these closed and nobody saw.
    pub(crate) crossed: u64,
    pub(crate) unseen: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.outcomes += other.outcomes;
        self.values += other.values;
        self.hits += other.hits;
        self.loads += other.loads;
        self.bounds += other.bounds;
        self.micros += other.micros;
        self.again += other.again;
        self.isolated += other.isolated;
        self.nested += other.nested;
        self.cycles += other.cycles;
        self.unprocessed += other.unprocessed;
        self.unbudgeted += other.unbudgeted;
        self.weighed += other.weighed;
        self.moved += other.moved;
        self.streamed += other.streamed;
        self.crossed += other.crossed;
        self.unseen += other.unseen;
    }
}
