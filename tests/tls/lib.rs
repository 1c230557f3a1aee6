//! Nothing: see `handshake.rs`.
