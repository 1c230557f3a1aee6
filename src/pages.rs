//! Numbered places in pages of 64.
//!
//! Owns: where things live and which numbers are free. Refuses to know: what they are.
//!
//! A place is found by its number in two steps, without hashing; nothing moves when the pages grow; and memory goes
//! back when a page is empty, so one long-lived place pins one page and not all of them.
//!
//! Invariants:
//! 1. Bit `i` of a page's `free` is set exactly when its place `i` is empty.
//! 2. A page stands in `open`, once, exactly when `free != 0`.
//! 3. At most `SPARE_BYTES` worth of pages without a tenant are kept; none of their metadata when there is no tenant at
//!    all beyond that.
#![warn(clippy::arithmetic_side_effects)]

const PLACES: u32 = 64;
const SPARE_BYTES: usize = 8 * 1024;

type Places<T> = Box<[Option<T>; PLACES as usize]>;

pub(crate) struct Pages<T> {
    all: Vec<Page<T>>,
    open: Vec<u32>,
    len: usize,
    spare: usize,
}

struct Page<T> {
    free: u64,
    places: Option<Places<T>>, // none where they were given back
}

impl<T> Pages<T> {
    pub(crate) const fn new() -> Self {
        Self { all: Vec::new(), open: Vec::new(), len: 0, spare: 0 }
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

    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let number = match self.open.last() {
            Some(&page) => page,
            None => self.add_page(),
        };
        let Some(page) = self.all.get_mut(number as usize) else {
            unreachable!("invariant 2: an open page exists");
        };
        if page.free == u64::MAX {
            match page.places {
                Some(_) => self.spare = self.spare.saturating_sub(1),
                None => page.places = new_places(),
            }
        }
        let bit = page.free.trailing_zeros();
        page.free &= page.free.wrapping_sub(1);
        if page.free == 0 {
            self.open.pop();
        }
        if let Some(place) = page.places.as_mut().and_then(|places| places.get_mut((bit % PLACES) as usize)) {
            debug_assert!(place.is_none(), "invariant 1: a free place is empty");
            *place = Some(value);
        }
        self.len = self.len.saturating_add(1);
        number.wrapping_mul(PLACES) | bit
    }

    #[cold]
    fn add_page(&mut self) -> u32 {
        let page = u32::try_from(self.all.len()).ok().filter(|&page| page < u32::MAX / PLACES);
        let page = page.expect("fewer than 2^32 places: `capacity` and memory end long before");
        self.all.push(Page { free: u64::MAX, places: None });
        self.open.push(page);
        page
    }

    /// The first place that has a tenant, from this number on.
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        let first = (from / PLACES) as usize;
        let pages = self.all.iter().zip(0_u32..).skip(first);
        pages.into_iter().find_map(|(Page { free, .. }, page)| {
            let below = if page as usize == first { 1_u64.wrapping_shl(from % PLACES).wrapping_sub(1) } else { 0 };
            let taken = !free & !below;
            (taken != 0).then(|| page.wrapping_mul(PLACES) | taken.trailing_zeros())
        })
    }

    #[inline]
    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        self.all.get((place / PLACES) as usize)?.places.as_ref()?.get((place % PLACES) as usize)?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.all.get_mut((place / PLACES) as usize)?.places.as_mut()?.get_mut((place % PLACES) as usize)?.as_mut()
    }

    #[inline]
    pub(crate) fn remove(&mut self, place: u32) -> Option<T> {
        self.remove_if(place, |_| true)
    }

    /// Takes out the tenant of a place, if it is such a one.
    #[inline]
    pub(crate) fn remove_if(&mut self, place: u32, is_it: impl FnOnce(&T) -> bool) -> Option<T> {
        let (number, bit) = (place / PLACES, place % PLACES);
        let page = self.all.get_mut(number as usize)?;
        let tenant = page.places.as_mut()?.get_mut(bit as usize)?;
        let value = if is_it(tenant.as_ref()?) { tenant.take() } else { None }?;
        if page.free == 0 {
            self.open.push(number);
        }
        page.free |= 1_u64.wrapping_shl(bit);
        self.len = self.len.saturating_sub(1);
        if page.free == u64::MAX {
            self.vacate(number);
        }
        Some(value)
    }

    /// A page has lost its last tenant.
    fn vacate(&mut self, page: u32) {
        if self.spare < Self::spares() {
            self.spare = self.spare.saturating_add(1);
        } else if let Some(page) = self.all.get_mut(page as usize) {
            page.places = None;
        }
        if self.len == 0 && self.all.len() > Self::spares().max(PLACES as usize) {
            *self = Self::new();
        }
    }
}

fn new_places<T>() -> Option<Places<T>> {
    let mut places = Vec::with_capacity(PLACES as usize); // not an array: a page of large values must not pass the stack
    places.resize_with(PLACES as usize, || None);
    places.into_boxed_slice().try_into().ok()
}
