//! The main job: a thousand calls become eighteen, and `get_metadata(id)` keeps its signature.
//!
//! A server that answers up to 50 ids a call allows 200 calls per second. The same ids are asked for one by one, all in
//! parallel, and batched, and a table says what each way put on the wire.
//!
//! ```text
//! cargo run --release --example metadata
//! seq 1 500 | cargo run --release --example metadata
//! cargo run --release --example metadata -- --url http://localhost:8080 1 2 3
//! ```

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    error::Error,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, IsTerminal, Write},
    iter::successors,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing,
};
use futures::{FutureExt, StreamExt, stream};
use multiget::{Answers, Batcher, Builder, ConfigError, Dispatch};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Metadata {
    title: String,
    pages: u32,
}

// ---- Before and after: one function, one signature. -----------------------------------------------------------------

/// The function as it always was: one id, one call.
struct PerId {
    api: Arc<Api>,
}

impl PerId {
    async fn get_metadata(&self, id: u64) -> Result<Metadata, GetError> {
        self.api.call(&[id]).await?.remove(&id).ok_or(GetError::Missing)
    }
}

/// The same function over a batcher: one id, a share of a call.
struct Batched {
    metadata: Batcher<u64, Metadata, ApiError>,
}

impl Batched {
    fn new(api: Arc<Api>, settings: Builder<u64, Metadata, ApiError>) -> Result<Self, ConfigError> {
        let metadata = settings.load_with(api, async |api, ids| Ok(Answers::from(api.call(&ids).await?)))?;
        Ok(Self { metadata })
    }

    async fn get_metadata(&self, id: u64) -> Result<Metadata, GetError> {
        Ok(self.metadata.get(id).await?)
    }
}

/// What the function can end with when there is no metadata; batching adds nothing that its callers would have to
/// learn.
#[derive(Debug, thiserror::Error)]
enum GetError {
    #[error("no such id")]
    Missing,
    #[error("the API gave no answer")]
    Api(#[source] Box<dyn Error + Send + Sync>),
    #[error("no answer in the time this way was given (see --patience)")]
    OutOfTime,
}

impl From<ApiError> for GetError {
    fn from(error: ApiError) -> Self {
        Self::Api(error.into())
    }
}

impl From<multiget::Error<ApiError>> for GetError {
    fn from(error: multiget::Error<ApiError>) -> Self {
        if error.is_not_found() { Self::Missing } else { Self::Api(error.into()) }
    }
}

// ---- The comparison. ------------------------------------------------------------------------------------------------

const MAX_IDS: usize = 50;
const WINDOW: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);
type Answer = Result<Metadata, GetError>;

/// All ways are asked by this code. Whoever is not answered in time has failed, so that a server that hangs ends too.
async fn ask_all<F, Get>(ids: &[u64], at_once: usize, patience: Duration, get_metadata: F) -> Vec<Answer>
where
    F: Fn(u64) -> Get + Send + Sync,
    Get: Future<Output = Answer> + Send,
{
    let gets = ids.iter().enumerate().map(|(place, &id)| get_metadata(id).map(move |answer| (place, answer)));
    let in_time = stream::iter(gets).buffer_unordered(at_once).take_until(sleep(patience));
    let mut answers: HashMap<usize, Answer> = in_time.collect().await;
    (0..ids.len()).map(|place| answers.remove(&place).unwrap_or(Err(GetError::OutOfTime))).collect()
}

/// On one thread, asking for all ids is one step that no answer can interrupt: the counts are the same in every run.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let (code, complaint) = match Options::from_words(words).await {
        Ok(Some(options)) => match compare(&options).await {
            Ok(true) => return ExitCode::SUCCESS,
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => (1, error.to_string()),
        },
        Ok(None) => {
            writeln!(io::stdout(), "{USAGE}").ok();
            return ExitCode::SUCCESS;
        }
        Err(problem) => (2, format!("{problem}\n\n{USAGE}")),
    };
    writeln!(io::stderr(), "metadata: {complaint}").ok();
    ExitCode::from(code)
}

