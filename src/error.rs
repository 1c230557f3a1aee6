//! What a get can end with when it does not end with a value.
//!
//! Owns: whose fault an error is and what it says. Refuses to know: how it came about. No text here shows a key, a
//! value or anything of the user's error; that is reachable through `source()` for whoever wants it.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use crate::stats::Outcome;

/// Why a get has no value.
///
/// `Error<E>` is [`Clone`] without `E: Clone`, because everybody who waited for the same load shares one `E`.
/// [`source()`](StdError::source) is the loader's own `E`, so it can be downcast. Neither `Display` nor `Debug` shows
/// anything of `E`, whose text may hold what does not belong into a log; `Debug` names its type.
///
/// # Examples
///
/// ```
/// use std::{error::Error as _, io, sync::Arc};
/// use multiget::Error;
///
/// let error = Error::Load(Arc::new(io::Error::other("disk on fire")));
/// assert_eq!(error.to_string(), "the load failed");
/// assert_eq!(error.source().unwrap().downcast_ref::<io::Error>().unwrap().to_string(), "disk on fire");
/// assert!(Error::<io::Error>::TimedOut.is_retryable());
/// ```
#[non_exhaustive]
pub enum Error<E> {
    /// The loader returned `Err` for the whole load, or for the last piece of it that the key was in. Everybody who
    /// waited for it shares the error; the next get loads anew. If keys are [asked again](crate::Retry), it is the last
    /// of these errors.
    Load(Arc<E>),
    /// The loader answered this key with an error; the other keys of the load are not touched.
    Key(Arc<E>),
    /// The load succeeded and said nothing of this key, or called it absent. [`find`](crate::Batcher::find) gives
    /// `None`.
    NotFound,
    /// The load took longer than [`load_timeout`](crate::Builder::load_timeout); it was dropped.
    TimedOut,
    /// The loader panicked, or a gate or policy did, or the user's key type while answers were matched. The panic
    /// went through the panic hook; its payload is not kept.
    Panicked,
    /// [`capacity`](crate::Builder::capacity) gets were waiting already. Nothing was queued.
    Overloaded,
    /// The batcher was closed before this get was polled.
    Closed,
    /// The runtime that ran the load shut down, or there was no tokio runtime to start it on.
    Aborted,
    /// The get was made inside a load, and that load would have waited for itself: the key is carried by it, or by a
    /// load that waits for it. Also if more than 16 loads would be inside each other.
    Cycle,
    /// The loader answered [in order](crate::Answers::in_order) with another number of values than it was asked for.
    Miscounted {
        /// Keys the load carried.
        asked: usize,
        /// Values it gave back.
        got: usize,
    },
    /// The loader left the key [unprocessed](crate::Answers::unprocessed) as often as it may.
    Unprocessed {
        /// Loads that carried the key.
        attempts: u32,
    },
    /// A gate refused to let the load start.
    Refused {
        /// How long the gate says it will go on refusing.
        retry_after: Duration,
    },
}

impl<E> Error<E> {
    /// The error of an outcome that needs nothing of the user's: what a get is told that is refused at the door, or that
    /// the engine ends by itself.
    pub(crate) const fn plain(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Closed => Self::Closed,
            Outcome::Aborted => Self::Aborted,
            Outcome::Cycle => Self::Cycle,
            Outcome::Panicked => Self::Panicked,
            _ => Self::Overloaded,
        }
    }

    /// Whether the key does not exist, as far as the loader knows.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound)
    }

    /// Whether asking again later may succeed: `TimedOut`, `Overloaded`, `Unprocessed` and `Refused`.
    ///
    /// It speaks of the library's own errors. `Load` and `Key` are final: whatever verdict the loader had of its error
    /// has been carried out by the time a caller sees it.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::TimedOut | Self::Overloaded | Self::Unprocessed { .. } | Self::Refused { .. })
    }

    /// The kind of this error, as [`Stats::outcome`](crate::Stats::outcome) counts it.
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Load(_) => Outcome::Load,
            Self::Key(_) => Outcome::Key,
            Self::NotFound => Outcome::NotFound,
            Self::TimedOut => Outcome::TimedOut,
            Self::Panicked => Outcome::Panicked,
            Self::Overloaded => Outcome::Overloaded,
            Self::Closed => Outcome::Closed,
            Self::Aborted => Outcome::Aborted,
            Self::Cycle => Outcome::Cycle,
            Self::Miscounted { .. } => Outcome::Miscounted,
            Self::Unprocessed { .. } => Outcome::Unprocessed,
            Self::Refused { .. } => Outcome::Refused,
        }
    }
}

