//! Properties of a quota and of what repeats behind it, in random worlds of a seed.
#![allow(clippy::cast_precision_loss, reason = "parts of counts")]

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use futures::future::join_all;
use multiget::{Answers, AnyError, Gate, Loader, Quota, QuotaError, Retry, Verdict, async_trait};
use tokio::time::{Instant, sleep};

use crate::kit::{builder, ms, poll, ten_times};

/// R8: whatever the budget, the attempts, the slots and the sizes of batches, and however often calls fail: loads that
/// repeat keys are at most the budget's part of the others, ten, and those that were under way when it was used up.
#[tokio::test(start_paused = true)]
async fn r08_random_failures_never_repeat_more_loads_than_the_budget_allows() {
    struct Fails {
        quota: Quota,
        part: u64,
        dice: Mutex<u64>,
        failed: Mutex<HashSet<u32>>,
        loads: Mutex<(u64, u64)>,
    }

    #[async_trait]
    impl Loader for Fails {
        type Key = u32;
        type Value = u32;
        type Error = AnyError;

        async fn load(&self, keys: Vec<u32>) -> Result<Answers<u32, u32>, AnyError> {
            let repeats = keys.iter().any(|key| self.failed.lock().unwrap().contains(key));
            {
                let mut loads = self.loads.lock().unwrap();
                *if repeats { &mut loads.1 } else { &mut loads.0 } += 1;
            }
            sleep(ms(5)).await;
            let roll = {
                let mut dice = self.dice.lock().unwrap();
                *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *dice >> 33
            };
            if roll % 100 < self.part {
                self.failed.lock().unwrap().extend(&keys);
                self.quota.refused();
                return Err("503".into());
            }
            self.quota.succeeded();
            Ok(ten_times(keys))
        }

        fn gate(&self) -> Option<Arc<dyn Gate>> {
            Some(Arc::new(self.quota.clone()))
        }

        fn verdict(&self, _: &AnyError) -> Verdict {
            Verdict::AgainAfter(Duration::ZERO)
        }
    }

    let (mut worlds, mut used_up, mut repeated) = (0, 0, 0);
    for seed in 0..120_u64 {
        let (part, slots, size) = ([5, 30, 60, 100][seed as usize % 4], [1, 3, 16][seed as usize % 3], 1 + seed % 7);
        let (budget, attempts) = ([0.0, 0.2, 1.0][seed as usize / 4 % 3], 2 + (seed % 9) as u32);
        let quota = Quota::per_second(200).backoff(ms(10), ms(100)).seed(seed).build().unwrap();
        let loader =
            Arc::new(Fails { quota, part, dice: Mutex::new(seed), failed: Mutex::default(), loads: Mutex::default() });
        let batcher = builder().max_batch(size as usize).max_in_flight(slots);
        let batcher = batcher.retry(Retry::new(attempts).budget(budget).seed(seed)).build(Arc::clone(&loader)).unwrap();
        let got = join_all((0..400).map(|id| batcher.get(id))).await;
        assert_eq!(got.len(), 400);
        let (first, again) = *loader.loads.lock().unwrap();
        let allowed = budget * first as f64 + 10.0 + slots as f64;
        assert!(again as f64 <= allowed, "seed {seed}: {again} of {first}, a budget of {budget}, {slots} slots");
        assert_eq!(first + again, batcher.stats().loads);
        (worlds, repeated) = (worlds + 1, repeated + again);
        used_up += u64::from(again as f64 >= budget * first as f64 + 10.0);
    }
    println!("{worlds} worlds, {repeated} loads repeated, the budget used up in {used_up}");
    assert!(used_up > 20 && used_up < worlds, "{used_up}: in some of them it is, in others it is not");
}

/// R12: in random lines, whoever cannot be served in time is told so without waiting, with an instant before which his
/// turn does not come; and nobody waits longer than he said.
#[tokio::test(start_paused = true)]
async fn r12_random_deadlines_fail_at_once_or_are_met() {
    let (mut at_once, mut met) = (0, 0);
    for seed in 0..200_u64 {
        let mut roll = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut roll = |sides: u64| {
            roll = roll.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (roll >> 33) % sides
        };
        let quota = Quota::window(1 + roll(4) as u32, ms(50 + roll(200)));
        let both = roll(3) == 0;
        let quota = match roll(2) {
            _ if both => quota.and(Quota::bucket(4, 20.0)),
            0 => quota,
            _ => Quota::bucket(1 + roll(4) as u32, 30.0),
        };
        let quota = quota.build().unwrap();
        let ahead = roll(12) as usize;
        if roll(3) == 0 {
            quota.pause_for(ms(roll(400)));
        }
        let begun = Instant::now();
        let mut line: Vec<_> = (0..ahead).map(|_| Box::pin(quota.acquire())).collect();
        line.retain_mut(|waits| poll(waits).is_pending());
        let longest = ms(roll(1_500));
        let mut mine = Box::pin(quota.acquire_within(1, longest));
        match poll(&mut mine) {
            Poll::Ready(Err(QuotaError::TooLate { earliest })) => {
                assert!(earliest > begun + longest, "seed {seed}");
                drop(mine);
                // whoever waits in his place is not served before that instant, and, if there is one limit, hardly after
                let same_place = quota.acquire();
                let (_, served) =
                    tokio::join!(join_all(line), async { same_place.await.map(|()| Instant::now()).unwrap() });
                assert!(served >= earliest, "seed {seed}: {:?} before it", earliest - served);
                assert!(
                    both || served <= earliest + ms(1 + ahead as u64),
                    "seed {seed}: {:?} after it",
                    served - earliest
                );
                at_once += 1;
            }
            Poll::Ready(granted) => {
                assert_eq!(granted, Ok(()));
                met += 1;
            }
            Poll::Pending => {
                let (_, mine) = tokio::join!(join_all(line), async { mine.await.map(|()| begun.elapsed()) });
                assert!(matches!(mine, Ok(waited) if waited <= longest + ms(1)), "seed {seed}: {mine:?}, {longest:?}");
                met += 1;
            }
        }
    }
    println!("{at_once} refused at once, {met} served in time");
    assert!(at_once > 20 && met > 20);
}
