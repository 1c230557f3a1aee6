//! Bad keys that are remembered (`status.remember`), under a clock that stands still.

use std::time::Duration;

use futures::future::join_all;
use multiget::{
    Batcher, MemoryStore,
    http::{FatalConfig, HttpErrorKind, NoValues, Single, StatusConfig},
};
use serde_json::json;

use super::{Json, Memory, Setup, against, found, json as body, of};

const MINUTE: Duration = Duration::from_secs(60);

/// Fails as a whole if a bad id is among those it is asked for.
fn touchy(status: u16) -> Memory {
    Memory::new(move |ids, _| {
        if ids.iter().any(|id| id.starts_with("bad")) {
            body(status, json!({ "error": "some id is bad" }))
        } else {
            found(ids)
        }
    })
}

fn remembers(memory: &Memory, single: Single) -> Setup {
    let mut status = StatusConfig::default();
    (status.bisect, status.single_404, status.remember) = (vec![400, 404], single, MINUTE);
    against(memory).max_keys(100).status(status)
}

fn with_store(setup: Setup) -> Json {
    let loader = setup.build().unwrap();
    Batcher::builder().store(loader.store(NoValues)).build(loader).unwrap()
}

/// Nine good ones and a bad one.
fn mixed() -> impl Iterator<Item = String> {
    (0..9).map(|id| format!("good{id}")).chain(["bad".to_owned()])
}

#[tokio::test(start_paused = true)]
async fn a_key_that_isolation_found_bad_is_not_asked_again_until_its_time_is_over() {
    for (single, status) in [(Single::Missing, 404), (Single::Error, 400)] {
        let memory = touchy(status);
        let json = with_store(remembers(&memory, single));
        let bad = |result| match single {
            Single::Missing => assert!(matches!(result, Ok(None))),
            _ => assert_eq!(of(result).status(), Some(status)),
        };
        let found = join_all(mixed().map(|id| json.find(id))).await;
        assert!(found[..9].iter().all(|found| matches!(found, Ok(Some(_)))), "the others are innocent");
        bad(found.into_iter().next_back().unwrap());
        let isolated = memory.asked().len();
        assert!(isolated > 3, "{isolated}");

        bad(json.find("bad".into()).await);
        assert_eq!(memory.asked().len(), isolated, "nothing is sent");
        // and it harms nobody any more
        let found = join_all(mixed().map(|id| json.find(id))).await;
        assert!(found[..9].iter().all(Result::is_ok));
        assert_eq!(memory.asked().len(), isolated + 1, "one request for the nine, whose values are not kept");
        assert_eq!(memory.asked()[isolated].ids.len(), 9);

        tokio::time::sleep(MINUTE).await;
        bad(json.find("bad".into()).await);
        assert_eq!(memory.asked().len(), isolated + 2, "after its time it is asked again");
        bad(json.find("bad".into()).await);
        assert_eq!(memory.asked().len(), isolated + 2, "and remembered again");
        json.invalidate(&"bad".into());
        bad(json.find("bad".into()).await);
        assert_eq!(memory.asked().len(), isolated + 3, "unless it is invalidated");
        json.invalidate_all();
        bad(json.find("bad".into()).await);
        assert_eq!(memory.asked().len(), isolated + 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_culprit_that_the_answer_names_is_remembered() {
    let memory = Memory::new(|ids, _| match ids.iter().find(|id| id.starts_with("bad")) {
        Some(bad) => body(400, json!({ "error": { "id": bad } })),
        None => found(ids),
    });
    let mut rule = FatalConfig::default();
    rule.when.exists = Some("/error/id".into());
    (rule.class, rule.key) = (multiget::http::Class::Culprit, vec!["/error/id".into()]);
    let json = with_store(remembers(&memory, Single::Error).fatal(rule));
    let results = join_all(mixed().map(|id| json.find(id))).await;
    assert!(results[..9].iter().all(Result::is_ok) && results[9].is_err());
    let asked = memory.asked().len();
    assert_eq!(of(json.find("bad".into()).await).kind(), HttpErrorKind::Item);
    assert_eq!(memory.asked().len(), asked);
}

/// What is no fault of the key is not remembered, and neither is what is ordinary.
#[tokio::test(start_paused = true)]
async fn what_fails_for_all_or_is_only_missing_is_asked_again() {
    let memory = Memory::new(|ids, number| match number {
        0 | 1 => body(403, "{}"),
        _ => found(&ids[1..]), // the first is not there
    });
    let json = with_store(remembers(&memory, Single::Missing));
    for expected in 1..3 {
        assert!(json.find("one".into()).await.is_err());
        assert_eq!(memory.asked().len(), expected);
    }
    for expected in 3..5 {
        assert!(matches!(json.find("one".into()).await, Ok(None)));
        assert_eq!(memory.asked().len(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn values_are_the_other_stores_and_a_key_that_becomes_good_is_one_of_them() {
    let memory = Memory::new(|ids, number| if number == 0 { body(404, "{}") } else { found(ids) });
    let loader = remembers(&memory, Single::Missing).build().unwrap();
    let json = Batcher::builder().store(loader.store(MemoryStore::new(100))).build(loader).unwrap();
    assert!(matches!(json.find("1".into()).await, Ok(None)));
    json.invalidate(&"1".into());
    for _ in 0..3 {
        assert!(matches!(json.find("1".into()).await, Ok(Some(_))));
    }
    assert_eq!(memory.asked().len(), 2);
    assert_eq!(json.stats().store_hits, 2);
}

#[tokio::test(start_paused = true)]
async fn at_most_ten_thousand_are_remembered_and_the_oldest_leave_first() {
    let memory = touchy(404);
    let json = with_store(remembers(&memory, Single::Missing).max_keys(1));
    for from in (0..10_001).step_by(500) {
        let ids = (from..(from + 500).min(10_001)).map(|id| format!("bad{id}"));
        assert!(json.find_many(ids).await.unwrap().iter().all(Option::is_none));
    }
    assert_eq!(memory.asked().len(), 10_001);
    assert!(matches!(json.find("bad1".into()).await, Ok(None)));
    assert_eq!(memory.asked().len(), 10_001, "the second is still known");
    assert!(matches!(json.find("bad0".into()).await, Ok(None)));
    assert_eq!(memory.asked().len(), 10_002, "the first is not");
}

#[tokio::test(start_paused = true)]
async fn check_says_that_it_needs_a_store() {
    let memory = touchy(404);
    let loader = remembers(&memory, Single::Missing).build().unwrap();
    let warns = || loader.check().warnings().iter().any(|warning| warning.contains("`status.remember` needs a store"));
    assert!(warns());
    let store = loader.store(NoValues);
    assert!(!warns());
    assert_eq!(format!("{store:?}"), "Remembering { for: 60s, .. }");
    let plain = against(&memory).build().unwrap();
    assert!(!plain.check().to_string().contains("remember"));
    // without a store nothing is remembered, and nothing is kept
    let json = super::build(remembers(&memory, Single::Missing));
    for expected in 1..3 {
        assert!(matches!(json.find("bad".into()).await, Ok(None)));
        assert_eq!(memory.asked().len(), expected);
    }
}
