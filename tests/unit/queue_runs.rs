//! Where the steps come from: drawn at random and shrunk, or from the bytes of a fuzzer.

#[cfg(test)]
use std::{cell::Cell, task::Waker};

#[cfg(test)]
use proptest::{prelude::*, test_runner::TestRunner};

#[cfg(test)]
use super::{Key, Tries};
use super::{
    Kind, Limit, World,
    beside::{Landing, Step, limits},
};
#[cfg(test)]
use crate::{
    land::{Fate, Fates, How},
    queue::{Ask, Queue, Submit},
    stats::Reason,
    waiters::{After, Wait},
};

const fn of_keys(keys: usize) -> Limit {
    Limit { keys, weight: [u64::MAX; 2] }
}

#[cfg(test)]
fn step() -> impl Strategy<Value = Step> {
    let place = 0..64_usize;
    let likely = || prop::bool::weighted(0.9);
    let land = (place.clone(), likely()).prop_map(|(flight, may_spawn)| Step::Land(Landing::whole(flight, may_spawn)));
    let piece = (place.clone(), any::<u8>(), any::<u8>(), prop_oneof![Just(0), 1..40_u32], any::<bool>(), likely());
    let piece = piece.prop_map(|(flight, piece, again, delay, last, may_spawn)| {
        Step::Land(Landing { flight, piece, again, delay, last, may_spawn })
    });
    let nested = (0..8_u8, likely(), place.clone());
    let nested = nested.prop_map(|(id, may_spawn, inside)| Step::Ask { id, may_spawn, inside: Some(inside) });
    prop_oneof![
        12 => (0..8_u8, likely()).prop_map(|(id, may_spawn)| Step::Ask { id, may_spawn, inside: None }),
        5 => nested,
        2 => prop::collection::vec(0..8_u8, 1..6).prop_map(|ids| Step::AskMany { ids }),
        3 => prop::collection::vec(0..8_u8, 1..6).prop_map(|ids| Step::Come { ids }),
        2 => prop::collection::vec(0..8_u8, 1..6).prop_map(|ids| Step::Fold { ids }),
        6 => place.clone().prop_map(Step::Abandon),
        4 => place.clone().prop_map(Step::Take),
        6 => Just(Step::Slot),
        2 => Just(Step::Look),
        7 => (1..6_usize).prop_map(|most| Step::Seal { most }),
        1 => Just(Step::Fail),
        2 => place.clone().prop_map(Step::Desert),
        3 => land,
        5 => piece,
        1 => (place, any::<u8>()).prop_map(|(flight, piece)| Step::Shed { flight, piece }),
        1 => Just(Step::Flush),
        1 => prop::bool::weighted(0.1).prop_map(|close| if close { Step::Close } else { Step::Flush }),
        1 => any::<bool>().prop_map(Step::Handle),
        2 => (0..40_u32).prop_map(Step::Pass),
    ]
}

/// Mostly what a block knows.
#[cfg(test)]
fn step_of_blocks() -> impl Strategy<Value = Step> {
    let place = 0..64_usize;
    prop_oneof![
        8 => prop::collection::vec(0..16_u8, 1..12).prop_map(|ids| Step::Fold { ids }),
        12 => Just(Step::Slot),
        12 => (1..6_usize).prop_map(|most| Step::Seal { most }),
        10 => place.clone().prop_map(|flight| Step::Land(Landing::whole(flight, true))),
        2 => (0..40_u32).prop_map(Step::Pass),
        1 => place.prop_map(Step::Take),
        2 => step(),
    ]
}

