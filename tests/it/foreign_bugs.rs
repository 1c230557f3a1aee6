//! Other people's bugs, one test each, with what happened, where, and what in our engine would bring it back.
//!
//! Every test here was once seen to fail against the broken variant that its comment names.
//!
//! Rows whose part of the library does not exist yet have no test here: M13 (a key asked for from inside its own load),
//! M28, M30 to M34 (the wire), M37 (re-filled stores). M23 and M36 concern defaults that we do not have; what can be
//! shown of them is.

mod departed;
mod ended;
mod failed;
mod mixed;
mod panics;
