//! What the crate writes into spans and events: as text, against the table in the guide, and linked to callers.
//!
//! One subscriber for the whole binary, which writes for the thread that asked for it: subscribers that come and go
//! with each test would race for what the callsites remember of them.

use std::{cell::RefCell, collections::BTreeSet, fmt, fmt::Write, fs, sync::Once, time::Duration};

use futures::{StreamExt, future::join_all, stream};
use multiget::{AnyError, Batcher, Gate, Permit, Refused, Want, async_trait};
use tracing::{
    Event, Instrument, Level, Metadata, Span, Subscriber, debug_span,
    field::{Field, Visit},
    span,
};
use tracing_core::span::Current;

use crate::kit::{Log, assert_at_rest, builder, ms, poll, ten_times, tens};

thread_local! {
    static RECORD: RefCell<Option<Record>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Record {
    text: String,
    /// Every field of every span and event, as the guide has them in its table.
    declared: BTreeSet<String>,
    /// The spans by number, from 1.
    spans: Vec<&'static Metadata<'static>>,
    entered: Vec<u64>,
    /// Load and caller.
    links: Vec<(u64, u64)>,
    /// Spans that somebody took hold of.
    held: Vec<&'static str>,
}

/// Records the spans of this thread, for as long as it lives.
pub(crate) struct Spans(());

impl Spans {
    pub(crate) fn record() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| tracing::subscriber::set_global_default(Recorder).unwrap());
        RECORD.set(Some(Record::default()));
        Self(())
    }

    /// A line per span: its name, its parent and whether it is a root, then the fields.
    pub(crate) fn text(&self) -> String {
        self.read(|record| record.text.clone())
    }

    /// For each load in turn, how many callers it was linked to.
    fn links(&self) -> Vec<usize> {
        self.read(|record| {
            let loads = (1..).zip(&record.spans).filter(|(_, span)| span.name() == "load").map(|(id, _)| id);
            loads.map(|load| record.links.iter().filter(|(linked, _)| *linked == load).count()).collect()
        })
    }

    #[expect(clippy::unused_self, reason = "there is a record only while it lives")]
    fn read<R>(&self, read: impl FnOnce(&Record) -> R) -> R {
        RECORD.with_borrow(|record| read(record.as_ref().unwrap()))
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        RECORD.set(None);
    }
}

fn write<R>(write: impl FnOnce(&mut Record) -> R) -> Option<R> {
    RECORD.with_borrow_mut(|record| record.as_mut().map(write))
}

struct Recorder;

impl Visit for Recorder {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write(|record| write!(record.text, " {}={value:?}", field.name()).unwrap());
    }
}

impl Record {
    fn declare(&mut self, what: &str, metadata: &Metadata<'_>) {
        assert_eq!((metadata.target(), *metadata.level()), ("multiget", Level::DEBUG));
        let fields = metadata.fields().iter().filter(|field| field.name() != "message");
        self.declared.extend(fields.map(|field| format!("| {what} | `{}` |", field.name())));
    }

    fn is(&self, id: &span::Id, name: &str) -> bool {
        self.spans.get(id.into_u64() as usize - 1).is_some_and(|span| span.name() == name)
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("multiget")
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        let id = write(|record| {
            let name = span.metadata().name();
            write!(record.text, "\n{name} parent={:?} root={}", span.parent(), span.is_root()).unwrap();
            if name == "load" {
                record.declare("span `load`", span.metadata());
            }
            record.spans.push(span.metadata());
            record.spans.len() as u64
        });
        span.record(&mut Self);
        span::Id::from_u64(id.unwrap_or(u64::MAX))
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut Self);
    }

    fn record_follows_from(&self, load: &span::Id, caller: &span::Id) {
        write(|record| {
            assert!(record.is(load, "load") && record.is(caller, "caller"));
            record.links.push((load.into_u64(), caller.into_u64()));
        });
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        write(|record| {
            record.declare(&format!("event `{}`", message.0), event.metadata());
            record.text.push_str("\nevent");
        });
        event.record(&mut Self);
    }

    fn enter(&self, span: &span::Id) {
        write(|record| record.entered.push(span.into_u64()));
    }

    fn exit(&self, _: &span::Id) {
        write(|record| record.entered.pop());
    }

    fn clone_span(&self, id: &span::Id) -> span::Id {
        write(|record| record.held.push(record.spans[id.into_u64() as usize - 1].name()));
        id.clone()
    }

    fn current_span(&self) -> Current {
        let entered = write(|record| record.entered.last().copied()).flatten();
        let span = write(|record| record.spans.get(entered? as usize - 1).copied()).flatten();
        span.map_or_else(Current::none, |span| Current::new(span::Id::from_u64(entered.unwrap()), span))
    }
}

/// The text of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// A span such as a request would have.
fn caller() -> Span {
    debug_span!(target: "multiget::test", "caller")
}

struct No;

#[async_trait]
impl Gate for No {
    async fn pass(&self, want: &Want) -> Result<Permit, Refused> {
        tokio::time::sleep(ms(7)).await;
        assert_eq!(want.keys().get(), 1, "canary");
        Err(Refused::new(ms(1_500)))
    }
}

