//! What one waiter is told, and how the end of a load becomes that.
//!
//! Owns: the translation. Refuses to know: who waits. User code that runs here (`Hash` and `Eq` of keys) is caught; the
//! clone of a shared value is made by the waiter that takes it, in its own task, and the last one takes it by move.

use std::{sync::Arc, time::Duration, vec};

use tracing::Span;

use crate::{
    answers::{Aligned, Answers, Said},
    block::Told,
    error::Error,
    land::{Fate, Fates},
    payload::Payload,
    piece::Piece,
    retry::{self, Retry, Tries, Verdict},
    seal::Sealed,
    stats::{Outcome, Stats},
    store::Stored,
    sync::caught,
    waiters::Answer,
};

/// An answer in a cell.
pub(crate) enum Reply<V, E> {
    Own(V),
    Shared(Arc<V>),
    Failed(Error<E>),
    /// The comparison of keys that was to be made for it.
    Panicked(Payload),
}

/// The answers of a batch, in order.
pub(crate) enum Batch<V, E> {
    Values(vec::IntoIter<V>),
    /// `None` where there is none yet.
    Replies(vec::IntoIter<Option<Reply<V, E>>>),
}

impl<V, E> Iterator for Batch<V, E> {
    type Item = Option<Reply<V, E>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Values(values) => values.next().map(|value| Some(Reply::Own(value))),
            Self::Replies(replies) => replies.next(),
        }
    }
}

impl<V, E> Batch<V, E> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Values(values) => values.len(),
            Self::Replies(replies) => replies.len(),
        }
    }
}

impl<V, E> Answer for Reply<V, E> {
    type Batch = Batch<V, E>;

    fn split(self) -> (Self, Self) {
        match self {
            Self::Own(value) => Self::Shared(Arc::new(value)).split(),
            Self::Shared(value) => (Self::Shared(Arc::clone(&value)), Self::Shared(value)),
            Self::Failed(error) => (Self::Failed(error.clone()), Self::Failed(error)),
            Self::Panicked(payload) => (Self::Failed(Error::Panicked), Self::Panicked(payload)),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Own(_) | Self::Shared(_) => Outcome::Found,
            Self::Failed(error) => error.outcome(),
            Self::Panicked(_) => Outcome::Panicked,
        }
    }

    fn failed(outcome: Outcome) -> Self {
        Self::Failed(Error::plain(outcome))
    }

    fn panicked(payload: Payload) -> Self {
        Self::Panicked(payload)
    }
}

impl<V, E> Reply<V, E> {
    #[inline]
    pub(crate) fn into_own(self) -> Option<V> {
        if let Self::Own(value) = self { Some(value) } else { None }
    }

    pub(crate) fn from_result(result: Result<V, Error<E>>) -> Self {
        result.map_or_else(Self::Failed, Self::Own)
    }
}

impl<V: Clone, E> Reply<V, E> {
    pub(crate) fn into_result(self) -> Result<V, Error<E>> {
        match self {
            Self::Own(value) => Ok(value),
            Self::Shared(value) => Ok(Arc::try_unwrap(value).unwrap_or_else(|shared| V::clone(&shared))),
            Self::Failed(error) => Err(error),
            Self::Panicked(payload) => payload.resume(),
        }
    }
}

/// How a load ended.
pub(crate) enum End<K, V, E> {
    Answered(Answers<K, V, E>),
    Failed(E),
    TimedOut,
    Panicked,
    /// Nobody waited any more.
    Deserted,
    /// A gate did not let it start.
    Refused(Duration),
}

/// What a load comes to: something for each key of a piece of a batch, or one error for all of them.
pub(crate) enum Outcomes<V, E> {
    Each(Aligned<V, E>),
    Whole(Error<E>, Verdict),
}