/// Whether all ways gave equal results, and none failed.
async fn compare(Options { url, patience, ids }: &Options) -> Result<bool, Box<dyn Error>> {
    // The classic question: at most 50 ids a call, and a call no later than 10 s after its first id. Full batches
    // leave at once. A last one that is not full waits out its window, here as in life, because more ids might still
    // come; who knows that none will calls `flush`.
    let classic = Batcher::builder().max_batch(MAX_IDS).window(WINDOW);
    // The defaults gather what is asked for at the same time, 100 keys a batch; but the server takes no more than 50.
    let default = Batcher::builder().max_batch(MAX_IDS);

    let distinct = ids.iter().collect::<HashSet<_>>().len();
    let mut out = io::stdout();
    writeln!(out, "ids: {}, of which {distinct} are distinct; the server takes at most {MAX_IDS} a call\n", ids.len())?;
    writeln!(out, "settings              max_batch  a batch leaves")?;
    writeln!(out, "the classic question  {MAX_IDS:>9}  when full, else {WINDOW:?} after its first id")?;
    writeln!(out, "the defaults          {:>9}  when full, else by {:?}\n", 100, Dispatch::default())?;
    writeln!(out, "{HEADER}")?;

    let url = match url {
        Some(url) => url.clone(),
        None => serve().await?,
    };
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .redirect(reqwest::redirect::Policy::none()) // a call that was sent elsewhere would be two
        .no_proxy() // straight to the server, whose calls we count
        .build()?;
    let connect = |jitter| Arc::new(Api::new(http.clone(), url.clone(), jitter));
    let patience = |usual| patience.unwrap_or(Duration::from_secs(usual));
    let all = ids.len(); // at once
    let mut runs: Vec<Run> = Vec::new();

    let api = connect(1);
    let client = PerId { api: Arc::clone(&api) };
    let asked = ask_all(ids, 1, patience(13), |id| client.get_metadata(id));
    Run::of("one by one", &api, asked).await.report(&mut runs, &mut out)?;

    sleep(PAUSE).await; // so that no way begins with what the one before left of the quota
    let api = connect(1_000); // those who were refused together must not all come back together
    let client = PerId { api: Arc::clone(&api) };
    let asked = ask_all(ids, all, patience(13), |id| client.get_metadata(id));
    Run::of("parallel per id", &api, asked).await.report(&mut runs, &mut out)?;

    for (name, settings, usual) in [("batched, 10 s window", classic, 12), ("batched, adaptive", default, 3)] {
        sleep(PAUSE).await;
        let api = connect(1);
        let client = Batched::new(Arc::clone(&api), settings)?;
        let asked = ask_all(ids, all, patience(usual), |id| client.get_metadata(id));
        Run::of(name, &api, asked).await.report(&mut runs, &mut out)?;
    }
    writeln!(out)?;
    if distinct % MAX_IDS != 0 {
        writeln!(out, "(the last batch was not full: in its window it waited for more; `flush` would have sent it)\n")?;
    }
    let enough = distinct.div_ceil(MAX_IDS) as u64;
    let wasteful = runs.iter().skip(2).find(|run| run.calls - run.refused > enough);
    if let Some(Run { name, calls, refused, .. }) = wasteful {
        writeln!(out, "{name}: {calls} calls, of which {refused} were refused, where {enough} are enough")?;
    }
    Ok(verdict(ids, &runs, &mut out)? && wasteful.is_none())
}

// ---- The call. ------------------------------------------------------------------------------------------------------

/// One HTTP call, whoever asks: counted, and repeated politely when the server says "too many".
struct Api {
    http: reqwest::Client,
    url: Url,
    /// At most so many calls at once, because each is a socket at either end.
    lanes: Semaphore,
    /// Milliseconds over which repeated calls are spread.
    jitter: u64,
    calls: AtomicU64,
    carried: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, thiserror::Error)]
enum ApiError {
    #[error("the call did not come through")]
    Wire(#[source] reqwest::Error),
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error("the server's answer cannot be read")]
    Body(#[source] reqwest::Error),
}

#[derive(Serialize, Deserialize)]
struct Reply {
    results: HashMap<u64, Metadata>,
}

impl Api {
    fn new(http: reqwest::Client, mut url: Url, jitter: u64) -> Self {
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "metadata"]);
        }
        let (calls, carried, refused) = Default::default();
        Self { http, url, lanes: Semaphore::new(64), jitter, calls, carried, refused }
    }

    async fn call(&self, ids: &[u64]) -> Result<HashMap<u64, Metadata>, ApiError> {
        let query: Vec<_> = ids.iter().map(|id| ("id", id)).collect();
        let mut attempt = 0_u64;
        loop {
            let lane = self.lanes.acquire().await;
            self.calls.fetch_add(1, Relaxed);
            self.carried.fetch_add(ids.len() as u64, Relaxed);
            let request = self.http.get(self.url.clone()).query(&query);
            let response = request.send().await.map_err(|error| ApiError::Wire(error.without_url()))?;
            match response.status() {
                StatusCode::OK => {
                    let Reply { results } =
                        response.json().await.map_err(|error| ApiError::Body(error.without_url()))?;
                    return Ok(results);
                }
                StatusCode::TOO_MANY_REQUESTS => {
                    self.refused.fetch_add(1, Relaxed);
                    drop(lane);
                    let wait = response.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
                    let mut jitter = DefaultHasher::new(); // from the ids, so that every run is alike
                    (ids, attempt).hash(&mut jitter);
                    let jitter = Duration::from_millis(jitter.finish() % self.jitter);
                    sleep(Duration::from_secs(wait.unwrap_or(1).clamp(1, 86_400)) + jitter).await;
                    attempt += 1;
                }
                status => return Err(ApiError::Status(status)),
            }
        }
    }
}

