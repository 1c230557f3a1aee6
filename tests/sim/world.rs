//! What one seed makes of a case before it runs: batchers, callers, and which misfortunes exist at all.

use std::time::Duration;

use crate::log::{Leaves, Retries, Rules};

/// The one source of chance: splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// A stream of its own for everything that has numbers of its own.
    pub(crate) fn of(numbers: &[u64]) -> Self {
        let mut rng = Self(0x6d75_6c74_6967_6574);
        for number in numbers {
            rng.0 = rng.next() ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        rng
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    pub(crate) fn up_to(&mut self, most: usize) -> usize {
        self.below(most as u64 + 1) as usize
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// What can go wrong with a load, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Error,
    PanicAtOnce,
    PanicFirstPoll,
    PanicLater,
    Never,
    Forgets,
    Foreign,
    Twice,
    Miscounts,
    KeyErrors,
    Slow,
    Storm,
}

impl Fault {
    pub(crate) const ALL: [Self; 12] = [
        Self::Error,
        Self::PanicAtOnce,
        Self::PanicFirstPoll,
        Self::PanicLater,
        Self::Never,
        Self::Forgets,
        Self::Foreign,
        Self::Twice,
        Self::Miscounts,
        Self::KeyErrors,
        Self::Slow,
        Self::Storm,
    ];
}

/// What callers do with the future of a call, beside awaiting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Await,
    /// Polled so often, whether woken or not, then dropped.
    DropAtPoll,
    /// `timeout` around it.
    Timeout,
    /// Polled a few times, then kept and never polled again.
    Park,
    /// Polled here, awaited in another task.
    Migrate,
    /// Polled once, left alone for a while, then awaited.
    Nap,
    /// Polled once, left alone for a while, then dropped.
    Forget,
    /// Made, but dropped before it was polled.
    Unasked,
    /// Many at once in one task.
    Burst,
    /// One at every pass of the scheduler, many times over.
    Stream,
}

impl Manner {
    pub(crate) const ILL: [Self; 9] = [
        Self::DropAtPoll,
        Self::Timeout,
        Self::Park,
        Self::Migrate,
        Self::Nap,
        Self::Forget,
        Self::Unasked,
        Self::Burst,
        Self::Stream,
    ];
}

/// How long a policy that counts keys lets them wait.
pub(crate) const COUNT_MICROS: u64 = 20_000;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Own {
    /// Leaves while fewer loads run.
    WhileBusy(usize),
    Aged(u64),
    Passes(u32),
    Count(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Policy {
    Adaptive { micros: u64 },
    Settle { micros: u64 },
    Window { micros: u64 },
    Immediate,
    Manual,
    Own { own: Own, panics: u64 },
}

/// A gate; chances in percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GateShape {
    pub(crate) late: u64,
    pub(crate) late_ms: u64,
    pub(crate) refuses: u64,
    pub(crate) panics: u64,
    /// The most keys it grants at a time; none: all.
    pub(crate) few: Option<usize>,
    /// Shut until the faults stop.
    pub(crate) shut: bool,
}

/// A store; chances in percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreShape {
    /// Keeps absence and errors too.
    pub(crate) all: bool,
    pub(crate) most: usize,
    pub(crate) panics: u64,
    /// Somebody writes while something is being put.
    pub(crate) mischief: u64,
}

/// How keys are asked again; times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryShape {
    pub(crate) attempts: u32,
    pub(crate) base_ms: u64,
    pub(crate) cap_ms: u64,
    pub(crate) budget: f64,
}

/// What else a load may say, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Twist {
    /// Some keys, or all, stay unprocessed.
    Unprocessed,
    /// The load fails, with a verdict.
    Verdict,
    /// Single keys fail, with verdicts.
    KeyVerdicts,
}

impl Twist {
    pub(crate) const ALL: [Self; 3] = [Self::Unprocessed, Self::Verdict, Self::KeyVerdicts];
}

