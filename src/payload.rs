//! What a panic carries, on its way to where the panic goes on.
//!
//! Owns: that. Refuses to know: what it is.
#![warn(clippy::arithmetic_side_effects)]

use std::{
    any::Any,
    panic::resume_unwind,
    sync::{Mutex, PoisonError},
};

pub(crate) struct Payload(Box<Mutex<Box<dyn Any + Send>>>); // never locked: it makes a payload `Sync`

impl Payload {
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        Self(Box::new(Mutex::new(payload)))
    }

    pub(crate) fn resume(self) -> ! {
        resume_unwind(self.0.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}
