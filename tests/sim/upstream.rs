//! What stands behind a batcher: a loader, gates and policies that misbehave as the world says, until calm comes.

mod loads;

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    hash::{Hash, Hasher},
    num::NonZeroUsize,
    panic::resume_unwind,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use multiget::{
    Abandon, Batcher, Decision, Dispatch, Error, Gate, Moment, Permit, Reason, Refused, Retry, Store, Stored, Want,
    WeakBatcher, async_trait,
};
use tokio::{
    task::{self, yield_now},
    time::sleep,
};

use self::loads::Upstream;
use crate::{
    callers::Inside,
    log::{Event, Log, Outcome, PRIMED, Stamp, Verdict, weights},
    world::{COUNT_MICROS, GateShape, Own, Policy, Rng, StoreShape, World},
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
pub(crate) struct Ill(pub(crate) Stamp, Verdict);

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
    /// The first load of each task.
    tasks: Arc<Mutex<HashMap<task::Id, u64>>>,
}

impl Behind {
    /// The first load of this task.
    fn of(&self) -> Option<u64> {
        self.tasks.lock().unwrap().get(&task::try_id()?).copied()
    }

    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    fn rng(&self, of: u64, number: u64) -> Rng {
        Rng::of(&[self.seed, of, self.batcher as u64, number])
    }
}

pub(crate) fn build(world: &World, batcher: usize, log: &Log, calm: &Arc<AtomicBool>, inside: &Arc<Inside>) -> Sim {
    let shape = &world.batchers[batcher];
    let (log, calm) = (log.clone(), Arc::clone(calm));
    let behind = Behind { log, seed: world.seed, batcher, calm, tasks: Arc::default() };
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
    if let Some(retry) = shape.growth.retry {
        let (base, cap) = (Duration::from_millis(retry.base_ms), Duration::from_millis(retry.cap_ms));
        let retry = Retry::new(retry.attempts).backoff(base, cap).budget(retry.budget);
        builder = builder.retry(retry.seed(world.seed)).retry_if(|ill: &Ill| ill.1 == Verdict::Soft);
    }
    if let Some(most) = shape.growth.weights.and_then(|both| both.builders) {
        builder = builder.max_weight(most, |id: &Id| weights(id.key)[0]);
    }
    builder = builder.isolate_failures(shape.growth.isolates);
    for (gate, gate_shape) in shape.gates.iter().enumerate().skip(1) {
        builder = builder.gate(Turnstile::new(&behind, gate, *gate_shape));
    }
    let shelf = shape.store.map(|store| Arc::new(Shelf::new(&behind, store, shape.hashes)));
    if let Some(shelf) = &shelf {
        builder = builder.store(Arc::clone(shelf));
    }
    let gate = shape.gates.first().map(|first| Arc::new(Turnstile::new(&behind, 0, *first)) as Arc<dyn Gate>);
    let sim = builder.build(Upstream::new(behind, shape.clone(), gate, Arc::clone(inside))).unwrap();
    if let Some(shelf) = shelf {
        assert!(shelf.batcher.set(sim.downgrade()).is_ok());
    }
    sim
}

/// `invalidate` and `prime`, written down.
pub(crate) fn invalidate(sim: &Sim, log: &Log, batcher: usize, key: Option<u32>, hashes: u32, meanwhile: bool) {
    match key {
        Some(key) => sim.invalidate(&Id::new(key, hashes)),
        None => sim.invalidate_all(),
    }
    log.note(Event::Invalidated { batcher, key, meanwhile });
}

pub(crate) fn prime(sim: &Sim, log: &Log, batcher: usize, key: u32, hashes: u32, meanwhile: bool) {
    let nth = log.next_primed();
    log.note(Event::Priming { batcher, key, meanwhile });
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
                    0..4 => invalidate(&sim, log, batcher, Some(key), self.hashes, true),
                    4 => invalidate(&sim, log, batcher, None, self.hashes, true),
                    _ if !PRIMING.get() => prime(&sim, log, batcher, key, self.hashes, true),
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
            self.of.behind.log.note({
                let (batcher, gate, of) = (self.of.behind.batcher, self.of.gate, self.of.behind.of());
                Event::GateLeft { batcher, gate, of }
            });
        }
    }
}

#[async_trait]
impl Gate for Turnstile {
    async fn pass(&self, want: &Want) -> Result<Permit, Refused> {
        let (behind, gate, batcher) = (&self.behind, self.gate, self.behind.batcher);
        let mut rng = behind.rng(4 + gate as u64 * 100, self.passes.fetch_add(1, Ordering::Relaxed));
        let of = behind.of();
        behind.log.note(Event::GateAsked { batcher, gate, of });
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
            behind.log.note(Event::GatePanicked { batcher, gate, of });
            panic_as_planned();
        }
        place.over = true;
        if rng.percent(self.shape.refuses) && !behind.is_calm() {
            let ms = rng.below(1000);
            behind.log.note(Event::Refused { batcher, gate, of, ms });
            return Err(Refused::new(Duration::from_millis(ms)));
        }
        let permit = self.shape.few.map_or(usize::MAX, |few| rng.up_to(few - 1) + 1);
        behind.log.note(Event::Granted { batcher, gate, of, permit, want: want.keys().get() });
        self.open.store(true, Ordering::Relaxed);
        let (log, open) = (behind.log.clone(), Arc::clone(&self.open));
        let spend = move |keys| {
            log.note(Event::Spent { batcher, gate, of, keys });
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
