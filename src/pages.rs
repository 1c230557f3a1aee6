//! Numbered places in pages of 64.
//!
//! Owns: where things live and which numbers are free. Refuses to know: what they are.
//!
//! A place is found by its number in two steps, without hashing; nothing moves when the pages grow; and memory goes
//! back when a page is empty, so one long-lived place pins one page and not all of them.
//!
//! Invariants:
//! 1. Bit `i` of `free[p]` is set exactly when place `64 * p + i` is empty.
//! 2. Page `p` stands in `open`, once, exactly when `free[p] != 0`.
//! 3. At most `SPARE_BYTES` worth of pages without a tenant are kept; none of their metadata when there is no tenant at
//!    all beyond that.
#![warn(clippy::arithmetic_side_effects)]

const PLACES: u32 = 64;
const SPARE_BYTES: usize = 8 * 1024;

pub(crate) struct Pages<T> {
    places: Vec<Box<[Option<T>]>>, // an empty slice where the page was given back
    free: Vec<u64>,
    open: Vec<u32>,
    len: usize,
    spare: usize,
}

impl<T> Pages<T> {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new(), open: Vec::new(), len: 0, spare: 0 }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many pages may stay without a tenant; large values keep none.
    const fn spares() -> usize {
        let page = size_of::<Option<T>>().saturating_mul(PLACES as usize);
        match SPARE_BYTES.checked_div(page) {
            Some(pages) => pages,
            None => 1,
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let page = match self.open.last() {
            Some(&page) => page,
            None => self.add_page(),
        };
        let index = page as usize;
        let (Some(places), Some(free)) = (self.places.get_mut(index), self.free.get_mut(index)) else {
            unreachable!("invariant 2: an open page exists");
        };
        if *free == u64::MAX {
            if places.is_empty() {
                *places = new_page();
            } else {
                self.spare = self.spare.saturating_sub(1);
            }
        }
        let bit = free.trailing_zeros();
        *free &= free.wrapping_sub(1);
        if *free == 0 {
            self.open.pop();
        }
        if let Some(place) = places.get_mut(bit as usize) {
            debug_assert!(place.is_none(), "invariant 1: a free place is empty");
            *place = Some(value);
        }
        self.len = self.len.saturating_add(1);
        page.wrapping_mul(PLACES) | bit
    }

    #[cold]
    fn add_page(&mut self) -> u32 {
        let page = u32::try_from(self.places.len()).ok().filter(|&page| page < u32::MAX / PLACES);
        let page = page.expect("fewer than 2^32 places: `capacity` and memory end long before");
        self.places.push(Box::default());
        self.free.push(u64::MAX);
        self.open.push(page);
        page
    }

    /// The first place that has a tenant, from this number on.
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        let first = (from / PLACES) as usize;
        let pages = self.free.iter().zip(0_u32..).skip(first);
        pages.into_iter().find_map(|(free, page)| {
            let below = if page as usize == first { 1_u64.wrapping_shl(from % PLACES).wrapping_sub(1) } else { 0 };
            let taken = !free & !below;
            (taken != 0).then(|| page.wrapping_mul(PLACES) | taken.trailing_zeros())
        })
    }

    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        self.places.get((place / PLACES) as usize)?.get((place % PLACES) as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.places.get_mut((place / PLACES) as usize)?.get_mut((place % PLACES) as usize)?.as_mut()
    }

    pub(crate) fn remove(&mut self, place: u32) -> Option<T> {
        let (page, bit) = (place / PLACES, place % PLACES);
        let places = self.places.get_mut(page as usize)?;
        let value = places.get_mut(bit as usize)?.take()?;
        let free = self.free.get_mut(page as usize)?;
        if *free == 0 {
            self.open.push(page);
        }
        *free |= 1_u64.wrapping_shl(bit);
        self.len = self.len.saturating_sub(1);
        if *free == u64::MAX {
            if self.spare < Self::spares() {
                self.spare = self.spare.saturating_add(1);
            } else {
                *places = Box::default();
            }
        }
        if self.len == 0 && self.places.len() > Self::spares().max(PLACES as usize) {
            *self = Self::new();
        }
        Some(value)
    }
}

fn new_page<T>() -> Box<[Option<T>]> {
    let mut places = Vec::with_capacity(PLACES as usize); // not an array: a page of large values must not pass the stack
    places.resize_with(PLACES as usize, || None);
    places.into_boxed_slice()
}
