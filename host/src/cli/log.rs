//! The log on standard error, and the form of its lines.
//!
//! One event is one line, whatever peers have written into its texts: what steers a terminal is escaped here, for all lines. Libraries below this host
//! are logged up to [`debug`](OTHERS) at most, because at `trace` they log the frames themselves, with the passwords and tokens of registrations.

use std::fmt;
use std::io::IsTerminal;

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::print::StandardError;
use crate::util::cut;
use crate::util::visible::escaped;

/// The most that is logged of what this host is made from, whatever `POMELO_LOG` says.
const OTHERS: LevelFilter = LevelFilter::DEBUG;
/// These log frames at `debug` already.
const TALKATIVE: [&str; 2] = ["socketioxide", "engineioxide"];
/// Bytes that an event or a span may say in a line for people.
const MAX_FIELDS: usize = 16 << 10;
/// Targets of this host's own lines begin with these.
const OWN: [&str; 1] = ["pomelo"];

/// Whether a line may be logged at all: `POMELO_LOG` chooses among these.
fn is_fit(metadata: &Metadata<'_>) -> bool {
    let begins = |name: &&str| metadata.target().starts_with(*name);
    let most = if TALKATIVE.iter().any(begins) { LevelFilter::INFO } else { OTHERS };
    OWN.iter().any(begins) || *metadata.level() <= most
}

/// Begins to log to standard error: lines for people, or JSON objects where `POMELO_LOG_FORMAT` is `json`. `server` is named in each line.
pub(super) fn init(filter: EnvFilter, server: Option<String>) {
    let filter = filter.and(filter_fn(is_fit).with_max_level_hint(LevelFilter::TRACE));
    let log = tracing_subscriber::fmt::layer().with_writer(|| StandardError);
    // The library would report a failed write on standard error, with a panic.
    let log = log.log_internal_errors(false);
    if std::env::var_os("POMELO_LOG_FORMAT").is_some_and(|format| format == "json") {
        let format = tracing_subscriber::fmt::format().json().flatten_event(true).with_current_span(false);
        let log = log.json().event_format(NamedJson { server, format }).with_filter(filter);
        tracing_subscriber::registry().with(log).init();
    } else {
        let ansi = std::io::stderr().is_terminal();
        let format = tracing_subscriber::fmt::format().with_target(false).with_ansi(ansi);
        let log = log.with_ansi(ansi).fmt_fields(Escaped(DefaultFields::new())).event_format(Named { server, format });
        tracing_subscriber::registry().with(log.with_filter(filter)).init();
    }
}

/// Writes what an event and its spans say, in one line. The colours of the rest of the line are the formatter's own.
struct Escaped<N>(N);

impl<'writer, N: for<'a> FormatFields<'a>> FormatFields<'writer> for Escaped<N> {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut text = String::new();
        self.0.format_fields(Writer::new(&mut text), fields)?;
        let mut text = escaped(&text).into_owned();
        cut(&mut text, MAX_FIELDS);
        writer.write_str(&text)
    }
}

/// Puts the server's id before each line, as before the lines of its program, because the monitors of one machine share a terminal.
pub(super) struct Named<F> {
    /// The server that this process is the monitor of; none in other processes.
    pub server: Option<String>,
    /// Writes the rest.
    pub format: F,
}

impl<S, N, F> FormatEvent<S, N> for Named<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if let Some(server) = &self.server {
            write!(writer, "[{server}] ")?;
        }
        self.format.format_event(context, writer, event)
    }
}

/// As [`Named`], for lines that are JSON objects: the server's id is their first member.
pub(super) struct NamedJson<F> {
    /// The server that this process is the monitor of; none in other processes.
    pub server: Option<String>,
    /// Writes the object.
    pub format: F,
}

impl<S, N, F> FormatEvent<S, N> for NamedJson<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        // JSON leaves some characters as they are that steer a terminal. They stand in its strings alone, where their escapes mean the same.
        let line = escaped(line.trim_end_matches('\n'));
        match &self.server {
            Some(server) => {
                let id = serde_json::Value::from(server.as_str());
                writeln!(writer, "{{\"host\":{},{}", escaped(&id.to_string()), line.strip_prefix('{').unwrap_or(&line))
            }
            None => writeln!(writer, "{line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    /// What a peer would like to write.
    const HOSTILE: &str = "a\n2026 ERROR forged\r\u{1b}[2J\u{9b}1m\u{202e}b";

    fn say(log: impl Subscriber + Send + Sync) {
        tracing::subscriber::with_default(log, || {
            let span = tracing::info_span!("call", from = HOSTILE);
            let _within = span.enter();
            tracing::info!(id = HOSTILE, shown = %HOSTILE, "it says {HOSTILE}");
        });
    }

    #[test]
    fn one_event_is_one_line_whatever_a_peer_has_written_into_it() {
        for ansi in [false, true] {
            let lines = Lines::default();
            let format = tracing_subscriber::fmt::format().without_time().with_ansi(ansi);
            let writer = lines.clone();
            let log = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_ansi(ansi);
            let log =
                log.fmt_fields(Escaped(DefaultFields::new())).event_format(Named { server: Some("c".into()), format });
            say(tracing_subscriber::registry().with(log));
            let text = lines.text();
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(!text.contains("\u{1b}[2J") && !text.contains(['\r', '\u{9b}', '\u{202e}']), "{text:?}");
            assert!(text.contains("it says a\\n2026") && text.contains("\\u202eb"), "{text:?}");
        }
    }

    #[test]
    fn a_line_of_json_has_the_same_texts_and_nothing_that_steers() {
        for server in [None, Some("c\u{202e}".to_owned())] {
            let lines = Lines::default();
            let format = tracing_subscriber::fmt::format().json().flatten_event(true).with_current_span(true);
            let writer = lines.clone();
            let log = tracing_subscriber::fmt::layer().json().with_writer(move || writer.clone());
            say(tracing_subscriber::registry().with(log.event_format(NamedJson { server: server.clone(), format })));
            let text = lines.text();
            let line = text.strip_suffix('\n').unwrap();
            assert!(!line.contains(crate::util::visible::steers), "{line:?}");
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!((&value["id"], &value["span"]["from"]), (&HOSTILE.into(), &HOSTILE.into()));
            assert_eq!(value["host"].as_str(), server.as_deref());
        }
    }

    #[test]
    fn what_libraries_say_of_frames_is_never_logged() {
        let lines = Lines::default();
        let writer = lines.clone();
        let filter = EnvFilter::new("trace").and(filter_fn(is_fit).with_max_level_hint(LevelFilter::TRACE));
        let log = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_filter(filter);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(log), || {
            tracing::trace!(target: "tungstenite::protocol", "a frame with a secret");
            tracing::debug!(target: "engineioxide::socket", "a packet with a secret");
            tracing::trace!(target: "pomelo_host::exchange", "own line");
            tracing::debug!(target: "hyper::proto", "head");
        });
        let text = lines.text();
        assert!(!text.contains("secret") && text.contains("own line") && text.contains("head"), "{text}");
    }
}
