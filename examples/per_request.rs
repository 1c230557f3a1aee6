//! Tenants that must not see each other's data: a batcher for each request, or the tenant inside the key.
#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use std::{collections::HashMap, sync::Arc};

use multiget::{Answers, AnyError, Batcher, ConfigError};

/// Every tenant numbers its documents from 1, so the number alone says nothing.
type Database = Arc<HashMap<(&'static str, u32), &'static str>>;

/// First way: a batcher belongs to one request, and its loader to the tenant who sent it. Batchers share nothing, so
/// an id can be just an id, and a mix-up is impossible rather than forbidden. A batcher is cheap to make and starts no
/// task.
fn documents_for(tenant: &'static str, database: &Database) -> Result<Batcher<u32, &'static str>, ConfigError> {
    let database = Arc::clone(database);
    Batcher::builder().load_with((tenant, database), async |(tenant, database), ids| {
        Ok(ids.into_iter().filter_map(|id| Some((id, *database.get(&(tenant, id))?))).collect())
    })
}

/// Second way: one batcher for all, and the tenant is part of the key. Requests of all tenants then share calls, which
/// is worth it if the upstream answers for several tenants at once; answers are shared only where the whole key is
/// equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct DocumentKey {
    tenant: &'static str,
    id: u32,
}

async fn load(database: Database, keys: Vec<DocumentKey>) -> Result<Answers<DocumentKey, &'static str>, AnyError> {
    Ok(keys.into_iter().filter_map(|key| Some((key, *database.get(&(key.tenant, key.id))?))).collect())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let database: Database = Arc::new(HashMap::from([
        (("north", 1), "north's plan"),
        (("south", 1), "south's plan"),
        (("south", 2), "a map"),
    ]));

    // Two requests at the same moment, for the same number. The gets of one request still share its load.
    let (north, south) = (documents_for("north", &database)?, documents_for("south", &database)?);
    let (for_north, for_south) = tokio::join!(north.find_many([1, 1, 2]), south.find_many([1, 1, 2]));
    assert_eq!(for_north?, [Some("north's plan"), Some("north's plan"), None]); // south's map is no answer for north
    assert_eq!(for_south?, [Some("south's plan"), Some("south's plan"), Some("a map")]);
    println!("a batcher for each request: {} + {} loads", north.stats().loads, south.stats().loads);
    assert_eq!((north.stats().loads, south.stats().loads), (1, 1));

    let documents = Batcher::builder().load_with(database, load)?;
    let (for_north, for_south) = tokio::join!(
        documents.get(DocumentKey { tenant: "north", id: 1 }),
        documents.get(DocumentKey { tenant: "south", id: 1 }),
    );
    assert_eq!((for_north?, for_south?), ("north's plan", "south's plan"));
    println!("the tenant in the key:      {} load", documents.stats().loads);
    assert_eq!((documents.stats().loads, documents.stats().keys_sent, documents.stats().joins), (1, 2, 0));

    // What is wrong: one batcher for all with only the id as its key. Whoever asks second would join the first one's
    // get.
    Ok(())
}