/// Loads that ask their own batcher; chances in percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NestShape {
    pub(crate) asks: u64,
    /// One key, the next above, again and again.
    pub(crate) deep: bool,
    /// Waits for the answers no longer than this; none: until they are there.
    pub(crate) patience_ms: Option<u64>,
    /// Asks for several keys at once.
    pub(crate) many: u64,
    /// Asks another batcher, of so many.
    pub(crate) crosses: u64,
    pub(crate) batchers: usize,
    /// Always asks for one of its own keys.
    pub(crate) mutual: bool,
}

/// What batches may weigh.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WeightShape {
    pub(crate) builders: Option<u64>,
    pub(crate) loaders: Option<u64>,
    /// The loader's limit is one less from each so manyth load on; zero: it stays.
    pub(crate) shrinks: u64,
}

/// Keys asked again, isolation, loads inside loads, weights: each may be there or not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Growth {
    pub(crate) retry: Option<RetryShape>,
    pub(crate) twists: Vec<Twist>,
    /// How many loads of a hundred have one of them.
    pub(crate) twisted: u64,
    /// One key of so many stays unprocessed.
    pub(crate) stubborn: Option<u32>,
    /// One key of so many fails every load it is in.
    pub(crate) poison: Option<u32>,
    pub(crate) isolates: bool,
    pub(crate) nests: Option<NestShape>,
    pub(crate) weights: Option<WeightShape>,
}

impl Growth {
    fn is_plain(&self) -> bool {
        let asks = self.nests.is_some() || self.weights.is_some();
        self.twists.is_empty() && self.poison.is_none() && !self.isolates && !asks
    }

    fn draw(rng: &mut Rng, cut: Cut) -> Self {
        let plain = rng.percent(40);
        let mut on = |bit: u32, percent: u64| rng.percent(percent) && !plain && cut.faults & (1 << (12 + bit)) != 0;
        let on: Vec<bool> =
            [45, 45, 45, 40, 30, 40, 35, 50].into_iter().zip(0..).map(|(percent, bit)| on(bit, percent)).collect();
        let twists: Vec<_> = Twist::ALL.into_iter().zip(&on).filter(|(_, on)| **on).map(|(twist, _)| twist).collect();
        let retry = RetryShape {
            attempts: rng.pick(&[1, 2, 3, 3, 5]),
            base_ms: rng.pick(&[1, 1, 10, 50]),
            cap_ms: rng.pick(&[50, 80, 300]),
            budget: rng.pick(&[0.0, 0.2, 0.2, 1.0, f64::INFINITY]),
        };
        let nests = NestShape {
            asks: rng.pick(&[10, 30, 50]),
            deep: rng.percent(25),
            patience_ms: rng.pick(&[None, None, None, Some(0), Some(20)]),
            many: if on[7] { 60 } else { 0 },
            crosses: 0,
            batchers: 1,
            mutual: false,
        };
        let weights = WeightShape {
            builders: rng.pick(&[None, Some(1), Some(4), Some(12), Some(60)]),
            loaders: rng.pick(&[None, Some(3), Some(10), Some(25), Some(100)]),
            shrinks: rng.pick(&[0, 0, 1, 5]),
        };
        Self {
            retry: (!twists.is_empty()).then_some(retry),
            twisted: rng.pick(&[10, 40, 80, 100]),
            stubborn: (on[0] && rng.percent(30)).then(|| rng.pick(&[2, 5])),
            poison: on[3].then(|| rng.pick(&[1, 3, 7, 20])),
            isolates: on[4],
            nests: on[5].then_some(nests),
            weights: on[6].then_some(weights).filter(|both| both.builders.or(both.loaders).is_some()),
            twists,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) growth: Growth,
    pub(crate) max_batch: Option<usize>,
    pub(crate) max_keys: Option<usize>,
    pub(crate) slots: usize,
    pub(crate) capacity: usize,
    pub(crate) join_in_flight: bool,
    pub(crate) aborts: bool,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) policy: Policy,
    pub(crate) gates: Vec<GateShape>,
    pub(crate) store: Option<StoreShape>,
    /// Distinct hashes of keys.
    pub(crate) hashes: u32,
    /// How many loads of a hundred go wrong.
    pub(crate) ill: u64,
    pub(crate) faults: Vec<Fault>,
    pub(crate) delay_ms: u64,
    /// Some handle is kept to the end.
    pub(crate) kept: bool,
}

