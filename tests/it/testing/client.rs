//! A client that listens, against the simulated upstream: the rows that other libraries get wrong.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::join_all;
use multiget::{
    Answers, AnyError, Batcher, Dispatch, Error, Gate, Loader, Permit, Refused, Retry, Verdict, Want, async_trait,
    hints::{Hint, Resolver, Response},
    testing::{Limit, Scripted, Simulated, Speech, Upstream},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::kit::ms;

/// Shut until an instant; the later of two wins.
struct Pause(watch::Sender<Instant>);

#[async_trait]
impl Gate for Pause {
    async fn pass(&self, _: &Want) -> Result<Permit, Refused> {
        let mut until = self.0.subscribe();
        loop {
            let now = *until.borrow_and_update();
            if now <= Instant::now() {
                return Ok(Permit::all());
            }
            tokio::select! {
                () = sleep_until(now) => {}
                changed = until.changed() => changed.map_err(|_| Refused::new(Duration::MAX))?,
            }
        }
    }
}

/// What a loader over HTTP does, without HTTP.
#[derive(Clone)]
struct Client {
    upstream: Simulated,
    resolver: Resolver,
    pause: Arc<Pause>,
    retry: Retry,
}

#[derive(Debug)]
struct Failed(u16, Hint);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.0)
    }
}

impl std::error::Error for Failed {}

impl Client {
    fn new(upstream: &Simulated, speech: &str) -> Self {
        let dialect = speech.parse::<Speech>().unwrap().read_as().parse().unwrap();
        let pause = Arc::new(Pause(watch::channel(Instant::now()).0));
        Self { upstream: upstream.clone(), resolver: Resolver::new(dialect), pause, retry: Retry::new(8).seed(1) }
    }
}

#[async_trait]
impl Loader for Client {
    type Key = u32;
    type Value = String;
    type Error = Failed;

    async fn load(&self, ids: Vec<u32>) -> Result<Answers<u32, String, Failed>, Failed> {
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        let reply = self.upstream.request(&ids).await;
        let response =
            Response::new(reply.status(), self.upstream.wall_clock()).headers(reply.headers()).body(reply.body());
        let hint = self.resolver.read(&response).hint;
        if let Some(pause) = hint.pause() {
            let until = Instant::now() + pause;
            self.pause.0.send_modify(|now| *now = (*now).max(until));
        }
        let values = reply.values().ok_or(Failed(reply.status(), hint))?;
        Ok(values.into_iter().map(|(id, value)| (id.parse().unwrap(), value)).collect())
    }

    fn gate(&self) -> Option<Arc<dyn Gate>> {
        Some(self.pause.clone())
    }

    fn verdict(&self, error: &Failed) -> Verdict {
        match error.1 {
            Hint::Wait(_) | Hint::Backoff => Verdict::Again,
            _ => Verdict::Final,
        }
    }

    fn retry(&self) -> Option<Retry> {
        Some(self.retry.clone())
    }
}

fn simulated(limit: Limit, speech: &str) -> Simulated {
    Simulated::new(Upstream::new(1).limit(limit).speech(speech.parse().unwrap()).latency(ms(20), ms(10)))
}

/// UA7: a client that listens goes too far at most once a window and loses nothing, whatever the upstream speaks; if
/// that says in time that there is no more, never.
#[tokio::test(start_paused = true)]
async fn ua07_what_the_upstream_says_closes_the_loop() {
    for (speech, goes_too_far) in [
        ("retry_after", true),
        ("retry_after_date", true),
        ("ietf", false),
        ("gitlab", false),
        ("discord", false),
        ("anthropic", false),
    ] {
        let upstream = simulated(Limit::sliding(5, Duration::from_secs(10)).unwrap(), speech);
        let batcher: Batcher<u32, String, Failed> =
            Batcher::builder().max_batch(10).max_in_flight(1).build(Client::new(&upstream, speech)).unwrap();
        let begin = Instant::now();
        let values = batcher.get_many(0..300).await.unwrap(); // 30 calls, at 5 in 10 s
        assert_eq!((values.len(), &*values[299]), (300, "value of 299"));
        let (books, took) = (upstream.books(), begin.elapsed());
        assert_eq!(books.calls - books.refused, 30, "{speech}");
        let most = if goes_too_far { 5 } else { 0 };
        assert_eq!(books.refused, most, "{speech}: {took:?}");
        assert!((50..64).contains(&took.as_secs()), "{speech}: {took:?}");
    }
}

/// UB5: a hint of 5 s on a reply that took 5 s is counted from receipt, not from sending.
#[tokio::test(start_paused = true)]
async fn ub05_a_hint_is_counted_from_receipt() {
    let upstream = Upstream::new(1).limit(Limit::sliding(1, ms(5000)).unwrap()).latency(ms(5000), ms(0));
    let upstream = Simulated::new(upstream);
    let batcher: Batcher<u32, String, Failed> =
        Batcher::builder().max_batch(1).build(Client::new(&upstream, "retry_after")).unwrap();
    assert!(join_all([batcher.get(1), batcher.get(2)]).await.iter().all(Result::is_ok));
    let books = upstream.books();
    assert_eq!((books.arrivals[0], books.arrivals[1], books.refused), (ms(0), ms(0), 1));
    assert!(books.arrivals[2] >= ms(10_000), "{:?}", books.arrivals);
}

