//! The long documents: compiled, linked and tested with the code they speak of.
//!
//! * [`guide`]: from a function of one id to batches, in ten minutes.
//! * `api`: how to describe an API to the loader over HTTP (with the feature `http`).
//! * [`promises`]: what the library guarantees, what it does not, and whom it trusts.
//! * [`design`]: why it is built this way, what it costs, and a map of the source.
//! * [`changelog`]: what changed for users.

pub mod guide {
    #![doc = include_str!("guide.md")]
}

#[cfg(feature = "http")]
pub mod api {
    #![expect(clippy::doc_markdown, reason = "names of vendors")]
    #![doc = include_str!("api.md")]
}

pub mod promises {
    #![doc = include_str!("promises.md")]
}

pub mod design {
    #![doc = include_str!("design.md")]
    #![doc = include_str!("dispatch.svg")]
}

pub mod changelog {
    #![doc = include_str!("../../CHANGELOG.md")]
}
