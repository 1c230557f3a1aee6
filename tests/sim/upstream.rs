//! What stands behind a batcher: a loader, gates and policies that misbehave as the world says, until calm comes.

use std::{
    cell::Cell,
    collections::BTreeMap,
    hash::{Hash, Hasher},
    num::NonZeroUsize,
    panic::resume_unwind,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use multiget::{
    Abandon, Answers, Batcher, Decision, Dispatch, Error, Gate, Loader, Moment, Permit, Reason, Refused, Store, Stored,
    Want, WeakBatcher, async_trait,
};
use tokio::{task::yield_now, time::sleep};

use crate::{
    log::{Event, How, Log, Outcome, PRIMED, Stamp},
    world::{COUNT_MICROS, Fault, GateShape, Own, Policy, Rng, Shape, StoreShape, World},
};

thread_local! {
    static KEYS: Cell<i64> = const { Cell::new(0) };
    static VALUES: Cell<i64> = const { Cell::new(0) };
    /// Somebody primes. What happens meanwhile is written down before that, though it comes after.
    static PRIMING: Cell<bool> = const { Cell::new(false) };
}

/// How many keys and values exist on this thread.
pub(crate) fn alive() -> (i64, i64) {
    (KEYS.get(), VALUES.get())
}

pub(crate) fn forget_alive() {
    KEYS.set(0);
    VALUES.set(0);
}

/// A key that is counted, of which many may have the same hash.
#[derive(Debug)]
pub(crate) struct Id {
    pub(crate) key: u32,
    hashes: u32,
}

impl Id {
    pub(crate) fn new(key: u32, hashes: u32) -> Self {
        KEYS.set(KEYS.get() + 1);
        Self { key, hashes }
    }
}

impl Clone for Id {
    fn clone(&self) -> Self {
        Self::new(self.key, self.hashes)
    }
}

impl Drop for Id {
    fn drop(&mut self) {
        KEYS.set(KEYS.get() - 1);
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Id {}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.key % self.hashes);
    }
}

/// A value that is counted and says where it comes from.
#[derive(Debug)]
pub(crate) struct Value(pub(crate) Stamp);

impl Value {
    fn new(stamp: Stamp) -> Self {
        VALUES.set(VALUES.get() + 1);
        Self(stamp)
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        Self::new(self.0)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        VALUES.set(VALUES.get() - 1);
    }
}

/// The error of a load or of a key.
#[derive(Debug)]
pub(crate) struct Ill(pub(crate) Stamp);

pub(crate) type Sim = Batcher<Id, Value, Ill>;

/// A panic that was planned: it does not go through the panic hook.
pub(crate) fn panic_as_planned() -> ! {
    resume_unwind(Box::new("planned"))
}

/// What everything behind a batcher shares.
#[derive(Clone)]
struct Behind {
    log: Log,
    seed: u64,
    batcher: usize,
    calm: Arc<AtomicBool>,
}

impl Behind {
    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    fn rng(&self, of: u64, number: u64) -> Rng {
        Rng::of(&[self.seed, of, self.batcher as u64, number])
    }
}

pub(crate) fn build(world: &World, batcher: usize, log: &Log, calm: &Arc<AtomicBool>) -> Sim {
    let shape = &world.batchers[batcher];
    let behind = Behind { log: log.clone(), seed: world.seed, batcher, calm: Arc::clone(calm) };
    let dispatch = match shape.policy {
        Policy::Adaptive { micros } => Dispatch::adaptive().max_delay(Duration::from_micros(micros)),
        Policy::Settle { micros } => Dispatch::settle().max_delay(Duration::from_micros(micros)),
        Policy::Window { micros } => Dispatch::window(Duration::from_micros(micros)),
        Policy::Immediate => Dispatch::immediate(),
        Policy::Manual => Dispatch::manual(),
        Policy::Own { own, panics } => {
            Dispatch::custom(Ours { behind: behind.clone(), own, panics, asked: AtomicU64::new(0) })
        }
    };
    let mut builder = Batcher::builder()
        .max_in_flight(shape.slots)
        .capacity(shape.capacity)
        .join_in_flight(shape.join_in_flight)
        .abandon(if shape.aborts { Abandon::Abort } else { Abandon::Finish })
        .load_timeout(shape.timeout())
        .dispatch(dispatch);
    if let Some(keys) = shape.max_batch {
        builder = builder.max_batch(keys);
    }
    for (gate, gate_shape) in shape.gates.iter().enumerate().skip(1) {
        builder = builder.gate(Turnstile::new(&behind, gate, *gate_shape));
    }
    let shelf = shape.store.map(|store| Arc::new(Shelf::new(&behind, store, shape.hashes)));
    if let Some(shelf) = &shelf {
        builder = builder.store(Arc::clone(shelf));
    }
    let gate = shape.gates.first().map(|first| Arc::new(Turnstile::new(&behind, 0, *first)) as Arc<dyn Gate>);
    let sim = builder.build(Upstream { behind, shape: shape.clone(), loads: AtomicU64::new(0), gate }).unwrap();
    if let Some(shelf) = shelf {
        assert!(shelf.batcher.set(sim.downgrade()).is_ok());
    }
    sim
}

