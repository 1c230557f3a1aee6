//! Isolation: a batch that failed as a whole is taken apart until the bad keys stand alone.
//!
//! Owns: which pieces are loaded, in which order and how many. Refuses to know: how one is loaded and told
//! (`flight.rs`). The flight keeps its slot; its pieces are loads like others, each with its gates, its timeout and its
//! span, one after another.
//!
//! A piece is split into every other key, so that bad keys that came together are spread. The half that was split off
//! last goes first: small pieces soon succeed, and each success pays for three loads more. One bad key among n costs at
//! most 2·⌈log2 n⌉ + 1 loads, and so does a batch that is bad all over.

use std::{future::poll_fn, hash::Hash, pin::pin, sync::Arc, task::Poll};

use crate::{
    error::Error,
    flight::Flight,
    gate::{self, Live, Permit, Want},
    piece::Piece,
    reply::{End, Outcomes},
    retry::Verdict,
    shared::Shared,
    spans,
    stats::Reason,
    sync::caught,
};

/// Loads that a piece that succeeds pays for.
const PAYS: usize = 3;

/// The positions of a piece of a batch, and the error of the load it comes from.
type Part<E> = (Vec<usize>, Arc<E>);

fn halves<E>(piece: &[usize], error: &Arc<E>) -> [Part<E>; 2] {
    let half = |from: usize| (piece.iter().copied().skip(from).step_by(2).collect(), Arc::clone(error));
    [half(1), half(0)] // the last one is the first to be loaded
}

impl<K, V, E> Flight<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// The load of `all` failed with `error`.
    pub(crate) async fn isolate(&mut self, all: Vec<usize>, error: Arc<E>) {
        self.shared.quietly(|queue, _| queue.stats.isolated = queue.stats.isolated.saturating_add(1));
        let mut loads = 2 * all.len().next_power_of_two().ilog2() as usize; // the one that failed is not in it
        let mut pieces = Vec::from(halves(&all, &error));
        while let Some((mut piece, error)) = pieces.pop() {
            if loads == 0 {
                let now = self.shared.now();
                let outcomes = Outcomes::Whole(Error::Load(error), Verdict::Final);
                self.land(Piece::Some(piece), outcomes, now, pieces.is_empty());
                continue;
            }
            let permits = self.permits(&mut piece).await; // Cancel: permits are given back.
            let (outcomes, now) = match permits {
                Ok(None) => continue,
                Ok(Some(mut permits)) => {
                    let most = permits.iter().map(Permit::most).min().unwrap_or(usize::MAX);
                    if piece.len() > most {
                        pieces.push((piece.split_off(most), Arc::clone(&error)));
                    }
                    loads -= 1;
                    self.shared.lock().stats.count_load(Reason::Piece, piece.len());
                    let piece = Piece::Some(piece.clone());
                    self.load(&piece, &mut permits, Reason::Piece, self.shared.now()).await // Cancel: the future of the load is dropped.
                }
                Err(end) => {
                    (Outcomes::of(end, &Piece::Some(piece.clone()), &self.sealed, |_| 0, |_| None), self.shared.now())
                }
            };
            match outcomes {
                Outcomes::Each(_) => {
                    loads += PAYS;
                    self.land(Piece::Some(piece), outcomes, now, pieces.is_empty());
                }
                Outcomes::Whole(Error::Load(error), Verdict::Isolate) if piece.len() > 1 => {
                    pieces.extend(halves(&piece, &error));
                }
                Outcomes::Whole(Error::Load(_), Verdict::Isolate) => {
                    self.land(Piece::Some(piece), outcomes, now, pieces.is_empty());
                }
                Outcomes::Whole(..) => {
                    // nothing is to be learnt of single keys any more: all that are left go this way
                    piece.extend(pieces.drain(..).flat_map(|(piece, _)| piece));
                    piece.sort_unstable();
                    self.land(Piece::Some(piece), outcomes, now, true);
                }
            }
        }
        self.leave();
    }

    /// Passes the gates for a piece, without the keys that nobody waits for any more; nothing, if none is left.
    async fn permits(&self, piece: &mut Vec<usize>) -> Result<Option<Vec<Permit>>, End<K, V, E>> {
        let (shared, flight) = (&self.shared, self.sealed.flight);
        let mut bell = None;
        let deserted = {
            let mut queue = shared.lock();
            queue.shed(flight, piece);
            queue.poll_dying(flight, &mut bell)
        };
        drop(bell); // outside the lock
        if deserted {
            return Err(End::Deserted); // and is no load
        }
        if piece.is_empty() || shared.settings.gates.is_empty() {
            return Ok(Some(Vec::new()).filter(|_| !piece.is_empty()));
        }
        let live = Wanted { shared: Arc::clone(shared), flight, piece: piece.clone() };
        let want = Want::live(Arc::new(live) as Arc<dyn Live>);
        let mut passed = pin!(gate::pass_all(&shared.settings.gates, &want));
        // Cancel: the future of the gates is dropped, and with it what they had granted.
        let passed = poll_fn(|cx| {
            let mut waker = Some(cx.waker().clone());
            let deserted = shared.aside().poll_dying(flight, &mut waker);
            drop(waker); // outside the lock
            if deserted {
                return Poll::Ready(Err(End::Deserted));
            }
            match caught(|| passed.as_mut().poll(cx)) {
                Some(poll) => poll.map(Ok),
                None => Poll::Ready(Err(End::Panicked)),
            }
        });
        let passed = passed.await?; // Cancel: as above.
        match passed {
            Err(refused) => {
                shared.quietly(|queue, _| queue.stats.refused = queue.stats.refused.saturating_add(1));
                spans::refused(&shared.settings.name, &refused);
                Err(End::Refused(refused.retry_after()))
            }
            Ok(permits) => {
                shared.lock().shed(flight, piece);
                Ok(Some(permits).filter(|_| !piece.is_empty()))
            }
        }
    }
}

/// What a piece would carry now.
struct Wanted<K, V, E> {
    shared: Arc<Shared<K, V, E>>,
    flight: u32,
    piece: Vec<usize>,
}

impl<K, V, E> Live for Wanted<K, V, E>
where
    K: Send + Sync,
    V: Send + Sync,
    E: Send + Sync,
{
    fn sealable(&self) -> (usize, u64) {
        let (keys, weight) = self.shared.lock().wanted(self.flight, &self.piece);
        (keys, self.shared.weight_of(weight))
    }
}
