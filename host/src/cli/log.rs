//! The log on standard error, and the form of its lines.

use std::fmt;
use std::io::IsTerminal;

use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::print::StandardError;

/// Begins to log to standard error: lines for people, or JSON objects where `POMELO_LOG_FORMAT` is `json`. `server` is named in each line.
pub(super) fn init(filter: EnvFilter, server: Option<String>) {
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| StandardError);
    // The library would report a failed write on standard error, with a panic.
    let log = log.log_internal_errors(false);
    if std::env::var_os("POMELO_LOG_FORMAT").is_some_and(|format| format == "json") {
        let format = tracing_subscriber::fmt::format().json().flatten_event(true).with_current_span(false);
        log.json().event_format(NamedJson { server, format }).init();
    } else {
        let ansi = std::io::stderr().is_terminal();
        let format = tracing_subscriber::fmt::format().with_target(false).with_ansi(ansi);
        log.with_ansi(ansi).event_format(Named { server, format }).init();
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
        let Some(server) = &self.server else { return self.format.format_event(context, writer, event) };
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let id = serde_json::Value::from(server.as_str());
        write!(writer, "{{\"host\":{id},{}", line.strip_prefix('{').unwrap_or(&line))
    }
}