/// Streams of keys, beside the callers; chances in percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamShape {
    /// Tasks that run streams, one after another.
    pub(crate) tasks: usize,
    pub(crate) streams: usize,
    /// Most keys of a source.
    pub(crate) most: usize,
    /// A source makes a key wait, for so long at most.
    pub(crate) paced: u64,
    pub(crate) pace_ms: u64,
    pub(crate) panics: u64,
    /// Somebody waits between two items.
    pub(crate) slow: u64,
    /// Somebody does not wait for the end.
    pub(crate) leaves: u64,
    /// The batcher is closed meanwhile.
    pub(crate) closes: u64,
}

impl StreamShape {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            tasks: rng.pick(&[1, 1, 2, 3]),
            streams: rng.pick(&[1, 2, 4]),
            most: rng.pick(&[3, 12, 40, 100]),
            paced: rng.pick(&[0, 10, 40, 100]),
            pace_ms: rng.pick(&[0, 2, 20]),
            panics: rng.pick(&[0, 0, 2]),
            slow: rng.pick(&[0, 30]),
            leaves: rng.pick(&[0, 40, 80]),
            closes: rng.pick(&[0, 0, 0, 40]),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) batchers: Vec<Shape>,
    pub(crate) callers: usize,
    pub(crate) steps: usize,
    pub(crate) keys: u64,
    pub(crate) skew: u32,
    pub(crate) manners: Vec<Manner>,
    /// Longest pause of a caller between two calls.
    pub(crate) pause_ms: u64,
    /// Calls of a hundred that are for many keys.
    pub(crate) many: u64,
    pub(crate) most: usize,
    pub(crate) closes: bool,
    /// Steps of a hundred that invalidate or prime first.
    pub(crate) writes: u64,
    /// How far the clock is from a whole millisecond.
    pub(crate) skewed_micros: u64,
    pub(crate) streams: Option<StreamShape>,
    /// Loads ask other batchers.
    pub(crate) crosses: bool,
}

/// A smaller case of the same seed: at most so many callers, steps and batchers, and only these faults and manners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) callers: usize,
    pub(crate) steps: usize,
    pub(crate) batchers: usize,
    pub(crate) faults: u32,
    pub(crate) manners: u32,
}

impl Cut {
    pub(crate) const NONE: Self =
        Self { callers: usize::MAX, steps: usize::MAX, batchers: usize::MAX, faults: u32::MAX, manners: u32::MAX };
}

