//! What a load costs, by how many keys it has.
//!
//! Owns: the arithmetic of it. Refuses to know: where a price comes from, and what it is paid with.
//!
//! Invariants:
//! 1. More keys never cost less, and nothing is for nothing.
//! 2. `keys_for(n, …)` keys cost at most `n`, and one more costs more than that.
#![warn(clippy::arithmetic_side_effects)]

use super::sends::Units;

/// Parts of a call in which prices are counted, so that hundredths are exact.
pub(crate) const PARTS: u64 = 1_000_000;

/// So much for a load, and so much for each of its keys; in all it is rounded up to whole calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Price {
    fixed: u64,
    each: u64,
}

impl Price {
    /// One call, however many keys it has.
    pub(crate) const ONE: Self = Self { fixed: PARTS, each: 0 };

    /// In [`PARTS`] of a call.
    #[cfg(any(feature = "http", test))]
    pub(crate) const fn new(fixed: u64, each: u64) -> Self {
        Self { fixed, each }
    }

    /// Whether it is the same for one key and for many.
    pub(super) const fn is_fixed(self) -> bool {
        self.each == 0
    }

    /// What so many keys cost, in calls.
    pub(crate) fn of(self, keys: u64) -> u64 {
        let parts = u128::from(self.each).saturating_mul(keys.into()).saturating_add(self.fixed.into());
        u64::try_from(parts.div_ceil(PARTS.into())).unwrap_or(u64::MAX).max(1)
    }

    /// How many of so many keys can be had for so many calls.
    pub(crate) fn keys_for(self, calls: u64, keys: u64) -> u64 {
        let parts = u128::from(calls).saturating_mul(PARTS.into());
        match parts.checked_sub(self.fixed.into()) {
            Some(left) if calls > 0 => {
                left.checked_div(self.each.into()).map_or(keys, |most| keys.min(u64::try_from(most).unwrap_or(keys)))
            }
            _ => 0,
        }
    }

    /// A load of as many of so many keys as are granted at once, but of one at least.
    pub(super) fn at_once(self, keys: u64, most: Units) -> Units {
        let keys = self.keys_for(most.calls, keys.min(most.keys)).max(1);
        Units { calls: self.of(keys), keys }
    }
}

#[cfg(test)]
#[path = "../../tests/unit/quota_price.rs"]
mod cases;