/// The table of the guide is what there is, field by field, and what the fields say is true.
#[tokio::test(start_paused = true)]
async fn p14_the_guide_lists_every_span_event_and_field() {
    let spans = Spans::record();
    let log = Log::default();
    tens(builder().window(ms(10)), &log, ms(20)).get(1).await.unwrap();
    let refuses = tens(builder().name("refuses").gate(No), &log, ms(1));
    refuses.get(1).await.unwrap_err();
    refuses.get_each([1, 2]).await;
    let text = spans.text();
    assert!(text.contains(" left=0 waited_us=1"), "{text}");
    assert!(text.contains("\nevent message=a gate refused batcher=\"refuses\" retry_after_us=1500000"), "{text}");
    assert!(text.contains("\nevent message=a gate or a policy panicked batcher=\"refuses\""), "{text}");
    assert!(!text.contains("canary"), "{text}");

    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/guide.md");
    let listed = fs::read_to_string(guide).unwrap();
    let rows = listed.lines().filter(|line| line.starts_with("| span `") || line.starts_with("| event `"));
    let rows: Vec<_> = rows.map(|row| row.splitn(4, '|').take(3).collect::<Vec<_>>().join("|") + "|").collect();
    let listed: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(rows.len(), listed.len(), "each once");
    assert_eq!(spans.read(|record| record.declared.clone()), listed);
}

/// How long the gates kept a load is said apart from how long its first key waited.
#[tokio::test(start_paused = true)]
async fn p14_the_span_of_a_load_says_how_long_its_gates_let_it_wait() {
    struct Slow;
    #[async_trait]
    impl Gate for Slow {
        async fn pass(&self, _: &Want) -> Result<Permit, Refused> {
            tokio::time::sleep(ms(40)).await;
            Ok(Permit::all())
        }
    }
    let spans = Spans::record();
    tens(builder().window(ms(10)).gate(Slow), &Log::default(), ms(5)).get(1).await.unwrap();
    let text = spans.text();
    let number = |field: &str| {
        let (_, behind) = text.split_once(&format!(" {field}=")).unwrap();
        Duration::from_micros(behind.split_whitespace().next().unwrap().parse().unwrap())
    };
    assert_eq!(number("gated_us").as_millis(), 40);
    assert!((50..=52).contains(&number("waited_us").as_millis()));
}

/// A load is linked to those who wait for it, by number: at most 32, each span once, and none of them is held.
#[tokio::test(start_paused = true)]
async fn p14_a_load_is_linked_to_at_most_32_callers_and_holds_none_of_their_spans() {
    let spans = Spans::record();
    let batcher = tens(builder().max_batch(50).window(ms(10)), &Log::default(), ms(20));
    let gets = (0..40).map(|key| batcher.get(key % 20).instrument(caller()));
    assert!(join_all(gets).await.iter().all(Result::is_ok));
    assert_eq!(spans.links(), [32], "of forty");

    let (mut goes, stays) = (Box::pin(batcher.get(1).instrument(caller())), batcher.get(2).instrument(caller()));
    assert!(poll(&mut goes).is_pending());
    let none = batcher.get(3);
    let one_span_each = async {
        let two = async { tokio::join!(batcher.get(4), batcher.get(5)) };
        tokio::join!(stays, none, two.instrument(caller()))
    };
    drop(goes);
    let joins = async {
        tokio::time::sleep(ms(20)).await;
        assert_eq!(batcher.stats().in_flight, 1);
        batcher.get(2).instrument(caller()).await
    };
    let (first, joined) = tokio::join!(one_span_each, joins);
    assert!(first.0.is_ok() && joined.is_ok());
    assert_eq!(spans.links(), [32, 3], "one who stayed, one with two gets, one who joined in flight");

    let each = batcher.get_each(0..100).instrument(caller());
    assert!(each.await.iter().all(Result::is_ok));
    assert_eq!(spans.links()[2..], [1, 1], "one caller of two loads");
    let items = batcher.stream(stream::iter(0..100)).collect::<Vec<_>>().instrument(caller());
    assert_eq!(items.await.len(), 100);
    assert_eq!(spans.links()[4..], [1, 1]);
    assert!(spans.read(|record| record.held.iter().all(|name| *name == "load")));
    assert_at_rest(&batcher);
}

/// Nor to more when those it was linked to as it began have gone by its end.
#[tokio::test(start_paused = true)]
async fn p14_a_load_that_was_left_by_its_first_callers_is_linked_to_no_more_than_32() {
    let spans = Spans::record();
    let batcher = tens(builder().max_batch(50).window(ms(10)), &Log::default(), ms(20));
    let mut gets: Vec<_> = (0..40).map(|key| Box::pin(batcher.get(key).instrument(caller()))).collect();
    assert!(gets.iter_mut().all(|get| poll(get).is_pending()));
    tokio::time::sleep(ms(20)).await;
    assert_eq!((batcher.stats().in_flight, spans.links()), (1, vec![32]));
    drop(gets.drain(..32));
    assert!(join_all(gets).await.iter().all(Result::is_ok));
    assert_eq!(spans.links(), [32]);
}

/// A caller who is told by an error has been linked as well; one who comes with no span leaves no trace of another.
#[tokio::test(start_paused = true)]
async fn p14_a_cell_that_is_used_again_is_not_linked_to_who_had_it_before() {
    let spans = Spans::record();
    let load = async |(): (), keys: Vec<u32>| {
        if keys[0] == 0 { Err(AnyError::from("zero")) } else { Ok(ten_times(keys)) }
    };
    let batcher: Batcher<u32, u32> = Batcher::builder().load_with((), load).unwrap();
    assert!(batcher.get(0).instrument(caller()).await.is_err());
    assert!(batcher.get(1).await.is_ok());
    let mut goes = Box::pin(batcher.get(1).instrument(caller()));
    assert!(poll(&mut goes).is_pending());
    drop(goes);
    assert!(batcher.get(1).await.is_ok());
    assert_eq!(spans.links(), [1, 0, 0]);
}
