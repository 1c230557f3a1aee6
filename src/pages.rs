//! Numbered places in pages, of 64 if nothing else is said: a power of two, and 128 at most.
//!
//! Owns: where things live and which numbers are free. Refuses to know: what they are.
//!
//! A place is found by its number in two steps, without hashing; nothing moves when the pages grow; and memory goes
//! back when a page is empty, so one long-lived place pins one page and not all of them.
//!
//! Invariants:
//! 1. Bit `i` of a page's `free` is set exactly when its place `i` is nobody's. Somebody's may be empty.
//! 2. A page stands in `open`, once, exactly when a bit of its `free` is set.
//! 3. At most `SPARE_BYTES` worth of pages without a tenant are kept, or one that is twice as large; none of their metadata
//!    when there is no tenant at all beyond that.
#![warn(clippy::arithmetic_side_effects)]

const SPARE_BYTES: usize = 4 * 1024;

type Places<T, const N: usize> = Box<[Option<T>; N]>;

pub(crate) struct Pages<T, const N: usize = 64> {
    all: Vec<Page<T, N>>,
    open: Vec<u32>,
    len: usize,
    spare: usize,
}

struct Page<T, const N: usize> {
    free: u128,
    places: Option<Places<T, N>>, // none where they were given back
}

#[expect(clippy::cast_possible_truncation, reason = "at most 128 places")]
impl<T, const N: usize> Pages<T, N> {
    const PLACES: u32 = N as u32;
    /// Of a page without a tenant.
    const ALL_FREE: u128 = {
        assert!(N.is_power_of_two(), "the number of a place is that of its page and its own, side by side");
        u128::MAX >> (128 - N)
    };

    pub(crate) const fn new() -> Self {
        Self { all: Vec::new(), open: Vec::new(), len: 0, spare: 0 }
    }

    /// The page of a place, and where it is there.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "a page has places")]
    const fn split(place: u32) -> (u32, u32) {
        (place / Self::PLACES, place % Self::PLACES)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many pages may stay without a tenant; large values keep none.
    const fn spares() -> usize {
        let page = size_of::<Option<T>>().saturating_mul(N);
        match SPARE_BYTES.checked_div(page) {
            Some(0) => (page <= 2 * SPARE_BYTES) as usize,
            Some(pages) => pages,
            None => 1,
        }
    }

    /// The number that the next tenant will have.
    pub(crate) fn vacancy(&mut self) -> u32 {
        let page = self.open_page();
        let bit = self.all.get(page as usize).map_or(0, Page::first_free);
        page.wrapping_mul(Self::PLACES) | bit
    }

    #[inline]
    fn open_page(&mut self) -> u32 {
        match self.open.last() {
            Some(&page) => page,
            None => self.add_page(),
        }
    }

    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.insert_with(|_| value)
    }

    /// The same for a tenant that knows its number.
    #[inline]
    pub(crate) fn insert_with(&mut self, value: impl FnOnce(u32) -> T) -> u32 {
        self.admit(|page, first| {
            let bit = page.first_free();
            page.free &= page.free.wrapping_sub(1);
            if let Some(place) = page.places.as_mut().and_then(|places| places.get_mut(bit as usize)) {
                debug_assert!(place.is_none(), "invariant 1: a free place is empty");
                *place = Some(value(first | bit));
            }
            (first | bit, 1)
        })
    }

    /// Sets numbers aside whose places stay empty: some of 64 that follow each other, one at least.
    pub(crate) fn hold(&mut self) -> (u32, u64) {
        self.admit(|page, first| {
            let shift = page.first_free() & 64;
            let run = page.free.wrapping_shr(shift) as u64;
            page.free &= !u128::from(run).wrapping_shl(shift);
            ((first | shift, run), run.count_ones())
        })
    }

    /// Takes so many numbers, as it says, from a page that has some; it is told the first of them all.
    #[inline]
    fn admit<R>(&mut self, take: impl FnOnce(&mut Page<T, N>, u32) -> (R, u32)) -> R {
        let number = self.open_page();
        let Some(page) = self.all.get_mut(number as usize) else {
            unreachable!("invariant 2: an open page exists");
        };
        if page.free == Self::ALL_FREE {
            match page.places {
                Some(_) => self.spare = self.spare.saturating_sub(1),
                None => page.places = new_places(),
            }
        }
        let (taken, count) = take(page, number.wrapping_mul(Self::PLACES));
        if page.free == 0 {
            self.open.pop();
        }
        self.len = self.len.saturating_add(count as usize);
        taken
    }

