//! How long things took: counted in buckets whose width grows with the time.
//!
//! Owns: the buckets. Refuses to know: clocks, and what was timed.
//!
//! Log-linear: up to eight units of 2¹³ ns a bucket is one unit wide, and above that each doubling has eight buckets, up
//! to 2⁴⁷ ns. To record is to count leading zeros, a shift and an add. A time reported is the middle of its bucket, so
//! it is off by at most half of an eighth.
#![warn(clippy::arithmetic_side_effects)]

use std::{fmt, time::Duration};

/// Doublings have 2³ buckets each.
const SPLIT: u32 = 3;
/// A unit is 2¹³ ns: 8.2 µs.
const UNIT: u32 = 13;
/// Times from 2⁴⁷ ns (39 hours) on count as that.
const LONGEST: u64 = (1 << 47) - 1;
const BUCKETS: usize = bucket(LONGEST).saturating_add(1);

/// How long something took, over all times it happened: count, mean, greatest, and quantiles.
///
/// A quantile is off by at most 1/16 of itself or 4.1 µs, whichever is more; times above 39 hours count as 39 hours.
/// The other three are exact. It takes 2 KiB once the first time is recorded, however many follow.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use multiget::Batcher;
///
/// let slow: Batcher<u64, u64> = Batcher::builder().max_batch(1).load_fn(|ids| async move {
///     tokio::time::sleep(Duration::from_millis(10 * ids[0])).await;
///     Ok(ids.into_iter().map(|id| (id, id)).collect())
/// })?;
/// slow.get_many(1..=10).await?;
///
/// let load_time = slow.stats().load_time;
/// assert_eq!((load_time.count(), load_time.max()), (10, Duration::from_millis(100)));
/// assert_eq!(load_time.mean(), Duration::from_millis(55));
/// let median = load_time.quantile(0.5).as_secs_f64();
/// assert!((median - 0.050).abs() <= 0.050 / 16.0);
/// # Ok(()) }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Times {
    /// None before the first.
    buckets: Vec<u64>,
    count: u64,
    nanos: u128,
    longest: u64,
}

impl Times {
    /// How many there were.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; zero if there were none.
    pub fn mean(&self) -> Duration {
        let mean = self.nanos.checked_div(u128::from(self.count)).unwrap_or_default();
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The longest; zero if there were none.
    pub const fn max(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    /// The time that a share of them, from 0 to 1, did not exceed: `quantile(0.99)` is the 99th percentile,
    /// `quantile(1.0)` is [`max`](Self::max). Zero if there were none; what is not within 0 and 1 counts as the nearer
    /// of the two.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank, rounded, of a count below 2⁵³"
    )]
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = ((share * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0_u64;
        for (number, count) in self.buckets.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if seen >= rank && rank < self.count {
                return Duration::from_nanos(middle(number).min(self.longest));
            }
        }
        self.max() // the last of all
    }

    pub(crate) fn record(&mut self, nanos: u64) {
        self.record_all(nanos, 1);
    }

    /// The same time so many times.
    pub(crate) fn record_all(&mut self, nanos: u64, times: u64) {
        self.count = self.count.saturating_add(times);
        self.nanos = self.nanos.saturating_add(u128::from(nanos).saturating_mul(times.into()));
        self.longest = self.longest.max(nanos);
        if self.buckets.is_empty() {
            self.buckets = vec![0; BUCKETS];
        }
        if let Some(count) = self.buckets.get_mut(bucket(nanos)) {
            *count = count.saturating_add(times);
        }
    }
}

/// The bucket of a time.
#[expect(clippy::cast_possible_truncation, reason = "what is left after the shift is below 2⁴")]
const fn bucket(nanos: u64) -> usize {
    let nanos = if nanos > LONGEST { LONGEST } else { nanos };
    let units = nanos.wrapping_shr(UNIT);
    // one unit each below 2³ units, and the same width from there to 2⁴: the first doubling that is split
    let shift = (u64::BITS - 1).saturating_sub(units.leading_zeros()).saturating_sub(SPLIT);
    (units.wrapping_shr(shift) as usize).saturating_add((shift as usize).wrapping_shl(SPLIT))
}

/// The middle of a bucket, in nanoseconds.
#[expect(clippy::cast_possible_truncation, reason = "there are 256 buckets")]
const fn middle(bucket: usize) -> u64 {
    let shift = (bucket.wrapping_shr(SPLIT) as u32).saturating_sub(1);
    let units = (bucket as u64).saturating_sub((shift as u64).wrapping_shl(SPLIT));
    let double = units.saturating_mul(2).saturating_add(1); // twice the middle, which may be a half
    double.wrapping_shl(shift.saturating_add(UNIT).saturating_sub(1))
}

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Times")
            .field("count", &self.count)
            .field("mean", &self.mean())
            .field("median", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::cast_precision_loss, reason = "a test may panic")]
    #![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::indexing_slicing, reason = "as above")]

    use proptest::prelude::*;

    use super::*;

    fn times(nanos: &[u64]) -> Times {
        let mut times = Times::default();
        for nanos in nanos {
            times.record(*nanos);
        }
        times
    }

    /// From nothing to 39 hours, all magnitudes alike.
    fn nanos() -> impl Strategy<Value = u64> {
        (0..=47_u32, any::<u64>()).prop_map(|(bits, any)| any & ((1 << bits) - 1))
    }

    #[test]
    fn k11_each_bucket_holds_its_middle_and_ends_where_the_next_begins() {
        assert_eq!(BUCKETS, 256);
        for number in 0..BUCKETS {
            assert_eq!(bucket(middle(number)), number);
        }
        let mut last = 0;
        for units in 0..1_u64 << 20 {
            let now = bucket(units << UNIT);
            assert!(now == last || now == last + 1, "{units}");
            assert_eq!(bucket((units << UNIT) | ((1 << UNIT) - 1)), now, "a unit is never split");
            last = now;
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn k11_no_times_and_strange_shares() {
        let none = Times::default();
        assert_eq!((none.count(), none.mean(), none.max(), none.quantile(0.5)), Default::default());
        let two = times(&[1_000_000, u64::MAX]);
        assert_eq!((two.quantile(2.0), two.quantile(f64::INFINITY)), (two.max(), two.max()));
        for share in [f64::NAN, -1.0, 0.0] {
            assert_eq!(two.quantile(share), two.quantile(0.5));
        }
        assert_eq!(two.mean(), Duration::from_nanos(u64::MAX / 2 + 500_000));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn k11_quantiles_are_within_a_sixteenth_or_half_a_unit_of_the_exact_ones(
            mut nanos in prop::collection::vec(nanos(), 1..300),
            share in 0.0..=1.0_f64,
        ) {
            let times = times(&nanos);
            nanos.sort_unstable();
            for share in [share, 0.0, 0.5, 0.9, 0.99, 1.0] {
                let rank = ((share * nanos.len() as f64).ceil() as usize).max(1);
                let exact = nanos[rank - 1];
                let reported = times.quantile(share).as_nanos() as u64;
                let bound = (exact / 16).max(1 << (UNIT - 1));
                prop_assert!(reported.abs_diff(exact) <= bound, "{share}: {reported} for {exact}");
            }
            let sum: u128 = nanos.iter().map(|nanos| u128::from(*nanos)).sum();
            prop_assert_eq!(times.mean().as_nanos(), sum / nanos.len() as u128);
            prop_assert_eq!(times.max().as_nanos() as u64, nanos[nanos.len() - 1]);
            prop_assert_eq!(times.count(), nanos.len() as u64);
        }
    }
}
