//! What keys weigh, and how much one batch may carry.
//!
//! Owns: the weight of each entry, by two measures at once, and the sum over those that may leave together. Refuses to
//! know: keys, and in which order they leave.
#![warn(clippy::arithmetic_side_effects)]

use crate::broken::broken;

/// By the builder's measure and by the loader's.
pub(crate) type Weight = [u64; 2];

/// The most weights that stay allocated at rest.
const AT_REST: usize = 512;

/// What one batch may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) keys: usize,
    pub(crate) weight: Weight,
}

/// Nothing is kept and everything is zero if keys are not weighed.
pub(crate) struct Weights {
    by_entry: Option<Vec<Weight>>,
    sum: [u128; 2], // 2³² entries of any weight fit
}

impl Weights {
    pub(crate) fn new(weighed: bool) -> Self {
        Self { by_entry: weighed.then(Vec::new), sum: [0; 2] }
    }

    /// Whether keys are weighed at all.
    #[inline]
    pub(crate) const fn are_kept(&self) -> bool {
        self.by_entry.is_some()
    }

    #[inline]
    pub(crate) fn set(&mut self, entry: u32, weight: Weight) {
        if let Some(weights) = &mut self.by_entry {
            let place = entry as usize;
            weights.resize(weights.len().max(place.saturating_add(1)), Weight::default());
            weights.splice(place..=place, [weight]);
        }
    }

    pub(crate) fn of(&self, entry: u32) -> Weight {
        self.by_entry.as_ref().and_then(|weights| weights.get(entry as usize)).copied().unwrap_or_default()
    }

    /// The entry may leave.
    #[inline]
    pub(crate) fn add(&mut self, entry: u32) {
        if self.by_entry.is_none() {
            return;
        }
        let weight = self.of(entry);
        for (sum, weight) in self.sum.iter_mut().zip(weight) {
            *sum = sum.saturating_add(weight.into());
        }
    }

    /// The entry has left.
    #[inline]
    pub(crate) fn subtract(&mut self, entry: u32) {
        if self.by_entry.is_none() {
            return;
        }
        let weight = if broken!("weight forgotten") { [0; 2] } else { self.of(entry) };
        for (sum, weight) in self.sum.iter_mut().zip(weight) {
            *sum = sum.saturating_sub(weight.into());
        }
    }

    /// Whether what may leave fills a batch by either measure.
    pub(crate) fn fill(&self, limit: &Limit) -> bool {
        self.by_entry.is_some() && self.sum.iter().zip(limit.weight).any(|(sum, most)| *sum > 0 && *sum >= most.into())
    }

    /// How many of these entries one batch may carry, and their weight: as many as both measures allow, but one at
    /// least.
    pub(crate) fn fitting(&self, most: usize, entries: impl Iterator<Item = u32>, limit: &Limit) -> (usize, Weight) {
        if self.by_entry.is_none() {
            return (most, Weight::default());
        }
        let (mut count, mut sums) = (0_usize, Weight::default());
        for entry in entries.take(most) {
            let (mut with, mut fits) = (sums, true);
            for ((sum, weight), most) in with.iter_mut().zip(self.of(entry)).zip(limit.weight) {
                fits &= sum.checked_add(weight).is_some_and(|sum| sum <= most);
                *sum = sum.saturating_add(weight);
            }
            if !fits && count > 0 && !broken!("weight ignored") {
                break;
            }
            (count, sums) = (count.saturating_add(1), with);
        }
        (count, sums)
    }

    /// Nothing is queued: gives memory back.
    pub(crate) fn rest(&mut self) {
        debug_assert!(self.sum == [0; 2], "nothing weighs anything at rest");
        if let Some(weights) = &mut self.by_entry {
            weights.clear();
            weights.shrink_to(AT_REST);
        }
    }
}