impl<V, E> Outcomes<V, E> {
    /// `verdict` is the loader's; `None` if that panicked.
    pub(crate) fn of<K: Eq>(
        end: End<K, V, E>,
        piece: &Piece,
        sealed: &Sealed<K>,
        hash: impl Fn(&K) -> u32,
        verdict: impl FnOnce(&E) -> Option<Verdict>,
    ) -> Self {
        let asked = |place: usize| {
            let position = piece.position(place)?;
            Some((sealed.keys.get(position)?, *sealed.hashes.get(position)?))
        };
        let error = match end {
            End::Answered(answers) => match caught(|| answers.align(piece.len(), asked, hash)) {
                Some(Aligned { miscounted: Some(got), .. }) => Error::Miscounted { asked: piece.len(), got },
                Some(aligned) => return Self::Each(aligned),
                None => Error::Panicked,
            },
            End::Failed(error) => match verdict(&error) {
                Some(verdict) => return Self::Whole(Error::Load(Arc::new(error)), verdict),
                None => Error::Panicked,
            },
            End::TimedOut => Error::TimedOut,
            End::Panicked => Error::Panicked,
            End::Deserted => Error::Aborted, // nobody hears it
            End::Refused(retry_after) => Error::Refused { retry_after },
        };
        Self::Whole(error, Verdict::Final)
    }

    pub(crate) fn count(&self, stats: &mut Stats) {
        if let Self::Each(aligned) = self {
            stats.foreign = stats.foreign.saturating_add(aligned.foreign);
            stats.repeated = stats.repeated.saturating_add(aligned.repeated);
        }
    }

    /// The answers of a whole batch, if each of its keys is to be told a value or that there is none.
    pub(crate) fn tell_all(self) -> Result<Told<Reply<V, E>>, Self> {
        match self {
            Self::Each(Aligned { values: Some(mut values), .. }) => {
                if values.capacity() / 2 > values.len() {
                    values.shrink_to_fit(); // they may stay a while
                }
                Ok(Told::new(values.len(), Batch::Values(values.into_iter()), 0))
            }
            Self::Each(Aligned { said, .. })
                if said.iter().all(|said| matches!(said, Said::Value(_) | Said::Absent)) =>
            {
                let mut absent = 0;
                let reply = |said| {
                    if let Said::Value(value) = said {
                        return Some(Reply::Own(value));
                    }
                    absent += 1;
                    Some(Reply::Failed(Error::NotFound))
                };
                let replies: Vec<_> = said.into_iter().map(reply).collect();
                Ok(Told::new(replies.len(), Batch::Replies(replies.into_iter()), absent))
            }
            others => Err(others),
        }
    }

    pub(crate) fn record(&self, span: &Span) {
        if span.is_disabled() {
            return;
        }
        let (end, said, values) = match self {
            Self::Each(aligned) => ("answered", &*aligned.said, aligned.values.as_ref().map_or(0, Vec::len)),
            Self::Whole(error, _) => (error.outcome().as_str(), [].as_slice(), 0),
        };
        let [mut found, mut failed, mut unprocessed, mut absent] = [values, 0, 0, 0];
        for said in said {
            let count = match said {
                Said::Value(_) => &mut found,
                Said::Error(_) | Said::Shared(_) => &mut failed,
                Said::Unprocessed(_) => &mut unprocessed,
                Said::Absent => &mut absent,
            };
            *count = count.saturating_add(1);
        }
        span.record("end", end);
        span.record("found", found);
        span.record("failed", failed);
        span.record("unprocessed", unprocessed);
        span.record("absent", absent);
    }
}

/// The fates of the keys of a piece.
pub(crate) struct Landing<'a, K, V, E> {
    pub(crate) piece: Piece,
    pub(crate) outcomes: Outcomes<V, E>,
    /// Errors that nobody is told. They are dropped with the landing, and not under the lock.
    spare: Vec<Error<E>>,
    /// Keys that may be asked again, by place in the piece.
    again: Vec<Option<K>>,
    /// Verdicts over single keys, by place.
    verdicts: Vec<Option<Verdict>>,
    retry: &'a Retry,
    /// Whether the budget allows to repeat loads that failed.
    may_repeat: bool,
    /// Some key that failed is asked again.
    pub(crate) repeats: bool,
    progress: bool,
    roll: f64,
    now: u64,
}