impl World {
    pub(crate) fn draw(seed: u64, cut: Cut) -> Self {
        let mut rng = Rng::of(&[seed, 1]);
        let batchers = rng.pick(&[1, 1, 2, 3]);
        let shape = |number| {
            let growth = Growth::draw(&mut Rng::of(&[seed, 9, number]), cut);
            Shape::draw(&mut Rng::of(&[seed, 2, number]), cut, growth)
        };
        let mut shapes = (0..batchers).map(shape).take(cut.batchers.max(1)).collect::<Vec<_>>();
        let (mut of_crossing, batchers) = (Rng::of(&[seed, 16]), shapes.len());
        let crosses = of_crossing.percent(20) && batchers > 1 && cut.faults & (1 << 20) != 0;
        if crosses {
            for shape in &mut shapes {
                shape.cross(&mut of_crossing, batchers);
            }
        }
        let on = rng.next();
        let manners =
            Manner::ILL.into_iter().enumerate().filter(|(bit, _)| on & u64::from(cut.manners) & (1 << bit) != 0);
        let mut manners = manners.map(|(_, manner)| manner).collect::<Vec<_>>();
        manners.push(Manner::Await);
        let (mut of_streams, may_stream) = (Rng::of(&[seed, 13]), cut.manners & (1 << Manner::ILL.len()) != 0);
        Self {
            seed,
            callers: rng.pick(&[1, 2, 3, 5, 8, 12, 20, 32]).min(cut.callers),
            steps: rng.pick(&[1, 2, 4, 8, 16]).min(cut.steps),
            keys: rng.pick(&[1, 2, 3, 8, 20, 60, 400]),
            skew: rng.pick(&[1, 1, 2, 4]),
            manners,
            pause_ms: rng.pick(&[0, 0, 1, 3, 10, 60, 400]),
            many: rng.pick(&[0, 15, 40, 80]),
            most: rng.pick(&[1, 4, 12, 40]),
            closes: rng.percent(15),
            writes: Rng::of(&[seed, 7]).pick(&[0, 10, 40, 80]),
            skewed_micros: rng.pick(&[0, 0, 137, 500, 999]),
            batchers: shapes,
            crosses,
            streams: (of_streams.percent(20) && may_stream).then(|| StreamShape::draw(&mut of_streams)),
        }
    }

    pub(crate) fn rules(&self) -> Vec<Rules> {
        // timers tick in milliseconds, and off a whole one the runtime parks for up to one more
        let tick = if self.skewed_micros == 0 { 1000 } else { 2000 };
        self.batchers.iter().map(|shape| shape.rules(tick)).collect()
    }

    pub(crate) fn key(&self, rng: &mut Rng) -> u32 {
        let mut key = rng.below(self.keys);
        for _ in 1..self.skew {
            key = key.min(rng.below(self.keys));
        }
        key as u32
    }
}

impl Shape {
    fn draw(rng: &mut Rng, cut: Cut, mut growth: Growth) -> Self {
        let timeout_ms = rng.pick(&[Some(7), Some(40), Some(200), Some(1500), None]);
        if timeout_ms.is_none() && !growth.twists.is_empty() {
            growth.nests = None; // a ring that is closed by waiters who move ends with the timeout
        }
        let on = rng.next() & u64::from(cut.faults);
        let faults = Fault::ALL.into_iter().enumerate().filter(|(bit, _)| on & (1 << bit) != 0).map(|(_, fault)| fault);
        // what never ends is only for loads that are cut off
        let faults = faults.filter(|fault| timeout_ms.is_some() || *fault != Fault::Never).collect();
        let misfortune = |rng: &mut Rng, percent: &[u64]| {
            let percent = rng.pick(percent);
            if cut.faults == 0 { 0 } else { percent }
        };
        let policy = match rng.below(10) {
            0..2 => Policy::Adaptive { micros: rng.pick(&[0, 500, 2000, 2000, 15_000]) },
            2 => Policy::Settle { micros: rng.pick(&[0, 500, 2000, 2000, 15_000]) },
            3..6 => Policy::Window { micros: rng.pick(&[0, 300, 1000, 5000, 30_000]) },
            6 => Policy::Immediate,
            7 => Policy::Manual,
            _ => Policy::Own {
                own: match rng.below(4) {
                    0 => Own::WhileBusy(rng.up_to(3) + 1),
                    1 => Own::Aged(rng.below(20)),
                    2 => Own::Passes(rng.below(6) as u32),
                    _ => Own::Count(rng.up_to(8)),
                },
                panics: misfortune(rng, &[0, 0, 5, 30]),
            },
        };
        let gates = (0..rng.pick(&[0, 0, 0, 1, 1, 2])).map(|_| GateShape {
            late: rng.pick(&[0, 30, 100]),
            late_ms: rng.pick(&[0, 1, 10, 100]),
            refuses: misfortune(rng, &[0, 0, 10, 50]),
            panics: misfortune(rng, &[0, 0, 0, 10]),
            few: rng.pick(&[None, None, Some(1), Some(3)]),
            shut: misfortune(rng, &[0, 0, 0, 0, 1]) > 0,
        });
        let gates = gates.collect();
        let kept = rng.percent(70);
        let store = rng.percent(50).then(|| StoreShape {
            all: rng.percent(40),
            most: rng.pick(&[1, 2, 5, 1000]),
            panics: misfortune(rng, &[0, 0, 10, 50]),
            mischief: if kept { rng.pick(&[0, 10, 50]) } else { 0 }, // it needs a handle, which must not be the last
        });
        Self {
            growth,
            store,
            max_batch: rng.pick(&[None, Some(1), Some(2), Some(3), Some(7), Some(40), Some(200)]),
            max_keys: rng.pick(&[None, None, None, Some(0), Some(4), Some(30)]),
            slots: rng.pick(&[1, 1, 2, 3, 16]),
            capacity: rng.pick(&[1 << 20, 1 << 20, 1 << 20, 1, 2, 5, 12, 40]),
            join_in_flight: rng.percent(80),
            aborts: rng.percent(70),
            timeout_ms,
            policy,
            gates,
            hashes: rng.pick(&[u32::MAX, u32::MAX, u32::MAX, 3, 1]),
            ill: rng.pick(&[0, 10, 30, 70, 100]),
            faults,
            delay_ms: rng.pick(&[0, 1, 5, 30, 250]).min(timeout_ms.unwrap_or(250)),
            kept,
        }
    }

