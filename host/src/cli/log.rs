//! Lines of the log.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Puts the server's id before each line, as it stands before the lines of its program: the monitors of one machine share a terminal.
pub(super) struct Named<F> {
    /// The server that this process stands beside, if it does.
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
