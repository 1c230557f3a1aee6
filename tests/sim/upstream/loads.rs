//! The loader: what it says of its keys, when, and whom it asks meanwhile.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use multiget::{Answers, Gate, Loader};
use tokio::{
    task::{self, yield_now},
    time::{sleep, timeout},
};

use super::{Behind, Id, Ill, Value, panic_as_planned};
use crate::{
    callers::{Asks, Inside},
    log::{Event, How, Kind, Said, Stamp, Verdict, weights},
    world::{Fault, NestShape, Rng, Shape, Twist},
};

/// So many loads may ask for several keys at once: it branches.
const LOADS_OF_MANY: u64 = 100;

pub(super) struct Upstream {
    behind: Behind,
    shape: Shape,
    loads: AtomicU64,
    gate: Option<Arc<dyn Gate>>,
    inside: Arc<Inside>,
    /// The most that a batch may weigh now.
    heaviest: AtomicU64,
}

impl Upstream {
    pub(super) fn new(behind: Behind, shape: Shape, gate: Option<Arc<dyn Gate>>, inside: Arc<Inside>) -> Self {
        let heaviest = shape.growth.weights.and_then(|both| both.loaders).unwrap_or_default();
        Self { behind, shape, loads: AtomicU64::new(0), gate, inside, heaviest: heaviest.into() }
    }

    /// Learns, now and then, that it can carry less.
    fn shrink(&self, load: u64) {
        let shrinks = self.shape.growth.weights.filter(|both| both.loaders.is_some()).map_or(0, |both| both.shrinks);
        if shrinks > 0 && load % shrinks == 0 && self.heaviest.load(Ordering::Relaxed) > 1 {
            let weight = self.heaviest.fetch_sub(1, Ordering::Relaxed) - 1;
            self.behind.log.note(Event::Limit { batcher: self.behind.batcher, weight });
        }
    }
}

/// Says when the future of a load is gone, and what it had said by then.
struct Course {
    behind: Behind,
    load: u64,
    how: How,
}

impl Drop for Course {
    fn drop(&mut self) {
        let how = std::mem::replace(&mut self.how, How::Dropped);
        self.behind.log.note(Event::Over { batcher: self.behind.batcher, load: self.load, how });
    }
}

type Answer = Result<Answers<Id, Value, Ill>, Ill>;

impl Loader for Upstream {
    type Key = Id;
    type Value = Value;
    type Error = Ill;

    fn load<'a, 'b>(&'a self, keys: Vec<Id>) -> Pin<Box<dyn Future<Output = Answer> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let (behind, load) = (self.behind.clone(), self.loads.fetch_add(1, Ordering::Relaxed));
        let of = behind.of();
        if of.is_none() {
            behind.tasks.lock().unwrap().extend(task::try_id().map(|task| (task, load)));
        }
        let asked = keys.iter().map(|id| id.key).collect();
        behind.log.note(Event::Started { batcher: behind.batcher, load, of, keys: asked });
        self.shrink(load);
        let mut rng = behind.rng(3, load);
        let fault = (!behind.is_calm() && !self.shape.faults.is_empty() && rng.percent(self.shape.ill))
            .then(|| rng.pick(&self.shape.faults));
        let asks = self.shape.growth.nests.filter(|_| !behind.is_calm()).map(|nests| {
            let many = if load < LOADS_OF_MANY { nests.many } else { 0 };
            let asks = asks(NestShape { many, ..nests }, &keys, behind.batcher, &mut behind.rng(10, load));
            (nests, asks)
        });
        let mut course = Course { behind, load, how: How::Dropped };
        if fault == Some(Fault::PanicAtOnce) {
            course.how = How::Panicked;
            panic_as_planned();
        }
        let (shape, inside) = (self.shape.clone(), Arc::clone(&self.inside));
        Box::pin(async move {
            let mut course = course; // dropped last
            if let Some((nests, asks)) = asks {
                let calls = inside.ask((course.behind.batcher, load), &asks);
                ask(nests, calls, &mut course.behind.rng(11, load)).await;
            }
            run(&mut course, keys, shape, fault, rng).await
        })
    }

    fn max_keys(&self) -> Option<usize> {
        self.shape.max_keys
    }

    fn weight(&self, id: &Id) -> u64 {
        weights(id.key)[1]
    }

    fn max_weight(&self) -> Option<u64> {
        self.shape.growth.weights?.loaders?;
        Some(self.heaviest.load(Ordering::Relaxed))
    }