/// UB3, UB7: without a word from the upstream, waits do not become shorter until it succeeds: the mean over many seeds.
#[tokio::test(start_paused = true)]
async fn ub03_ub07_expected_waits_do_not_become_shorter() {
    const SEEDS: u32 = 300;
    let mut sums = [Duration::ZERO; 7];
    for seed in 0..SEEDS {
        let upstream = Simulated::new(Upstream::new(1).outage(ms(0), Duration::MAX));
        let mut client = Client::new(&upstream, "silent");
        client.retry = Retry::new(8).backoff(ms(1000), ms(16_000)).seed(seed.into());
        let batcher: Batcher<u32, String, Failed> = Batcher::builder().build(client).unwrap();
        assert!(batcher.get(1).await.is_err());
        let arrivals = upstream.books().arrivals;
        assert_eq!(arrivals.len(), 8);
        for (sum, pair) in sums.iter_mut().zip(arrivals.windows(2)) {
            *sum += pair[1].checked_sub(pair[0]).unwrap();
            assert!(pair[1].checked_sub(pair[0]).unwrap() <= ms(16_001), "UB3: a cap, without any period");
        }
    }
    let means = sums.map(|sum| sum / SEEDS);
    println!("mean waits: {means:?}");
    assert!(means[..5].windows(2).all(|pair| pair[1] > pair[0] * 3 / 2), "{means:?}");
    assert!(means[4..].iter().all(|mean| (ms(6500)..ms(9500)).contains(mean)), "{means:?}");
}

/// UB4: what fails backs off for itself: the success of others does not reset it. The mean over many seeds doubles, as
/// if it were alone.
#[tokio::test(start_paused = true)]
async fn ub04_the_success_of_others_resets_nobodys_backoff() {
    const SEEDS: u32 = 150;
    let mut sums = [Duration::ZERO; 6];
    for seed in 0..SEEDS {
        let script = Scripted::new(|id: &u32| Some(*id));
        let load = async |script: Scripted<u32, u32>, ids: Vec<u32>| {
            let answers = script.load(ids.clone()).await?;
            if ids == [0] { Err(AnyError::from("busy")) } else { Ok(answers) }
        };
        let batcher: Batcher<u32, u32> = Batcher::builder()
            .max_batch(1)
            .retry(Retry::new(7).seed(seed.into()))
            .retry_if(|_| true)
            .load_with(script.clone(), load)
            .unwrap();
        let others = async {
            for id in 1.. {
                sleep(ms(90)).await;
                batcher.get(id).await.unwrap();
            }
        };
        tokio::select! {
            busy = batcher.get(0) => assert!(busy.is_err()),
            () = others => {}
        }
        let batches = script.batches();
        let tries: Vec<_> = batches.iter().filter(|batch| batch.keys == [0]).map(|batch| batch.at).collect();
        assert!(tries.len() == 7 && batches.len() > 7, "others succeeded meanwhile");
        for (sum, pair) in sums.iter_mut().zip(tries.windows(2)) {
            *sum += pair[1].checked_sub(pair[0]).unwrap();
        }
    }
    let means = sums.map(|sum| sum / SEEDS);
    println!("mean waits beside others that succeed: {means:?}");
    assert!(means.windows(2).all(|pair| pair[1] > pair[0] * 3 / 2), "{means:?}");
}

/// UB9: a long wait is waited for, to the millisecond, and neither reset nor cut to a period; waiting can be given up.
#[tokio::test(start_paused = true)]
async fn ub09_a_long_hint_is_waited_for_and_can_be_given_up() {
    let upstream = simulated(Limit::sliding(1, ms(123_456)).unwrap(), "retry_after_ms");
    let batcher: Batcher<u32, String, Failed> =
        Batcher::builder().build(Client::new(&upstream, "retry_after_ms")).unwrap();
    batcher.get(1).await.unwrap();
    assert!(timeout(ms(60_000), batcher.get(2)).await.is_err(), "it waits, and is given up");
    batcher.get(3).await.unwrap();
    let books = upstream.books();
    assert_eq!(books.refused, 1, "given up, and asked again in the same pause: no second refusal");
    let late = books.arrivals[2].checked_sub(ms(123_456)).unwrap();
    assert!(late <= ms(32), "{:?}: not before, and hardly after", books.arrivals);
}

