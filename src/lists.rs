//! Lists of numbers that one batch needs, kept for the next one.
//!
//! Owns: empty lists. Refuses to know: what is put into them.
#![warn(clippy::arithmetic_side_effects)]

/// The most lists that are kept, and the longest of them.
const KEPT: usize = 2;
const LONGEST: usize = 512;

pub(crate) struct Lists<T>(Vec<Vec<T>>);

impl<T> Lists<T> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// An empty list with room for so many, of an earlier batch if there is one.
    pub(crate) fn list(&mut self, len: usize) -> Vec<T> {
        let mut list = self.0.pop().unwrap_or_default();
        list.reserve(len);
        list
    }

    /// A list that is not needed any more.
    pub(crate) fn reuse(&mut self, mut list: Vec<T>) {
        if self.0.len() < KEPT && (1..=LONGEST).contains(&list.capacity()) {
            list.clear();
            self.0.push(list);
        }
    }

    /// Keeps those that are no longer than this.
    pub(crate) fn rest(&mut self, longest: usize) {
        self.0.retain(|list| list.capacity() <= longest);
    }
}

#[cfg(test)]
#[path = "../tests/unit/lists_cases.rs"]
mod cases;