    /// Its loads ask the other batchers. A ring that is not seen ends with the timeout.
    fn cross(&mut self, rng: &mut Rng, batchers: usize) {
        self.timeout_ms.get_or_insert(1500);
        let asks = NestShape { asks: 40, deep: false, patience_ms: None, many: 0, crosses: 0, batchers, mutual: false };
        let asks = self.growth.nests.unwrap_or(asks);
        let crosses = rng.pick(&[20, 50, 100]);
        self.growth.nests = Some(NestShape { crosses, batchers, mutual: rng.percent(40), ..asks });
    }

    fn rules(&self, tick: u64) -> Rules {
        let stated = self.max_batch.unwrap_or(usize::MAX).min(self.max_keys.map_or(usize::MAX, |keys| keys.max(1)));
        Rules {
            limit: if stated == usize::MAX { 100 } else { stated },
            slots: self.slots,
            capacity: self.capacity,
            join_in_flight: self.join_in_flight,
            store: self.store.is_some(),
            aborts: self.aborts,
            timeout: self.timeout_ms.map(|ms| ms * 1000),
            leaves: match self.policy {
                Policy::Adaptive { micros } | Policy::Settle { micros } => Leaves::Within(micros),
                Policy::Window { micros } => Leaves::Window(micros),
                Policy::Immediate => Leaves::AtOnce,
                Policy::Manual => Leaves::Due,
                Policy::Own { own: Own::Count(keys), .. } => Leaves::Count(keys, COUNT_MICROS),
                Policy::Own { .. } => Leaves::Own,
            },
            gates: self.gates.len(),
            tick,
            plain: self.growth.is_plain(),
            retry: self.growth.retry.map_or(Retries::DEFAULT, |retry| Retries {
                attempts: retry.attempts,
                base: retry.base_ms * 1000,
                cap: retry.cap_ms * 1000,
                budget: retry.budget,
            }),
            isolates: self.growth.isolates,
            weights: self.growth.weights.map(|both| [both.builders, both.loaders].map(|most| most.unwrap_or(u64::MAX))),
        }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout_ms.map_or(Duration::MAX, Duration::from_millis)
    }
}
