//! `events`, `logs`, `forget`. The first two can follow what happens, over a restart of the master too.

use std::fmt::{self, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::admin::{CONSOLE, Session, parse};
use super::arguments::AdminArgs;
use super::print;
use crate::client::{AdminClient, ClientError};
use crate::journal::Event;

/// How long the master is asked to hold an answer until there is something new. The deadline of such a request is longer by as much.
const WAIT: Duration = Duration::from_secs(20);
/// The pause between two attempts to reach a master or a monitor that is away.
const PAUSE: Duration = Duration::from_secs(1);
/// Lines that are asked for at a time while a log is followed.
const FOLLOWED: u32 = 1000;

/// A connection whose requests the master may hold for [`WAIT`].
async fn patient(admin: &AdminArgs) -> anyhow::Result<AdminClient> {
    let wait = WAIT.as_secs();
    Ok(Session::connect(&AdminArgs { timeout: admin.timeout + wait, ..admin.clone() }).await?.client)
}

pub(super) async fn events(admin: AdminArgs, follow: bool, since: u64) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        events: Vec<&'a RawValue>,
        last: u64,
        #[serde(default)]
        missed: u64,
    }
    let mut client = patient(&admin).await?;
    let (mut last, mut up_to_date) = (since, false);
    loop {
        // Events that have happened already are shown without waiting.
        let wait = if up_to_date { WAIT } else { Duration::ZERO };
        let body = json!({ "since": last, "wait": u64::try_from(wait.as_millis())? });
        let answer = match client.command("events", None, body).await {
            Ok(answer) => answer,
            Err(ClientError::Disconnected { why }) if follow => {
                print::note(format!("pomelo: the connection to the master is lost: {why}; connecting again"));
                client = back(&admin).await?;
                // A master that was started again numbers its events from 1.
                (last, up_to_date) = (0, false);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let page: Page<'_> = parse(&answer)?;
        // Without `--since` nobody asked for events that are no longer kept.
        if page.missed > 0 && last > 0 {
            print::note(format!(
                "pomelo: {} events before the next one are missing, because the master no longer keeps them",
                page.missed
            ));
        }
        let mut out = String::new();
        for event in &page.events {
            if admin.json {
                writeln!(out, "{event}")?;
            } else {
                show(&mut out, &parse(event)?)?;
            }
        }
        print::all(&out)?;
        if page.events.is_empty() && !follow {
            client.close().await;
            return Ok(());
        }
        (last, up_to_date) = (page.last, page.events.is_empty());
    }
}

/// Tries to connect until a master can be reached.
///
/// # Errors
/// Where the master refuses the user.
async fn back(admin: &AdminArgs) -> anyhow::Result<AdminClient> {
    loop {
        match patient(admin).await {
            Err(error) if matches!(error.downcast_ref(), Some(ClientError::Connect { .. })) => {
                tokio::time::sleep(PAUSE).await;
            }
            connected => return connected,
        }
    }
}

/// `2026-01-31 12:00:00.000  kind  server  sentence`, and the lines of a program's output below it.
fn show(out: &mut impl Write, event: &Event) -> fmt::Result {
    let by = event.client.as_ref().map_or_else(String::new, |user| format!(" (by {})", printable(user)));
    let about = printable(event.server.as_deref().or(event.module.as_deref()).unwrap_or("-"));
    let kind = printable(&event.kind);
    writeln!(out, "{}  {kind:<9}  {about:<18}  {}{by}", clock(event.time), printable(&event.message))?;
    event.lines.iter().try_for_each(|line| writeln!(out, "    | {}", printable(line)))
}

/// A time in milliseconds since 1970 as the local clock shows it.
fn clock(time: u64) -> String {
    let time = i64::try_from(time).ok().and_then(chrono::DateTime::from_timestamp_millis);
    time.map_or_else(String::new, |time| time.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M:%S%.3f").to_string())
}

/// A text without control characters, because those that programs and peers send could steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// A line that a program has written.
#[derive(Deserialize, Serialize)]
struct Line {
    n: u64,
    #[serde(default)]
    time: u64,
    #[serde(default)]
    error: bool,
    text: String,
}

/// Lines of a program. `last` is the number of its newest line, which need not be among them.
#[derive(Deserialize)]
struct Page {
    lines: Vec<Line>,
    last: u64,
}

impl Page {
    /// The number of the last line here; reading goes on after it.
    fn end(&self) -> u64 {
        self.lines.last().map_or(self.last, |line| line.n)
    }

    /// How many lines were lost between line `since`, the last that was read, and the first one here.
    fn missed(&self, since: u64) -> u64 {
        self.lines.first().map_or(0, |line| line.n.saturating_sub(since + 1))
    }
}

pub(super) async fn logs(admin: AdminArgs, id: &str, follow: bool, lines: u32) -> anyhow::Result<()> {
    let mut client = patient(&admin).await?;
    let mut since: Option<u64> = None;
    loop {
        let wait = if since.is_some() { u64::try_from(WAIT.as_millis())? } else { 0 };
        let lines = if since.is_some() { FOLLOWED } else { lines };
        let body = json!({ "signal": "logs", "id": id, "lines": lines, "since": since, "wait": wait });
        let answer = match client.request(CONSOLE, body).await {
            Ok(answer) => answer,
            Err(ClientError::Disconnected { why }) if follow => {
                print::note(format!("pomelo: the connection to the master is lost: {why}; connecting again"));
                client = back(&admin).await?;
                continue;
            }
            // The server's monitor may be restarting.
            Err(ClientError::Failed(failure)) if follow && since.is_some() && is_away(&failure.code) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let page: Page = parse(&answer)?;
        // A monitor that was restarted numbers its lines from 1, so that all of them are new.
        if since.is_some_and(|since| page.last < since) {
            since = Some(0);
            continue;
        }
        let missed = since.map_or(0, |since| page.missed(since));
        if missed > 0 {
            print::note(format!(
                "pomelo: {missed} lines before the next one are missing, because they are no longer kept"
            ));
        }
        let mut out = String::new();
        for line in &page.lines {
            if admin.json {
                writeln!(out, "{}", serde_json::to_string(line)?)?;
            } else {
                writeln!(out, "{}", printable(&line.text))?;
            }
        }
        print::all(&out)?;
        if !follow {
            client.close().await;
            return Ok(());
        }
        since = Some(page.end());
    }
}

/// Whether a failure says that the server's monitor cannot be reached at the moment.
fn is_away(code: &str) -> bool {
    use crate::failure::code::{DISCONNECTED, NOT_FOUND, TIMEOUT};
    [DISCONNECTED, NOT_FOUND, TIMEOUT].contains(&code) || code == "unreachable"
}

pub(super) async fn forget(session: &Session, ids: Vec<String>) -> anyhow::Result<()> {
    let answer = session.client.command("forget", None, json!({ "ids": ids })).await?;
    if session.json {
        return Ok(print::line(answer)?);
    }
    let gone: Vec<String> = parse(&answer)?;
    let gone = if gone.is_empty() { "none".to_owned() } else { gone.join(", ") };
    Ok(print::line(format!("removed: {gone}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::kind;

    #[test]
    fn an_event_is_a_line_with_the_programs_last_words_below_it() {
        let event = Event::new(kind::EXIT, "the program ended with code 7").server("chat-1");
        let event = event.exit(Some(7), None, vec!["no\u{1b}[2J such table".into()]);
        let mut text = String::new();
        show(&mut text, &event).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].contains("exit") && lines[0].contains("chat-1") && lines[0].contains("code 7"), "{text}");
        assert_eq!(lines[1], "    | no\u{fffd}[2J such table", "a program cannot move the operator's cursor");
    }

    #[test]
    fn p_lines_are_followed_without_a_gap_however_many_come_at_once() {
        let page = |numbers: std::ops::RangeInclusive<u64>, last| Page {
            lines: numbers.map(|n| Line { n, time: 0, error: false, text: String::new() }).collect(),
            last,
        };
        let burst = page(4..=10, 25);
        assert_eq!((burst.missed(3), burst.end()), (0, 10), "the others are still to be read");
        let rest = page(21..=25, 25);
        assert_eq!((rest.missed(10), rest.end()), (10, 25), "what is no longer kept is said");
        let none = Page { lines: Vec::new(), last: 25 };
        assert_eq!((none.missed(25), none.end()), (0, 25));
    }
}