// ---- The server. ----------------------------------------------------------------------------------------------------

/// 200 calls per second, and 100 at once by who was quiet before.
struct Bucket {
    tokens: f64,
    filled: Instant,
}

const RATE: f64 = 200.0;
const BURST: f64 = 100.0;
const KNOWN: std::ops::RangeInclusive<u64> = 1..=100_000;

async fn serve() -> Result<Url, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = Url::parse(&format!("http://{}", listener.local_addr()?))?;
    let bucket = Arc::new(Mutex::new(Bucket { tokens: BURST, filled: Instant::now() }));
    let app = Router::new().route("/api/metadata", routing::get(answer)).with_state(bucket);
    tokio::spawn(async { axum::serve(listener, app).await });
    Ok(url)
}

async fn answer(State(bucket): State<Arc<Mutex<Bucket>>>, RawQuery(query): RawQuery) -> Response {
    {
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        bucket.tokens = BURST.min(bucket.tokens + RATE * (now - bucket.filled).as_secs_f64());
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            let wait = ((1.0 - bucket.tokens) / RATE).ceil(); // whole seconds
            return (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, wait.to_string())]).into_response();
        }
        bucket.tokens -= 1.0;
    }
    let query = query.unwrap_or_default();
    let ids = query.split('&').map(|pair| pair.strip_prefix("id=")?.parse().ok()).collect::<Option<Vec<u64>>>();
    let Some(ids) = ids.filter(|ids| ids.len() <= MAX_IDS) else {
        return (StatusCode::BAD_REQUEST, format!("id=1&id=2 and so on is accepted, {MAX_IDS} at most"))
            .into_response();
    };
    let record = |id| Metadata { title: format!("Document {id}"), pages: 1 + u32::try_from(id % 500).unwrap_or(0) };
    let results = ids.into_iter().filter(|id| KNOWN.contains(id)).map(|id| (id, record(id))).collect();
    Json(Reply { results }).into_response()
}

// ---- What people give. ----------------------------------------------------------------------------------------------

const USAGE: &str = "\
usage: metadata [--url URL] [--patience SECONDS] [--help] [ID ...]

Asks for the metadata of every ID one by one, in parallel per id, and batched, and compares what it took. Without IDs
they are read from standard input; if nothing is piped in, 1,000 are made up.

  --url URL           do not start a server, ask this one; it must answer GET URL/api/metadata?id=1&id=2
                      with {\"results\": {\"1\": {\"title\": \"...\", \"pages\": 10}, ...}}
  --patience SECONDS  give each way so long; by default 13, 13, 12 and 3, which makes less than 45 with the pauses
  --help              print this";

#[derive(Default)]
struct Options {
    url: Option<Url>,
    patience: Option<Duration>,
    ids: Vec<u64>,
}

impl Options {
    /// `None` for `--help`.
    async fn from_words(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            let (flag, joined) = word.split_once('=').map_or((&*word, None), |(flag, value)| (flag, Some(value)));
            let mut given = || joined.map(str::to_owned).or_else(|| words.next());
            match flag {
                "--help" | "-h" => return Ok(None),
                "--url" => options.url = Some(value(flag, given(), "an address like http://localhost:8080", http)?),
                "--patience" => options.patience = Some(value(flag, given(), "1 to 86400, in seconds,", seconds)?),
                flag if flag.starts_with('-') => {
                    return Err(format!("there is no {flag:?}: --url, --patience, --help and ids are accepted"));
                }
                _ => options.ids.push(id(&word)?),
            }
        }
        if options.ids.is_empty() {
            options.ids = piped().await?.split_whitespace().map(id).collect::<Result<_, _>>()?;
        }
        if options.ids.is_empty() {
            options.ids = made_up();
        }
        Ok(Some(options))
    }
}

fn value<T>(flag: &str, given: Option<String>, accepted: &str, read: fn(&str) -> Option<T>) -> Result<T, String> {
    let given = given.ok_or_else(|| format!("{flag} lacks its value: {accepted} is accepted"))?;
    read(&given).ok_or_else(|| format!("{flag} cannot be {given:?}: {accepted} is accepted"))
}

fn http(word: &str) -> Option<Url> {
    Url::parse(word).ok().filter(|url| url.scheme() == "http")
}

fn seconds(word: &str) -> Option<Duration> {
    word.parse().ok().filter(|seconds| (1..=86_400).contains(seconds)).map(Duration::from_secs)
}

fn id(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("{word:?} is no id: a whole number from 0 to {} is accepted", u64::MAX))
}

