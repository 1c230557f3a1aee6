//! Numbered places in pages, of 64 if nothing else is said and of 128 at most.
//!
//! Owns: where things live and which numbers are free. Refuses to know: what they are.
//!
//! A place is found by its number in two steps, without hashing; nothing moves when the pages grow; and memory goes
//! back when a page is empty, so one long-lived place pins one page and not all of them.
//!
//! Invariants:
//! 1. The first `left` of a page's `free` are those of its places that are empty; the last of them is the next tenant's.
//! 2. A page stands in `open`, once, exactly when `left > 0`.
//! 3. At most `SPARE_BYTES` worth of pages without a tenant are kept; none of their metadata when there is no tenant at
//!    all beyond that.
#![warn(clippy::arithmetic_side_effects)]

const SPARE_BYTES: usize = 8 * 1024;

type Places<T, const N: usize> = Box<[Option<T>; N]>;

pub(crate) struct Pages<T, const N: usize = 64> {
    all: Vec<Page<T, N>>,
    open: Vec<u32>,
    len: usize,
    spare: usize,
}

struct Page<T, const N: usize> {
    free: [u8; N],
    left: u8,
    places: Option<Places<T, N>>, // none where they were given back
}

#[expect(clippy::cast_possible_truncation, reason = "at most 128 places")]
impl<T, const N: usize> Pages<T, N> {
    const PLACES: u32 = N as u32;
    /// Of a page without a tenant, the first place last.
    #[expect(clippy::indexing_slicing, reason = "checked at compile time")]
    const FREE: [u8; N] = {
        let (mut free, mut place) = ([0; N], 0);
        while place < N {
            free[place] = (N - 1 - place) as u8;
            place += 1;
        }
        free
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
            Some(pages) => pages,
            None => 1,
        }
    }

    /// The number that the next tenant will have.
    pub(crate) fn vacancy(&mut self) -> u32 {
        let page = self.open_page();
        let free = self.all.get(page as usize).and_then(|page| page.free.get(usize::from(page.left.saturating_sub(1))));
        page.wrapping_mul(Self::PLACES) | u32::from(free.copied().unwrap_or_default())
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
        let number = self.open_page();
        let Some(page) = self.all.get_mut(number as usize) else {
            unreachable!("invariant 2: an open page exists");
        };
        if page.left == N as u8 {
            match page.places {
                Some(_) => self.spare = self.spare.saturating_sub(1),
                None => page.places = new_places(),
            }
        }
        page.left = page.left.saturating_sub(1);
        let bit = page.free.get(page.left as usize).copied().unwrap_or_default();
        if page.left == 0 {
            self.open.pop();
        }
        let number = number.wrapping_mul(Self::PLACES) | u32::from(bit);
        if let Some(place) = page.places.as_mut().and_then(|places| places.get_mut(bit as usize)) {
            debug_assert!(place.is_none(), "invariant 1: a free place is empty");
            *place = Some(value(number));
        }
        self.len = self.len.saturating_add(1);
        number
    }

    #[cold]
    fn add_page(&mut self) -> u32 {
        let page = u32::try_from(self.all.len()).ok().filter(|&page| page < Self::split(u32::MAX).0);
        let page = page.expect("fewer than 2^32 places: `capacity` and memory end long before");
        self.all.push(Page { free: Self::FREE, left: N as u8, places: None });
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

    #[inline]
    pub(crate) fn remove(&mut self, place: u32) -> Option<T> {
        self.remove_if(place, |_| true)
    }

    /// Takes out the tenant of a place, if it is such a one.
    #[inline]
    pub(crate) fn remove_if(&mut self, place: u32, is_it: impl FnOnce(&T) -> bool) -> Option<T> {
        let (number, bit) = Self::split(place);
        let page = self.all.get_mut(number as usize)?;
        let tenant = page.places.as_mut()?.get_mut(bit as usize)?;
        let value = if is_it(tenant.as_ref()?) { tenant.take() } else { None }?;
        if page.left == 0 {
            self.open.push(number);
        }
        if let Some(free) = page.free.get_mut(page.left as usize) {
            *free = bit as u8;
        }
        page.left = page.left.saturating_add(1);
        self.len = self.len.saturating_sub(1);
        if page.left == N as u8 {
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
        if self.len == 0 && self.all.len() > Self::spares().max(16) {
            *self = Self::new();
        }
    }
}

fn new_places<T, const N: usize>() -> Option<Places<T, N>> {
    let mut places = Vec::with_capacity(N); // not an array: a page of large values must not pass the stack
    places.resize_with(N, || None);
    places.into_boxed_slice().try_into().ok()
}
