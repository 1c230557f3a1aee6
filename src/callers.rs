//! In which spans waiters asked.
//!
//! Owns: the number of a span for each cell whose caller was in one. Refuses to know: what a cell is but for its number,
//! and whether the span is still open: nothing of it is held.
//!
//! Invariants:
//! 1. A page is there exactly when a span is noted in it; `held` counts them, and they are `MOST_PAGES` at most. One more
//!    is kept, empty.
//! 2. All of it takes at most 140 KiB.
#![warn(clippy::arithmetic_side_effects)]

/// The cells of a page.
const CELLS: usize = 128;
/// The most pages, of 1 KiB each.
const MOST_PAGES: usize = 100;
/// Cells with higher numbers are not noted: finding their pages takes 16 bytes for each 128 of them.
const MOST_CELLS: usize = 256 * 1024;
/// Room for finding so many pages stays when there is none.
const AT_REST: usize = 16;

pub(crate) struct Callers {
    pages: Vec<Option<Box<Page>>>,
    held: usize,
    spare: Option<Box<Page>>,
}

struct Page {
    spans: [u64; CELLS], // 0 for none: no span has that number
    noted: usize,
}

impl Callers {
    pub(crate) const fn new() -> Self {
        Self { pages: Vec::new(), held: 0, spare: None }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// The page of a cell, and where it is there.
    #[inline]
    const fn split(cell: u32) -> (usize, usize) {
        (cell as usize / CELLS, cell as usize % CELLS)
    }

    /// Notes the span of a cell that has none, if there is room.
    #[inline]
    pub(crate) fn note(&mut self, cell: u32, span: u64) {
        let (number, at) = Self::split(cell);
        if !matches!(self.pages.get(number), Some(Some(_))) {
            self.add_page(number);
        }
        let Some(Some(page)) = self.pages.get_mut(number) else { return };
        if let Some(place) = page.spans.get_mut(at) {
            *place = span;
            page.noted = page.noted.saturating_add(1);
        }
    }

    #[cold]
    fn add_page(&mut self, number: usize) {
        if self.held >= MOST_PAGES || number >= MOST_CELLS / CELLS {
            return;
        }
        if number >= self.pages.len() {
            self.pages.resize_with(number.saturating_add(1), || None);
        }
        if let Some(place) = self.pages.get_mut(number) {
            *place = self.spare.take().or_else(|| Some(Box::new(Page { spans: [0; CELLS], noted: 0 })));
            self.held = self.held.saturating_add(1);
        }
    }

    #[inline]
    pub(crate) fn span_of(&self, cell: u32) -> Option<u64> {
        let (number, at) = Self::split(cell);
        self.pages.get(number)?.as_ref()?.spans.get(at).copied().filter(|span| *span != 0)
    }

    #[inline]
    pub(crate) fn forget(&mut self, cell: u32) {
        if !self.is_empty() {
            self.forget_noted(cell);
        }
    }

    fn forget_noted(&mut self, cell: u32) {
        let (number, at) = Self::split(cell);
        let Some(place) = self.pages.get_mut(number) else { return };
        let Some(page) = place else { return };
        let Some(span) = page.spans.get_mut(at).filter(|span| **span != 0) else { return };
        *span = 0;
        page.noted = page.noted.saturating_sub(1);
        if page.noted == 0 {
            self.spare = place.take();
            self.held = self.held.saturating_sub(1);
            if self.held == 0 && self.pages.len() > AT_REST {
                self.pages = Vec::new();
            }
        }
    }
}

#[cfg(test)]
#[path = "../tests/unit/callers_model.rs"]
mod model;