/// `invalidate` and `prime`, written down.
pub(crate) fn invalidate(sim: &Sim, log: &Log, batcher: usize, key: Option<u32>, hashes: u32) {
    match key {
        Some(key) => sim.invalidate(&Id::new(key, hashes)),
        None => sim.invalidate_all(),
    }
    log.note(Event::Invalidated { batcher, key });
}

pub(crate) fn prime(sim: &Sim, log: &Log, batcher: usize, key: u32, hashes: u32) {
    let nth = log.next_primed();
    log.note(Event::Priming { batcher, key });
    let outer = PRIMING.replace(true);
    let taken = sim.prime(Id::new(key, hashes), Value::new(Stamp { batcher, load: PRIMED, key, nth }));
    PRIMING.set(outer);
    log.note(Event::Primed { batcher, key, nth, taken });
}

// ---- the store -------------------------------------------------------------------------------------------------

struct Shelf {
    behind: Behind,
    shape: StoreShape,
    hashes: u32,
    kept: Mutex<BTreeMap<u32, Stored<Value, Ill>>>,
    calls: AtomicU64,
    batcher: OnceLock<WeakBatcher<Id, Value, Ill>>,
    is_in_mischief: AtomicBool,
}

fn what(stored: &Stored<Value, Ill>) -> Outcome {
    match stored {
        Stored::Found(value) => Outcome::Found(value.0),
        Stored::Absent => Outcome::Absent,
        Stored::Failed(Error::Load(ill)) => Outcome::Load(ill.0),
        Stored::Failed(Error::Key(ill)) => Outcome::Key(ill.0),
        _ => Outcome::Odd,
    }
}

impl Shelf {
    fn new(behind: &Behind, shape: StoreShape, hashes: u32) -> Self {
        Self {
            behind: behind.clone(),
            shape,
            hashes,
            kept: Mutex::default(),
            calls: AtomicU64::new(0),
            batcher: OnceLock::new(),
            is_in_mischief: AtomicBool::new(false),
        }
    }

    fn rng(&self) -> Rng {
        self.behind.rng(8, self.calls.fetch_add(1, Ordering::Relaxed))
    }

    fn may_panic(&self, rng: &mut Rng) {
        if rng.percent(self.shape.panics) && !self.behind.is_calm() {
            panic_as_planned();
        }
    }

    /// Somebody writes in the middle of a load that fills the store, or of a prime.
    fn be_mischievous(&self, rng: &mut Rng, key: u32) {
        if !rng.percent(self.shape.mischief) || self.is_in_mischief.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(sim) = self.batcher.get().and_then(WeakBatcher::upgrade) {
            let (log, batcher) = (&self.behind.log, self.behind.batcher);
            for _ in 0..=rng.up_to(2) {
                let key = if rng.percent(70) { key } else { rng.below(20) as u32 };
                match rng.below(8) {
                    0..4 => invalidate(&sim, log, batcher, Some(key), self.hashes),
                    4 => invalidate(&sim, log, batcher, None, self.hashes),
                    _ if !PRIMING.get() => prime(&sim, log, batcher, key, self.hashes),
                    _ => {}
                }
            }
        }
        self.is_in_mischief.store(false, Ordering::Relaxed);
    }
}

impl Store<Id, Value, Ill> for Shelf {
    fn get(&self, id: &Id) -> Option<Stored<Value, Ill>> {
        let mut rng = self.rng();
        let panics = rng.percent(self.shape.panics) && !self.behind.is_calm();
        let got = self.kept.lock().unwrap().get(&id.key).filter(|_| !panics).cloned();
        let looked = Event::Looked { batcher: self.behind.batcher, key: id.key, got: got.as_ref().map(what) };
        self.behind.log.note(looked);
        if panics {
            panic_as_planned();
        }
        got
    }

