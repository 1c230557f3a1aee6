//! Those who ask: calls that write down what becomes of them, and tasks that treat them well or badly.

use std::{
    any::Any,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::future::join_all;
use multiget::{Error, Find, FindMany, Get, GetEach, GetMany, WeakBatcher};
use tokio::{
    task::yield_now,
    time::{sleep, timeout},
};

use crate::{
    log::{End, Event, Kind, Log, Outcome, Seen},
    upstream::{self, Id, Ill, Sim, Value},
    world::{Manner, Policy, Rng, World},
};

// ---- handles ---------------------------------------------------------------------------------------------------

/// What is known of a batcher beside its handles.
pub(crate) struct Desk {
    pub(crate) batcher: usize,
    log: Log,
    weak: WeakBatcher<Id, Value, Ill>,
    handles: AtomicUsize,
}

/// A handle that is counted.
pub(crate) struct Handle {
    pub(crate) sim: Sim,
    desk: Arc<Desk>,
}

impl Handle {
    pub(crate) fn new(sim: Sim, batcher: usize, log: &Log) -> Self {
        let weak = sim.downgrade();
        Self { sim, desk: Arc::new(Desk { batcher, log: log.clone(), weak, handles: AtomicUsize::new(1) }) }
    }

    pub(crate) fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.desk)
    }

    pub(crate) fn flush(&self) {
        self.desk.log.note(Event::Flushed { batcher: self.desk.batcher });
        self.sim.flush();
    }

    pub(crate) fn invalidate(&self, key: Option<u32>, hashes: u32) {
        upstream::invalidate(&self.sim, &self.desk.log, self.desk.batcher, key, hashes, false);
    }

    pub(crate) fn prime(&self, key: u32, hashes: u32) {
        upstream::prime(&self.sim, &self.desk.log, self.desk.batcher, key, hashes, false);
    }

    pub(crate) async fn close(&self) {
        self.desk.log.note(Event::CloseBegun { batcher: self.desk.batcher });
        self.sim.close().await;
        self.desk.log.note(Event::CloseEnded { batcher: self.desk.batcher });
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        let stats = self.sim.stats();
        (stats.queued, stats.in_flight, stats.waiting) == (0, 0, 0)
    }

    pub(crate) fn stats(&self) {
        let stats = self.sim.stats();
        let seen = Seen {
            queued: stats.queued,
            in_flight: stats.in_flight,
            waiting: stats.waiting,
            loads: stats.loads,
            keys_sent: stats.keys_sent,
            gets: stats.gets,
            joins: stats.joins,
            store_hits: stats.store_hits,
            keys_abandoned: stats.keys_abandoned,
            loads_abandoned: stats.loads_abandoned,
            foreign: stats.foreign,
            repeated: stats.repeated,
            refused: stats.refused,
            asked_again: stats.asked_again,
            isolated: stats.isolated,
        };
        self.desk.log.note(Event::Stats { batcher: self.desk.batcher, seen });
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        self.desk.handles.fetch_add(1, Ordering::Relaxed);
        Self { sim: self.sim.clone(), desk: self.desk() }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.desk.handles.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.desk.log.note(Event::Orphaned { batcher: self.desk.batcher });
        }
    }
}

impl Desk {
    pub(crate) fn handle(self: &Arc<Self>) -> Option<Handle> {
        let sim = self.weak.upgrade()?;
        if self.handles.fetch_add(1, Ordering::Relaxed) == 0 {
            self.log.note(Event::Adopted { batcher: self.batcher });
        }
        Some(Handle { sim, desk: Arc::clone(self) })
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.weak.upgrade().is_some()
    }
}

// ---- calls -----------------------------------------------------------------------------------------------------

enum Call {
    Get(Get<Id, Value, Ill>),
    Find(Find<Id, Value, Ill>),
    GetMany(GetMany<Id, Value, Ill>),
    FindMany(FindMany<Id, Value, Ill>),
    GetEach(GetEach<Id, Value, Ill>),
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    New,
    Asked,
    Over,
}

