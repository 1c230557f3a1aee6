//! Any multi-id API over HTTP, by configuration.
//!
//! Owns: [`HttpLoader`] and its parts. Refuses to know: how keys are gathered and asked again; that is the engine's, to
//! which this is a loader like any other.
//!
//! | part | what it is |
//! |---|---|
//! | [`HttpConfig`] | the configuration, as TOML, JSON or [setters](HttpLoaderBuilder) |
//! | [`Wire`] | the same, checked: keys into a [`Request`], a [`Reply`] into what is [`Said`] of each key; no network |
//! | [`Transport`] | what carries a request; [`HttpTransport`] is the one over `reqwest` |
//! | [`Credential`], [`Credentials`], [`Keyring`], [`Secret`] | who asks |
//! | [`Scopes`] | what loaders of one host and credential share |
//! | [`Remembering`] | a store that remembers bad keys |
//! | [`HttpError`] | what went wrong |
//!
//! How to describe an API, with every field and real examples: [`docs::api`](crate::docs::api).
//!
//! # What is believed
//!
//! A server is believed about its own values, and about nothing else. Bodies are read up to a limit that counts unpacked
//! bytes, and up to 128 levels; JSON that says a thing twice is refused. Items go to the keys they name. Redirects are
//! not followed unless they are allowed, and then within the origin; so are links to next pages. A longer wait than
//! `max_server_wait` is refused, and a price that is said to be more than the largest window counts as that. Keys are
//! data: each is encoded for the place it is put into, or not sent.

mod checks;
mod cost;
mod decode;
mod dry;
mod encode;
mod exchange;
mod failure;
mod id;
mod judge;
mod keyring;
mod load;
mod model;
mod names;
mod origin;
mod parse;
mod rates;
mod remember;
mod scopes;
mod secret;
mod setup;
mod strict;
mod template;
mod toll;
mod transport;
mod units;
mod wire;

pub(crate) use self::keyring::Held;
pub use self::{
    decode::Said,
    dry::DryRun,
    encode::Request,
    failure::{HttpError, HttpErrorKind},
    id::Id,
    keyring::Keyring,
    load::HttpLoader,
    model::{
        AliasConfig, Class, Condition, Duplicates, EncodeConfig, EncodeKind, ErrorsConfig, FatalConfig, Format,
        HttpConfig, KeyType, LimitsConfig, Meaning, NextConfig, Position, RequestConfig, ResponseConfig, Shape, Single,
        StatusConfig, TimeoutConfig, Unaccounted, Unexpected, UnprocessedConfig,
    },
    rates::{QuotaConfig, RetryConfig, Unit, WindowConfig},
    remember::{NoValues, Remembering},
    scopes::Scopes,
    secret::{Credential, Credentials, Secret},
    setup::HttpLoaderBuilder,
    transport::{Call, HttpTransport, Transport},
    wire::{Reply, Wire},
};
