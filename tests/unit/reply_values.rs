//! Values that are handed out one by one, and what becomes of those that nobody is told.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{Circumstances, Landing, Outcomes, Reply};
use crate::{
    answers::Answers,
    chain::Lineage,
    error::{AnyError, Error},
    land::{Fate, Fates},
    piece::Piece,
    retry::{Retry, Tries},
    seal::Sealed,
    stats::{Reason, Stats},
};

/// Counts where it is dropped.
struct Counted(u32, Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn p02_a_value_that_nobody_is_told_is_not_dropped_while_others_are() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let keys: Vec<u32> = (0..5).collect();
    let sealed = Sealed {
        flight: 0,
        keys: Arc::new(keys.clone()),
        hashes: vec![7; 5],
        reason: Reason::Full,
        left: 0,
        is_folded: false,
        waited: 0,
        lineage: Lineage::Outermost((0, 0)),
    };
    let pairs: Answers<u32, Counted> = keys.iter().map(|key| (*key, Counted(*key, Arc::clone(&dropped)))).collect();
    let asked = |place: usize| Some((keys.get(place)?, 7));
    let aligned = pairs.align(5, asked, |_| 7);
    assert!(aligned.values.is_some(), "they came in order");
    let outcomes: Outcomes<_, AnyError> = Outcomes::Each(aligned);
    outcomes.count(&mut Stats::default());
    let retry = Retry::new(1);
    let circumstances = Circumstances { retry: &retry, may_repeat: false, roll: 0.0, now: 0 };
    let mut landing = Landing::new(Piece::All(5), outcomes, &sealed, |_| None, circumstances);
    let mut told = Vec::new();
    for position in [0, 3, 4] {
        let Some(Reply::Own(value)) = Fates::<u32, _>::value(&mut landing, position) else { panic!("a value") };
        assert_eq!(value.0 as usize, position, "of its own key");
        told.push(value);
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
    }
    assert!(Fates::<u32, _>::value(&mut landing, 1).is_none(), "what was passed is not come back to");
    let fate: Fate<u32, _> = landing.fate(5, Tries::default(), false);
    assert!(matches!(fate, Fate::Tell(Reply::Failed(Error::NotFound))), "there is no sixth");
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
    drop(landing);
    assert_eq!(dropped.load(Ordering::Relaxed), 2, "1 and 2, with the landing");
}
