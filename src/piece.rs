//! Which keys of a batch a load carries.
//!
//! Owns: the positions of a piece in its batch; a whole batch needs no list of them. Refuses to know: the keys, and why
//! a batch was taken apart.
#![warn(clippy::arithmetic_side_effects)]

/// Some or all keys of a batch, each at a *place* in the piece and a *position* in the batch.
#[derive(Clone)]
pub(crate) enum Piece {
    /// The whole batch of so many keys.
    All(usize),
    /// These positions, in order.
    Some(Vec<usize>),
}

impl Piece {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::All(len) => *len,
            Self::Some(positions) => positions.len(),
        }
    }

    /// The position of a place.
    #[inline]
    pub(crate) fn position(&self, place: usize) -> Option<usize> {
        match self {
            Self::All(len) => Some(place).filter(|place| place < len),
            Self::Some(positions) => positions.get(place).copied(),
        }
    }

    /// The place of a position.
    #[inline]
    pub(crate) fn place(&self, position: usize) -> Option<usize> {
        match self {
            Self::All(len) => Some(position).filter(|position| position < len),
            Self::Some(positions) => positions.binary_search(&position).ok(),
        }
    }

    /// All positions, by themselves.
    pub(crate) fn positions(&self) -> impl ExactSizeIterator<Item = usize> + use<> {
        let piece = self.clone();
        (0..self.len()).map(move |place| piece.position(place).unwrap_or(usize::MAX))
    }
}
