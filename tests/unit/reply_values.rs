//! Values that are handed out one by one, and what becomes of those that nobody is told.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{Outcomes, Reply};
use crate::{
    answers::Answers,
    error::{AnyError, Error},
    land::{Fate, Fates},
    retry::Tries,
    stats::Stats,
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
    let pairs: Answers<u32, Counted> = keys.iter().map(|key| (*key, Counted(*key, Arc::clone(&dropped)))).collect();
    let asked = |place: usize| Some((keys.get(place)?, 7));
    let aligned = pairs.align(5, asked, |_| 7);
    assert!(aligned.values.is_some(), "they came in order");
    let outcomes: Outcomes<_, AnyError> = Outcomes::Each(aligned);
    outcomes.count(&mut Stats::default());
    let Ok(mut told) = outcomes.tell_all() else { panic!("all are values") };
    let mut heard = Vec::new();
    for position in [0, 3, 4] {
        let Some(Reply::Own(value)) = Fates::<u32, _>::value(&mut told, position) else { panic!("a value") };
        assert_eq!(value.0 as usize, position, "of its own key");
        heard.push(value);
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
    }
    assert!(Fates::<u32, _>::value(&mut told, 1).is_none(), "what was passed is not come back to");
    assert!(Fates::<u32, _>::value(&mut told, 5).is_none(), "there is no sixth");
    let fate: Fate<u32, _> = told.fate(5, Tries::default(), false);
    assert!(matches!(fate, Fate::Tell(Reply::Failed(Error::Aborted))));
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
    drop(told);
    assert_eq!(dropped.load(Ordering::Relaxed), 2, "1 and 2, with what is left");
}
