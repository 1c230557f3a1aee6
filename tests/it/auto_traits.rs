//! Which public types are `Send`, `Sync`, `Unpin`, `Clone`, `Debug` or an `Error`: a change here breaks somebody's
//! build, so it is made on purpose or not at all.

use std::{
    cell::Cell,
    error::Error as StdError,
    fmt::Debug,
    io,
    marker::{PhantomData, PhantomPinned},
    sync::Arc,
};

use multiget::{
    Abandon, Answers, AnyError, Batcher, Builder, ConfigError, Decision, Dispatch, Error, Find, FindMany, Gate, Get,
    GetEach, GetMany, KeyStream, Loader, MemoryStore, Moment, Outcome, Permit, Policy, Reason, Refused, Stats, Store,
    Stored, Times, Want, WeakBatcher,
};

use crate::support::{Fault, Upstream, Value};

/// Has nothing but what the engine asks of an error: neither `Unpin` nor `Clone` nor `Debug`.
struct Plain(PhantomPinned);

/// Whether a type has a trait: the inherent constant hides the other where its bound holds.
macro_rules! has {
    ($type:ty: $trait:path) => {{
        #[expect(dead_code, reason = "one of the two constants is not used")]
        const fn has() -> bool {
            struct Probe<T: ?Sized>(PhantomData<T>);
            trait Otherwise {
                const HAS: bool = false;
            }
            impl<T: ?Sized> Otherwise for Probe<T> {}
            impl<T: ?Sized + $trait> Probe<T> {
                const HAS: bool = true;
            }
            Probe::<$type>::HAS
        }
        has()
    }};
}

macro_rules! table {
    ($($type:ty => $expected:literal;)*) => {{
        let mut wrong = Vec::new();
        $({
            let has = [
                ("Send", has!($type: Send)), ("Sync", has!($type: Sync)), ("Unpin", has!($type: Unpin)),
                ("Clone", has!($type: Clone)), ("Debug", has!($type: Debug)), ("Error", has!($type: StdError)),
            ];
            let has: Vec<_> = has.into_iter().filter_map(|(name, has)| has.then_some(name)).collect();
            if has.join(" ") != $expected {
                wrong.push(format!("{}: {}", stringify!($type), has.join(" ")));
            }
        })*
        assert!(wrong.is_empty(), "{wrong:#?}");
    }};
}

#[test]
fn handles_and_futures() {
    table! {
        Batcher<u32, u32> => "Send Sync Unpin Clone Debug";
        Batcher<Plain, Plain, Plain> => "Send Sync Unpin Clone Debug";
        WeakBatcher<u32, u32> => "Send Sync Unpin Clone Debug";
        WeakBatcher<Plain, Plain, Plain> => "Send Sync Unpin Clone Debug";
        Builder<u32, u32> => "Send Sync Unpin Debug";
        Builder<Plain, Plain, Plain> => "Send Sync Unpin Debug";
        Get<u32, u32> => "Send Sync Unpin Debug";
        Get<Plain, Plain, Plain> => "Send Sync Unpin Debug";
        Find<Plain, Plain, Plain> => "Send Sync Unpin Debug";
        GetMany<Plain, Plain, Plain> => "Send Sync Unpin Debug";
        FindMany<Plain, Plain, Plain> => "Send Sync Unpin Debug";
        GetEach<Plain, Plain, Plain> => "Send Sync Unpin Debug";
        KeyStream<u32, u32> => "Send Unpin Debug";
        KeyStream<Plain, Plain, Plain> => "Send Unpin Debug";
    }
}

/// Values and errors are read by several threads, and keys compared by them (museum M21).
#[test]
fn what_cannot_be_shared_is_not_shared() {
    table! {
        Batcher<u32, Cell<u32>> => "Unpin Clone Debug";
        Batcher<Cell<u32>, u32> => "Unpin Clone Debug";
        Batcher<u32, u32, Cell<u32>> => "Unpin Clone Debug";
        Get<u32, Cell<u32>> => "Unpin Debug";
        GetMany<u32, u32, Cell<u32>> => "Unpin Debug";
        Error<Cell<u32>> => "Unpin Clone Debug";
    }
}

