//! What the crate writes into spans and events, as text.
//!
//! One subscriber for the whole binary, which writes for the thread that asked for it: subscribers that come and go
//! with each test would race for what the callsites remember of them.

use std::{cell::RefCell, fmt, fmt::Write, sync::Once};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

thread_local! {
    static TEXT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Records the spans of this thread, for as long as it lives.
pub(crate) struct Spans(());

impl Spans {
    pub(crate) fn record() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| tracing::subscriber::set_global_default(Recorder).unwrap());
        TEXT.set(Some(String::new()));
        Self(())
    }

    /// A line per span: its name, its parent and whether it is a root, then the fields.
    #[expect(clippy::unused_self, reason = "there is a text only while it lives")]
    pub(crate) fn text(&self) -> String {
        TEXT.with_borrow(|text| text.clone().unwrap())
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        TEXT.set(None);
    }
}

struct Recorder;

impl Visit for Recorder {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write(format_args!(" {}={value:?}", field.name()));
    }
}

fn write(text: fmt::Arguments<'_>) {
    TEXT.with_borrow_mut(|record| record.as_mut().map(|record| record.write_fmt(text).unwrap()));
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("multiget")
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        write(format_args!("\n{} parent={:?} root={}", span.metadata().name(), span.parent(), span.is_root()));
        span.record(&mut Self);
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut Self);
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Self);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