    fn verdict(&self, ill: &Ill) -> multiget::Verdict {
        match ill.1 {
            Verdict::Final | Verdict::Soft => multiget::Verdict::Final,
            Verdict::Again => multiget::Verdict::Again,
            Verdict::AgainAfter(ms) => multiget::Verdict::AgainAfter(Duration::from_millis(ms)),
            Verdict::Isolate => multiget::Verdict::Isolate,
        }
    }

    fn gate(&self) -> Option<Arc<dyn Gate>> {
        self.gate.clone()
    }
}

/// What a load asks its own batcher, or others: parents, neighbours, keys of its own, anything.
fn asks(nests: NestShape, keys: &[Id], own: usize, rng: &mut Rng) -> Asks {
    let whom = |rng: &mut Rng| match nests.crosses {
        0 => own,
        crosses if rng.percent(crosses) => (own + 1 + rng.up_to(nests.batchers - 2)) % nests.batchers,
        _ => own,
    };
    let first = keys.first().map_or(0, |id| id.key);
    if nests.mutual {
        // the other may be asked for it, too, and ask for it here
        let own = keys[rng.up_to(keys.len() - 1)].key;
        return vec![(whom(rng), rng.pick(&[Kind::Get, Kind::GetEach]), vec![own])];
    }
    if nests.deep && nests.many > 0 {
        return vec![(whom(rng), Kind::GetEach, vec![first + 1, first, first + 1])];
    }
    if nests.deep {
        return vec![(whom(rng), Kind::Get, vec![first + 1])];
    }
    if !rng.percent(nests.asks) {
        return Vec::new();
    }
    let key = |rng: &mut Rng| {
        let own = keys[rng.up_to(keys.len() - 1)].key;
        match rng.below(10) {
            0..4 => own / 2,
            4..6 => own + 1,
            6 => own,
            _ => rng.below(30) as u32,
        }
    };
    let mut ask = || {
        if nests.many > 0 && rng.percent(nests.many) {
            let keys = (0..=rng.up_to(3)).map(|_| key(rng)).collect();
            return (whom(rng), rng.pick(&[Kind::GetEach, Kind::GetEach, Kind::GetMany, Kind::FindMany]), keys);
        }
        let one = key(rng);
        (whom(rng), rng.pick(&[Kind::Get, Kind::Get, Kind::Get, Kind::Find, Kind::Reload]), vec![one])
    };
    let mut asks = vec![ask()];
    if ask().2[0] % 3 == 0 {
        asks.extend([ask(), ask()]);
    }
    asks
}

/// Waits for what it asks, or loses its patience.
async fn ask(nests: NestShape, calls: Vec<crate::callers::Watch>, rng: &mut Rng) {
    if rng.percent(if nests.crosses > 0 { 80 } else { 40 }) {
        sleep(Duration::from_millis(rng.below(if nests.crosses > 0 { 20 } else { 5 }))).await;
    }
    let all = join_all(calls);
    match nests.patience_ms {
        Some(ms) if rng.percent(50) => drop(timeout(Duration::from_millis(ms), all).await),
        _ => drop(all.await),
    }
}

/// What is wrong with this load, if there is something.
fn twist(course: &Course, keys: &[Id], shape: &Shape) -> Option<(Option<Twist>, Rng)> {
    let mut rng = course.behind.rng(12, course.load);
    if course.behind.is_calm() {
        return None;
    }
    let growth = &shape.growth;
    if growth.poison.is_some_and(|of| keys.iter().any(|id| id.key % of == of / 2)) {
        return Some((None, rng));
    }
    let twisted = !growth.twists.is_empty() && rng.percent(growth.twisted);
    twisted.then(|| (Some(rng.pick(&growth.twists)), rng))
}

fn verdict(rng: &mut Rng) -> Verdict {
    let (after, verdicts) = (rng.below(200), [Verdict::Final, Verdict::Soft, Verdict::Isolate]);
    match rng.below(10) {
        0..4 => Verdict::Again,
        4..6 => Verdict::AgainAfter(after),
        _ => rng.pick(&verdicts),
    }
}

/// Says something else than values of some keys.
fn twisted(said: &mut [(u32, Said)], twist: Twist, rng: &mut Rng) {
    let pause = rng.percent(40).then(|| rng.below(300));
    let (all, often) = (rng.percent(30), rng.pick(&[20, 60, 95]));
    for (_, said) in said {
        match twist {
            Twist::Unprocessed if all || rng.percent(often) => *said = Said::Unprocessed(pause),
            Twist::KeyVerdicts if rng.percent(50) => *said = Said::Error(verdict(rng)),
            _ => {}
        }
    }
}