#[test]
fn errors_and_answers() {
    table! {
        Error<Plain> => "Send Sync Unpin Clone Debug";
        Error<Fault> => "Send Sync Unpin Clone Debug Error";
        Error<io::Error> => "Send Sync Unpin Clone Debug Error";
        Error<AnyError> => "Send Sync Unpin Clone Debug Error";
        Error<Error<io::Error>> => "Send Sync Unpin Clone Debug Error";
        AnyError => "Send Sync Unpin Debug";
        ConfigError => "Send Sync Unpin Clone Debug Error";
        Answers<u32, u32> => "Send Sync Unpin Debug";
        Answers<Plain, Plain, Plain> => "Send Sync Debug";
        Stored<u32, u32> => "Send Sync Unpin Clone Debug";
        Stored<Plain, Plain> => "Send Sync Debug";
        MemoryStore<u32, u32> => "Send Sync Unpin Debug";
        MemoryStore<Plain, Plain> => "Send Sync Unpin Debug";
        MemoryStore<u32, Cell<u32>> => "Unpin Debug";
    }
}

#[test]
fn settings_and_figures() {
    table! {
        Abandon => "Send Sync Unpin Clone Debug";
        Decision => "Send Sync Unpin Clone Debug";
        Dispatch => "Send Sync Unpin Clone Debug";
        Moment => "Send Sync Unpin Clone Debug";
        Outcome => "Send Sync Unpin Clone Debug";
        Reason => "Send Sync Unpin Clone Debug";
        Stats => "Send Sync Unpin Clone Debug";
        Times => "Send Sync Unpin Clone Debug";
        Permit => "Send Unpin Debug";
        Refused => "Send Sync Unpin Clone Debug";
        Want => "Send Sync Unpin Debug";
    }
}

#[cfg(feature = "quota")]
#[test]
fn quotas() {
    use multiget::{LimitView, Quota, QuotaBuilder, QuotaError, QuotaView, WaitsFor};
    table! {
        Quota => "Send Sync Unpin Clone Debug";
        QuotaBuilder => "Send Sync Unpin Clone Debug";
        QuotaError => "Send Sync Unpin Clone Debug Error";
        QuotaView => "Send Sync Unpin Clone Debug";
        LimitView => "Send Sync Unpin Clone Debug";
        WaitsFor => "Send Sync Unpin Clone Debug";
    }
    let quota = Quota::unlimited().build().unwrap();
    let futures: [Box<dyn Send>; 2] =
        [Box::new(quota.acquire()), Box::new(quota.acquire_within(2, std::time::Duration::ZERO))];
    drop(futures);
}

#[cfg(feature = "http")]
#[test]
fn requests() {
    use multiget::requests::{
        Accounts, Item, Request, RequestError, Requests, RequestsBuilder, Response, Run, Transport,
    };
    table! {
        Accounts => "Send Sync Unpin Clone Debug";
        Item => "Send Sync Unpin Debug";
        Request => "Send Sync Unpin Clone Debug";
        RequestError => "Send Sync Unpin Debug Error";
        Requests => "Send Sync Unpin Clone Debug";
        RequestsBuilder => "Send Unpin Debug";
        Response => "Send Sync Unpin Clone Debug";
        Run => "Send Unpin Debug";
        Box<dyn Transport> => "Send Sync Unpin";
    }
    let requests = Requests::builder().build().unwrap();
    let mut run = requests.run(["http://host/"]);
    let futures: [Box<dyn Send>; 2] = [
        Box::new(async move { run.next().await.is_some() }),
        Box::new(requests.run(["http://host/"]).finish(std::time::Duration::ZERO)),
    ];
    drop(futures);
}

