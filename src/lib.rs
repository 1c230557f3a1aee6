//! [loader]: crate::Loader
//! [batcher]: crate::Batcher
//! [gate]: crate::Gate
//! [dispatch]: crate::Dispatch
//! [promises]: crate::docs::promises
#![doc = include_str!("../README.md")]
//!
//! # The whole face, roughly
//!
//! ```text
//! Batcher<K, V, E = AnyError>                       clone it and share it: a handle
//!   builder() -> Builder                            new(loader) -> Batcher, with the defaults
//!   get(K).await          -> Result<V, Error<E>>
//!   find(K).await         -> Result<Option<V>, Error<E>>      absence is no error
//!   get_many(keys).await  -> Result<Vec<V>, Error<E>>         in the order asked; the first failure ends it
//!   find_many(keys).await -> Result<Vec<Option<V>>, Error<E>>
//!   get_each(keys).await  -> Vec<Result<V, Error<E>>>         each key fails for itself
//!   stream(keys)          -> Stream of (K, Result<V, Error<E>>)      as they come, with back-pressure
//!   prime(K, V) -> bool   invalidate(&K)  invalidate_all()  reload(K).await -> Result<V, Error<E>>
//!   flush()  close().await  stats() -> Stats  downgrade() -> WeakBatcher, which upgrade()s
//! Get  Find  GetMany  FindMany  GetEach  KeyStream  what these return: 'static, Send and Unpin
//!
//! Builder                                           every setter once more wins, gates add up; defaults: see above
//!   name  max_batch  max_weight(n, |&key| ..)  window  dispatch  max_in_flight  capacity  load_timeout  gate
//!   retry  retry_if(|&error| ..)  isolate_failures  store  join_in_flight  abandon(Abandon)  runtime(Handle)
//!   load_fn(|keys| async move { .. })  load_with(state, async |state, keys| ..)  build(loader)
//!                                                   -> Result<Batcher, ConfigError>
//! trait Loader
//!   async load(Vec<Key>) -> Result<Answers<Key, Value, Error>, Error>
//!   max_keys() -> Option<usize>                     gate() -> Option<Arc<dyn Gate>>
//!   max_weight() -> Option<u64>  weight(&Key) -> u64
//!   verdict(&Error) -> Verdict                      retry() -> Option<Retry>
//! Answers<K, V, E>                                  collect() pairs of (K, V) or (K, Result<V, E>); from(map)
//!   by(rows, |row| key)  in_order(values)  new()    .absent(keys)  .unprocessed(keys)  .unprocessed_after(keys, d)
//!
//! Verdict  Final  Again  AgainAfter(d)  Isolate     what an error means for the keys of its load
//! Retry    new(attempts)                            .backoff(base, cap)  .budget(part)  .seed(n)
//!
//! trait Gate                                        async pass(&Want) -> Result<Permit, Refused>
//! Want     keys()  weight()                         read it again when you grant
//! Permit   all()  keys(n)  with(n, |sent| ..)       Refused::new(retry_after)
//! Quota    per_second(n)  per_minute(n)  window(n, per)  bucket(size, rate)  unlimited()   [feature `quota`]: a gate
//!   .and(other)  .per_key()  .max_server_wait(d)  .backoff(base, cap)  .seed(n)  .build() -> Result<Quota, ConfigError>
//!   acquire().await  acquire_n(n).await  acquire_within(n, d).await  try_acquire()  blocking_acquire(n)
//!                                                   -> Result<(), QuotaError>
//!   pause_for(d)  pause_until(at)  pace_for(d)  refused() -> Duration  succeeded()         what the upstream says
//!   hear(hint) -> Verdict                           the right one of these, and what the loader's verdict is
//!   change(to) -> Result<(), ConfigError>           run_rate(span)  view() -> QuotaView
//!
//! trait Store<K, V, E>                              get(&K) -> Option<Stored<V, E>>  put(K, Stored<V, E>)  remove(&K)
//!                                                   clear()  max_entries() -> Option<usize>
//! Stored   Found(V)  Absent  Failed(Error<E>)       MemoryStore::new(max_entries): a store
//!
//! Abandon  Abort  Finish                            what becomes of a load that nobody waits for
//! Dispatch adaptive()  settle()  window(d)  immediate()  manual()  custom(policy)      .max_delay(d)
//! trait Policy                                      decide(&Moment) -> Decision
//! Decision Leave(Reason)  NextPass  In(d)  Wait
//!
//! enum Error<E>                                     Load Key NotFound TimedOut Panicked Overloaded Closed Aborted
//!                                                   Cycle Miscounted Unprocessed Refused
//!   is_not_found()  is_retryable()  outcome() -> Outcome
//! Stats    gets joins loads keys_sent ..            keys_per_load()  outcome(Outcome)  loads_for(Reason)
//! Times    queue_time and load_time of Stats        count()  mean()  max()  quantile(0.99)
//!
//! hints                                             feature `quota`
//!   Response::new(status, now).headers(..).body(..)   Resolver::new(dialect).max_server_wait(d).read(&response)
//!   -> Reading { hint, scope, source }              Hint: Wait Pace Backoff TooLong NoRetry Fatal Ok
//! HttpLoader                                        feature `http`: any multi-id API by configuration
//!   builder(base)  configured(HttpConfig)  from_config(HttpConfig)  check() -> DryRun  wire() -> Wire
//! http                                              feature `http`
//!   HttpConfig::from_toml(text)  from_json(text)    Wire::new(config).encode(&ids) -> Request  decode(&ids, &reply) -> Said
//!   Credential::bearer(Secret::from_env(name))      trait Credentials  trait Transport  HttpError  HttpErrorKind
//! requests                                          feature `http`
//!   Requests::builder().concurrency(n).quota(q).timeout(d).retry(r).credential(origin, header, ||..)  .build()
//!   run(requests)  run_stream(stream) -> Run, a Stream of Item { index, request, result, elapsed, attempts }
//!     ordered()  next().await  stop()  finish(d).await  accounts()
//!   Request::get(url)  post  put  ..  .segment(s)  .query(pairs)  .header(n, v)  .json(&v)  .form(pairs)
//!   RequestError: Invalid Refused Connect TimedOut Broken TooLarge Status Decode Panicked Cancelled
//! testing                                           feature `testing`
//!   Scripted::new(|&key| ..).then(Step).verdict(..)  assert_batches(..)  assert_loads(n)  batches()  keys_per_load()
//!   Step::{answer, with, fail, unprocessed, panic, hang}().after(d)
//!   Upstream::new(seed).limit(Limit).speech(Speech).poison(..) ..  call(&ids, at) -> Reply  books() -> Books
//!   Simulated::new(upstream)  request(&ids).await  serve(listener).await
//! ```
//!
//! `K: Hash + Eq + Clone + Send + Sync + 'static`, `V: Clone + Send + Sync + 'static`, `E: Send + Sync + 'static`. An
//! expensive value is best an `Arc`: callers who share an answer each get a clone of it.
//!
//! # Promises
//!
//! * [P1](docs::promises#p1-one-answer): a get awaited to the end has exactly one outcome.
//! * [P2](docs::promises#p2-always-an-answer): every get that is polled ends, within a time that is a number.
//! * [P3](docs::promises#p3-right-answer): a value comes from the answer for its own key only.
//! * [P4](docs::promises#p4-one-load-per-key): at most one load carries a key at a time.
//! * [P5](docs::promises#p5-batch-shape): batches are within their limits, of distinct keys, in order, and not late.
//! * [P6](docs::promises#p6-at-most-n): never more than `max_in_flight` loads at once that no load waits for.
//! * [P7](docs::promises#p7-dropping-is-safe): dropping a get changes nobody else's outcome.
//! * [P8](docs::promises#p8-no-hostages): a get that is kept and not polled delays nobody.
//! * [P9](docs::promises#p9-panic-stays-home): a panic ends its own load only.
//! * [P10](docs::promises#p10-failure-is-not-sticky): a failure leaves no trace.
//! * [P11](docs::promises#p11-bounded-memory): memory is bounded under load and small at rest.
//! * [P12](docs::promises#p12-overload-is-quick-and-forgets): overload is refused at once and forgotten at once.
//! * [P13](docs::promises#p13-freshness): after `invalidate` no get sees what a load found out before.
//! * [P14](docs::promises#p14-no-mixing): batchers share nothing, and nothing of yours is printed.
//! * [P15](docs::promises#p15-quota-holds): a quota is exact, and a wait that is dropped costs nothing.
//! * [P16](docs::promises#p16-the-network-is-not-believed): what comes over the network is bounded, and goes to its own key.
//! * [P17](docs::promises#p17-clean-end): close, the last handle's end and a runtime's end leave nobody waiting.
//! * [P18](docs::promises#p18-same-seed-same-story): under a paused clock the same run happens again.
//! * [P19](docs::promises#p19-no-unsafe): no `unsafe` code.
//! * [P20](docs::promises#p20-misconfiguration-speaks): a setting that cannot work is an error that names it.
//!
//! # Read on
//!
//! * [`docs::guide`]: from a function of one id to batches, in ten minutes.
//! * [`docs::api`]: how to describe an API to `HttpLoader` (feature `http`): every field, and real dialects.
//! * [`docs::promises`]: the contract, what is not promised, and the security boundary.
//! * [`docs::design`]: why it is built this way, what it costs, and a map of the source.
//! * [`docs::changelog`]: what changed.
#![forbid(unsafe_code)]