/// Mostly what a row knows.
#[cfg(test)]
fn step_of_rows() -> impl Strategy<Value = Step> {
    let place = 0..64_usize;
    prop_oneof![
        20 => any::<u8>().prop_map(|id| Step::Ask { id, may_spawn: true, inside: None }),
        5 => prop::collection::vec(any::<u8>(), 1..12).prop_map(|ids| Step::Come { ids }),
        12 => Just(Step::Slot),
        12 => (1..8_usize).prop_map(|most| Step::Seal { most }),
        10 => place.clone().prop_map(|flight| Step::Land(Landing::whole(flight, true))),
        2 => (0..40_u32).prop_map(Step::Pass),
        4 => place.prop_map(Step::Take),
        2 => step(),
    ]
}

#[cfg(test)]
fn cases() -> u32 {
    std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000)
}

#[cfg(test)]
proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn p01_p04_p05_p06_p07_the_queue_does_what_a_plain_list_would(
        steps in prop::collection::vec(step(), 1..120),
        kind in prop_oneof![3 => Just(Kind::Ordinary), 1 => Just(Kind::HashAlike), 1 => Just(Kind::NeverEqual)],
        max_in_flight in 1..4_usize,
        capacity in prop_oneof![1..6_usize, Just(1_000)],
        keys in prop_oneof![1..4_usize, Just(100)],
        weight in prop_oneof![2 => Just([u64::MAX; 2]), 1 => [1..20_u64, 1..20_u64]],
        join in prop::bool::weighted(0.8),
        finish in any::<bool>(),
        folds in any::<bool>(),
    ) {
        let mut world = World::new(kind, limits(max_in_flight, capacity, join, finish), Limit { keys, weight }, folds);
        for step in &steps {
            world.run(step);
        }
        world.quiesce();
    }
}

/// Runs of such steps, with batches of few keys or of as many as there are; adds up what is counted of each world.
#[cfg(test)]
fn runs(steps: impl Strategy<Value = Step>, most: usize, few: usize, count: impl Fn(&World) -> [u64; 3]) -> [u64; 3] {
    let kind = prop_oneof![3 => Just(Kind::Ordinary), 1 => Just(Kind::HashAlike), 1 => Just(Kind::NeverEqual)];
    let steps = prop::collection::vec(steps, 1..most);
    let capacity = prop_oneof![1 => 1..16_usize, 3 => Just(1_000)];
    let keys = prop_oneof![2 => 1..few, 1 => Just(100)];
    let seen = Cell::new([0; 3]);
    let config = ProptestConfig { cases: cases() / 2, failure_persistence: None, ..ProptestConfig::default() };
    let run = TestRunner::new(config).run(
        &(steps, kind, 1..4_usize, capacity, keys, any::<bool>()),
        |(steps, kind, max_in_flight, capacity, keys, finish)| {
            let mut world = World::new(kind, limits(max_in_flight, capacity, true, finish), of_keys(keys), true);
            for step in &steps {
                world.run(step);
            }
            world.quiesce();
            let (before, more) = (seen.get(), count(&world));
            seen.set(std::array::from_fn(|which| before[which] + more[which]));
            Ok(())
        },
    );
    run.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(seen.get().iter().all(|count| *count > 0), "{:?}", seen.get());
    seen.get()
}

#[test]
fn p01_p02_p05_p11_a_block_is_what_its_keys_would_be() {
    let seen = runs(step_of_blocks(), 120, 4, |world| [world.folded, world.unfolded, world.landed_whole]);
    println!("{seen:?} blocks, unfolded ones, and batches that landed whole");
}

#[test]
fn p01_p02_p05_p07_a_row_is_what_its_keys_would_be() {
    let count = |world: &World| [world.landed_in_row, world.rows_unfolded[0], world.rows_unfolded[1]];
    let seen = runs(step_of_rows(), 160, 6, count);
    println!("{seen:?} batches that landed in a row, rows unfolded in the queue, and with keys in flight");
}

/// Every key is told.
#[cfg(test)]
struct Told(u64);

#[cfg(test)]
impl Fates<Key, u64> for Told {
    fn fate(&mut self, _: usize, _: Tries, _: bool) -> Fate<Key, u64> {
        Fate::Tell(self.0)
    }
}