/// What a landing is told of the batcher.
#[derive(Clone, Copy)]
pub(crate) struct Circumstances<'a> {
    pub(crate) retry: &'a Retry,
    pub(crate) may_repeat: bool,
    pub(crate) roll: f64,
    pub(crate) now: u64,
}

impl<'a, K: Clone, V, E> Landing<'a, K, V, E> {
    /// Runs `Clone` of keys that may be asked again, and the loader's verdict over single errors; both are caught.
    pub(crate) fn new(
        piece: Piece,
        mut outcomes: Outcomes<V, E>,
        sealed: &Sealed<K>,
        verdict: impl Fn(&E) -> Option<Verdict>,
        circumstances: Circumstances<'a>,
    ) -> Self {
        let Circumstances { retry, may_repeat, roll, now } = circumstances;
        let asks_again = |verdict| matches!(verdict, Verdict::Again | Verdict::AgainAfter(_));
        let key = |place: usize| caught(|| sealed.keys.get(piece.position(place)?).cloned()).flatten();
        let (mut again, mut verdicts, mut progress) = (Vec::new(), Vec::new(), true);
        match &mut outcomes {
            Outcomes::Whole(_, verdict) if asks_again(*verdict) => again = (0..piece.len()).map(key).collect(),
            Outcomes::Whole(..) => {}
            Outcomes::Each(aligned) => {
                let said = aligned.spell_out();
                progress = !said.iter().all(|said| matches!(said, Said::Unprocessed(_)));
                for (place, said) in said.iter().enumerate() {
                    let verdict = if let Said::Error(error) = said { verdict(error) } else { Some(Verdict::Final) };
                    let repeats = matches!(said, Said::Unprocessed(_)) || verdict.is_some_and(asks_again);
                    if repeats || verdict.is_none() {
                        again.resize_with(place, || None);
                        again.push(key(place).filter(|_| repeats));
                        verdicts.resize(place, Some(Verdict::Final));
                        verdicts.push(verdict);
                    }
                }
            }
        }
        Self {
            piece,
            outcomes,
            spare: Vec::new(),
            again,
            verdicts,
            retry,
            may_repeat,
            repeats: false,
            progress,
            roll,
            now,
        }
    }
}