/// The future of a call, which writes down what becomes of it.
pub(crate) struct Watch {
    log: Log,
    inside: Option<(usize, u64)>,
    get: usize,
    batcher: usize,
    kind: Kind,
    keys: Vec<u32>,
    prompt: bool,
    stage: Stage,
    call: Call,
}

pub(crate) fn outcome(result: Result<Option<Value>, Error<Ill>>) -> Outcome {
    match result {
        Ok(Some(value)) => Outcome::Found(value.0),
        Ok(None) | Err(Error::NotFound) => Outcome::Absent,
        Err(Error::Load(ill)) => Outcome::Load(ill.0),
        Err(Error::Key(ill)) => Outcome::Key(ill.0),
        Err(Error::TimedOut) => Outcome::TimedOut,
        Err(Error::Panicked) => Outcome::Panicked,
        Err(Error::Overloaded) => Outcome::Overloaded,
        Err(Error::Closed) => Outcome::Closed,
        Err(Error::Aborted) => Outcome::Aborted,
        Err(Error::Miscounted { asked, got, .. }) => Outcome::Miscounted { asked, got },
        Err(Error::Refused { retry_after, .. }) => {
            Outcome::Refused { ms: u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX) }
        }
        Err(Error::Cycle) => Outcome::Cycle,
        Err(Error::Unprocessed { attempts, .. }) => Outcome::Unprocessed { attempts },
        Err(_) => Outcome::Odd,
    }
}

/// For `find` and `find_many`, which must not say `NotFound`.
fn found(result: Result<Option<Value>, Error<Ill>>) -> Outcome {
    if matches!(result, Err(Error::NotFound)) { Outcome::Odd } else { outcome(result) }
}

fn one(poll: Poll<Outcome>) -> Poll<End> {
    poll.map(|outcome| End::Each(vec![outcome]))
}

impl Call {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match self {
            Self::Get(get) => one(Pin::new(get).poll(cx).map(|result| outcome(result.map(Some)))),
            Self::Find(find) => one(Pin::new(find).poll(cx).map(found)),
            Self::GetMany(many) => Pin::new(many).poll(cx).map(|result| match result {
                Ok(values) => End::Each(values.into_iter().map(|value| outcome(Ok(Some(value)))).collect()),
                Err(error) => End::First(outcome(Err(error))),
            }),
            Self::FindMany(many) => Pin::new(many).poll(cx).map(|result| match result {
                Ok(values) => End::Each(values.into_iter().map(|value| outcome(Ok(value))).collect()),
                Err(error) => End::First(found(Err(error))),
            }),
            Self::GetEach(each) => Pin::new(each)
                .poll(cx)
                .map(|results| End::Each(results.into_iter().map(|result| outcome(result.map(Some))).collect())),
        }
    }
}

impl Watch {
    fn new(handle: &Handle, get: usize, kind: Kind, keys: Vec<u32>, prompt: bool, hashes: u32) -> Self {
        let id = |key: &u32| Id::new(*key, hashes);
        let call = match kind {
            Kind::Get => Call::Get(handle.sim.get(id(&keys[0]))),
            Kind::Reload => Call::Get(handle.sim.reload(id(&keys[0]))),
            Kind::Find => Call::Find(handle.sim.find(id(&keys[0]))),
            Kind::GetMany => Call::GetMany(handle.sim.get_many(keys.iter().map(id))),
            Kind::FindMany => Call::FindMany(handle.sim.find_many(keys.iter().map(id))),
            Kind::GetEach => Call::GetEach(handle.sim.get_each(keys.iter().map(id))),
        };
        let (log, batcher) = (handle.desk.log.clone(), handle.desk.batcher);
        Self { log, inside: None, get, batcher, kind, keys, prompt, stage: Stage::New, call }
    }
}