impl<E> Clone for Error<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Load(error) => Self::Load(Arc::clone(error)),
            Self::Key(error) => Self::Key(Arc::clone(error)),
            Self::NotFound => Self::NotFound,
            Self::TimedOut => Self::TimedOut,
            Self::Panicked => Self::Panicked,
            Self::Overloaded => Self::Overloaded,
            Self::Closed => Self::Closed,
            Self::Aborted => Self::Aborted,
            Self::Cycle => Self::Cycle,
            Self::Miscounted { asked, got } => Self::Miscounted { asked: *asked, got: *got },
            Self::Unprocessed { attempts } => Self::Unprocessed { attempts: *attempts },
            Self::Refused { retry_after } => Self::Refused { retry_after: *retry_after },
        }
    }
}

impl<E> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(_) => f.write_str("the load failed"),
            Self::Key(_) => f.write_str("the loader answered this key with an error"),
            Self::NotFound => f.write_str("not found"),
            Self::TimedOut => f.write_str("the load took longer than `load_timeout`"),
            Self::Panicked => f.write_str("the loader, a gate, the dispatch policy or the code of a key panicked"),
            Self::Overloaded => f.write_str("overloaded: `capacity` gets are waiting already"),
            Self::Closed => f.write_str("the batcher is closed"),
            Self::Aborted => {
                f.write_str("aborted: the runtime of the load shut down, or no tokio runtime was there to start it")
            }
            Self::Cycle => f.write_str("the load would wait for itself, or is inside more than 16 others"),
            Self::Miscounted { asked, got } => write!(f, "the loader answered {asked} keys in order with {got} values"),
            Self::Unprocessed { attempts } => write!(f, "still unprocessed after {attempts} attempts"),
            Self::Refused { retry_after } => write!(f, "refused by a gate for the next {retry_after:?}"),
        }
    }
}

impl<E> fmt::Debug for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(_) => write!(f, "Load({})", std::any::type_name::<E>()),
            Self::Key(_) => write!(f, "Key({})", std::any::type_name::<E>()),
            Self::Miscounted { asked, got } => {
                f.debug_struct("Miscounted").field("asked", asked).field("got", got).finish()
            }
            Self::Unprocessed { attempts } => f.debug_struct("Unprocessed").field("attempts", attempts).finish(),
            Self::Refused { retry_after } => f.debug_struct("Refused").field("retry_after", retry_after).finish(),
            unit => write!(f, "{:?}", unit.outcome()),
        }
    }
}

impl<E: Cause> StdError for Error<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Load(error) | Self::Key(error) => Some(error.cause()),
            _ => None,
        }
    }
}

mod sealed {
    use std::error::Error as StdError;

    /// Yields the error that `source()` shows: the loader's error itself, or what an `AnyError` holds.
    pub trait Cause {
        fn cause(&self) -> &(dyn StdError + 'static);
    }

    impl<E: StdError + 'static> Cause for E {
        fn cause(&self) -> &(dyn StdError + 'static) {
            self
        }
    }

    impl Cause for super::AnyError {
        fn cause(&self) -> &(dyn StdError + 'static) {
            &*self.0
        }
    }
}
use sealed::Cause;

/// Any error, for people who do not want to name one: the default `E` of a [`Batcher`](crate::Batcher).
///
/// Every `std::error::Error`, a `String` and a `&str` convert into it with `?` or `into()`. It is not itself an
/// `std::error::Error`, for the same reason as `anyhow::Error` is none; [`Error<AnyError>`](Error) is one, and its
/// `source()` is the error that went in.
///
/// # Examples
///
/// ```
/// use multiget::AnyError;
///
/// fn parse(text: &str) -> Result<u32, AnyError> {
///     Ok(text.parse()?)
/// }
/// assert!(parse("x").unwrap_err().get_ref().is::<std::num::ParseIntError>());
/// ```
pub struct AnyError(Box<dyn StdError + Send + Sync>);

impl AnyError {
    /// The error that went in.
    pub fn get_ref(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.0
    }

    /// Gives back the error that went in.
    pub fn into_inner(self) -> Box<dyn StdError + Send + Sync> {
        self.0
    }
}

impl<T: Into<Box<dyn StdError + Send + Sync>>> From<T> for AnyError {
    fn from(error: T) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for AnyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for AnyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