impl<K, V, E> Landing<'_, K, V, E> {
    /// The place in the piece of a position in the batch.
    fn place(&self, position: usize) -> usize {
        self.piece.place(position).unwrap_or(usize::MAX)
    }

    /// Whether it is what the loader said for good, and not what befell it.
    pub(crate) const fn is_of_the_loader(&self) -> bool {
        matches!(self.outcomes, Outcomes::Each(_) | Outcomes::Whole(Error::Load(_), Verdict::Final | Verdict::Isolate))
    }

    /// What the store is to have of a key, which is to be told as well.
    pub(crate) fn stored(&mut self, position: usize) -> Option<Stored<V, E>>
    where
        V: Clone,
    {
        let (place, for_good) = (self.place(position), self.is_of_the_loader());
        let verdict = self.verdicts.get(place).copied().unwrap_or(Some(Verdict::Final));
        let said = match &mut self.outcomes {
            Outcomes::Whole(error, _) => return for_good.then(|| Stored::Failed(error.clone())),
            Outcomes::Each(aligned) => aligned.said.get_mut(place)?,
        };
        match std::mem::replace(said, Said::Absent) {
            Said::Absent => Some(Stored::Absent),
            Said::Unprocessed(asked) => {
                *said = Said::Unprocessed(asked);
                None
            }
            Said::Error(error) => {
                let error = Arc::new(error);
                *said = Said::Shared(Arc::clone(&error));
                matches!(verdict, Some(Verdict::Final | Verdict::Isolate)).then(|| Stored::Failed(Error::Key(error)))
            }
            value => {
                *said = value; // before the clone, which may panic
                let Said::Value(value) = said else { return None };
                Some(Stored::Found(value.clone()))
            }
        }
    }

    /// The next attempt, if `delay` allows one; else, or if the key could not be cloned, `answer`.
    fn repeat(
        &mut self,
        place: usize,
        tries: Tries,
        delay: Option<Duration>,
        answer: Error<E>,
    ) -> Fate<K, Reply<V, E>> {
        let Some(delay) = delay else { return Fate::Tell(Reply::Failed(answer)) };
        let until = self.now.saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX));
        self.spare.push(answer);
        match self.again.get_mut(place).and_then(Option::take) {
            Some(key) => Fate::Again { key, tries, until },
            None => Fate::Tell(Reply::Failed(Error::Panicked)), // its clone panicked
        }
    }

    fn failed_key(&mut self, place: usize, tries: Tries, again: bool, error: Arc<E>) -> Fate<K, Reply<V, E>> {
        if let Some(verdict) = self.verdicts.get(place).copied().unwrap_or(Some(Verdict::Final)) {
            return self.failed(place, tries, again, verdict, Error::Key(error));
        }
        self.spare.push(Error::Key(error));
        Fate::Tell(Reply::Failed(Error::Panicked))
    }

    /// A load failed with this verdict, for all its keys or for this one.
    fn failed(
        &mut self,
        place: usize,
        mut tries: Tries,
        again: bool,
        verdict: Verdict,
        error: Error<E>,
    ) -> Fate<K, Reply<V, E>> {
        let asked = match verdict {
            Verdict::Again => None,
            Verdict::AgainAfter(pause) => Some(pause),
            Verdict::Final | Verdict::Isolate => return Fate::Tell(Reply::Failed(error)),
        };
        let allowed = again && self.may_repeat;
        let delay = allowed.then(|| self.retry.failed(&mut tries, asked, self.roll)).flatten();
        self.repeats |= delay.is_some();
        self.repeat(place, tries, delay, error)
    }
}

impl<K, V, E> Fates<K, Reply<V, E>> for Landing<'_, K, V, E> {
    fn fate(&mut self, position: usize, tries: Tries, again: bool) -> Fate<K, Reply<V, E>> {
        self.fate_of(self.place(position), tries, again)
    }
}

impl<K, V, E> Landing<'_, K, V, E> {
    #[inline(never)]
    fn fate_of(&mut self, place: usize, mut tries: Tries, again: bool) -> Fate<K, Reply<V, E>> {
        let said = match &mut self.outcomes {
            Outcomes::Whole(error, verdict) => {
                let (error, verdict) = (error.clone(), *verdict);
                return self.failed(place, tries, again, verdict, error);
            }
            Outcomes::Each(aligned) => aligned.said.get_mut(place).map(|said| std::mem::replace(said, Said::Absent)),
        };
        match said {
            Some(Said::Value(value)) => Fate::Tell(Reply::Own(value)),
            Some(Said::Error(error)) => self.failed_key(place, tries, again, Arc::new(error)),
            Some(Said::Shared(error)) => self.failed_key(place, tries, again, error),
            Some(Said::Unprocessed(asked)) => {
                let delay = retry::unprocessed(&mut tries, asked, self.progress, self.roll).filter(|_| again);
                let attempts = tries.failed.saturating_add(tries.unprocessed);
                self.repeat(place, tries, delay, Error::Unprocessed { attempts })
            }
            Some(Said::Absent) | None => Fate::Tell(Reply::Failed(Error::NotFound)),
        }
    }
}

/// The same answer for every key.
pub(crate) struct Same<E>(pub(crate) Error<E>);

impl<K, V, E> Fates<K, Reply<V, E>> for Same<E> {
    fn fate(&mut self, _: usize, _: Tries, _: bool) -> Fate<K, Reply<V, E>> {
        Fate::Tell(Reply::Failed(self.0.clone()))
    }
}

#[cfg(test)]
#[path = "../tests/unit/reply_values.rs"]
mod values;