impl Future for Watch {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.stage == Stage::New {
            this.stage = Stage::Asked;
            this.log.note(Event::Asked {
                inside: this.inside,
                get: this.get,
                batcher: this.batcher,
                kind: this.kind,
                keys: this.keys.clone(),
                prompt: this.prompt,
            });
        }
        this.call.poll(cx).map(|with| {
            this.stage = Stage::Over;
            this.log.note(Event::Ended { get: this.get, with });
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.stage == Stage::Asked {
            self.log.note(Event::Dropped { get: self.get });
        }
    }
}

/// What a load asks: which batcher, how, and for which keys.
pub(crate) type Asks = Vec<(usize, Kind, Vec<u32>)>;

/// What a loader needs to ask its own batcher, and others.
#[derive(Default)]
pub(crate) struct Inside(OnceLock<(Vec<Arc<Desk>>, Scene)>);

impl Inside {
    pub(crate) fn open(&self, desks: Vec<Arc<Desk>>, scene: Scene) {
        assert!(self.0.set((desks, scene)).is_ok());
    }

    /// The calls that a load of a batcher makes, of those that are not gone.
    pub(crate) fn ask(&self, load: (usize, u64), asks: &Asks) -> Vec<Watch> {
        let Some((desks, scene)) = self.0.get() else { return Vec::new() };
        let is_asked = |desk: &&Arc<Desk>| asks.iter().any(|(batcher, ..)| *batcher == desk.batcher);
        let handles: Vec<_> = desks.iter().filter(is_asked).filter_map(Desk::handle).collect();
        let watch = |(batcher, kind, keys): &(usize, Kind, Vec<u32>)| {
            let handle = handles.iter().find(|handle| handle.desk.batcher == *batcher)?;
            let mut watch = scene.call(handle, *kind, keys.clone(), true);
            watch.inside = Some(load);
            Some(watch)
        };
        asks.iter().filter_map(watch).collect()
    }
}

// ---- callers ---------------------------------------------------------------------------------------------------

/// What all callers of a case share.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) world: Arc<World>,
    pub(crate) log: Log,
    pub(crate) calm: Arc<AtomicBool>,
    /// What is never polled again.
    pub(crate) shelf: Arc<Mutex<Vec<Box<dyn Any + Send>>>>,
    pub(crate) gets: Arc<AtomicUsize>,
}

impl Scene {
    pub(crate) fn call(&self, handle: &Handle, kind: Kind, keys: Vec<u32>, prompt: bool) -> Watch {
        let get = self.gets.fetch_add(1, Ordering::Relaxed);
        Watch::new(handle, get, kind, keys, prompt, self.world.batchers[handle.desk.batcher].hashes)
    }

    fn draw(&self, rng: &mut Rng, handle: &Handle, prompt: bool) -> Watch {
        let kind = if rng.percent(self.world.many) {
            rng.pick(&[Kind::GetMany, Kind::FindMany, Kind::GetEach])
        } else {
            match rng.pick(&[Kind::Get, Kind::Get, Kind::Find]) {
                Kind::Get if rng.percent(self.world.writes / 4) => Kind::Reload,
                kind => kind,
            }
        };
        let keys = match kind {
            Kind::Get | Kind::Find | Kind::Reload => 1,
            _ => rng.up_to(self.world.most),
        };
        let keys = (0..keys).map(|_| self.world.key(rng)).collect();
        self.call(handle, kind, keys, prompt)
    }
}

async fn polled(watch: &mut Watch) -> bool {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *watch).poll(cx).is_ready())).await
}

