//! Streams of keys: sources with a pace of their own, and tasks that take what comes of them, or do not.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use futures::{Stream, future::join};
use multiget::KeyStream;
use tokio::{
    task::consume_budget,
    time::{Sleep, sleep, timeout},
};

use crate::{
    callers::{Handle, Scene, ms, outcome},
    log::{Event, Flow, Log},
    upstream::{Id, Ill, Value, panic_as_planned},
    world::{Rng, StreamShape},
};

/// Where the notes about one stream go.
#[derive(Clone)]
struct Pen {
    log: Log,
    stream: usize,
    batcher: usize,
}

impl Pen {
    fn note(&self, what: Flow) {
        self.log.note(Event::Stream { stream: self.stream, batcher: self.batcher, what });
    }
}

/// The keys of one stream.
struct Source {
    scene: Scene,
    pen: Pen,
    shape: StreamShape,
    rng: Rng,
    left: usize,
    /// Gives its keys one after another, or draws them.
    counts: bool,
    nap: Option<Pin<Box<Sleep>>>,
    rested: bool,
}

impl Stream for Source {
    type Item = Id;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Id>> {
        let this = self.get_mut();
        if this.nap.as_mut().is_some_and(|nap| nap.as_mut().poll(cx).is_pending()) {
            this.pen.note(Flow::Idle);
            return Poll::Pending;
        }
        this.nap = None;
        if this.left == 0 || this.scene.calm.load(Ordering::Relaxed) {
            this.pen.note(Flow::SourceOver);
            return Poll::Ready(None);
        }
        if !this.rested && this.rng.percent(this.shape.paced) {
            this.rested = true;
            this.nap = Some(Box::pin(sleep(ms(this.rng.below(this.shape.pace_ms + 1)))));
            cx.waker().wake_by_ref();
            this.pen.note(Flow::Idle);
            return Poll::Pending;
        }
        if this.rng.percent(this.shape.panics) {
            this.pen.note(Flow::SourceOver);
            panic_as_planned();
        }
        (this.rested, this.left) = (false, this.left - 1);
        let key = if this.counts { this.left as u32 } else { this.scene.world.key(&mut this.rng) };
        let get = this.scene.gets.fetch_add(1, Ordering::Relaxed);
        this.pen.note(Flow::Pulled { get, key });
        Poll::Ready(Some(Id::new(key, this.scene.world.batchers[this.pen.batcher].hashes)))
    }
}

/// A stream that writes down what becomes of it.
struct Flowing {
    pen: Pen,
    prompt: bool,
    is_asked: bool,
    is_over: bool,
    inner: KeyStream<Id, Value, Ill>,
}

impl Flowing {
    /// Whether there is an item.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if !std::mem::replace(&mut self.is_asked, true) {
            self.pen.note(Flow::Asked { prompt: self.prompt });
        }
        loop {
            self.pen.note(Flow::Polled);
            // if the source has panicked, it is asked for what is out
            let Ok(polled) = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.inner).poll_next(cx))) else {
                continue;
            };
            return polled.map(|item| {
                let is_item = item.is_some();
                self.is_over = !is_item;
                self.pen.note(item.map_or(Flow::Ended, |(id, result)| {
                    let outcome = outcome(result.map(Some));
                    Flow::Gave { key: id.key, outcome }
                }));
                is_item
            });
        }
    }

    async fn next(&mut self) -> bool {
        poll_fn(|cx| {
            let polled = self.poll(cx);
            if polled.is_pending() {
                let tired = pin!(consume_budget()).poll(cx).is_pending();
                self.pen.note(Flow::Pending { tired });
            }
            polled
        })
        .await
    }

    /// Takes so many items; `true` if there may be more.
    async fn take(&mut self, items: u64, rng: &mut Rng, pause_ms: u64) -> bool {
        for _ in 0..items {
            if !self.next().await {
                return false;
            }
            if pause_ms > 0 && rng.percent(30) {
                sleep(ms(rng.below(pause_ms))).await;
            }
        }
        true
    }
}

impl Drop for Flowing {
    fn drop(&mut self) {
        if self.is_asked && !self.is_over {
            self.pen.note(Flow::Dropped);
        }
    }
}

/// Runs streams, one after another, each of any of these batchers.
pub(crate) async fn streamer(scene: Scene, shape: StreamShape, number: usize, mut handles: Vec<Handle>) {
    let mut rng = Rng::of(&[scene.world.seed, 14, number as u64]);
    for _ in 0..shape.streams {
        sleep(ms(rng.below(scene.world.pause_ms.max(20)))).await;
        if scene.calm.load(Ordering::Relaxed) || handles.is_empty() {
            return;
        }
        let batcher = rng.up_to(handles.len() - 1);
        let handle = handles[batcher].clone();
        let stream = scene.gets.fetch_add(1, Ordering::Relaxed);
        let pen = Pen { log: scene.log.clone(), stream, batcher };
        let source = Source {
            scene: scene.clone(),
            pen: pen.clone(),
            shape,
            rng: Rng::of(&[scene.world.seed, 15, stream as u64]),
            left: rng.up_to(shape.most),
            counts: rng.percent(30),
            nap: None,
            rested: false,
        };
        let leaves = rng.percent(shape.leaves);
        let pause_ms = if rng.percent(shape.slow) { rng.pick(&[1, 10, 50]) } else { 0 };
        let inner = handle.sim.stream(source);
        let flowing = Flowing { pen, prompt: !leaves && pause_ms == 0, is_asked: false, is_over: false, inner };
        let closes = rng.percent(shape.closes).then(|| handle.clone());
        let close = async {
            if let Some(handle) = closes {
                sleep(ms(7)).await;
                drop(timeout(ms(300), handle.close()).await);
            }
        };
        if !scene.world.batchers[batcher].kept && rng.percent(30) {
            handles.clear(); // the stream outlives them
        }
        drop(handle);
        join(close, flow(&scene, flowing, leaves, pause_ms, &mut rng)).await;
    }
}

async fn flow(scene: &Scene, mut flowing: Flowing, leaves: bool, pause_ms: u64, rng: &mut Rng) {
    let items = rng.below(30);
    match rng.below(3) {
        _ if !leaves => while flowing.take(items + 1, rng, pause_ms).await {},
        0 => drop(flowing.take(items, rng, pause_ms).await),
        1 => drop(timeout(ms(rng.below(60)), flowing.take(u64::MAX, rng, pause_ms)).await),
        _ => {
            let some = timeout(ms(rng.below(60)), flowing.take(items, rng, pause_ms)).await;
            if flowing.is_asked && some != Ok(false) {
                flowing.pen.note(Flow::Parked);
                scene.shelf.lock().unwrap().push(Box::new(flowing));
            }
        }
    }
}