    fn put(&self, id: Id, stored: Stored<Value, Ill>) {
        let (mut rng, key) = (self.rng(), id.key);
        self.may_panic(&mut rng);
        let mut kept = self.kept.lock().unwrap();
        if kept.len() >= self.shape.most {
            kept.pop_first();
        }
        if self.shape.all || matches!(stored, Stored::Found(_)) {
            self.behind.log.note(Event::Kept { batcher: self.behind.batcher, key, what: what(&stored) });
            kept.insert(key, stored);
        } else {
            kept.remove(&key);
        }
        drop(kept);
        self.be_mischievous(&mut rng, key);
        self.may_panic(&mut rng);
    }

    fn remove(&self, id: &Id) {
        self.kept.lock().unwrap().remove(&id.key);
        self.may_panic(&mut self.rng());
    }

    fn clear(&self) {
        self.kept.lock().unwrap().clear();
        self.may_panic(&mut self.rng());
    }
}

// ---- the loader ------------------------------------------------------------------------------------------------

struct Upstream {
    behind: Behind,
    shape: Shape,
    loads: AtomicU64,
    gate: Option<Arc<dyn Gate>>,
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

type Said = Result<Answers<Id, Value, Ill>, Ill>;

impl Loader for Upstream {
    type Key = Id;
    type Value = Value;
    type Error = Ill;

    fn load<'a, 'b>(&'a self, keys: Vec<Id>) -> Pin<Box<dyn Future<Output = Said> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let (behind, load) = (self.behind.clone(), self.loads.fetch_add(1, Ordering::Relaxed));
        let asked = keys.iter().map(|id| id.key).collect();
        behind.log.note(Event::Started { batcher: behind.batcher, load, keys: asked });
        let mut rng = behind.rng(3, load);
        let fault = (!behind.is_calm() && !self.shape.faults.is_empty() && rng.percent(self.shape.ill))
            .then(|| rng.pick(&self.shape.faults));
        let mut course = Course { behind, load, how: How::Dropped };
        if fault == Some(Fault::PanicAtOnce) {
            course.how = How::Panicked;
            panic_as_planned();
        }
        Box::pin(run(course, keys, self.shape.clone(), fault, rng))
    }

    fn max_keys(&self) -> Option<usize> {
        self.shape.max_keys
    }

    fn gate(&self) -> Option<Arc<dyn Gate>> {
        self.gate.clone()
    }
}

async fn run(mut course: Course, keys: Vec<Id>, shape: Shape, fault: Option<Fault>, mut rng: Rng) -> Said {
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
    let mut said: Vec<(u32, bool)> = keys.iter().map(|id| (id.key, true)).collect();
    match fault {
        Some(Fault::Never) => std::future::pending().await,
        Some(Fault::PanicLater) => {
            yield_now().await;
            course.how = How::Panicked;
            panic_as_planned();
        }
        Some(Fault::Error) => {
            course.how = How::Failed;
            return Err(Ill(stamp(0, 0)));
        }
        Some(Fault::Miscounts) => {
            let got = if rng.percent(50) { keys.len() + 1 } else { keys.len() - 1 };
            course.how = How::InOrder(got);
            return Ok(Answers::in_order((0..got).map(|nth| Value::new(stamp(0, nth))).collect()));
        }
        None if rng.percent(20) => {
            course.how = How::InOrder(keys.len());
            let values = keys.iter().enumerate().map(|(nth, id)| Value::new(stamp(id.key, nth)));
            return Ok(Answers::in_order(values.collect()));
        }
        Some(Fault::Forgets) => said.retain(|_| !rng.percent(40)),
        Some(Fault::Foreign) => {
            said.extend((0..rng.below(4)).map(|_| (rng.below(80) as u32, true)));
            said.push((1_000_000, true));
        }
        Some(Fault::Twice) => {
            let again = said.iter().map(|(key, _)| (*key, rng.percent(50))).collect::<Vec<_>>();
            said.extend(again);
        }
        Some(Fault::KeyErrors) => said.iter_mut().for_each(|(_, is_value)| *is_value = rng.percent(50)),
        _ => {}
    }
    if rng.percent(50) {
        for place in (1..said.len()).rev() {
            said.swap(place, rng.up_to(place));
        }
    }
    course.how = How::Answered(said.clone());
    let answer = |(nth, (key, is_value)): (usize, (u32, bool))| {
        let stamp = stamp(key, nth);
        (Id::new(key, shape.hashes), if is_value { Ok(Value::new(stamp)) } else { Err(Ill(stamp)) })
    };
    Ok(said.into_iter().enumerate().map(answer).collect())
}

// ---- gates -----------------------------------------------------------------------------------------------------

struct Turnstile {
    behind: Behind,
    gate: usize,
    shape: GateShape,
    passes: AtomicU64,
    /// Once it has opened it stays open until a permit is used: gates that each make every pass wait never open
    /// together.
    open: Arc<AtomicBool>,
}

impl Turnstile {
    fn new(behind: &Behind, gate: usize, shape: GateShape) -> Self {
        Self { behind: behind.clone(), gate, shape, passes: AtomicU64::new(0), open: Arc::default() }
    }
}

/// A place at a gate.
struct Place<'a> {
    of: &'a Turnstile,
    over: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.of.behind.log.note(Event::GateLeft { batcher: self.of.behind.batcher, gate: self.of.gate });
        }
    }
}

