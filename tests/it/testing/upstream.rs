//! Faults of the simulated upstream.

use std::time::Duration;

use multiget::{
    Answers, AnyError, Batcher,
    testing::{Limit, NOON, Simulated, Speech, Upstream},
};
use tokio::time::Instant;

use crate::kit::ms;

#[test]
fn values_missing_ids_and_those_left_over() {
    let mut upstream = Upstream::new(1).missing([2]).answers_at_most(3).max_keys(5);
    let reply = upstream.call(&["1", "2", "3", "4", "5"], ms(0));
    let value = |id: &str| (id.to_owned(), format!("value of {id}"));
    assert_eq!(reply.values().unwrap(), [value("1"), value("3")]);
    assert_eq!(reply.unprocessed(), ["4", "5"]);
    assert_eq!(upstream.call(&["1"; 6], ms(0)).status(), 413);
    let books = upstream.books();
    assert_eq!((books.calls, books.ids, books.answered, books.failed, books.sizes), (2, 11, 3, 1, vec![5, 6]));
}

#[test]
fn a_poison_id_fails_its_call_and_is_named_if_asked() {
    let mut silent = Upstream::new(1).poison(["13"]);
    assert_eq!(silent.call(&["12", "13"], ms(0)).status(), 400);
    assert_eq!(silent.call(&["12"], ms(0)).status(), 200);
    assert!(!String::from_utf8_lossy(silent.call(&["13"], ms(0)).body()).contains("13"));
    let mut naming = Upstream::new(1).poison(["13"]).names_culprit();
    assert_eq!(naming.call(&["12", "13"], ms(0)).body(), br#"{"error":{"id":"13"}}"#);
}

#[test]
fn an_outage_begins_and_ends() {
    let mut upstream = Upstream::new(1).outage(ms(100), ms(200)).outage(ms(300), ms(301));
    let mut status = |at| upstream.call(&["1"], ms(at)).status();
    assert_eq!([99, 100, 199, 200, 300, 301].map(&mut status), [200, 503, 503, 200, 503, 200]);
}

#[test]
fn cut_bodies_are_shorter_than_they_say_and_not_read() {
    let mut upstream = Upstream::new(7).cut_bodies(0.5);
    let mut cut = 0;
    for _ in 0..1000 {
        let reply = upstream.call(&["1", "2"], ms(0));
        let says: usize = reply.header("content-length").unwrap().parse().unwrap();
        assert_eq!(reply.values().is_none(), reply.body().len() < says);
        cut += usize::from(reply.values().is_none());
    }
    assert!((450..550).contains(&cut), "{cut}");
    assert_eq!(upstream.books().cut, cut);
}

#[test]
fn a_clock_may_be_wrong() {
    let date = |upstream: Upstream| upstream.clone().call(&["1"], ms(1500)).header("date").unwrap().to_owned();
    assert_eq!(date(Upstream::new(1)), "Fri, 20 Nov 2026 12:00:01 GMT");
    assert_eq!(date(Upstream::new(1).clock_ahead(ms(3_600_000))), "Fri, 20 Nov 2026 13:00:01 GMT");
    assert_eq!(date(Upstream::new(1).clock_behind(ms(2000))), "Fri, 20 Nov 2026 11:59:59 GMT");
    assert_eq!(date(Upstream::new(1).clock_behind(Duration::MAX)), "Thu, 01 Jan 1970 00:00:00 GMT");
    assert!(!date(Upstream::new(1).clock_ahead(Duration::MAX)).is_empty());
}

#[test]
fn p18_same_seed_same_replies() {
    let story = |seed| {
        let limit = Limit::sliding(3, ms(500)).unwrap();
        let mut upstream = Upstream::new(seed).limit(limit).cut_bodies(0.3).latency(ms(5), ms(50));
        (0..200_u64)
            .map(|at| {
                let reply = upstream.call(&["1"], ms(at * 40));
                (reply.latency(), reply)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(story(3), story(3));
    assert_ne!(story(3), story(4));
    assert!(story(3).iter().all(|(latency, _)| (ms(5)..=ms(55)).contains(latency)));
}

#[test]
fn p20_an_unknown_speech_is_an_error() {
    let error = "githup".parse::<Speech>().unwrap_err();
    assert_eq!(error.to_string(), "`speech` cannot be \"githup\": one of `Speech::names()` is accepted");
    for name in Speech::names() {
        assert_eq!(name.parse::<Speech>().unwrap().name(), name);
    }
    assert_eq!(Speech::default().name(), "retry_after");
}

/// The network takes time by tokio's clock, and a request that is dropped has been sent.
#[tokio::test(start_paused = true)]
async fn the_network_takes_as_long_as_it_says() {
    let upstream = Simulated::new(Upstream::new(1).latency(ms(80), ms(0)));
    let begin = Instant::now();
    assert_eq!(upstream.request(&["1"]).await.status(), 200);
    assert_eq!((begin.elapsed(), upstream.wall_clock()), (ms(80), NOON + ms(80)));
    let dropped = tokio::time::timeout(ms(10), upstream.request(&["2"])).await;
    assert!(dropped.is_err());
    assert_eq!((upstream.books().calls, upstream.books().arrivals), (2, vec![ms(0), ms(80)]));
}

/// One bad id in a hundred, and an upstream that does not say which: the price of finding it.
#[tokio::test(start_paused = true)]
async fn p02_isolation_finds_the_poison_id_of_a_simulated_upstream() {
    let upstream = Simulated::new(Upstream::new(1).poison([37]).latency(ms(20), ms(0)));
    let load = async |upstream: Simulated, ids: Vec<u32>| {
        let texts: Vec<String> = ids.iter().map(u32::to_string).collect();
        let reply = upstream.request(&texts).await;
        let values = reply.values().ok_or_else(|| format!("status {}", reply.status()))?;
        Ok::<_, AnyError>(values.into_iter().map(|(id, value)| (id.parse().unwrap(), value)).collect::<Answers<_, _>>())
    };
    let batcher: Batcher<u32, String> =
        Batcher::builder().isolate_failures(true).load_with(upstream.clone(), load).unwrap();
    let results = batcher.get_each(0..100).await;
    let bad: Vec<_> = (0..100).filter(|id| results[*id].is_err()).collect();
    assert_eq!(bad, [37]);
    assert!(upstream.books().calls <= 15, "{:?}", upstream.books().sizes);
}
