//! What is offered for tests: the scripted loader, the simulated upstream, and what clients make of it.

#[cfg(feature = "quota")]
mod client;
#[cfg(feature = "quota")]
mod heard;
mod limits;
mod scripted;
mod served;
mod upstream;