#[cfg(test)]
proptest! {
    #![proptest_config(ProptestConfig { cases: cases() / 4, failure_persistence: None, ..ProptestConfig::default() })]

    /// Equal keys with different hashes may or may not meet; nobody may be lost for it.
    #[test]
    fn k07_keys_with_a_random_hash_are_all_answered(
        ids in prop::collection::vec((0..4_u8, any::<u32>()), 1..40),
        seal_every in 1..5_usize,
    ) {
        let mut queue = Queue::<Key, u64>::new(0, 0, limits(2, 1_000, true, false), of_keys(3), false, false);
        let (mut cells, mut driver, mut flights) = (Vec::new(), None, Vec::new());
        let step = |queue: &mut Queue<Key, u64>, driver: &mut Option<u64>, flights: &mut Vec<(u32, usize)>| {
            let mut after = After::new();
            if let Some(generation) = driver.take() {
                if queue.drive.take_slot(generation) {
                    let before = queue.before();
                    let sealed = queue.seal(generation, 0, usize::MAX, Reason::Ready);
                    flights.extend(sealed.map(|sealed| (sealed.flight, sealed.keys.len())));
                    queue.account(before, &mut after);
                    *driver = after.spawn;
                } else {
                    *driver = Some(generation);
                }
            }
            if let Some((flight, size)) = flights.pop() {
                let (mut all, how) = (0..size, How { last: true, now: 0, may_spawn: true });
                while queue.land(flight, &mut all, how, &mut Told(1), &mut after) {}
            }
        };
        for (count, (id, hash)) in ids.into_iter().enumerate() {
            let key = Key { id, kind: Kind::HashAtRandom };
            let wait = Wait::Task(Waker::noop().clone());
            let mut ask = Some(Ask { key, hash, weight: [0; 2], wait, chain: None, cell: None });
            let (mut after, before) = (After::new(), queue.before());
            let Submit::Waits { cell, .. } = queue.submit(&mut ask, 0, true) else { panic!("there is room") };
            queue.account(before, &mut after);
            driver = after.spawn.or(driver);
            cells.push(cell);
            if count % seal_every == 0 {
                step(&mut queue, &mut driver, &mut flights);
            }
        }
        while driver.is_some() || !flights.is_empty() {
            step(&mut queue, &mut driver, &mut flights);
        }
        for cell in cells {
            prop_assert_eq!(queue.waiters.take(cell), Some(1));
        }
        prop_assert!(queue.is_empty());
    }
}

/// The first byte of a world that asks again, takes apart, nests and weighs. Older inputs begin otherwise.
const GROWN: u8 = 0xFE;

/// One world and its steps, drawn from bytes: the fuzzer's way to the same checks. Returns how many steps were run.
pub(crate) fn run_bytes(bytes: &[u8]) -> usize {
    let (grown, bytes) =
        bytes.split_first().filter(|first| *first.0 == GROWN).map_or((false, bytes), |rest| (true, rest.1));
    let mut bytes = bytes.iter().copied();
    let Some(world) = bytes.next() else { return 0 };
    let kind = [Kind::Ordinary, Kind::Ordinary, Kind::HashAlike, Kind::NeverEqual][usize::from(world & 3)];
    let capacity = if world & 4 == 0 { 1_000 } else { usize::from(world >> 6) + 1 };
    let mut limit = of_keys(if world & 8 == 0 { 100 } else { usize::from(world >> 5 & 3) + 1 });
    let slots = usize::from(world >> 4 & 1) + 1;
    if let Some(weight) = bytes.clone().next().filter(|_| grown) {
        bytes.next();
        if weight >= 128 {
            limit.weight = [u64::from(weight & 7) * 3 + 1, u64::from(weight >> 3 & 15) + 1];
        }
    }
    let mut steps = 0;
    for folds in [false, true] {
        let limits = limits(slots, capacity, world & 32 == 0, world & 64 == 0);
        let (mut world, mut bytes) = (World::new(kind, limits, limit, folds), bytes.clone());
        while let Some(op) = bytes.next() {
            world.run(&if grown { grown_step(op, &mut bytes) } else { first_step(op, &mut bytes) });
            steps += 1;
        }
        world.quiesce();
    }
    steps
}