// layer 0: pure
mod answers;
mod block;
mod broken;
mod callers;
mod chain;
mod config;
mod dispatch;
mod door;
mod drive;
mod entrance;
mod entries;
mod entry;
mod error;
mod fillers;
mod groups;
mod histogram;
mod index;
mod land;
mod lists;
mod pace;
mod pages;
mod pass;
mod payload;
mod piece;
mod queue;
mod retry;
mod row;
mod seal;
mod stats;
mod waiters;
mod weights;
// layer 1: the engine
mod batcher;
mod builder;
mod driver;
mod flight;
mod gate;
mod get;
mod isolate;
mod keep;
mod loader;
mod many;
mod memory;
mod reply;
mod shared;
mod spans;
mod store;
mod stream;
mod sync;
mod tally;
// layer 2: around the engine
#[cfg(feature = "quota")]
pub mod hints;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "quota")]
mod quota;
#[cfg(feature = "http")]
pub mod requests;
#[cfg(feature = "testing")]
pub mod testing;

pub mod docs;

#[cfg(feature = "http")]
pub use crate::http::HttpLoader;
#[cfg(feature = "quota")]
pub use crate::quota::{LimitView, Quota, QuotaBuilder, QuotaError, QuotaView, WaitsFor};
pub use crate::{
    answers::Answers,
    batcher::{Batcher, WeakBatcher},
    builder::Builder,
    config::{Abandon, ConfigError},
    dispatch::{Decision, Dispatch, Moment, Policy},
    error::{AnyError, Error},
    gate::{Gate, Permit, Refused, Want},
    get::{Find, Get},
    histogram::Times,
    loader::Loader,
    many::{FindMany, GetEach, GetMany},
    memory::MemoryStore,
    retry::{Retry, Verdict},
    stats::{Outcome, Reason, Stats},
    store::{Store, Stored},
    stream::KeyStream,
};
pub use async_trait::async_trait;
#[cfg(multiget_shuttle)]
#[doc(hidden)]
pub use sync::source::Handle;