async fn piped() -> Result<String, String> {
    if io::stdin().is_terminal() {
        return Ok(String::new());
    }
    let (done, read) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || done.send(io::read_to_string(io::stdin()))); // a thread, because the program may end first
    match timeout(Duration::from_secs(5), read).await {
        Ok(Ok(read)) => read.map_err(|error| format!("standard input: {error}")),
        Ok(Err(_)) => Err("standard input: its reader is gone".to_owned()),
        Err(_) => {
            writeln!(io::stderr(), "metadata: standard input has not ended after 5 s, so the made-up ids are used")
                .ok();
            Ok(String::new())
        }
    }
}

/// 1,000 ids in no particular order: 900 distinct ones, five of them unknown to the server, and every ninth twice.
fn made_up() -> Vec<u64> {
    let distinct = |n: u64| if n < 895 { n + 1 } else { n + 1_000_000 };
    (0..1_000).map(|n| n * 389 % 1_000).map(|n| distinct(if n < 900 { n } else { (n - 900) * 9 })).collect()
}

// ---- What people see. -----------------------------------------------------------------------------------------------

const HEADER: &str = "\
way                    calls  ids/call  refused    found  missing   failed       time   ratio";

/// One way, measured.
struct Run {
    name: &'static str,
    answers: Vec<Answer>,
    time: Duration,
    calls: u64,
    carried: u64,
    refused: u64,
}

impl Run {
    async fn of(name: &'static str, api: &Api, asked: impl Future<Output = Vec<Answer>>) -> Self {
        let began = Instant::now();
        let (answers, time) = (asked.await, began.elapsed());
        let [calls, carried, refused] = [&api.calls, &api.carried, &api.refused].map(|count| count.load(Relaxed));
        Self { name, answers, time, calls, carried, refused }
    }

    /// Prints its row, and takes its place among the others; the first is what they are compared with.
    fn report(self, runs: &mut Vec<Self>, out: &mut impl Write) -> io::Result<()> {
        let count = |is: fn(&Answer) -> bool| self.answers.iter().filter(|answer| is(answer)).count();
        let found = count(Result::is_ok);
        let missing = count(|answer| matches!(answer, Err(GetError::Missing)));
        let failed = self.answers.len() - found - missing;
        let first = runs.first().unwrap_or(&self).calls;
        let (per_call, ratio) = (mean(self.carried, self.calls), mean(first, self.calls));
        let Self { name, calls, refused, time, .. } = &self;
        writeln!(
            out,
            "{name:<20} {calls:>7} {per_call:>9.1} {refused:>8} {found:>8} {missing:>8} {failed:>8} {:>8.3} s {ratio:>7.1}",
            time.as_secs_f64()
        )?;
        runs.push(self);
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts, for people")]
fn mean(sum: u64, count: u64) -> f64 {
    sum as f64 / count.max(1) as f64
}

/// Tells what failed and what differs. Whether nothing did.
fn verdict(ids: &[u64], runs: &[Run], out: &mut impl Write) -> io::Result<bool> {
    let mut fine = true;
    for Run { name, answers, .. } in runs {
        let mut reasons = BTreeMap::<String, usize>::new();
        let mut first = None;
        for (id, answer) in ids.iter().zip(answers) {
            let Err(error @ (GetError::Api(_) | GetError::OutOfTime)) = answer else { continue };
            let reason = chain(error).find(|cause| cause.is::<ApiError>()).or(error.source()).unwrap_or(error);
            *reasons.entry(reason.to_string()).or_default() += 1;
            first.get_or_insert((id, error));
        }
        for (reason, count) in reasons {
            writeln!(out, "{name}: {count} of {} ids failed: {reason}", ids.len())?;
        }
        if let Some((id, error)) = first {
            writeln!(out, "  the first of them, id {id}: {error}")?;
            for cause in chain(error).skip(1) {
                writeln!(out, "    because: {cause}")?;
            }
            fine = false;
        }
    }
    let Some((first, others)) = runs.split_first() else { return Ok(false) };
    for other in others {
        let pairs = ids.iter().zip(first.answers.iter().zip(&other.answers));
        let differing: Vec<_> = pairs.filter(|(_, (one, other))| said(one) != said(other)).map(|(id, _)| id).collect();
        if let Some(id) = differing.first() {
            writeln!(out, "{} and {} differ in {} ids; the first is {id}", first.name, other.name, differing.len())?;
            fine = false;
        }
    }
    if fine {
        writeln!(out, "all {} ways gave equal results", runs.len())?;
    }
    Ok(fine)
}

/// The metadata, or whether the id is known to have none: two failures are alike, whatever the reason.
fn said(answer: &Answer) -> Result<&Metadata, bool> {
    answer.as_ref().map_err(|error| matches!(error, GetError::Missing))
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| error.source())
}