/// Nothing borrows from the batcher, and the futures of its async functions can be spawned. That this compiles is the
/// test.
#[test]
fn futures_own_what_they_need() {
    fn spawnable<T: Send + 'static>(_: &T) {}
    fn boxed(batcher: &Batcher<u32, Value, Fault>) -> [Box<dyn Send>; 6] {
        [
            Box::new(batcher.get(1)),
            Box::new(batcher.find(1)),
            Box::new(batcher.get_many([1])),
            Box::new(batcher.find_many(vec![1])),
            Box::new(batcher.get_each(0..1)),
            Box::new(batcher.stream(futures::stream::iter(0..1))),
        ]
    }
    let batcher = Batcher::new(Upstream::default());
    let futures = boxed(&batcher);
    let weak = batcher.downgrade();
    spawnable(&async move { batcher.close().await });
    assert!(weak.upgrade().is_some(), "it lives as long as its futures");
    drop(futures);
    assert!(weak.upgrade().is_none());
}

#[test]
fn traits_are_dyn_compatible_and_pass_through_an_arc() {
    fn loads<L: Loader>(loader: L) -> L {
        loader
    }
    fn opens<G: Gate>(_: &G) {}
    let shared: Arc<dyn Loader<Key = u32, Value = Value, Error = Fault>> = Arc::new(Upstream::default());
    let batcher = Batcher::new(loads(Arc::clone(&shared)));
    assert_eq!(Arc::strong_count(&shared), 2);
    drop(batcher);
    assert_eq!(Arc::strong_count(&shared), 1);
    let (_open, gate) = crate::support::shut();
    let gate: Arc<dyn Gate> = Arc::new(gate);
    opens(&gate);
    let store: Arc<dyn Store<u32, u32>> = Arc::new(MemoryStore::new(1));
    assert_eq!(store.max_entries(), Some(1));
    assert!(has!(dyn Store<Plain, Plain, Plain>: Send) && has!(dyn Store<Plain, Plain, Plain>: Sync));
    assert!(has!(dyn Policy: Send) && has!(dyn Policy: Sync) && has!(dyn Gate: Send) && has!(dyn Gate: Sync));
}

#[test]
fn the_source_of_an_error_can_be_downcast() {
    let load: Error<io::Error> = Error::Load(Arc::new(io::Error::other("disk")));
    assert!(load.source().unwrap().is::<io::Error>());
    let key: Error<AnyError> = Error::Key(Arc::new(AnyError::from(Fault { load: 7 })));
    assert_eq!(key.clone().source().unwrap().downcast_ref(), Some(&Fault { load: 7 }));
    assert!(Error::<AnyError>::NotFound.source().is_none());
    let boxed: Box<dyn StdError + Send + Sync> = Box::new(key);
    assert!(boxed.is::<Error<AnyError>>());
}

#[cfg(feature = "quota")]
#[test]
fn hints() {
    use multiget::hints::{Dialect, Hint, Reading, Resolver, Response, Scope};

    table! {
        Dialect => "Send Sync Unpin Clone Debug";
        Hint => "Send Sync Unpin Clone Debug";
        Reading => "Send Sync Unpin Clone Debug";
        Resolver => "Send Sync Unpin Clone Debug";
        Response<'static> => "Send Sync Unpin Clone Debug";
        Scope => "Send Sync Unpin Clone Debug";
    }
}

#[cfg(feature = "testing")]
#[test]
fn testing() {
    use multiget::testing::{Batch, Books, Limit, Reply, Scripted, Simulated, Speech, Step, Upstream};

    table! {
        Batch<u32> => "Send Sync Unpin Clone Debug";
        Books => "Send Sync Unpin Clone Debug";
        Limit => "Send Sync Unpin Clone Debug";
        Reply => "Send Sync Unpin Clone Debug";
        Scripted<u32, u32> => "Send Sync Unpin Clone Debug";
        Scripted<u32, Cell<u32>> => "Send Sync Unpin Clone Debug";
        Scripted<Plain, Plain, Plain> => "Send Sync Unpin Clone Debug";
        Simulated => "Send Sync Unpin Clone Debug";
        Speech => "Send Sync Unpin Clone Debug";
        Step<u32, u32> => "Send Unpin Debug";
        Step<Plain, Plain, Plain> => "Send Unpin Debug";
        Upstream => "Send Sync Unpin Clone Debug";
    }
}