/// Polls at every pass, woken or not; `true` if it is over.
async fn polled_often(watch: &mut Watch, times: u64) -> bool {
    for _ in 0..times {
        if polled(watch).await {
            return true;
        }
        yield_now().await;
    }
    false
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) async fn caller(scene: Scene, number: usize, handles: Vec<Handle>) {
    let world = Arc::clone(&scene.world);
    let mut rng = Rng::of(&[world.seed, 6, number as u64]);
    let mut handles: Vec<_> = handles.into_iter().map(Some).collect();
    for step in 0..world.steps {
        if rng.percent(70) {
            sleep(ms(rng.below(world.pause_ms + 1))).await;
        }
        if scene.calm.load(Ordering::Relaxed) {
            return;
        }
        let batcher = rng.up_to(handles.len() - 1);
        let shape = &world.batchers[batcher];
        let Some(handle) = &handles[batcher] else { continue };
        match rng.below(100) {
            0..4 => handle.flush(),
            4..7 => handle.stats(),
            7..12 if world.closes && step * 3 >= world.steps => {
                drop(timeout(ms(rng.below(300)), handle.close()).await);
            }
            12..16 if !shape.kept => {
                handles[batcher] = None;
                continue;
            }
            16..50 if matches!(shape.policy, Policy::Manual) => handle.flush(),
            _ => {}
        }
        if rng.percent(world.writes) {
            let key = world.key(&mut rng);
            match rng.below(10) {
                0..5 => handle.invalidate(Some(key), shape.hashes),
                5 => handle.invalidate(None, shape.hashes),
                _ => handle.prime(key, shape.hashes),
            }
        }
        let manner = rng.pick(&world.manners);
        let prompt = matches!(manner, Manner::Await | Manner::Burst | Manner::Migrate | Manner::Stream);
        let watch = scene.draw(&mut rng, handle, prompt);
        let calls = match manner {
            Manner::Burst => rng.below(12),
            Manner::Stream if rng.percent(15) => 70 + rng.below(40),
            Manner::Stream => rng.below(4),
            _ => 0,
        };
        let mut others = Vec::new();
        for number in 0..calls {
            others.push(match manner {
                Manner::Stream => scene.call(handle, Kind::Get, vec![1000 + number as u32], prompt), // all of them new
                _ => scene.draw(&mut rng, handle, prompt),
            });
        }
        if !shape.kept && rng.percent(10) {
            handles[batcher] = None; // the calls outlive it
        }
        behave(&scene, &mut rng, manner, watch, others).await;
    }
}

async fn behave(scene: &Scene, rng: &mut Rng, manner: Manner, mut watch: Watch, others: Vec<Watch>) {
    match manner {
        Manner::Await => watch.await,
        Manner::DropAtPoll => {
            polled_often(&mut watch, rng.below(7)).await;
        }
        Manner::Timeout => drop(timeout(ms(rng.below(60)), watch).await),
        Manner::Park => {
            if !polled_often(&mut watch, rng.below(4) + 1).await {
                scene.log.note(Event::Parked { get: watch.get });
                scene.shelf.lock().unwrap().push(Box::new(watch));
            }
        }
        Manner::Migrate => {
            if !polled(&mut watch).await {
                tokio::spawn(watch).await.unwrap();
            }
        }
        Manner::Nap | Manner::Forget => {
            if !polled(&mut watch).await {
                sleep(ms(rng.below(80))).await;
                if manner == Manner::Nap {
                    watch.await;
                }
            }
        }
        Manner::Unasked => {}
        Manner::Stream => {
            let mut asked = vec![tokio::spawn(watch)];
            for watch in others {
                yield_now().await;
                asked.push(tokio::spawn(watch));
            }
            join_all(asked).await.into_iter().for_each(Result::unwrap);
        }
        Manner::Burst => drop(join_all(std::iter::once(watch).chain(others)).await),
    }
}

/// Asks all batchers for the same key at once, whose loads may then ask each other for it.
pub(crate) async fn twins(scene: Scene, handles: Vec<Handle>) {
    let mut rng = Rng::of(&[scene.world.seed, 17]);
    for _ in 0..scene.world.steps {
        sleep(ms(rng.below(scene.world.pause_ms + 1))).await;
        if scene.calm.load(Ordering::Relaxed) {
            return;
        }
        let key = scene.world.key(&mut rng);
        join_all(handles.iter().map(|handle| scene.call(handle, Kind::Get, vec![key], true))).await;
    }
}