async fn run(course: &mut Course, keys: Vec<Id>, shape: Shape, fault: Option<Fault>, mut rng: Rng) -> Answer {
    if fault == Some(Fault::PanicFirstPoll) {
        course.how = How::Panicked;
        panic_as_planned();
    }
    let most = if fault == Some(Fault::Slow) { shape.timeout_ms.unwrap_or(200) * 10 } else { shape.delay_ms };
    let delay = rng.below(most + 1);
    if rng.percent(30) {
        yield_now().await;
    }
    if delay > 0 {
        sleep(Duration::from_millis(delay)).await;
    }
    if fault == Some(Fault::Storm) {
        for _ in 0..rng.below(200) {
            yield_now().await;
        }
    }
    let (batcher, load) = (course.behind.batcher, course.load);
    let stamp = |key, nth| Stamp { batcher, load, key, nth };
    let mut said: Vec<(u32, Said)> = keys.iter().map(|id| (id.key, Said::Value)).collect();
    let twist = if fault.is_some() { None } else { twist(course, &keys, &shape) };
    let stubborn = shape.growth.stubborn.filter(|_| !course.behind.is_calm());
    match fault {
        None if matches!(twist, Some((None | Some(Twist::Verdict), _))) => {
            let verdict = twist.map_or(Verdict::Isolate, |(twist, mut rng)| {
                twist.map_or(Verdict::Isolate, |_| verdict(&mut rng)) // a poison key
            });
            course.how = How::Failed(verdict);
            return Err(Ill(stamp(0, 0), verdict));
        }
        None if twist.is_some() => {
            if let Some((Some(twist), mut rng)) = twist {
                twisted(&mut said, twist, &mut rng);
            }
        }
        Some(Fault::Never) => std::future::pending().await,
        Some(Fault::PanicLater) => {
            yield_now().await;
            course.how = How::Panicked;
            panic_as_planned();
        }
        Some(Fault::Error) => {
            course.how = How::Failed(Verdict::Final);
            return Err(Ill(stamp(0, 0), Verdict::Final));
        }
        Some(Fault::Miscounts) => {
            let got = if rng.percent(50) { keys.len() + 1 } else { keys.len() - 1 };
            course.how = How::InOrder(got);
            return Ok(Answers::in_order((0..got).map(|nth| Value::new(stamp(0, nth))).collect()));
        }
        None if stubborn.is_none() && rng.percent(20) => {
            course.how = How::InOrder(keys.len());
            let values = keys.iter().enumerate().map(|(nth, id)| Value::new(stamp(id.key, nth)));
            return Ok(Answers::in_order(values.collect()));
        }
        Some(Fault::Forgets) => said.retain(|_| !rng.percent(40)),
        Some(Fault::Foreign) => {
            said.extend((0..rng.below(4)).map(|_| (rng.below(80) as u32, Said::Value)));
            said.push((1_000_000, Said::Value));
        }
        Some(Fault::Twice) => {
            let ill = |rng: &mut Rng| if rng.percent(50) { Said::Value } else { Said::Error(Verdict::Final) };
            let again = said.iter().map(|(key, _)| (*key, ill(&mut rng))).collect::<Vec<_>>();
            said.extend(again);
        }
        Some(Fault::KeyErrors) => said.iter_mut().for_each(|(_, said)| {
            *said = if rng.percent(50) { Said::Value } else { Said::Error(Verdict::Final) };
        }),
        _ => {}
    }
    for (key, said) in &mut said {
        if stubborn.is_some_and(|of| *key % of == 1) {
            *said = Said::Unprocessed(Some(u64::from(*key % 30)).filter(|_| load % 3 > 0));
        }
    }
    if rng.percent(50) {
        for place in (1..said.len()).rev() {
            said.swap(place, rng.up_to(place));
        }
    }
    // what is unprocessed comes last, as `Answers` has it
    said.sort_by_key(|(_, said)| matches!(said, Said::Unprocessed(_)));
    course.how = How::Answered(said.clone());
    let id = |key| Id::new(key, shape.hashes);
    let answer = |(nth, (key, said)): (usize, &(u32, Said))| match *said {
        Said::Value => Some((id(*key), Ok(Value::new(stamp(*key, nth))))),
        Said::Error(verdict) => Some((id(*key), Err(Ill(stamp(*key, nth), verdict)))),
        Said::Unprocessed(_) => None,
    };
    let mut answers: Answers<Id, Value, Ill> = said.iter().enumerate().filter_map(answer).collect();
    for (key, said) in said {
        answers = match said {
            Said::Unprocessed(None) => answers.unprocessed([id(key)]),
            Said::Unprocessed(Some(ms)) => answers.unprocessed_after([id(key)], Duration::from_millis(ms)),
            _ => answers,
        };
    }
    Ok(answers)
}
