//! Counts what modules log.

use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

static LINES: AtomicUsize = AtomicUsize::new(0);
static LISTENING: LazyLock<()> = LazyLock::new(|| {
    let layers = tracing_subscriber::registry().with(Counting);
    tracing::subscriber::set_global_default(layers).expect("nobody else listens in this program");
});

/// Lines of the form `line N` that modules have logged since this was asked first.
pub fn lines_logged() -> usize {
    LazyLock::force(&LISTENING);
    LINES.load(Ordering::Relaxed)
}

struct Counting;

impl<S: Subscriber> Layer<S> for Counting {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "pomelo::module" {
            event.record(&mut Message);
        }
    }
}

struct Message;

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" && format!("{value:?}").starts_with("line ") {
            LINES.fetch_add(1, Ordering::Relaxed);
        }
    }
}
