//! Loads inside loads: the path of a folder begins with the path of its parent, which the load asks of its own batcher.
//!
//! There is one slot, and the clock is paused, so that "at once" can be checked.
#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use std::{
    collections::HashMap,
    error::Error as _,
    iter::successors,
    sync::{Arc, OnceLock},
};

use futures::future::join_all;
use multiget::{Answers, AnyError, Batcher, Error, Reason, WeakBatcher};
use tokio::time::Instant;

/// The parents of folders; the root has none.
type Table = HashMap<u32, Option<u32>>;
type Paths = Batcher<u32, String>;

/// What the loader needs. It knows its batcher by a handle that is not counted: a `Batcher` here would keep itself
/// alive for ever.
#[derive(Clone)]
struct Source {
    table: Arc<Table>,
    itself: Arc<OnceLock<WeakBatcher<u32, String>>>,
}

async fn load(source: Source, ids: Vec<u32>) -> Result<Answers<u32, String>, AnyError> {
    let paths = source.itself.get().and_then(WeakBatcher::upgrade).ok_or("the batcher is gone")?;
    let rows = ids.into_iter().filter_map(|id| Some((id, *source.table.get(&id)?))); // the one query
    // Gets of parents, all at once, so that they share a load too. They need no slot, and leave at once.
    let answers = rows.map(async |(id, parent)| match parent {
        None => (id, Ok(format!("/{id}"))),
        Some(parent) => (id, paths.get(parent).await.map(|path| format!("{path}/{id}")).map_err(AnyError::from)),
    });
    Ok(join_all(answers).await.into_iter().collect())
}

fn paths(table: Table) -> Result<Paths, multiget::ConfigError> {
    let source = Source { table: Arc::new(table), itself: Arc::default() };
    let paths = Batcher::builder().max_in_flight(1).load_with(source.clone(), load)?;
    source.itself.get_or_init(|| paths.downgrade());
    Ok(paths)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // 40 folders in a tree, three in each: 1; 2 to 4; 5 to 13; 14 to 40. And two that are inside each other.
    let mut table: Table = (2..=40).map(|id| (id, Some((id + 1) / 3))).collect();
    table.extend([(1, None), (90, Some(91)), (91, Some(90))]);
    let paths = paths(table)?;

    // 27 folders, and one load for each level above them. The loads are inside each other: the first ends last.
    let leaves = paths.get_many(14..=40).await?;
    assert_eq!(leaves.first().zip(leaves.last()), Some((&"/1/2/5/14".into(), &"/1/4/13/40".into())));
    let stats = paths.stats();
    println!("27 paths: {} loads, {} of them inside another", stats.loads, stats.loads_for(Reason::Nested));
    assert_eq!((stats.loads, stats.loads_for(Reason::Nested), stats.keys_sent), (4, 3, 27 + 9 + 3 + 1));

    // A ring can have no answer. The get that would close it is told at once, and what its load makes of that reaches
    // the caller; here an error for that key, so the other key of the same load is answered.
    let began = Instant::now();
    let each = paths.get_each([90, 14]).await;
    assert_eq!(began.elapsed().as_millis(), 0);
    let [Err(error), Ok(path)] = &each[..] else { return Err("one fails, one does not".into()) };
    let causes: Vec<_> = successors(error.source(), |&cause| cause.source()).collect();
    println!("a ring:   {error}; {}", causes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
    let innermost = causes.last().and_then(|cause| cause.downcast_ref::<Error<AnyError>>());
    assert!(matches!(innermost, Some(Error::Cycle)));
    assert_eq!(path, "/1/2/5/14");
    Ok(())
}