/// The steps there were at first.
fn first_step(op: u8, bytes: &mut impl Iterator<Item = u8>) -> Step {
    let mut operand = || bytes.next().unwrap_or_default();
    match op % 16 {
        0..4 => Step::Ask { id: operand() % 8, may_spawn: op >= 16, inside: None },
        4 => Step::AskMany { ids: (0..operand() % 6).map(|_| operand() % 8).collect() },
        5 | 6 => Step::Abandon(operand().into()),
        7 => Step::Take(operand().into()),
        8 => Step::Slot,
        9 => Step::Seal { most: usize::from(operand() % 6) + 1 },
        10 => Step::Land(Landing::whole(operand().into(), op >= 32)),
        11 => Step::Desert(operand().into()),
        12 => Step::Flush,
        13 => Step::Handle(op >= 128),
        14 => Step::Pass(operand().into()),
        _ if op > 240 => Step::Close,
        _ => Step::Fail,
    }
}

/// Those there are now: 32 of them, and three bits more.
fn grown_step(op: u8, bytes: &mut impl Iterator<Item = u8>) -> Step {
    let (most, flag) = (op >= 32, op >= 128);
    let mut operand = || bytes.next().unwrap_or_default();
    match op % 32 {
        0..5 => Step::Ask { id: operand() % 8, may_spawn: most, inside: None },
        5..9 => Step::Ask { id: operand() % 8, may_spawn: most, inside: Some(operand().into()) },
        9..12 => Step::Abandon(operand().into()),
        12 => Step::Take(operand().into()),
        13 | 14 => Step::Slot,
        15..18 => Step::Seal { most: usize::from(op >> 5) + 1 },
        18 => Step::Look,
        19 | 20 => Step::Land(Landing::whole(operand().into(), most)),
        21..25 => {
            let (flight, delay) = (operand().into(), u32::from(op >> 5 & 3) * 7);
            Step::Land(Landing { flight, piece: operand(), again: operand(), delay, last: flag, may_spawn: op != 21 })
        }
        25 => Step::Shed { flight: operand().into(), piece: operand() },
        26 => Step::Desert(operand().into()),
        27 if op >= 192 => Step::Fold { ids: (0..operand() % 12).map(|_| operand() % 16).collect() },
        27 if flag => Step::Come { ids: (0..operand() % 6).map(|_| operand() % 8).collect() },
        27 => Step::AskMany { ids: (0..operand() % 6).map(|_| operand() % 8).collect() },
        28 => Step::Flush,
        29 => Step::Handle(flag),
        30 => Step::Pass(u32::from(op >> 5) * 3),
        _ if op == u8::MAX => Step::Close,
        _ => Step::Fail,
    }
}

/// What the fuzzer found worth keeping, replayed.
#[test]
fn p01_p04_p05_p06_p07_the_fuzzers_corpus_holds() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/machine");
    let mut inputs: Vec<_> = std::fs::read_dir(corpus).expect("the corpus is committed").collect();
    inputs.sort_by_key(|input| input.as_ref().map(std::fs::DirEntry::file_name).ok());
    let most = if cfg!(miri) { 13 } else { usize::MAX }; // an interpreter is slow
    let (mut steps, mut files) = (0, 0);
    for file in inputs.into_iter().take(most) {
        steps += run_bytes(&std::fs::read(file.expect("a file").path()).expect("readable"));
        files += 1;
    }
    println!("{files} inputs of the corpus, {steps} steps");
    assert!(files > 0 && steps > 0);
}