/// UB10: a 503 with `Retry-After` is heard like a 429.
#[tokio::test(start_paused = true)]
async fn ub10_a_503_with_a_hint_is_heard() {
    let upstream = simulated(Limit::sliding(1, ms(30_000)).unwrap(), "retry_after_asctime");
    let batcher: Batcher<u32, String, Failed> =
        Batcher::builder().build(Client::new(&upstream, "retry_after_asctime")).unwrap();
    batcher.get(1).await.unwrap();
    batcher.get(2).await.unwrap();
    let books = upstream.books();
    assert_eq!((books.calls, books.refused), (3, 1));
    assert!((ms(30_000)..ms(31_100)).contains(&books.arrivals[2]), "{:?}", books.arrivals);
}

/// UB11: of two refusals side by side the longer pause holds for all, whichever comes first.
#[tokio::test(start_paused = true)]
async fn ub11_pauses_merge_by_the_longest() {
    for sizes in [[12, 2], [2, 12]] {
        // one id comes back every second
        let limit = Limit::leaky(20, 1.0).unwrap().price(0, 1);
        let upstream = Upstream::new(1).limit(limit).latency(ms(20), ms(0));
        let upstream = Simulated::new(upstream);
        let batcher: Batcher<u32, String, Failed> = Batcher::builder()
            .max_batch(20)
            .dispatch(Dispatch::immediate())
            .build(Client::new(&upstream, "retry_after"))
            .unwrap();
        batcher.get_many(0..20).await.unwrap();
        let second = async {
            sleep(ms(5)).await;
            batcher.get_many(200..200 + sizes[1]).await
        };
        let (first, second) = tokio::join!(batcher.get_many(100..100 + sizes[0]), second);
        assert!(first.is_ok() && second.is_ok());
        let (books, refused) = (upstream.books(), sizes.map(|size| size as usize));
        assert_eq!(
            (&books.sizes[..3], &books.arrivals[..3]),
            (&[20, refused[0], refused[1]][..], &[ms(0), ms(20), ms(25)][..])
        );
        let longest = if sizes[0] == 12 { ms(40) } else { ms(45) } + ms(12_000); // from receipt
        assert!((longest..=longest + ms(2)).contains(&books.arrivals[3]), "{sizes:?}: {:?}", books.arrivals);
        assert_eq!(books.sizes[3], 14, "what was refused apart is asked again together");
    }
}

/// UB14: an upstream that refuses for ever ends after so many attempts, and none of them comes without a wait.
#[tokio::test(start_paused = true)]
async fn ub14_every_attempt_waits_or_ends() {
    for speech in ["retry_after", "silent", "github_secondary"] {
        let limit = Limit::sliding(1, Duration::from_secs(240)).unwrap();
        let upstream = Simulated::new(Upstream::new(1).limit(limit.price(2, 0)).speech(speech.parse().unwrap()));
        let batcher: Batcher<u32, String, Failed> = Batcher::builder().build(Client::new(&upstream, speech)).unwrap();
        let error = batcher.get(1).await.unwrap_err();
        assert!(matches!(error, Error::Load(_)), "{error:?}");
        let books = upstream.books();
        assert_eq!((books.calls, books.refused), (8, 8), "{speech}");
        assert!(books.arrivals.windows(2).all(|pair| pair[1] > pair[0]), "{speech}: {:?}", books.arrivals);
    }
}

/// UB13: while a pause lasts, requests on their way go on to their end and gets go on joining.
#[tokio::test(start_paused = true)]
async fn ub13_a_pause_holds_back_sends_and_nothing_else() {
    let upstream = simulated(Limit::sliding(1, ms(10_000)).unwrap(), "ietf");
    let batcher: Batcher<u32, String, Failed> = Batcher::builder().build(Client::new(&upstream, "ietf")).unwrap();
    batcher.get(0).await.unwrap();
    let gets: Vec<_> = (1..=50)
        .map(|id| {
            let batcher = batcher.clone();
            tokio::spawn(async move {
                sleep(ms(u64::from(id) * 100)).await;
                batcher.get(id).await
            })
        })
        .collect();
    for get in gets {
        get.await.unwrap().unwrap();
    }
    let books = upstream.books();
    assert_eq!((books.sizes, books.refused), (vec![1, 50], 0), "all that came in the pause left together");
}

/// P16: a wait that is too long is told at once, and the scope stays shut.
#[tokio::test(start_paused = true)]
async fn p16_a_wait_that_is_too_long_is_told_at_once() {
    let upstream = simulated(Limit::sliding(1, Duration::from_secs(86_400)).unwrap(), "retry_after");
    let batcher: Batcher<u32, String, Failed> =
        Batcher::builder().build(Client::new(&upstream, "retry_after")).unwrap();
    batcher.get(1).await.unwrap();
    let begin = Instant::now();
    let Err(Error::Load(error)) = batcher.get(2).await else { panic!("a load that was refused") };
    assert!(matches!(error.1, Hint::TooLong { retry_after } if retry_after == Duration::from_secs(86_400)));
    assert!(begin.elapsed() <= ms(31));
}