#[async_trait]
impl Gate for Turnstile {
    async fn pass(&self, want: &Want) -> Result<Permit, Refused> {
        let (behind, gate, batcher) = (&self.behind, self.gate, self.behind.batcher);
        let mut rng = behind.rng(4 + gate as u64 * 100, self.passes.fetch_add(1, Ordering::Relaxed));
        behind.log.note(Event::GateAsked { batcher, gate });
        let mut place = Place { of: self, over: false };
        while self.shape.shut && !behind.is_calm() {
            sleep(Duration::from_millis(20)).await;
        }
        if rng.percent(self.shape.late) && !self.open.load(Ordering::Relaxed) {
            if rng.percent(50) {
                yield_now().await;
            }
            sleep(Duration::from_millis(rng.below(self.shape.late_ms + 1))).await;
        }
        if rng.percent(self.shape.panics) && !behind.is_calm() {
            place.over = true;
            behind.log.note(Event::GatePanicked { batcher, gate });
            panic_as_planned();
        }
        place.over = true;
        if rng.percent(self.shape.refuses) && !behind.is_calm() {
            let ms = rng.below(1000);
            behind.log.note(Event::Refused { batcher, gate, ms });
            return Err(Refused::new(Duration::from_millis(ms)));
        }
        let permit = self.shape.few.map_or(usize::MAX, |few| rng.up_to(few - 1) + 1);
        behind.log.note(Event::Granted { batcher, gate, permit, want: want.keys().get() });
        self.open.store(true, Ordering::Relaxed);
        let (log, open) = (behind.log.clone(), Arc::clone(&self.open));
        let spend = move |keys| {
            log.note(Event::Spent { batcher, gate, keys });
            open.store(keys == 0, Ordering::Relaxed);
        };
        Ok(Permit::with(NonZeroUsize::new(permit).unwrap(), spend))
    }
}

// ---- policies --------------------------------------------------------------------------------------------------

struct Ours {
    behind: Behind,
    own: Own,
    panics: u64,
    asked: AtomicU64,
}

impl multiget::Policy for Ours {
    fn decide(&self, moment: &Moment) -> Decision {
        let mut rng = self.behind.rng(5, self.asked.fetch_add(1, Ordering::Relaxed));
        if rng.percent(self.panics) && !self.behind.is_calm() {
            self.behind.log.note(Event::PolicyPanicked { batcher: self.behind.batcher });
            panic_as_planned();
        }
        let leave_after = |wait: Duration| match wait.saturating_sub(moment.age) {
            Duration::ZERO => Decision::Leave(Reason::Aged),
            left => Decision::In(left),
        };
        match self.own {
            Own::WhileBusy(most) if moment.in_flight >= most => Decision::Wait,
            Own::Passes(passes) if moment.passes < passes => Decision::NextPass,
            Own::WhileBusy(_) | Own::Passes(_) => Decision::Leave(Reason::Ready),
            Own::Aged(ms) => leave_after(Duration::from_millis(ms)),
            Own::Count(keys) if moment.keys >= keys => Decision::Leave(Reason::Settled),
            Own::Count(_) => leave_after(Duration::from_micros(COUNT_MICROS)),
        }
    }
}
