//! Loaders that misbehave in the ways loaders do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use multiget::{Answers, AnyError, Batcher, Outcome};

use crate::kit::ms;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ill {
    Well,
    Fails,
    PanicsAtOnce,
    PanicsLater,
    Hangs,
    Forgets,
    ForgetsAll,
    Invents,
    AnswersTwice,
    Miscounts,
    FailsOneKey,
}

impl Ill {
    pub(crate) const ALL: [Self; 11] = [
        Self::Well,
        Self::Fails,
        Self::PanicsAtOnce,
        Self::PanicsLater,
        Self::Hangs,
        Self::Forgets,
        Self::ForgetsAll,
        Self::Invents,
        Self::AnswersTwice,
        Self::Miscounts,
        Self::FailsOneKey,
    ];

    /// What keys 0, 1 and 2 of one load end with.
    pub(crate) fn outcomes(self) -> [Outcome; 3] {
        use Outcome::{Found, Key, Load, Miscounted, NotFound, Panicked, TimedOut};
        match self {
            Self::Well | Self::Invents | Self::AnswersTwice => [Found; 3],
            Self::Fails => [Load; 3],
            Self::PanicsAtOnce | Self::PanicsLater => [Panicked; 3],
            Self::Hangs => [TimedOut; 3],
            Self::Forgets => [Found, NotFound, Found],
            Self::ForgetsAll => [NotFound; 3],
            Self::Miscounts => [Miscounted; 3],
            Self::FailsOneKey => [Found, Key, Found],
        }
    }

    /// Foreign and repeated answers of one load of three keys.
    pub(crate) fn counted(self) -> (u64, u64) {
        match self {
            Self::Invents => (2, 0),
            Self::AnswersTwice => (0, 3),
            _ => (0, 0),
        }
    }

    async fn load(self, keys: Vec<u32>) -> Result<Answers<u32, u32>, AnyError> {
        let pairs = keys.iter().map(|key| (*key, key * 10));
        match self {
            Self::Well => Ok(pairs.collect()),
            Self::Fails => Err("down".into()),
            Self::PanicsAtOnce => panic!("at once"),
            Self::PanicsLater => {
                tokio::task::yield_now().await;
                panic!("later")
            }
            Self::Hangs => std::future::pending().await,
            Self::Forgets => Ok(pairs.filter(|(key, _)| key % 3 != 1).collect()),
            Self::ForgetsAll => Ok(Answers::new()),
            Self::Invents => Ok([(77, 1), (78, 1)].into_iter().chain(pairs).collect()),
            Self::AnswersTwice => Ok(pairs.clone().chain(pairs.map(|(key, value)| (key, value + 1))).collect()),
            Self::Miscounts => Ok(Answers::in_order(vec![1; keys.len() + 1])),
            Self::FailsOneKey => {
                Ok(pairs.map(|(key, value)| (key, if key % 3 == 1 { Err("odd".into()) } else { Ok(value) })).collect())
            }
        }
    }
}

/// A batcher whose loader is ill for its first `times` loads, and well from then on; it times out after a second.
pub(crate) fn batcher(ill: Ill, times: usize) -> Batcher<u32, u32> {
    build(Batcher::builder().load_timeout(ms(1000)), ill, times, Duration::ZERO)
}

pub(crate) fn build(
    builder: multiget::Builder<u32, u32>,
    ill: Ill,
    times: usize,
    delay: Duration,
) -> Batcher<u32, u32> {
    let load = async |(ill, left, delay): (Ill, Arc<AtomicUsize>, Duration), keys: Vec<u32>| {
        let is_ill = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if is_ill { ill.load(keys).await } else { Ill::Well.load(keys).await }
    };
    builder.load_with((ill, Arc::new(AtomicUsize::new(times)), delay), load).unwrap()
}