    /// Numbers that were set aside, and whose places are still empty, are nobody's any more.
    pub(crate) fn release(&mut self, (first, run): (u32, u64)) {
        let (number, bit) = Self::split(first);
        self.give_back(number, u128::from(run).wrapping_shl(bit), run.count_ones());
    }

    /// So many places of a page are nobody's any more.
    #[inline]
    fn give_back(&mut self, number: u32, places: u128, count: u32) {
        let Some(page) = self.all.get_mut(number as usize) else { return };
        if page.free == 0 {
            self.open.push(number);
        }
        page.free |= places;
        self.len = self.len.saturating_sub(count as usize);
        if page.free == Self::ALL_FREE {
            self.vacate(number);
        }
    }

    #[cold]
    fn add_page(&mut self) -> u32 {
        let page = u32::try_from(self.all.len()).ok().filter(|&page| page < Self::split(u32::MAX).0);
        let page = page.expect("fewer than 2^32 places: `capacity` and memory end long before");
        self.all.push(Page { free: Self::ALL_FREE, places: None });
        self.open.push(page);
        page
    }

    /// The first place that has a tenant, from this number on.
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        let (first, bit) = Self::split(from);
        let pages = self.all.iter().zip(0_u32..).skip(first as usize);
        pages.into_iter().find_map(|(Page { places, .. }, page)| {
            let below = if page == first { bit } else { 0 };
            let tenants = places.as_ref()?.iter().zip(0_u32..).skip(below as usize);
            let taken = tenants.into_iter().find(|(place, _)| place.is_some())?.1;
            Some(page.wrapping_mul(Self::PLACES) | taken)
        })
    }

    #[inline]
    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        let (page, bit) = Self::split(place);
        self.all.get(page as usize)?.places.as_ref()?.get(bit as usize)?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        let (page, bit) = Self::split(place);
        self.all.get_mut(page as usize)?.places.as_mut()?.get_mut(bit as usize)?.as_mut()
    }

    /// The place of a number that is somebody's, empty or not.
    #[inline]
    pub(crate) fn place(&mut self, place: u32) -> Option<&mut Option<T>> {
        let (page, bit) = Self::split(place);
        self.all.get_mut(page as usize)?.places.as_mut()?.get_mut(bit as usize)
    }

    #[inline]
    pub(crate) fn remove(&mut self, place: u32) -> Option<T> {
        self.remove_by(place, Option::take)?
    }

    /// A tenant is taken out of its place; if it is left there it stays.
    #[inline]
    pub(crate) fn remove_by<R>(&mut self, place: u32, take: impl FnOnce(&mut Option<T>) -> R) -> Option<R> {
        let (number, bit) = Self::split(place);
        let page = self.all.get_mut(number as usize)?;
        let tenant = page.places.as_mut()?.get_mut(bit as usize).filter(|tenant| tenant.is_some())?;
        let taken = take(tenant);
        if tenant.is_some() {
            return Some(taken);
        }
        self.give_back(number, 1_u128.wrapping_shl(bit), 1);
        Some(taken)
    }

    /// A page has lost its last tenant.
    fn vacate(&mut self, page: u32) {
        if self.spare < Self::spares() {
            self.spare = self.spare.saturating_add(1);
        } else if let Some(page) = self.all.get_mut(page as usize) {
            page.places = None;
        }
        if self.len == 0 && self.all.len() > Self::spares().max(16) {
            *self = Self::new();
        }
    }
}

impl<T, const N: usize> Page<T, N> {
    /// The first empty place, if there is one.
    #[inline]
    const fn first_free(&self) -> u32 {
        self.free.trailing_zeros()
    }
}

fn new_places<T, const N: usize>() -> Option<Places<T, N>> {
    let mut places = Vec::with_capacity(N); // not an array: a page of large values must not pass the stack
    places.resize_with(N, || None);
    places.into_boxed_slice().try_into().ok()
}
